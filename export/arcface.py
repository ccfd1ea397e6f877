"""ArcFace for export: an aligned portrait in, its identity as a unit vector out.

Reads the residual networks that InsightFace publishes (iresnet18 to iresnet200, told by their names), the state dict
of the extractor that SimSwap was trained with, and ONNX files of InsightFace's kind, whose graph is kept and framed
by uint8 input and unit length. Left out: finding and aligning faces.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgetalk.errors import InputError, ModelError
from edgetalk.files import sha256
from edgetalk.metadata import Metadata
from edgetalk.train.networks.arcface import ArcFace, Config
from edgetalk.train.networks.simswap_arcface import SimSwapArcFace

from . import published
from .graph import Export, Graph
from .onnx_file import from_pixels

VARIANTS: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "iresnet18",
    (3, 4, 6, 3): "iresnet34",
    (3, 4, 14, 3): "iresnet50",
    (3, 13, 30, 3): "iresnet100",
    (6, 26, 60, 6): "iresnet200",
}
"""Blocks of the four stages to the published name."""
UNITS = {"portrait": "aligned as for ArcFace", "identity": "unit vector"}
RULES = (
    (r"stem\.0\.", "conv1."),
    (r"stem\.1\.", "bn1."),
    (r"stem\.2\.", "prelu."),
    (r"stages\.(\S+)\.body\.0\.", r"\1.bn1."),
    (r"stages\.(\S+)\.body\.1\.", r"\1.conv1."),
    (r"stages\.(\S+)\.body\.2\.", r"\1.bn2."),
    (r"stages\.(\S+)\.body\.3\.", r"\1.prelu."),
    (r"stages\.(\S+)\.body\.4\.", r"\1.conv2."),
    (r"stages\.(\S+)\.body\.5\.", r"\1.bn3."),
    (r"stages\.(\S+)\.shortcut\.", r"\1.downsample."),
    (r"norm\.", "bn2."),
    (r"project\.", "fc."),
    (r"project_norm\.", "features."),
)
"""Our names to the published ones; our stages are one list, theirs four."""


class Identity(nn.Module):
    """portrait uint8 (B, 112, 112, 3) RGB -> identity (B, 512), L2-normalised."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, portrait: Tensor) -> Tensor:
        return self.network(from_pixels(portrait, 255.0, 0.0))


def load(checkpoint: str | Path) -> tuple[nn.Module, str, int]:
    """Read a state dict of InsightFace's or SimSwap's names; return the network, which of theirs it is, and its size.

    Raises FileNotFoundError, and ModelError where the file is damaged or no such network.
    """
    tensors = published.state_dict(checkpoint, "arcface")
    stages = [len({name.split(".")[1] for name in tensors if name.startswith(f"layer{i}.")}) for i in range(1, 5)]
    blocks = tuple(max(1, count) for count in stages)
    if "layer1.0.bn0.weight" in tensors:
        with torch.device("meta"):
            other = SimSwapArcFace(blocks, published.width(tensors, "layer4.0.conv2.weight", 512))
        return published.fill(other, tensors, checkpoint), "simswap", 112
    width = published.width(tensors, "layer4.0.conv1.weight", 512)
    fc = tensors.get("fc.weight", torch.empty(512, round(512 * width) * 49))
    identity, flat = fc.shape if fc.ndim == 2 else (512, round(512 * width) * 49)
    side = max(1, round((flat / (512 * width)) ** 0.5))
    with torch.device("meta"):
        network = ArcFace(Config(width, blocks, 16 * side, identity, mask=False, dropout=0.0))
        network.project = nn.Linear(network.project.in_features, identity)  # ours has no bias
    del network.ellipse  # of our own extractor; these see the whole picture
    flat_names = [f"layer{stage + 1}.{i}" for stage, count in enumerate(blocks) for i in range(count)]
    names = {name: _published(name, flat_names) for name in network.state_dict()}
    published.fill(network, tensors, checkpoint, names)
    return network, VARIANTS.get(blocks, ""), network.config.size


def _published(name: str, blocks: list[str]) -> str:
    name = re.sub(r"^stages\.(\d+)", lambda found: f"stages.{blocks[int(found[1])]}", name)
    for pattern, theirs in RULES:
        if re.match(pattern, name):
            return re.sub(pattern, theirs, name)
    raise KeyError(name)


