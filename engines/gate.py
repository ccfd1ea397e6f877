"""The gate that every engine passes before its file gets a name: its frames against those of the f32 graph.

It compares pictures with pictures and knows neither networks nor engines. It does not say how good the network
is, only how much of it an engine kept.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edgetalk.errors import ModelError

MOUTH = slice(86, 106)
"""The mouth's points among the 106 landmarks."""
PERFECT = 99.0
"""dB, written for the PSNR of equal pictures, which is infinite and has no place in JSON."""

FLOORS: dict[str, dict[str, float]] = {
    "f32": {"ssim": 0.999, "psnr": 55.0, "mouth_psnr": 55.0, "cosine": 0.9999},
    "fp16": {"ssim": 0.995, "psnr": 45.0, "mouth_psnr": 45.0, "cosine": 0.999},
    "bf16": {"ssim": 0.98, "psnr": 36.0, "mouth_psnr": 34.0, "cosine": 0.995},
    "int8": {"ssim": 0.98, "psnr": 33.0, "mouth_psnr": 31.0, "cosine": 0.98},
}
"""What each precision has to keep: SSIM, dB of PSNR over the frame and over the mouth; of vectors the cosine."""
CEILINGS: dict[str, dict[str, float]] = {
    precision: {"landmarks_error": error, "length_error": error, "relative_error": error}
    for precision, error in {"f32": 0.001, "fp16": 0.01, "bf16": 0.01, "int8": 0.01}.items()
}
"""How far each may be off at most: landmarks in frame widths, of vectors the length, of features the largest value."""


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the structural similarity of two uint8 pictures (H, W, C), at least 11 pixels wide and high.

    Gaussian window of sigma 1.5 and 11 pixels, mean over channels and over the pixels whose window lies inside
    (Wang et al., Image quality assessment: from error visibility to structural similarity, 2004).
    """
    x, y = a.astype(np.float64), b.astype(np.float64)

    def blur(picture: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(picture, (11, 11), 1.5)[5:-5, 5:-5]

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(likeness.mean())


def psnr(squared_error: float) -> float:
    """Return the PSNR in dB of 8-bit pictures with this mean squared error, at most PERFECT."""
    return PERFECT if squared_error == 0 else min(PERFECT, float(10 * np.log10(255**2 / squared_error)))


def mouth_box(landmarks: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """Return rows and columns around the mouth of landmarks (106, 2), a quarter of its size wider on each side."""
    points = landmarks[MOUTH]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = (high - low) / 4
    size = np.array([width, height])
    left, top = np.clip(np.floor((low - margin) * size), 0, size - 1).astype(int)
    right, bottom = np.clip(np.ceil((high + margin) * size), 1, size).astype(int)
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


def compare(reference: np.ndarray, frames: np.ndarray, landmarks: np.ndarray | None = None) -> dict[str, Any]:
    """Return how far `frames` are from `reference`, both uint8 (N, H, W, 3).

    `ssim` (mean over frames) and `ssim_min`, `psnr` (dB, of the mean squared error over all frames),
    `max_error` and `mean_error` (of 255), `frames`, and, with the reference's landmarks float32 (N, 106, 2),
    `mouth_psnr`. Raises ModelError where the shapes differ.
    """
    if reference.shape != frames.shape:
        raise ModelError(
            f"the engine's frames are {frames.shape}, those of the f32 graph {reference.shape}; "
            "build the engine from the ONNX file that it is compared with"
        )
    likeness = [ssim(a, b) for a, b in zip(reference, frames, strict=True)]
    error = np.abs(reference.astype(np.int16) - frames)
    squared = error.astype(np.float64) ** 2
    figures = {
        "ssim": round(float(np.mean(likeness)), 5),
        "ssim_min": round(min(likeness), 5),
        "psnr": round(psnr(float(squared.mean())), 2),
        "max_error": int(error.max()),
        "mean_error": round(float(error.mean()), 4),
        "frames": len(frames),
    }
    if landmarks is not None:
        boxes = [mouth_box(points, *reference.shape[1:3]) for points in landmarks]
        mouth = np.concatenate([s[box].ravel() for s, box in zip(squared, boxes, strict=True)])
        figures["mouth_psnr"] = round(psnr(float(mouth.mean())), 2)
    return figures


def compare_vectors(reference: np.ndarray, made: np.ndarray) -> dict[str, Any]:
    """Return how far the vectors `made` are from `reference`, both float32 (N, D).

    `cosine` (the smallest), `length_error` (the largest difference of a length, as a part of the reference's) and
    `vectors` (N). Raises ModelError where the shapes differ.
    """
    if reference.shape != made.shape:
        raise ModelError(
            f"the engine's vectors are {made.shape}, those of the f32 graph {reference.shape}; "
            "build the engine from the ONNX file that it is compared with"
        )
    true, got = (np.maximum(np.linalg.norm(values.astype(np.float64), axis=1), 1e-12) for values in (reference, made))
    cosines = (reference.astype(np.float64) * made).sum(axis=1) / (true * got)
    off = np.abs(got / true - 1)
    return {"cosine": round(float(cosines.min()), 6), "length_error": round(float(off.max()), 6), "vectors": len(off)}


def compare_features(reference: np.ndarray, made: np.ndarray) -> float:
    """Return the largest error of features, as a part of the largest value of the reference.

    Raises ModelError where the shapes differ.
    """
    if reference.shape != made.shape:
        raise ModelError(
            f"the engine's features are {made.shape}, those of the f32 graph {reference.shape}; "
            "build the engine from the ONNX file that it is compared with"
        )
    true = reference.astype(np.float64)
    return round(float(np.abs(made - true).max() / max(float(np.abs(true).max()), 1e-12)), 7)


def check(figures: dict[str, Any], precision: str, name: str) -> None:
    """Raise ModelError, naming figure and bound, where the engine `name` kept too little of the f32 graph."""
    for figure, floor in FLOORS[precision].items():
        if figure in figures and not figures[figure] >= floor:
            raise ModelError(
                f"{name} in {precision} has {figure} {figures[figure]} against f32, at least "
                f"{floor} is needed; build it in a higher precision or with more calibration data"
            )
    for figure, ceiling in CEILINGS[precision].items():
        if figure in figures and not figures[figure] <= ceiling:
            raise ModelError(
                f"{name} in {precision} has {figure} {figures[figure]} against f32, at most "
                f"{ceiling} is allowed; build it in a higher precision or with more calibration data"
            )
