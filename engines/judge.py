"""What an engine is judged by: held-out samples, and what the f32 graph makes of each.

The figures are gate.py's. Here is decided what of the outputs they are of: frames with their mouths; where a graph
makes no frame, unit vectors (of identity, of mouth and sound) or, where there are maps among them, features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetalk.preprocess import TEMPLATES

from . import gate
from .onnx_file import Feeds, Run


class Judge:
    """Gives the gate's figures of what runs samples in place of the f32 graph."""

    def __init__(self, graph: Run, samples: list[Feeds], family: str) -> None:
        self.samples, self.family = samples, family
        self.wanted = [graph(feeds) for feeds in samples]

    def __call__(self, run: Run) -> dict[str, Any]:
        """Return the figures of what `run` makes of the samples.

        Where a graph makes no landmarks, the mouth is where the family's crops have it.
        """
        # Engines write their outputs to the same memory each time.
        made = [{name: value.copy() for name, value in run(feeds).items()} for feeds in self.samples]
        outputs = list(self.wanted[0])
        if "frame" not in outputs:
            if any(value.ndim != 2 for value in self.wanted[0].values()):
                pairs = [(a[name], b[name]) for a, b in zip(self.wanted, made, strict=True) for name in outputs]
                return {"relative_error": float(np.max([gate.compare_features(*pair) for pair in pairs]))}
            wanted, got = (
                np.concatenate([result[name] for result in results for name in outputs])
                for results in (self.wanted, made)
            )
            return gate.compare_vectors(wanted, got)
        wanted, got = (np.concatenate([result["frame"] for result in results]) for results in (self.wanted, made))
        if "landmarks" in outputs:
            true, read = (
                np.concatenate([result["landmarks"] for result in results]) for results in (self.wanted, made)
            )
            figures = gate.compare(wanted, got, true)
            figures["landmarks_error"] = round(float(np.abs(true - read).max()), 6)
            return figures
        figures = gate.compare(wanted, got)
        if "mel" in self.samples[0] and self.family in TEMPLATES:
            rows, columns = mouth(TEMPLATES[self.family], wanted.shape[1])
            error = (wanted.astype(np.float64) - got)[:, rows, columns]
            figures["mouth_psnr"] = round(gate.psnr(float(np.square(error).mean())), 2)
        return figures


def mouth(template: np.ndarray, size: int) -> tuple[slice, slice]:
    """Return rows and columns around the mouth of a crop: twice as wide as between its corners, and as high as those.

    `template` are the five points of a face in the crop, (5, 2) fractions.
    """
    left, right = template[3:] * size
    centre, reach = (left + right) / 2, float(np.linalg.norm(right - left))
    row, column = (int(round(v)) for v in centre[::-1])
    high, wide = round(reach / 2), round(reach)
    return slice(max(row - high, 0), row + high), slice(max(column - wide, 0), column + wide)
