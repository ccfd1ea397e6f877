"""What happens around a network before it runs: input checks and aligned face crops; windows.py has the sound.

Half of the shared layer: postprocess.py is what happens after. Colour order, layout and normalisation are in the
graph. Every family, backend and command uses these functions, and training does for its data. Points are (x, y)
in pixels, the centre of the first pixel at (0, 0). Finding faces is not here.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, Picture
from .errors import InputError

MAX_PEAK = 16.0  # 24 dB over full scale: floats that are integers, never divided
MIN_SIDE = 64  # pixels; a smaller picture shows no lips to animate
PI = float(np.float32(np.pi))  # what np.float32 makes of pi is a little more than math.pi

HINTS = {
    "mel": "edgetalk.mel.windows cuts such windows",
    "pose": "it is yaw, pitch, roll in radians",
    "blink": "it is the subject's left and right eye, 0 open to 1 closed",
}
NAMES = {"pose": ("yaw", "pitch", "roll"), "blink": ("left", "right")}


def whole(number: object) -> int | None:
    """Return a whole number, numpy's too, as Python's; None where it is none, as True is none."""
    try:
        return None if isinstance(number, bool) else operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return `value` as a float32 array of exactly this shape, without a copy; raises InputError with the cure."""
    array = value if type(value) is np.ndarray else _as_array(name, value)
    if array.shape == shape and array.dtype == np.float32:
        if not np.isfinite(array).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise InputError(
                f"{name}: got {array[at]} at {list(at)}, expected finite numbers; look at what computed it"
            )
        return array
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name}: got {array.dtype} {array.shape}, expected float32 {shape}; {HINTS[name]}")
    cure = name if isinstance(value, np.ndarray) else f"np.asarray({name})"
    fits = array.shape == shape
    if not fits and array.shape == shape[::-1]:
        cure, fits = f"{cure}.T", True
    elif not fits and array.shape == (1, *shape):
        cure, fits = f"{cure}[0]", True
    if array.dtype != np.float32:
        cure += '.astype("float32")'
    raise InputError(
        f"{name}: got {array.dtype} {array.shape}, expected float32 {shape}; {f'use {cure}' if fits else HINTS[name]}"
    )


def _as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: got {type(value).__name__} that is no array, expected float32") from None


def check_text(name: str, text: str) -> None:
    """Raise InputError where a text is none, or has no UTF-8, as words of a command line in another encoding."""
    if not isinstance(text, str):
        raise InputError(f"{name}: got {type(text).__name__}, expected text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: got {text!r}, expected UTF-8; write it in that encoding") from None


def check_range(name: str, array: Array, low: float, high: float) -> None:
    """Raise InputError where one of the few values of a pose or blink is outside [low, high]."""
    for i, value in enumerate(array.tolist()):
        if not low <= value <= high:
            cure = f"use np.radians({name}) for degrees" if name == "pose" else f"use np.clip({name}, 0, 1)"
            raise InputError(f"{name}: got {NAMES[name][i]} {value:.6g}, expected {low:.4g} to {high:.4g}; {cure}")


def check_pcm(pcm: ArrayLike) -> Array:
    """Return sound as float32 (N,); raises InputError for another dtype or shape, NaN, infinity or no full scale."""
    array = _as_array("pcm", pcm)
    if array.dtype != np.float32 or array.ndim != 1:
        raise InputError(
            f"pcm: got {array.dtype} {array.shape}, expected float32 (N,) at 16 kHz; {_cure_pcm(pcm, array)}"
        )
    peak = float(np.abs(array).max(initial=0))
    if not math.isfinite(peak):
        raise InputError("pcm: got NaN or infinite samples, expected -1 to 1; look at what recorded it")
    if peak > MAX_PEAK:
        raise InputError(f"pcm: got samples up to {peak:.6g}, expected -1 to 1; divide them by full scale")
    return array


def _cure_pcm(pcm: ArrayLike, array: NDArray[Any]) -> str:
    mono = "pcm" if hasattr(pcm, "astype") else "np.asarray(pcm)"
    if isinstance(pcm, bytes | bytearray | memoryview):
        mono, array = 'np.frombuffer(pcm, "int16")', np.empty(0, np.int16)
    elif array.ndim == 2:
        mono += f".mean({int(array.shape[0] > array.shape[1])})"
    if array.ndim not in (1, 2) or array.dtype.kind not in "fi" or array.dtype == np.int64:
        return "pass 16 kHz mono float32 in [-1, 1]"
    if array.dtype.kind == "i":
        mono = f"({mono} / {-np.iinfo(array.dtype).min})"
    return f"use {mono}" if mono.endswith(")") and array.dtype == np.float32 else f'use {mono}.astype("float32")'


def square_crop(picture: Picture, size: int) -> Picture:
    """Return a square aligned face crop at the size of a network, uint8 (size, size, 3).

    The face is not looked for: what is not square, or is neither at that size nor at least 64 pixels wide, is refused
    with an InputError.
    """
    height, width = picture.shape[:2]
    if height != width:
        raise InputError(
            f"picture: got {width}x{height}, expected a square crop of an aligned face; "
            "let it be cut out: edgetalk avatar ENGINE PHOTO --crop"
        )
    if height == size:
        return picture
    if height < MIN_SIDE:
        raise InputError(f"picture: got {width}x{height}, expected at least {MIN_SIDE}x{MIN_SIDE}; use a larger one")
    import cv2

    return np.asarray(cv2.resize(picture, (size, size), interpolation=_interpolation(size / height)), np.uint8)


