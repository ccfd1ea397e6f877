"""Chooses the layers that int8 leaves in float: as few as the gate asks for, by what each costs the trained network.

Every layer is quantised alone, and the gate's figures of that, on its own samples, say what part of the error that
the gate allows this layer takes. Then the costliest stay in float, one by one, until the graph with all others in int8
passes with the margin asked for. Figures are those of the quantised graph in ONNX Runtime, all else in f32, whatever
engine is built. Left out: other bits than 8, and a search over sets of layers, whose errors nearly add up.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgetalk.errors import InputError
from edgetalk.files import replacing

from . import gate
from .balance import balance
from .onnx_file import Feeds, Progress, Run, Runner
from .precision import layers, quantize, scales
from .rounding import rounded

MARGIN = 0.002
"""By which SSIM, or a cosine, has to lie above the gate's floor."""
ALL = "(all layers)"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A layer that can be quantised."""

    graph: str
    """Role of the graph that it is in: "step" or "source"."""
    name: str

    def __str__(self) -> str:
        return f"{self.graph}:{self.name}"


@dataclass(frozen=True)
class Choice:
    """Which layers stay in float, and why."""

    alone: dict[Layer, Figures]
    """The gate's figures where one layer alone is in int8, the costliest first."""
    kept: list[Layer]
    """In float, in the order in which they were chosen."""
    trail: list[Figures]
    """The gate's figures with the first 0, 1, 2 … of those in float and everything else in int8."""
    margin: float
    passed: bool
    """Whether the last ones pass; they do not where half of all layers in float are not enough."""

    def names(self, graph: str) -> list[str]:
        return [layer.name for layer in self.kept if layer.graph == graph]

    def reasons(self) -> dict[str, str]:
        """Return for each layer in float the figure that called for it, before and after."""
        told = {}
        for layer, before, after in zip(self.kept, self.trail, self.trail[1:], strict=False):
            figure = tightest(before, self.margin)
            told[str(layer)] = f"{figure} {before[figure]} to {after[figure]}"
        return told


def shares(figures: Figures, margin: float) -> dict[str, float]:
    """Return of each figure of an int8 engine the error, as a part of the one that the gate allows; above 1 it fails.

    The error of a likeness is what it lacks of 1, of which `margin` less is allowed; of decibels the squared error;
    other figures are errors themselves.
    """
    told = {}
    for figure, floor in gate.FLOORS["int8"].items():
        if figure in figures:
            likeness = figure in ("ssim", "cosine")
            told[figure] = (
                (1 - figures[figure]) / (1 - floor - margin) if likeness else 10 ** ((floor - figures[figure]) / 10)
            )
    for figure, ceiling in gate.CEILINGS["int8"].items():
        if figure in figures:
            told[figure] = figures[figure] / ceiling
    return told


def tightest(figures: Figures, margin: float) -> str:
    """Return the figure that comes nearest to its bound, or lies farthest beyond it."""
    told = shares(figures, margin)
    return max(told, key=lambda figure: told[figure])


def check_margin(margin: float) -> None:
    """Raise InputError where no engine could have such a margin."""
    room = round(1 - gate.FLOORS["int8"]["ssim"], 9)
    if not 0 <= margin < room:
        raise InputError(f"margin: got {margin}, expected at least 0 and less than {room:g}, what SSIM can lie above")


def choose(
    graphs: Mapping[str, onnx.ModelProto],
    samples: Sequence[Feeds],
    judge: Callable[[Run], Figures],
    margin: float = MARGIN,
    never: Collection[Layer] = (),
    unsigned: bool = False,
    progress: Progress | None = None,
) -> Choice:
    """Choose the layers of `graphs` that stay in float.

    graphs: f32 graphs by role, in the form in which they will be quantised: "step", and "source" where one is
        quantised too, whose outputs the step then takes.
    samples: feeds to calibrate with, as for `to_int8`; so is `unsigned`.
    judge: gives the gate's figures of what runs a sample.
    never: layers that stay in float in any case, and are neither tried nor counted.
    """
    names = {role: [name for name in layers(graph) if Layer(role, name) not in never] for role, graph in graphs.items()}
    models = {role: balance(graph, samples, names[role]) for role, graph in graphs.items()}
    scale = {role: scales(model, samples, unsigned) for role, model in models.items()}
    whole = {role: rounded(model, samples, names[role], scale[role], progress) for role, model in models.items()}
    everything = [Layer(role, name) for role in graphs for name in names[role]]

    def figures(quantised: Sequence[Layer]) -> Figures:
        run = {
            role: Runner(quantize(model, scale[role], [x.name for x in quantised if x.graph == role], whole[role]))
            for role, model in models.items()
        }
        if "source" in run:
            return judge(lambda feeds: run["step"](feeds | run["source"](feeds)))
        return judge(run["step"])

    alone: dict[Layer, dict[str, Any]] = {}
    for layer in everything:
        if progress:
            progress("sensitivity of layers", len(alone), len(everything))
        alone[layer] = figures([layer])
    kept: list[Layer] = []
    left = list(everything)
    trail = [figures(left)]
    while not (passed := max(shares(trail[-1], margin).values()) <= 1) and len(kept) < len(everything) // 2:
        figure = tightest(trail[-1], margin)
        kept.append(max(left, key=lambda layer: shares(alone[layer], margin)[figure]))
        left.remove(kept[-1])
        if progress:
            progress("layers left in float", len(kept), len(everything))
        trail.append(figures(left))
    ranked = sorted(everything, key=lambda layer: -max(shares(alone[layer], margin).values()))
    return Choice({layer: alone[layer] for layer in ranked}, kept, trail, margin, passed)


def write_report(choice: Choice, path: Path) -> None:
    """Write the ranking as a table of comma-separated values.

    A layer's row has the figures with it alone in int8 and, where it stays in float, when it was chosen, and the
    figures with all that was not chosen by then in int8.
    """
    told = list(shares(choice.trail[0], choice.margin))
    head = ["graph", "layer", *(f"{figure}, alone in int8" for figure in told), "part of what the gate allows"]
    with replacing(path) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*head, "in float", *(f"{figure}, all others in int8" for figure in told)])
        for layer, alone in {Layer("", ALL): choice.trail[0], **choice.alone}.items():
            number = choice.kept.index(layer) + 1 if layer in choice.kept else None
            after = choice.trail[number] if number else {}
            share = round(max(shares(alone, choice.margin).values()), 4)
            table.writerow(
                [layer.graph, layer.name, *(alone[x] for x in told), share, number, *(after.get(x, "") for x in told)]
            )
