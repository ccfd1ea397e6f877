"""A zoo of tiny real models with AMNet's inputs and outputs, run by the real OpenVINO, and their numpy references."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetalk import avatar as avatars
from edgetalk.errors import InputError
from edgetalk.face import models as networks
from edgetalk.metadata import AudioSpec, Metadata

from .face import doubles

SIZE, CHANNELS, CODE = 32, 8, 16  # of a frame, of the appearance, of f_geo
DTYPES = {"u8": TensorProto.UINT8, "f32": TensorProto.FLOAT}


def _weights(window: int = 32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)

    def draw(*shape: int, scale: float) -> np.ndarray:
        return (rng.normal(size=shape) * scale).astype(np.float32)

    return {
        "patch": draw(CHANNELS, 3, 4, 4, scale=0.25),
        "hear": draw(window * 80, CODE, scale=0.02),
        "turn": draw(3, CODE, scale=1.0),
        "close": draw(2, CODE, scale=1.0),
        "mark": draw(CODE, 212, scale=0.5),
        "gain": draw(CODE, CHANNELS, scale=0.5),
        "shift": draw(CODE, CHANNELS, scale=0.5),
        "paint": draw(CHANNELS, 3, 4, 4, scale=0.3),
    }


class Reference:
    """What the tiny networks compute, written in numpy without their graphs."""

    def __init__(self) -> None:
        self.w = _weights()

    def appearance(self, source: np.ndarray) -> np.ndarray:
        x = source.astype(np.float32) / 127.5 - 1
        patches = x.reshape(SIZE // 4, 4, SIZE // 4, 4, 3)
        return np.einsum("ykxlc,ockl->oyx", patches, self.w["patch"])[None]

    def step(self, appearance, mel, pose, blink) -> tuple[np.ndarray, np.ndarray]:
        w = self.w
        code = np.tanh(mel.reshape(-1) @ w["hear"] + pose @ w["turn"] + blink @ w["close"])
        marks = 1 / (1 + np.exp(-(code @ w["mark"])))
        x = appearance[0] * (code @ w["gain"] + 1)[:, None, None] + (code @ w["shift"])[:, None, None]
        grid = np.einsum("oyx,ockl->ykxlc", x, w["paint"]).reshape(SIZE, SIZE, 3)
        frame = np.rint(np.clip((np.tanh(grid) + 1) * 127.5, 0, 255)).astype(np.uint8)
        return frame, marks.reshape(106, 2).astype(np.float32)


def _model(nodes, inputs, outputs, metadata: Metadata, weights) -> onnx.ModelProto:
    def infos(shapes):
        return [helper.make_tensor_value_info(name, DTYPES[kind], shape) for name, (kind, shape) in shapes.items()]

    used = {name for node in nodes for name in node.input}
    constants = {
        **weights,
        "one": np.float32(1),
        "half": np.float32(127.5),
        "low": np.float32(0),
        "high": np.float32(255),
        "flat": np.array([0, -1]),
        "points": np.array([0, 106, 2]),
        "planes": np.array([0, CHANNELS, 1, 1]),
    }
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "tiny", infos(inputs), infos(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, {"edgetalk": metadata.to_json()})
    onnx.checker.check_model(model)
    return model


def _source_nodes() -> list[onnx.NodeProto]:
    make = helper.make_node
    return [
        make("Cast", ["source"], ["float"], to=TensorProto.FLOAT),
        make("Div", ["float", "half"], ["unit"]),
        make("Sub", ["unit", "one"], ["centred"]),
        make("Transpose", ["centred"], ["planar"], perm=[0, 3, 1, 2]),
        make("Conv", ["planar", "patch"], ["appearance"], strides=[4, 4]),
    ]


def _step_nodes(features: str, motion: bool) -> list[onnx.NodeProto]:
    make = helper.make_node
    nodes = [make("Reshape", ["mel", "flat"], ["heard"]), make("MatMul", ["heard", "hear"], ["code0"])]
    if motion:
        nodes += [
            make("MatMul", ["pose", "turn"], ["turned"]),
            make("MatMul", ["blink", "close"], ["closed"]),
            make("Add", ["code0", "turned"], ["code1"]),
            make("Add", ["code1", "closed"], ["code2"]),
        ]
    nodes += [
        make("Tanh", ["code2" if motion else "code0"], ["code"]),
        make("MatMul", ["code", "gain"], ["gain0"]),
        make("Add", ["gain0", "one"], ["gain1"]),
        make("Reshape", ["gain1", "planes"], ["gain2"]),
        make("MatMul", ["code", "shift"], ["shift0"]),
        make("Reshape", ["shift0", "planes"], ["shift1"]),
        make("Mul", [features, "gain2"], ["x0"]),
        make("Add", ["x0", "shift1"], ["x1"]),
        make("ConvTranspose", ["x1", "paint"], ["x2"], strides=[4, 4]),
        make("Tanh", ["x2"], ["x3"]),
        make("Add", ["x3", "one"], ["x4"]),
        make("Mul", ["x4", "half"], ["x5"]),
        make("Clip", ["x5", "low", "high"], ["x6"]),
        make("Round", ["x6"], ["x7"]),
        make("Transpose", ["x7"], ["x8"], perm=[0, 2, 3, 1]),
        make("Cast", ["x8"], ["frame"], to=TensorProto.UINT8),
    ]
    if motion:
        nodes += [
            make("MatMul", ["code", "mark"], ["mark0"]),
            make("Sigmoid", ["mark0"], ["mark1"]),
            make("Reshape", ["mark1", "points"], ["landmarks"]),
        ]
    return nodes


def build_source(metadata: Metadata, batch: int | str = 1, seed: int = 0) -> onnx.ModelProto:
    """seed 0: the weights of the reference; another: another export."""
    weights = {key: value * (1 + 0.5 * seed) for key, value in _weights().items()}
    picture, features = [batch, SIZE, SIZE, 3], [batch, CHANNELS, SIZE // 4, SIZE // 4]
    inputs, outputs = {"source": ("u8", picture)}, {"appearance": ("f32", features)}
    return _model(_source_nodes(), inputs, outputs, replace(metadata, role="source", source=""), weights)


def build_step(metadata: Metadata, batch: int | str = 1, whole: bool = False) -> onnx.ModelProto:
    features = ("f32", [batch, CHANNELS, SIZE // 4, SIZE // 4])
    inputs = {
        **({"source": ("u8", [batch, SIZE, SIZE, 3])} if whole else {"appearance": features}),
        "mel": ("f32", [batch, 32, 80]),
        "pose": ("f32", [batch, 3]),
        "blink": ("f32", [batch, 2]),
    }
    outputs = {"frame": ("u8", [batch, SIZE, SIZE, 3]), "landmarks": ("f32", [batch, 106, 2])}
    nodes = (_source_nodes() if whole else []) + _step_nodes("appearance", motion=True)
    return _model(nodes, inputs, outputs, metadata, _weights())


def build_swap(metadata: Metadata) -> onnx.ModelProto:
    """A step in the form of WavSyncSwap: a face and sound, neither pose nor blink."""
    inputs = {"face": ("f32", [1, CHANNELS, SIZE // 4, SIZE // 4]), "mel": ("f32", [1, 16, 80])}
    outputs = {"frame": ("u8", [1, SIZE, SIZE, 3])}
    return _model(_step_nodes("face", motion=False), inputs, outputs, metadata, _weights(window=16))


def to_ir(onnx_path: Path, xml_path: Path, precision: str = "f32") -> None:
    """Save a model for OpenVINO as a build would, with its precision and the ONNX it came from in the metadata."""
    import openvino

    model = openvino.Core().read_model(onnx_path)
    text = model.get_rt_info(["framework", "edgetalk"]).astype(str)
    sha = hashlib.sha256(onnx_path.read_bytes()).hexdigest()
    metadata = replace(Metadata.from_json(text, onnx_path.name), precision=precision, onnx=sha)
    model.set_rt_info(metadata.to_json(), ["framework", "edgetalk"])
    openvino.save_model(model, xml_path, compress_to_fp16=False)


def face(side: int = SIZE) -> np.ndarray:
    """A smooth picture, uint8 (side, side, 3)."""
    y, x = np.mgrid[0:side, 0:side] / side
    return np.stack([127 + 120 * np.sin(3 * x + 2 * y), 255 * x, 255 * (1 - y) * x], 2).astype(np.uint8)


BUILDERS = {"source": build_source, "step": build_step, "swap": build_swap}


@dataclass
class Zoo:
    root: Path
    reference: Reference
    metadata: Metadata
    """Of the step in the set "onnx"."""

    def set(self, name: str, target: Path) -> Path:
        """Copy the files of one set into `target` and return the engine's path."""
        target.mkdir(parents=True, exist_ok=True)
        for file in (self.root / name).iterdir():
            shutil.copy(file, target)
        return next(target / engine for engine in ("amnet.xml", "amnet.onnx") if (target / engine).exists())

    def write(self, kind: str, path: Path, metadata: Metadata | None = None, **options: object) -> Path:
        """Write another ONNX model of a kind in BUILDERS."""
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(BUILDERS[kind](metadata or self.metadata, **options), path)
        return path

    def face(self, side: int = SIZE) -> np.ndarray:
        return face(side)

    def ir(self, model: Path, xml: Path, precision: str = "f32") -> Path:
        to_ir(model, xml, precision)
        return xml


