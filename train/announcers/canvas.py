"""Soft-edged polygons on a float32 picture, in any plane: the brush of faces and clothes."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Stencil(NamedTuple):
    """Coverage (h, w) float32 of a polygon and where its top left pixel lies."""

    cover: np.ndarray
    x: int
    y: int


class Canvas:
    """`image` float32 (S, S, 3) shows x in [left, left + span] and y in [top − span, top]."""

    def __init__(self, image: np.ndarray, left: float, top: float, span: float):
        self.image, self.size, self.corner = image, image.shape[0], np.array([left, top])
        self.scale = self.size / span

    def fixed(self, points) -> np.ndarray:
        """Points of the plane -> pixels in 1/16, int32, as cv2 takes them."""
        offset = (np.asarray(points, float) - self.corner) * [self.scale, -self.scale]
        return (offset * 16).round().astype(np.int32)

    def stencil(self, points, blur: float = 0.0) -> Stencil:
        """Coverage of a polygon; blur is a Gaussian's sigma in 1/640 of the picture."""
        blur *= self.size / 640
        pixels, pad = self.fixed(points), 2 + int(blur * 3)
        left, top = np.clip(pixels.min(0) // 16 - pad, 0, self.size - 1)
        right, bottom = np.clip(pixels.max(0) // 16 + pad + 1, 1, self.size)
        cover = np.zeros((max(bottom - top, 1), max(right - left, 1)), np.uint8)
        cv2.fillPoly(cover, [pixels - np.array([left, top], np.int32) * 16], 255, cv2.LINE_AA, 4)
        if blur:
            cover = cv2.GaussianBlur(cover, (0, 0), blur)
        return Stencil(cover.astype(np.float32) / np.float32(255), int(left), int(top))

    def fill(self, points, colour, alpha: float = 1.0, blur: float = 0.0, inside: Stencil | None = None) -> None:
        """Paint a polygon, only inside another one if that is given."""
        cover, x, y = self.stencil(points, blur)
        if inside is not None:
            left, top = max(x, inside.x), max(y, inside.y)
            right = min(x + cover.shape[1], inside.x + inside.cover.shape[1])
            bottom = min(y + cover.shape[0], inside.y + inside.cover.shape[0])
            if right <= left or bottom <= top:
                return
            cover = (
                cover[top - y : bottom - y, left - x : right - x]
                * inside.cover[top - inside.y : bottom - inside.y, left - inside.x : right - inside.x]
            )
            x, y = left, top
        part = self.image[y : y + cover.shape[0], x : x + cover.shape[1]]
        part += (np.asarray(colour, np.float32) - part) * (cover * np.float32(alpha))[..., None]

    def stroke(
        self, curve, width: float, colour, alpha: float = 1.0, blur: float = 0.0, inside: Stencil | None = None
    ) -> None:
        """Paint a line along a curve, thick in the middle and thin at its ends."""
        curve = np.asarray(curve, float)
        along = np.gradient(curve, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], 1)
        across /= np.hypot(*across.T)[:, None] + 1e-9
        half = across * (width / 2 * np.sin(np.linspace(0.25, np.pi - 0.25, len(curve))))[:, None]
        self.fill(np.r_[curve + half, (curve - half)[::-1]], colour, alpha, blur, inside)


_CIRCLE = np.linspace(0, 2 * np.pi, 32, endpoint=False)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Outline (32, 2)."""
    return np.stack([x + rx * np.cos(_CIRCLE), y + ry * np.sin(_CIRCLE)], 1)