class Reference(nn.Module):
    """The file's own graph in ONNX Runtime, fed and normalised as Identity does: what its framed form is held to."""

    def __init__(self, model: onnx.ModelProto, scale: float, shift: float):
        super().__init__()
        options = ort.SessionOptions()
        options.log_severity_level = 3  # it would warn of each weight that is among the inputs
        self.session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.scale, self.shift = scale, shift

    def forward(self, portrait: Tensor) -> Tensor:
        picture = from_pixels(portrait, self.scale, self.shift).numpy()
        vector = self.session.run(None, {self.session.get_inputs()[0].name: picture})[0]
        return F.normalize(torch.from_numpy(vector), dim=1)


def load_onnx(path: Path) -> tuple[onnx.ModelProto, Reference, int]:
    """Read an ONNX file that makes (N, 512) of (N, 3, S, S) RGB pictures in [-1, 1], or of pixels where it begins
    with a subtraction; return it framed, its own graph as a reference, and S.
    """
    try:
        model = onnx.load_model(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError):
        raise ModelError(f"{path.name} is no ONNX file or not a whole one; copy it again") from None
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    shape = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[2] or len(graph.output) != 1:
        got = ", ".join(f"{value.name} {[d.dim_value for d in value.type.tensor_type.shape.dim]}" for value in inputs)
        raise ModelError(f"{path.name} takes {got}, expected one picture (N, 3, 112, 112); give an ArcFace")
    name, vector = inputs[0].name, graph.output[0].name
    pixels = any(node.op_type == "Sub" and name in node.input for node in graph.node)
    scale, shift = (1.0, 0.0) if pixels else (127.5, -1.0)
    reference = Reference(model, scale, shift)
    return _framed(model, name, vector, shape[2], scale, shift), reference, shape[2]


def _framed(model: onnx.ModelProto, name: str, vector: str, size: int, scale: float, shift: float) -> onnx.ModelProto:
    """Return the graph with portrait uint8 (1, S, S, 3) before its input and unit length behind its output."""
    framed = onnx.ModelProto()
    framed.CopyFrom(model)
    graph = framed.graph
    before = [
        helper.make_node("Cast", ["portrait"], ["edgetalk/float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["edgetalk/float"], ["edgetalk/planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["edgetalk/planes", "edgetalk/scale"], ["edgetalk/scaled"]),
        helper.make_node("Add", ["edgetalk/scaled", "edgetalk/shift"], [name]),
    ]
    length = helper.make_node("ReduceL2", [vector], ["edgetalk/length"], keepdims=1)
    if next(used.version for used in model.opset_import if used.domain in ("", "ai.onnx")) < 18:
        length.attribute.append(helper.make_attribute("axes", [1]))
    else:  # an input since then
        graph.initializer.append(numpy_helper.from_array(np.array([1]), "edgetalk/axes"))
        length.input.append("edgetalk/axes")
    after = [
        length,
        helper.make_node("Div", [vector, "edgetalk/length"], ["identity"]),
    ]
    nodes = [*before, *graph.node, *after]
    for i, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}_{i}"  # by which int8 knows its layers
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), f"edgetalk/{key}")
        for key, value in (("scale", scale), ("shift", shift))
    )
    del graph.input[:], graph.output[:], framed.metadata_props[:]
    width = helper.make_tensor_value_info("identity", TensorProto.FLOAT, [1, None])
    # Weights are among the inputs of older files; since version 4 of the format they need not be, and here are not.
    framed.ir_version = max(framed.ir_version, 4)
    graph.input.append(helper.make_tensor_value_info("portrait", TensorProto.UINT8, [1, size, size, 3]))
    graph.output.append(width)
    return framed


def prepare(checkpoint: Path, *, form: str, whole: bool, size: int | None, batch: int) -> Export:
    """Return the one graph of a published extractor."""
    model: onnx.ModelProto | None = None
    module: nn.Module
    variant = ""
    if checkpoint.suffix == ".onnx":
        if not checkpoint.is_file():
            raise FileNotFoundError(f"no checkpoint at {checkpoint}")
        model, module, side = load_onnx(checkpoint)
    else:
        network, variant, side = load(checkpoint)
        module = Identity(network)
    if size not in (None, side):
        raise InputError(f"size: got {size}, this extractor has {side} alone")
    if model is not None and batch != 1:
        raise InputError(f"batch: got {batch}, an ONNX file is exported for 1")
    metadata = Metadata(family="arcface", variant=variant, units=UNITS, checkpoint=sha256(checkpoint))
    generator = torch.Generator().manual_seed(0)
    portrait = torch.randint(0, 256, (batch, side, side, 3), generator=generator, dtype=torch.uint8)
    graph = Graph("identity", module, {"portrait": portrait}, ["identity"], model)
    return Export(metadata, [graph], {}, published.LICENCES["arcface"])