def save_unchecked(avatar: avatars.Avatar, path: Path) -> None:
    """Write an avatar that does not hold together, which save_avatar refuses."""
    with pytest.raises(InputError, match="^this is no avatar: it"):
        avatars.save_avatar(avatar, path)
    with pytest.MonkeyPatch.context() as careless:
        careless.setattr(avatars, "_misfit", lambda *_: "")
        avatars.save_avatar(avatar, path)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Zoo:
    """Sets of files in folders: onnx, f32, bf16, int8 (by its metadata) and dynamic, each with the same weights."""
    root = tmp_path_factory.mktemp("zoo")
    base = Metadata(family="amnet", variant="tiny", audio=AudioSpec(), licence="Apache-2.0")
    for name, batch in (("onnx", 1), ("dynamic", "N")):
        folder = root / name
        folder.mkdir()
        onnx.save(build_source(base, batch), folder / "amnet-source.onnx")
        sha = hashlib.sha256((folder / "amnet-source.onnx").read_bytes()).hexdigest()
        metadata = replace(base, source=sha)
        onnx.save(build_step(metadata, batch), folder / "amnet.onnx")
        avatars.save_avatar(
            avatars.make_avatar(folder / "amnet.onnx", face(64), name="nobody"), folder / "amnet.avatar"
        )
    metadata = Metadata.from_json(
        {prop.key: prop.value for prop in onnx.load(root / "onnx/amnet.onnx").metadata_props}["edgetalk"], "zoo"
    )
    for precision in ("f32", "bf16", "int8"):
        folder = root / precision
        folder.mkdir()
        for stem in ("amnet", "amnet-source"):
            to_ir(root / f"onnx/{stem}.onnx", folder / f"{stem}.xml", precision)
        (folder / "amnet.avatar").write_bytes((root / "onnx/amnet.avatar").read_bytes())
    return Zoo(root, Reference(), metadata)


