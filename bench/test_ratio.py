"""How many times faster a step is than what one would do by hand: contestants take turns within one run.

Turns make a busy machine slow for all of them alike, so the ratios hold where the times do not. In its turn each makes
a few frames on end, as in use, of which the first does not count: it finds the caches full of the one before. PyTorch
eager fp32 and OpenVINO f32 run the whole network for every frame; a step runs what is left once the face is prepared.
Beside the bundled step stands one of the same precision for this face alone, with its usual statistics folded in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.contestants import in_torch
from bench.fixtures import Aim, Control, Feeds, Judge, Open, Ratios, Rounds
from bench.turns import in_turns, ratio
from edgetalk import Session
from edgetalk.arrays import Array, Picture
from edgetalk.avatar import Avatar
from edgetalk.backends import open_engine

TURNS = 12
BLOCK = 5  # frames of a turn that count
OWN = r"(bundled .+|int8|f32) step.* against .+"  # names of all ratios here, whatever engines there are


Step = Callable[..., Any]
"""What makes a frame of mel, pose and blink."""


@pytest.fixture(scope="module")
def eager(request: pytest.FixtureRequest, avatar: Avatar, threads: int) -> Step:
    """PyTorch as the checkpoint's user would run it: a picture and controls in, an uint8 frame out."""
    checkpoint = request.config.option.checkpoint
    if not checkpoint.is_file():
        pytest.skip(f"there is no {checkpoint}")
    return in_torch(checkpoint, avatar.source, threads)


@pytest.fixture(scope="module")
def whole(
    request: pytest.FixtureRequest, avatar: Avatar, threads: int, eager: Step, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Step]:
    """OpenVINO f32 of the whole network in one graph."""
    from edgetalk.export import to_onnx

    path = tmp_path_factory.mktemp("whole") / "amnet.onnx"
    to_onnx(request.config.option.checkpoint, path, whole=True, size=len(avatar.source))
    engine = open_engine(path, precision="f32", threads=threads)

    def step(mel: Array, pose: Array, blink: Array) -> Picture:
        feeds: Feeds = {"source": avatar.source[None], "mel": mel[None], "pose": pose[None], "blink": blink[None]}
        return engine.run(feeds)["frame"][0]

    yield step
    engine.close()


@pytest.fixture(scope="module")
def folded(
    request: pytest.FixtureRequest, models: Path, opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> Session:
    """The int8 step of the bundled face, built with --fold-statistics."""
    from edgetalk.engines import build

    if request.config.option.folded is not None:
        return opened(request.config.option.folded)
    path, calibration = tmp_path_factory.mktemp("folded") / "amnet.xml", request.config.option.calibration
    if not calibration.is_file():
        pytest.skip(f"there is no {calibration}")
    face = models / "amnet.avatar"
    build(models / "amnet.onnx", path, precision="int8", calibration=calibration, fold_statistics=face)
    return opened(path)


def test_ratios(
    models: Path,
    opened: Open,
    eager: Step,
    whole: Step,
    folded: Session,
    controls: list[Control],
    judge: Judge,
    rounds: Rounds,
    hold_ratios: Ratios,
    aim: Aim,
) -> None:
    shipped = opened(models / "amnet.xml" if (models / "amnet.xml").is_file() else models / "amnet.onnx")
    exact = opened(models / "amnet.onnx")
    precision = shipped.metadata.precision
    contestants: dict[str, Step] = {
        "eager": eager,
        "whole": whole,
        "f32": exact.step,
        "shipped": shipped.step,
        "folded": folded.step,
    }
    lite = models / "amnet-lite.xml"
    if lite.is_file():
        contestants["lite"] = opened(lite).step
    feeds = itertools.cycle(controls)

    def one(step: Step) -> None:
        step(*next(feeds))

    works = {name: partial(one, step) for name, step in contestants.items()}
    taken = in_turns(works, rounds(TURNS), block=rounds(BLOCK), warm_up=0)

    def faster(slow: str, fast: str) -> float:
        return ratio(taken[slow], taken[fast])

    ratios = {
        f"bundled {precision} step against PyTorch eager fp32, whole network": faster("eager", "shipped"),
        f"bundled {precision} step against OpenVINO f32, whole network": faster("whole", "shipped"),
        "int8 step, folded statistics, against PyTorch eager fp32, whole network": faster("eager", "folded"),
        f"bundled {precision} step against the f32 step": faster("f32", "shipped"),
        "f32 step against OpenVINO f32, whole network": faster("whole", "f32"),
    }
    aims = {"eager": ("eager", "shipped"), "openvino": ("whole", "shipped"), "folded": ("eager", "folded")}
    if "lite" in contestants:
        aims["lite"] = ("eager", "lite")
        ratios["bundled AMNet-lite's step against PyTorch eager fp32, whole AMNet"] = faster("eager", "lite")
    for name, pair in aims.items():
        aim(name, faster(*pair))
    kinds = {"eager": "f32", "whole": "f32", "f32": "f32", "shipped": precision, "folded": "int8"}
    for name, kind in kinds.items():  # AMNet-lite is another network, whose pictures are its own
        judge(name, [contestants[name](*control).copy() for control in controls], kind)
    hold_ratios(ratios, OWN)
