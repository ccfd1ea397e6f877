"""Tiny engines that dub in a way that is known exactly, and films and tracks to dub."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgetalk.face import Face, write_track
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.pasting import MASKS
from edgetalk.writer import Writer

SIZE = 64  # of a crop
U8, F32 = TensorProto.UINT8, TensorProto.FLOAT
PICTURE = (U8, [1, SIZE, SIZE, 3])
INPUTS = {
    "target": PICTURE,
    "reference": PICTURE,
    "portrait": PICTURE,
    "frame": PICTURE,
    "mel": (F32, [1, 16, 80]),
    "identity": (F32, [1, 3]),
    "face": (F32, [1, SIZE, SIZE, 3]),
}
AUDIO = AudioSpec(window=16, offset=0.0)
INSIDE = (MASKS["wav2lip"](SIZE) > 0.999) & (MASKS["simswap"](SIZE) > 0.999)
"""Where a crop is pasted in full, whatever the family: what is painted there alone leaves the colours unmatched."""
BLEND = {name: part[None, :, :, None].astype(np.float32) for name, part in (("inside", INSIDE), ("outside", ~INSIDE))}


def model(path: Path, nodes, inputs, outputs, constants=None, **metadata) -> Path:
    """Write a graph of these nodes; names of inputs and outputs are keys of INPUTS."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    infos = [[helper.make_tensor_value_info(name, *INPUTS[name]) for name in names] for names in (inputs, outputs)]
    graph = helper.make_graph([helper.make_node(*node[:3], **node[3]) for node in nodes], "tiny", *infos, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    helper.set_model_props(made, {"edgetalk": Metadata(**metadata).to_json()})
    onnx.checker.check_model(made)
    onnx.save(made, path)
    return path


def cast(source, target, to=F32):
    return ("Cast", [source], [target], {"to": to})


def unchanged(path: Path, **metadata) -> Path:
    """Wav2Lip's graphs: the source keeps the target, the step gives it back, whatever is heard."""
    source = path.with_name(f"{path.stem}-source.onnx")
    model(source, [cast("target", "face")], ["target"], ["face"], family="wav2lip", role="source")
    nodes = [
        ("ReduceMean", ["mel"], ["heard"], {"keepdims": 0}),
        ("Mul", ["heard", "nothing"], ["silent"], {}),
        ("Add", ["face", "silent"], ["same"], {}),
        cast("same", "frame", U8),
    ]
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    constants = {"nothing": np.float32(0)}
    stated = {"family": "wav2lip", "audio": AUDIO, "source": sha, **metadata}
    return model(path, nodes, ["face", "mel"], ["frame"], constants, **stated)


def blended(painted: str) -> list:
    """Nodes that put `painted` inside and leave the target outside."""
    return [
        cast("target", "float"),
        ("Mul", ["float", "outside"], ["kept"], {}),
        ("Mul", [painted, "inside"], ["put"], {}),
        ("Add", ["kept", "put"], ["both"], {}),
        ("Round", ["both"], ["rounded"], {}),
        cast("rounded", "frame", U8),
    ]


def loud(path: Path) -> Path:
    """Paints the inside grey: 128 + 24 times the mean of the window of sound."""
    nodes = [
        ("ReduceMean", ["mel"], ["heard"], {"keepdims": 0}),
        ("Mul", ["heard", "gain"], ["louder"], {}),
        ("Add", ["louder", "middle"], ["grey"], {}),
        *blended("grey"),
    ]
    constants = {"gain": np.float32(24), "middle": np.float32(128), **BLEND}
    return model(path, nodes, ["target", "mel"], ["frame"], constants, family="wav2lip", audio=AUDIO, role="whole")


def colour(path: Path, rgb, family="wav2lip", everywhere=False) -> Path:
    """Paints the inside, or the whole crop, in one colour."""
    constants = {**BLEND, "rgb": np.array(rgb, np.float32)}
    if everywhere:
        constants |= {"inside": np.ones((1, SIZE, SIZE, 1), np.float32), "outside": np.float32(0)}
    return model(path, blended("rgb"), ["target"], ["frame"], constants, family=family)


def negative(path: Path) -> Path:
    """A SimSwap that makes dark bright, inside."""
    nodes = [cast("target", "given"), ("Sub", ["white", "given"], ["turned"], {}), *blended("turned")]
    return model(path, nodes, ["target"], ["frame"], {"white": np.float32(255), **BLEND}, family="simswap")


def swap(path: Path) -> Path:
    """A SimSwap that paints the identity inside: a colour of length 1 that is made 255 long."""
    nodes = [("Mul", ["identity", "white"], ["bright"], {}), *blended("bright")]
    return model(path, nodes, ["target", "identity"], ["frame"], {"white": np.float32(255), **BLEND}, family="simswap")


def extractor(path: Path, **metadata) -> Path:
    """An ArcFace whose identity is the direction of the portrait's mean colour."""
    nodes = [
        cast("portrait", "float"),
        ("ReduceMean", ["float"], ["mean"], {"axes": [1, 2], "keepdims": 0}),
        ("ReduceL2", ["mean"], ["length"], {"axes": [1], "keepdims": 1}),
        ("Div", ["mean", "length"], ["identity"], {}),
    ]
    return model(path, nodes, ["portrait"], ["identity"], **{"family": "arcface", "role": "identity", **metadata})


def mirror(path: Path) -> Path:
    """A WavSyncSwap that shows the reference inside."""
    source = path.with_name(f"{path.stem}-source.onnx")
    nodes = [cast("reference", "other"), *blended("other")[:-1], ("Identity", ["rounded"], ["face"], {})]
    model(source, nodes, ["target", "reference"], ["face"], BLEND, family="wavsyncswap", role="source")
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    return model(path, [cast("face", "frame", U8)], ["face"], ["frame"], family="wavsyncswap", source=sha)


# Films


WIDTH, HEIGHT = 160, 120
POINTS = np.array([(60, 45), (100, 45), (80, 66), (64, 86), (96, 86)], np.float32)


def picture(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Soft ramps, and the frame's number in the brightness of the upper left corner, far from the face."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack([60 + 120 * x / width, 80 + 100 * y / height, 150 - 60 * x / width], -1)
    frame[:16, :16] = 20 + 3 * i
    return frame.astype(np.uint8)


def number(frame: np.ndarray) -> int:
    return round((float(frame[3:13, 3:13].mean()) - 20) / 3)


def face(points: np.ndarray = POINTS) -> Face:
    low, high = points.min(0) - 20, points.max(0) + 20
    return Face(
        np.r_[low, high].astype(np.float32), points, 1.0, None, np.zeros(3, np.float32), np.zeros(2, np.float32)
    )


def film(
    path: Path, count: int = 20, fps: Fraction = Fraction(25), size=(WIDTH, HEIGHT), faces=None, sound=None
) -> Path:
    """Write a film and the track beside it; `faces` are POINTS in every frame where they are not given."""
    with Writer(path, size, fps, audio=sound, crf=2) as writer:
        for i in range(count):
            writer.write(picture(i, *size))
    faces = [face()] * count if faces is None else faces
    write_track(path.with_name(f"{path.stem}.track.npz"), faces, fps, (size[0] + size[0] % 2, size[1] + size[1] % 2))
    return path


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Band-limited noise that swells and fades, (N,) float32 at 16 kHz: only in one place does it fit onto itself."""
    noise = np.random.default_rng(seed).normal(size=round(16000 * seconds))
    noise = np.convolve(noise, np.hanning(9) / 4)[4 : 4 + len(noise)]
    return (0.2 * noise * (0.6 + 0.4 * np.sin(np.arange(len(noise)) / 900))).astype(np.float32)