def whole_box(picture: Picture) -> Array:
    """Return the box of a crop that is all of its picture, float32 (1, 4): left, top, right, bottom in pixels."""
    return np.array([[0, 0, picture.shape[1], picture.shape[0]]], np.float32)


def _interpolation(scale: float) -> int:
    import cv2

    return int(cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def similarity(points: NDArray[Any], template: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 2x3 matrix of rotation, uniform scale and shift that takes `points` nearest to `template`.

    Both are (N, 2), N >= 2. Least squares in closed form: Umeyama, Least-squares estimation of transformation
    parameters between two point patterns, PAMI 1991, Eq. 40-43. Raises InputError where all points are one.
    """
    p, t = np.asarray(points, np.float64), np.asarray(template, np.float64)
    centre, target = p.mean(0), t.mean(0)
    variance = ((p - centre) ** 2).sum() / len(p)
    if not variance > 1e-12:
        raise InputError(f"landmarks: got {len(p)} points in one place, expected those of a face")
    u, stretch, vt = np.linalg.svd((t - target).T @ (p - centre) / len(p))
    keep = np.array([1.0, math.copysign(1.0, np.linalg.det(u) * np.linalg.det(vt))])  # never a reflection
    linear = (stretch * keep).sum() / variance * (u * keep) @ vt
    return np.concatenate([linear, (target - linear @ centre)[:, None]], 1)


_FRONTAL = (np.array([(39.73, 51.138), (72.27, 51.138), (56, 68.493), (42.463, 87.01), (69.537, 87.01)]) + 0.5) / 112
TEMPLATES: dict[str, NDArray[np.float64]] = {
    "arcface": (
        np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
        + 0.5
    )
    / 112,  # InsightFace's
    "simswap": _FRONTAL,  # InsightFace's older one, by which the crops of the 224-pixel generator were cut
    "simswap-arcface": _FRONTAL,  # and those of its extractor of identities
    "simswap-512": (
        np.array([(192.981, 239.947), (318.903, 240.194), (256.634, 314.019), (201.261, 371.410), (313.089, 371.151)])
        + 0.5
    )
    / 512,  # FFHQ's
    # The face detector's box, from the hairline to a little under the chin and from ear to ear, brought to a square.
    # Its authors give no points: these are the proportions of "arcface" in such a box.
    "wav2lip": np.array([(0.278, 0.360), (0.722, 0.360), (0.5, 0.543), (0.316, 0.731), (0.684, 0.731)]),
    # Both are means over drawn faces that turn and speak.
    "amnet": np.array([(0.378, 0.451), (0.622, 0.451), (0.5, 0.571), (0.411, 0.682), (0.589, 0.682)]),
    "wavsyncswap": np.array([(0.3543, 0.3449), (0.6457, 0.3449), (0.5, 0.4943), (0.3995, 0.6283), (0.6005, 0.6283)]),
}
"""Where the five points of a face (eyes, tip of the nose, corners of the mouth; those on the viewer's left first) lie
in the crops that a family was trained on, float64 (5, 2), fractions of the crop's width and height."""
ASPECTS = {"wav2lip": 0.72}
"""Width by height of what a crop shows in the frame, where that is no square."""


def crop_matrix(family: str, points: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Return the 2x3 matrix from the frame to a family's crop of `size` pixels, which `align` and `paste` take.

    `points` are the five points of the face, (5, 2) pixels. Raises InputError where they lie in one place.
    """
    stretch = np.array([ASPECTS.get(family, 1.0), 1.0])
    matrix = similarity(points, TEMPLATES[family] * stretch * size - 0.5)
    return np.asarray((matrix + [[0, 0, 0.5]]) / stretch[:, None] - [[0, 0, 0.5]])


def align(picture: Picture, matrix: NDArray[np.float64], size: int) -> Picture:
    """Return the crop that `matrix` (2x3, picture to crop) cuts out, uint8 (size, size, 3).

    Outside the picture its border is repeated.
    """
    return warp(picture, matrix, (size, size))


def reduction(matrix: NDArray[np.float64]) -> float:
    """Return how many pixels wide a picture is where the result of a matrix (2x3) has one."""
    return 1.0 / math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def warp(
    picture: NDArray[Any], matrix: NDArray[np.float64], extent: tuple[int, int], outside: float | None = None
) -> NDArray[Any]:
    """Return `picture` moved by `matrix` (2x3, from its points to the result's), `extent` is (width, height).

    A strong reduction averages pixels first, so that it does not alias. Outside the picture is its border, or the
    value `outside`.
    """
    import cv2

    factor = int(reduction(matrix))
    if factor > 1:
        height, width = (max(1, side // factor) for side in picture.shape[:2])
        # Whole multiples are averaged several times as fast; what is cut off is less than one small pixel.
        picture = picture[: height * factor, : width * factor]
        sx, sy = picture.shape[1] / width, picture.shape[0] / height
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        # pixel x of the small picture covers sx pixels, the middle of which is sx * x + (sx - 1) / 2
        small = np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
        matrix = matrix @ small
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    moved = cv2.warpAffine(
        picture, matrix, extent, flags=cv2.INTER_CUBIC, borderMode=border, borderValue=(outside or 0.0,) * 4
    )
    return np.asarray(moved)
