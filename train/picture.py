"""Pictures for people to look at, in files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgetalk.files import replacing

QUALITY = 92  # of JPEG


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as JPEG or PNG, by the suffix."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix == ".jpg" else []
    _, coded = cv2.imencode(path.suffix, np.ascontiguousarray(picture[..., ::-1]), options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(coded.tobytes())