@pytest.fixture
def engine(zoo, tmp_path) -> Path:
    return zoo.set("f32", tmp_path / "model")


@pytest.fixture
def controls() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mel, pose and blink of one step."""
    rng = np.random.default_rng(3)
    return (
        rng.uniform(-4, 4, (32, 80)).astype(np.float32),
        np.array([0.3, -0.1, 0.05], np.float32),
        np.array([0.2, 0.7], np.float32),
    )


@pytest.fixture(scope="session")
def _doubles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("doubles")
    doubles.write_detector(folder / "detector.onnx")
    doubles.write_mesh(folder / "mesh.onnx")
    return folder


@pytest.fixture
def face_models(_doubles, monkeypatch) -> Path:
    """A folder with doubles in the place of the two networks of face tracking."""
    monkeypatch.setattr(networks, "DETECTOR", "detector.onnx")
    monkeypatch.setattr(networks, "MESH", "mesh.onnx")
    return _doubles


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> None:
    """A cache without anything in it: networks that are found are those of a folder that was named."""
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "cache"))


def cli(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "edgetalk.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


def cut(path: Path, share: float = 0.5) -> None:
    """Leave the first `share` of a file alone."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.fixture
def edgetalk_cli():
    return cli


@pytest.fixture
def without_rights() -> Callable[[], None]:
    """For preexec_fn: takes from root what lets it read and write everything; nobody else has it."""
    if sys.platform != "linux":
        pytest.skip("takes root's rights away as Linux has them")
    c = ctypes.CDLL(None)

    def drop() -> None:
        for capability in range(64) if os.geteuid() == 0 else ():
            c.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP, which the next program heeds

    return drop
