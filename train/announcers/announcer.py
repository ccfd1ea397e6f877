"""An announcer that can be drawn: one identity, one framing, one light; pictures and labels for any controls."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from . import body, paint, raster
from .camera import PORTRAIT, Framing, project, rotation, turn
from .features import Controls, features
from .head import Shape, grid
from .identity import Identity
from .landmarks import landmarks


@dataclass(frozen=True)
class Light:
    """The lamp: where it stands (x to the image's right, y up, z to the viewer) and its colour."""

    direction: tuple[float, float, float] = (-0.45, 0.5, 0.75)
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)


STUDIO = Light()


class Announcer:
    """Draws one identity. Setting up takes about 0.2 s; nothing of it changes afterwards, so drawing is a pure
    function of the controls."""

    def __init__(
        self,
        identity: Identity,
        size: int = 256,
        framing: Framing = PORTRAIT,
        light: Light = STUDIO,
        finer: int | None = None,
    ):
        self.identity, self.size, self.framing = identity, size, framing
        self.light = np.array(light.direction) / np.linalg.norm(light.direction)
        self.tint = np.array(light.colour, float)
        self.canvas = size * (finer or max(2, round(256 / size)))  # drawn larger, then averaged: no jagged edges
        cells = 150 if self.canvas >= 384 else 100
        head = grid(identity, cells)
        self.shape = head.shape
        below = head.y[:, 0] < 0.35
        self.lower_head = Shape(*(array[below] for array in head.shape))
        self.skin = paint.skin(identity, -(-round(3 * framing.zoom / 256 * self.canvas) // 16) * 16)
        self.clothes = body.clothes(identity)
        self.backdrop = body.backdrop(identity, self.canvas)

        surface = body.part(head.shape.rest, gloss=0.8, kind=body.FACE_PAINT, uv=head.uv)
        parts = [surface, *body.parts(identity, head)]
        starts = np.cumsum([0] + [len(p.points) for p in parts])
        self.faces = np.concatenate([p.faces + start for p, start in zip(parts, starts, strict=False)]).astype(np.int32)
        self.two_sided = np.arange(len(self.faces)) >= len(surface.faces)
        self.material = np.concatenate([p.material for p in parts])
        self.rest = np.concatenate([p.points for p in parts])
        self.rest_normals = np.concatenate([p.normals for p in parts])
        follow = np.concatenate([p.follow for p in parts])
        self.loose = np.flatnonzero(follow[:, 0] < 1)  # neck and torso
        self.follow = follow[self.loose]
        self.head_points = len(surface.points)

    def draw(self, controls: Controls, view: np.ndarray | None = None) -> np.ndarray:
        """The picture, uint8 (size, size, 3) RGB.

        `view` (2, 3) moves everything in it, background included, as a crop does; in fractions of the picture.
        """
        matrix = rotation(controls.pose)
        points, normals = self.rest.copy(), self.rest_normals.copy()
        surface = self.shape.under(controls.mouth)
        points[: self.head_points] = surface.reshape(-1, 3)
        normals[: self.head_points] = raster.grid_normals(surface).reshape(-1, 3)
        turned, turned_normals = turn(points, matrix), normals @ matrix.T
        for moved, still in ((turned, points), (turned_normals, normals)):
            moved[self.loose] = still[self.loose] + (moved[self.loose] - still[self.loose]) * self.follow
        texture = paint.face(self.identity, self.skin, features(self.identity, controls), controls.mouth)

        depth = np.full((self.canvas, self.canvas), -100, np.float32)
        index = np.full((self.canvas, self.canvas), -1, np.int32)
        weights = np.empty((self.canvas, self.canvas, 2), np.float32)
        seen = project(turned, self.framing, self.canvas)
        if view is None:
            out = self.backdrop.copy()
        else:
            matrix = np.c_[view[:, :2], view[:, 2] * self.canvas]
            seen[:, :2] = seen[:, :2] @ matrix[:, :2].T + matrix[:, 2]
            out = cv2.warpAffine(self.backdrop, matrix, (self.canvas, self.canvas), borderMode=cv2.BORDER_REFLECT)
        raster.rasterise(seen, self.faces, self.two_sided, depth, index, weights)
        raster.shade(
            index,
            weights,
            self.faces,
            turned_normals.astype(np.float32),
            self.material,
            texture,
            self.clothes,
            self.light,
            self.tint,
            out,
        )
        small = cv2.resize(out, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)

    def landmarks(self, controls: Controls) -> np.ndarray:
        """float32 (106, 2), fractions of width and height; order in landmarks.py."""
        return landmarks(
            self.identity, self.lower_head, features(self.identity, controls), controls, self.framing, self.size
        )
