"""The networks of dubbing: a painter crops a face as its network wants it, repaints the crop and pastes it back.

What it needs (sound, an identity, another frame of the film) is read from its graphs' inputs, and how a family
crops from its name in the metadata, so one class serves Wav2Lip, SimSwap and WavSyncSwap. Whatever the source graph
makes, the step takes by the same name. Decoding, tracking and encoding are in dubbing.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Picture, Planes
from .backends import Arrays, Backend, beside, shared_device
from .bundled import find_engine
from .errors import InputError, ModelError
from .face import Face
from .metadata import AudioSpec, Metadata
from .model import not_of_one_export, open_model, weights_of
from .pasting import MASKS, Pasting
from .planes import blend, crop
from .preprocess import check_array, crop_matrix

GIVEN = ("target", "reference", "identity", "mel")
"""Inputs that a painter feeds; others come from its source graph."""


class Painter:
    """One network that repaints faces. One thread at a time may use it; another uses a `twin`.

    `engine` is the step; what stands beside it as STEM-source is opened too where the step needs it. `device`,
    `threads` and `streams` are as of `open_engine`, the device that of the step; `use="commercial"` refuses networks
    that may not be used commercially. Raises FileNotFoundError, ModelError, InputError or BackendError.

    >>> with Painter("wav2lip.xml") as painter:
    ...     painter(planes, face, mel)
    """

    def __init__(
        self,
        engine: str | os.PathLike[str],
        *,
        device: str = "auto",
        threads: int | None = None,
        streams: int = 1,
        use: str = "any",
    ) -> None:
        self.path = find_engine(engine)
        self.name = self.path.name
        self._backends: list[Backend] = []
        try:
            self._step, self.metadata = self._open(self.path, device, threads, streams, use)
            self.family = self.metadata.family
            if self.family not in MASKS or "frame" not in self._step.outputs:
                raise ModelError(
                    f"{self.name} is the {self.metadata.role} of {self.family}, expected the step of "
                    f"{', '.join(MASKS)}, which repaint the face of a film"
                )
            self._source = self._open_source(device, threads, streams, use)
            self._read_graphs()
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, device: str, threads: int | None, streams: int, use: str) -> tuple[Backend, Metadata]:
        backend, metadata = open_model(path, use=use, device=device, threads=threads, streams=streams)
        self._backends.append(backend)
        return backend, metadata

    def _open_source(self, device: str, threads: int | None, streams: int, use: str) -> Backend | None:
        wanted = [name for name in self._step.inputs if name not in GIVEN]
        if not wanted:
            return None
        path = beside(self.path, f"{self.path.stem}-source")
        if path is None:
            raise ModelError(
                f"{self.name} takes {', '.join(wanted)}, and there is no {self.path.stem}-source{self.path.suffix} "
                "beside it that makes them; copy that file too, or build the model again"
            )
        source, metadata = self._open(path, shared_device(device, self.path, path), threads, streams, use)
        if self.metadata.source not in ("", weights_of(metadata, path)):
            raise not_of_one_export(self.name, path.name)
        missing = [name for name in wanted if name not in source.outputs]
        if missing:
            raise ModelError(
                f"{self.name} takes {', '.join(missing)}, which {path.name} does not make; build both again"
            )
        return source

    def _read_graphs(self) -> None:
        graphs = [self._source, self._step] if self._source else [self._step]
        inputs = {name: spec for graph in graphs for name, spec in graph.inputs.items() if name in GIVEN}
        if "target" not in inputs:
            raise ModelError(f"{self.name} takes {', '.join(inputs)}, expected a network that repaints a target")
        self.takes: frozenset[str] = frozenset(inputs)
        """Of GIVEN, what the graphs take."""
        self.size: int = self._step.outputs["frame"].shape[1]
        """Side of the crop in pixels."""
        self.template = "simswap-512" if self.family == "simswap" and self.size >= 512 else self.family
        self.pasting = Pasting(self.family, self.size, "identity" in inputs)
        """How its crops go back."""
        self.audio: AudioSpec | None = self.metadata.hears(self.name) if "mel" in inputs else None
        """How it hears; None where it does not."""
        self._shapes = {name: spec.shape for name, spec in inputs.items()}
        self.identity: NDArray[np.float32] | None = None
        """Whose face it paints; see `wear`."""

    def wear(self, identity: NDArray[np.float32]) -> None:
        """Paint the face of this identity from now on, float32 (1, D) as the extractor of the network makes it."""
        expected = self._shapes["identity"]
        if identity.shape != expected or identity.dtype != np.float32:
            raise InputError(
                f"identity: got {identity.dtype} {identity.shape}, {self.name} takes float32 {expected}; "
                "take the extractor that the network was trained with"
            )
        if not np.isfinite(identity).all():
            raise InputError("identity: got NaN or infinite numbers; look at what computed it")
        self.identity = identity

    def matrix(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Return the 2x3 matrix from the frame to the crop, for the five points of a face, (5, 2) pixels."""
        return crop_matrix(self.template, points, self.size)

    def crop(self, planes: Planes, matrix: NDArray[np.float64]) -> Picture | None:
        """Return the crop of a picture in the codec's form, RGB uint8 (size, size, 3); None where it is outside."""
        return crop(planes, matrix, self.size)

    def paint(self, crop: Picture, mel: Array | None = None, reference: Picture | None = None) -> Picture:
        """Return the crop repainted, uint8 (size, size, 3): a view that the next call overwrites.

        `mel` is the window of sound, float32 (T, F), for networks that hear; `reference` the crop of another frame,
        for those that take one.
        """
        feeds: Arrays = {"target": crop[None]}
        if mel is not None and "mel" in self.takes:
            feeds["mel"] = check_array("mel", mel, self._shapes["mel"][1:])[None]
        if reference is not None:
            feeds["reference"] = reference[None]
        if self.identity is not None:
            feeds["identity"] = self.identity
        missing = self.takes - set(feeds)
        if missing:
            raise InputError(f"{self.name} takes {', '.join(sorted(missing))} and was not given any")
        if self._source is not None:
            feeds |= self._source.run({name: feeds[name] for name in self._source.inputs})
        frame: Picture = self._step.run({name: feeds[name] for name in self._step.inputs})["frame"][0]
        return frame

    def paste(
        self,
        planes: Planes,
        painted: Picture,
        cut: Picture,
        matrix: NDArray[np.float64],
        jaw: NDArray[Any] | None = None,
    ) -> None:
        """Put the repainted crop in its place, its colours matched where both show the same.

        `jaw` is as of Face. See Pasting.
        """
        blend(planes, *self.pasting.layers(painted, cut, matrix, jaw), matrix)

    def __call__(self, planes: Planes, face: Face, mel: Array | None = None, reference: Picture | None = None) -> None:
        """Repaint a face in a picture in the codec's form (planes.py), in place."""
        matrix = self.matrix(face.points)
        cut = self.crop(planes, matrix)
        if cut is not None:
            self.paste(planes, self.paint(cut, mel, reference), cut, matrix, face.jaw)

    def twin(self) -> Painter:
        """Return another painter of the same face on the same engines, to be used in another thread and closed."""
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        other._step, other._source = self._step.twin(), self._source and self._source.twin()
        other._backends = [backend for backend in (other._step, other._source) if backend is not None]
        return other

    def close(self) -> None:
        """Free the engines; may be called twice."""
        for backend in self._backends:
            backend.close()

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
