"""An ONNX graph that is being rewritten: its constants, who reads what, and how nodes are put in place of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """A graph being rewritten, with its constants and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes: list[onnx.NodeProto] = list(self.model.graph.node)
        self.constants = {w.name: numpy_helper.to_array(w) for w in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and (value := _value(node)) is not None:
                self.constants[node.output[0]] = value
        graph = self.model.graph
        self._taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
        self._taken |= {name for node in self.nodes for name in (*node.input, *node.output)}

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads `name`, None where there are several or it is an output of the graph."""
        readers = self.readers(name)
        outputs = {output.name for output in self.model.graph.output}
        return readers[0] if len(readers) == 1 and name not in outputs else None

    def fresh(self, name: str) -> str:
        """Return `name`, with a number behind it where the graph or a caller before has one of that name."""
        found, number = name, 0
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return what it is called: layers may share the one that `name` was made of."""
        name = self.fresh(name)
        self.constants[name] = value
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def replace(self, old: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
        at = next(i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new

    def finish(self) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input} | {o.name for o in self.model.graph.output}
        kept = [w for w in self.model.graph.initializer if w.name in used]
        del self.model.graph.initializer[:], self.model.graph.value_info[:]
        self.model.graph.initializer.extend(kept)
        self.model.graph.ClearField("node")
        self.model.graph.node.extend(self.nodes)
        onnx.checker.check_model(self.model, full_check=True)
        return self.model


def _value(constant: onnx.NodeProto) -> np.ndarray | None:
    """Return what a Constant holds, None where that is text or sparse: no rewrite asks for it."""
    ((name, value),) = attributes(constant).items()
    if name == "value":
        return numpy_helper.to_array(value)
    kinds = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    return np.array(value, kinds[name]) if name in kinds else None


def opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a graph uses; 0 where it uses none."""
    return next((used.version for used in model.opset_import if used.domain in ("", "ai.onnx")), 0)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def is_bare(graph: Graph, norm: onnx.NodeProto) -> bool:
    """Whether an instance norm has scale 1 and shift 0."""
    found = [graph.constants.get(name) for name in norm.input[1:]]
    return all(values is not None and (values == x).all() for values, x in zip(found, (1, 0), strict=True))
