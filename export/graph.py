"""What a family hands to the exporter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from torch import Tensor, nn

from edgetalk.metadata import Metadata

from .published import Licence


class Graph(NamedTuple):
    """One ONNX file to be."""

    role: str
    """"source", "step", "whole" …: what `Metadata.role` will say. Beside a step, the files of source and identity
    graphs end in -source and -identity."""
    module: nn.Module
    inputs: dict[str, Tensor]
    """An example of each input, in the order of `module.forward`."""
    outputs: list[str]
    model: onnx.ModelProto | None = None
    """The graph itself, where the checkpoint was ONNX; `module` is then the reference that it is checked against."""


class Export(NamedTuple):
    """A checkpoint, read."""

    metadata: Metadata
    """What all graphs share."""
    graphs: list[Graph]
    """What others carry the hash of comes first: the identity graph, the source graph, the step."""
    sources: dict[str, np.ndarray]
    """Pictures that came with the checkpoint, uint8 (S, S, 3) RGB, by the person's name."""
    terms: Licence | None = None
    """Of weights that others published, or that learnt from films under terms; None for one's own."""
    consent: str = ""
    """Who agreed that the people in `sources` are animated, where it was noted."""
