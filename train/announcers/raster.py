"""Triangles to pixels on a CPU: a z-buffer of face numbers and barycentric weights, then light for each pixel.

No perspective correction of the weights: heads are small beside their distance.
"""

from __future__ import annotations

import math

import numba
import numpy as np


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Two triangles for each cell of a (rows, columns) grid of vertices; int32 (n, 3)."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    c = a + columns
    return np.concatenate([np.stack([a, c, a + 1], 1), np.stack([a + 1, c, c + 1], 1)]).astype(np.int32)


@numba.njit(cache=True)
def grid_normals(grid):
    """Unit normals of a grid of points (rows, columns, 3)."""
    rows, columns = grid.shape[:2]
    out = np.empty_like(grid)
    for i in range(rows):
        up, down = max(i - 1, 0), min(i + 1, rows - 1)
        for j in range(columns):
            left, right = max(j - 1, 0), min(j + 1, columns - 1)
            ax, ay, az = grid[i, right] - grid[i, left]
            bx, by, bz = grid[down, j] - grid[up, j]
            nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
            out[i, j, 0], out[i, j, 1], out[i, j, 2] = nx / length, ny / length, nz / length
    return out


@numba.njit(cache=True)
def rasterise(points, faces, two_sided, depth, index, weights):
    """Fill depth (S, S), index (S, S) and weights (S, S, 2) with the nearest face of each pixel.

    points float32 (n, 3) in pixels and depth towards the viewer; faces int32 (m, 3); two_sided bool (m,).
    depth must hold -100 and index -1 before.
    """
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area <= 1e-6 and not (two_sided[f] and area < -1e-6):
            continue
        scale = 1.0 / area
        left = max(math.ceil(min(x0, x1, x2) - 0.51), 0)  # pixels whose centres lie in the triangle's box
        right = min(math.floor(max(x0, x1, x2) - 0.49), width - 1)
        top = max(math.ceil(min(y0, y1, y2) - 0.51), 0)
        bottom = min(math.floor(max(y0, y1, y2) - 0.49), height - 1)
        for y in range(top, bottom + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                px = x + 0.5
                w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * scale
                w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * scale
                w2 = 1.0 - w0 - w1
                if w0 >= -1e-5 and w1 >= -1e-5 and w2 >= -1e-5:
                    z = w0 * points[a, 2] + w1 * points[b, 2] + w2 * points[c, 2]
                    if z > depth[y, x]:
                        depth[y, x] = z
                        index[y, x] = f
                        weights[y, x, 0] = w0
                        weights[y, x, 1] = w1


@numba.njit(cache=True)
def shade(index, weights, faces, normals, material, face_texture, body_texture, light, tint, out):
    """Write the lit colour of every covered pixel into out float32 (S, S, 3), which holds the background.

    normals float32 (n, 3); material float32 (n, 8): u, v, texture (0 colour, 1 face, 2 body), r, g, b, gloss,
    ambient; light unit (3,) towards the lamp; tint (3,) its colour.
    """
    size = out.shape[0]
    lx, ly, lz = light
    half = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    warm, cool = (1.04, 1.0, 0.95), (0.92, 1.0, 1.1)
    for y in range(size):
        for x in range(size):
            f = index[y, x]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            w0, w1 = weights[y, x, 0], weights[y, x, 1]
            w2 = 1.0 - w0 - w1
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            unit = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
            if nz * unit < -0.05:  # the inner side of an open surface
                unit = -unit
            nx, ny, nz = nx * unit, ny * unit, nz * unit
            wrapped = max((nx * lx + ny * ly + nz * lz + 0.45) / 1.45, 0.0)
            edge = 1.0 - max(nz, 0.0)
            rim = edge * edge * edge
            fill = max(0.0, nx * 0.8 + nz * 0.3) * 0.13
            gloss = w0 * material[a, 6] + w1 * material[b, 6] + w2 * material[c, 6]
            ambient = w0 * material[a, 7] + w1 * material[b, 7] + w2 * material[c, 7]
            shine = gloss * max(0.0, (nx * lx + ny * ly + nz * (lz + 1)) / half) ** 24 * 0.12
            kind = material[a, 2]
            texture = face_texture if kind < 1.5 else body_texture
            edge_texel = texture.shape[0] - 1
            fx = min(
                max((w0 * material[a, 0] + w1 * material[b, 0] + w2 * material[c, 0]) * edge_texel, 0.0),
                edge_texel - 0.001,
            )
            fy = min(
                max((w0 * material[a, 1] + w1 * material[b, 1] + w2 * material[c, 1]) * edge_texel, 0.0),
                edge_texel - 0.001,
            )
            ix, iy = int(fx), int(fy)
            dx, dy = fx - ix, fy - iy
            for k in range(3):
                if kind > 0.5:
                    colour = (texture[iy, ix, k] * (1 - dx) + texture[iy, ix + 1, k] * dx) * (1 - dy) + (
                        texture[iy + 1, ix, k] * (1 - dx) + texture[iy + 1, ix + 1, k] * dx
                    ) * dy
                else:
                    colour = w0 * material[a, 3 + k] + w1 * material[b, 3 + k] + w2 * material[c, 3 + k]
                lit = colour * ((0.30 + 0.10 * ny + fill) * cool[k] + 0.68 * wrapped * warm[k] * tint[k])
                value = ambient * (lit + shine * tint[k] + rim * 0.2 * (colour + 0.08))
                out[y, x, k] = value if value < 0.7 else 0.7 + 0.3 * (1.0 - math.exp((0.7 - value) / 0.3))
