"""Measures that need other people's weights: LPIPS, FID, and dlib's face detector.

LPIPS and FID take their weights by path and check the hash; nothing is downloaded and nothing else stands in for
them. Where a library or a path is missing, `Unavailable` says what is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgetalk.errors import InputError
from edgetalk.files import sha256

ALEXNET = ("alexnet-owt-7be5be79.pth", "7be5be79")
"""AlexNet of torchvision, trained on ImageNet: the file's name and the beginning of its sha256."""
INCEPTION = ("weights-inception-2015-12-05-6726825d.pth", "6726825d")
"""The Inception network of FID as torch-fidelity and pytorch-fid publish it: name and beginning of the sha256."""


class Unavailable(Exception):
    """A measure cannot be computed here; the message says what it needs."""


def checked(path: str | Path, known: tuple[str, str]) -> Path:
    """Return the path of a weights file whose sha256 begins as it should."""
    path, (name, beginning) = Path(path), known
    if not path.is_file():
        raise FileNotFoundError(f"no weights {path}; expected {name}")
    digest = sha256(path)
    if not digest.startswith(beginning):
        raise InputError(
            f"{path}: its sha256 begins with {digest[:8]}, expected {beginning} of {name}; fetch that file again"
        )
    return path


def lpips(path: str | Path | None, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS 0.1 on AlexNet (Zhang et al. 2018): pictures (B, 3, H, W) in [-1, 1] → (B,).

    `path` is AlexNet's file; the linear weights come with the package `lpips`.
    """
    if path is None:
        raise Unavailable(f"needs the weights {ALEXNET[0]}: --lpips PATH")
    weights = torch.load(checked(path, ALEXNET), map_location="cpu", weights_only=True)
    try:
        import lpips as package
    except ModuleNotFoundError as error:
        raise Unavailable(f'needs the package {error.name}: pip install "edgetalk[score]"') from None
    network = package.LPIPS(net="alex", pnet_rand=True, verbose=False)
    own = network.net.state_dict()  # slice1.0.weight …: torchvision's numbers, grouped in five slices
    network.net.load_state_dict({name: weights[f"features.{name.split('.', 1)[1]}"] for name in own})
    network = network.eval().requires_grad_(False).to(device)
    return lambda a, b: network(a, b).flatten()


def inception(path: str | Path | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The features of FID (Heusel et al. 2017): uint8 pictures (B, 3, H, W) → (B, 2048)."""
    if path is None:
        raise Unavailable(f"needs the weights {INCEPTION[0]}: --fid PATH")
    path = checked(path, INCEPTION)
    # Read without running anything first: the package below would do what a crafted pickle asks for.
    torch.load(path, map_location="cpu", weights_only=True)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ModuleNotFoundError as error:
        raise Unavailable(f'needs the package {error.name}: pip install "edgetalk[score]"') from None
    network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    network = network.eval().requires_grad_(False).to(device)
    return lambda images: network(images)[0]


def detector() -> Callable[[np.ndarray], bool]:
    """dlib's frontal face detector, as the paper's Detection Rate: uint8 picture (S, S, 3) → whether it sees a face.

    Pictures below 256 are enlarged to that first.
    """
    try:
        import dlib
    except ModuleNotFoundError:
        raise Unavailable('needs dlib: pip install "edgetalk[score]"') from None
    import cv2

    find = dlib.get_frontal_face_detector()

    def seen(picture: np.ndarray) -> bool:
        if len(picture) < 256:
            picture = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_CUBIC)
        return len(find(np.ascontiguousarray(picture), 0)) > 0

    return seen
