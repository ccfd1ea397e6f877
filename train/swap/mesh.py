"""Landmarks of the crops of filmed people, by the face mesh of edgetalk/face; those of drawn ones are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgetalk.face.facemesh import FaceMesh, Place, place_around
from edgetalk.face.look import PRESENCE
from edgetalk.face.models import find_face_models
from edgetalk.train.filmed.mesh import landmarks

from .data import SIZE

FIRST = Place(np.array([0.5, 0.46]) * SIZE, 1.12 * SIZE, 0.0)
"""Where a face is looked for first: where the crop's template puts it, hairline to chin, and half as much around."""


class MeshReader:
    """The network, opened. Raises FileNotFoundError and BackendError as find_face_models."""

    def __init__(self, face_models: Path | None = None) -> None:
        self.mesh = FaceMesh(find_face_models(face_models).mesh)

    def __call__(self, clips: Tensor) -> Tensor:
        """Return landmarks (C, F, 106, 2), fractions of the picture, of uint8 clips (C, F, 96, 96, 3); NaN: no face."""
        found = [[self._read(frame) for frame in clip] for clip in clips.cpu().numpy()]
        return torch.from_numpy(np.array(found, np.float32)).to(clips.device)

    def _read(self, frame: np.ndarray) -> np.ndarray:
        points, _ = self.mesh.look(frame, FIRST)
        points, presence = self.mesh.look(frame, place_around(points[:, :2], points[33, :2], points[263, :2]))
        return (landmarks(points) + 0.5) / SIZE if presence >= PRESENCE else np.full((106, 2), np.nan)
