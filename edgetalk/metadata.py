"""What a model file says about itself: one ASCII JSON string under the key `edgetalk`.

It holds what the graph cannot say; shapes and dtypes are never repeated here. ONNX keeps the string in
`metadata_props`, OpenVINO at rt_info ["framework", "edgetalk"], TensorRT in `network.name`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from .clock import frame_rate
from .errors import InputError, ModelError

FORMAT = 1
BESIDE = ("identity", "source")
"""Roles of the graphs beside a step, whose files are called STEM-ROLE, in the order in which they are written."""
KEY = "edgetalk"
TENSORRT_LIMIT = 4096  # bytes that TensorRT keeps of a network's name
KINDS = ("logmel", "mfcc")
"""Of audio front ends."""
# Bounds of AudioSpec's numbers, as in the C library, which takes no other files.
BOUNDS = {
    "sample_rate": (1, 1_000_000),
    "n_fft": (2, 1 << 14),
    "hop": (1, 1 << 14),
    "n_mels": (1, 512),
    "fmin": (0, 1e6),
    "fmax": (0, 1e6),
    "preemphasis": (-1, 1),
    "n_mfcc": (0, 512),
    "window": (1, 4096),
    "offset": (-4096, 4096),
}
# Types of the fields below -> what comes out of JSON for them.
IN_JSON: dict[Any, Any] = {str: str, int: int, float: (int, float), dict: dict, tuple: list}


@dataclass(frozen=True)
class AudioSpec:
    """The audio front end that a network was trained with.

    Mel frame j is centred on sample j * hop. Video frame i sees `window` mel frames from
    floor(i * sample_rate / (hop * fps) + offset) on.
    """

    kind: str = "logmel"
    """"logmel" or "mfcc" (coefficients with their first and second differences)."""
    sample_rate: int = 16000
    """Hz."""
    n_fft: int = 800
    """Samples per analysis window."""
    hop: int = 200
    """Samples between two mel frames."""
    n_mels: int = 80
    fmin: float = 55.0
    """Hz, lower edge of the first mel band."""
    fmax: float = 7600.0
    """Hz, upper edge of the last mel band."""
    preemphasis: float = 0.97
    """y[n] = x[n] - preemphasis * x[n - 1], before the analysis."""
    n_mfcc: int = 0
    """Coefficients kept; 0 where kind is "logmel"."""
    window: int = 32
    """Mel frames per step (T)."""
    offset: float = -23.4
    """Mel frames from the video frame's start to the window's start."""

    @property
    def features(self) -> int:
        """Values per mel frame (F)."""
        return self.n_mels if self.kind == "logmel" else 3 * self.n_mfcc

    def check(self) -> None:
        """Raise ValueError where there is no such front end."""
        for key, (low, high) in BOUNDS.items():
            if not low <= getattr(self, key) <= high:  # nor is NaN
                raise ValueError(key)
        if self.kind not in KINDS or not self.features:
            raise ValueError("kind")
        if self.fmax - self.fmin < 1 or self.hop > self.n_fft:
            raise ValueError("fmax or hop")


@dataclass(frozen=True)
class Metadata:
    """The metadata of one ONNX file or engine."""

    family: str
    """"amnet", "wavsyncswap", "wav2lip", "simswap", "arcface", "syncnet"."""
    variant: str = ""
    """Arrangement within the family, such as "amnet" or "amnet-k3"."""
    role: str = "step"
    """"step", "source", "identity" or "whole"."""
    fps: str = "25"
    """Frames per second that the network was trained at, a rational such as "25" or "30000/1001"."""
    audio: AudioSpec | None = None
    units: dict[str, str] = field(default_factory=dict)
    """Unit of each input whose numbers need one, such as {"pose": "rad yaw pitch roll"}."""
    limits: dict[str, list[float]] = field(default_factory=dict)
    """How far from zero training went: "pose" yaw, pitch, roll in radians. Motion from films is clipped to it."""
    precision: str = "f32"
    """"f32", "bf16", "fp16" or "int8"."""
    checkpoint: str = ""
    """sha256 of the checkpoint."""
    onnx: str = ""
    """sha256 of the ONNX file that an engine was built from; empty in the ONNX itself."""
    source: str = ""
    """sha256 of the source ONNX whose features this step takes; avatars carry the same."""
    identity: str = ""
    """sha256 of the identity ONNX whose vectors the source graph beside this step takes."""
    persons: tuple[str, ...] = ()
    """Names of the persons that the network knows; empty where it takes any face."""
    faces: str = ""
    """"drawn" where it has learnt from drawn faces alone; empty where from filmed ones, or nobody says."""
    licence: str = ""
    use: str = "any"
    """"any" or "non-commercial"."""
    gate: dict[str, Any] = field(default_factory=dict)
    """What the parity gate of the build measured, against f32."""
    engine: dict[str, Any] = field(default_factory=dict)
    """Name and version of the engine, and the device that it was built for."""

    @property
    def rate(self) -> Fraction:
        """Frames per second as an exact fraction."""
        return frame_rate(self.fps)

    def hears(self, name: str) -> AudioSpec:
        """Return how the network hears; raises ModelError where this, of the file `name`, does not say it."""
        if self.audio is None:
            raise ModelError(f"{name} does not say how it hears; export it again")
        return self.audio

    def to_json(self) -> str:
        """Return the ASCII JSON string that is stored in the file."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if v not in (None, "", {}, ())}
        return json.dumps({"format": FORMAT, **fields}, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None, where: str) -> Metadata:
        """Read the string found in the file `where`.

        Raises ModelError where it is missing, damaged, or of a format newer than this edgetalk reads.
        """
        if not text:
            raise ModelError(f"{where} has no edgetalk metadata; export it with: edgetalk export")
        try:
            fields = json.loads(text)
            version = fields.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(f"{where} has edgetalk metadata that is damaged; export it again") from None
        if not isinstance(version, int) or version > FORMAT:
            raise ModelError(
                f"{where} has metadata of format {version}, this edgetalk reads up to {FORMAT}; "
                "upgrade it: pip install -U edgetalk"
            )
        known = {f.name for f in dataclasses.fields(cls)}
        fields = {k: v for k, v in fields.items() if k in known}
        try:
            if "audio" in fields:
                # A key that is unknown here names a front end that this edgetalk could not follow.
                fields["audio"] = audio = AudioSpec(**_typed(AudioSpec, fields["audio"]))
                audio.check()
            metadata = cls(**_typed(cls, fields))
            frame_rate(metadata.fps)
            if not all(isinstance(one, str) for one in (*metadata.persons, *metadata.units.values())):
                raise TypeError("persons or units")
            limits = metadata.limits.get("pose", [0, 0, 0])
            if [type(one) in (int, float) and one >= 0 for one in limits] != [True] * 3:
                raise TypeError("limits")
            return replace(metadata, persons=tuple(metadata.persons))
        except (TypeError, ValueError):
            raise ModelError(f"{where} has edgetalk metadata that is damaged; export it again") from None


def check_stem(out: Path, kind: str) -> None:
    """Raise InputError if the name ends in -source or -identity, which is reserved for a model's parts."""
    for role in BESIDE:
        if out.stem.endswith(f"-{role}"):
            raise InputError(
                f"out: got {out.name!r}, which is what the {role} {kind} of a model is called; name another"
            )


def _typed(kind: type, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that came out of JSON; raises TypeError where one is of another type."""
    for name, hint in get_type_hints(kind).items():
        wanted = IN_JSON.get(get_origin(hint) or hint)
        if wanted is None or name not in fields:
            continue
        if not isinstance(fields[name], wanted) or isinstance(fields[name], bool):  # which is an int to Python
            raise TypeError(name)
    return fields
