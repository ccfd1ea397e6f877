"""Sound in, a film out: every stage overlapped, as `edgetalk talk` does it, beside the step alone; and the encoder."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bench.fixtures import Aim, Benchmark, Control, Open, Report, Rounds
from edgetalk import Session, timing
from edgetalk import benchmark as works
from edgetalk.motion import Idle
from edgetalk.reader import Reader
from edgetalk.render import render, side_by_side
from edgetalk.writer import Writer

SECONDS = 2.0
TURNS = 7


def shipped(models: Path) -> Path:
    """The engine that a bare name opens."""
    return next(models / name for name in ("amnet.xml", "amnet.onnx") if (models / name).is_file())


@pytest.fixture
def film(models: Path, threads: int) -> Iterator[Session]:
    with Session(
        shipped(models), avatar=models / "amnet.avatar", threads=threads, streams=side_by_side(threads)
    ) as session:
        yield session


def test_a_film_is_delivered_at_the_rate_of_the_step(
    models: Path,
    opened: Open,
    film: Session,
    fps: Fraction,
    tmp_path: Path,
    rounds: Rounds,
    report_ratio: Report,
    aim: Aim,
) -> None:
    session = opened(shipped(models))
    step, pcm = works.step_work(session, works.sentence(4.0)), works.sentence(rounds(8))
    ratios = []
    for _ in range(rounds(TURNS)):
        alone = float(np.median(timing.sample(step, rounds(60))))
        ratios.append(render(film, pcm, tmp_path / "a.mp4", Idle(0, fps), fps).rate * alone)
    report_ratio("film delivered against the bare step, in frames per second", float(np.median(ratios)))
    aim("film", float(np.median(ratios)), held=True)


def test_end_to_end(
    benchmark: Benchmark, models: Path, opened: Open, film: Session, fps: Fraction, tmp_path: Path, rounds: Rounds
) -> None:
    session = opened(shipped(models))
    pcm = works.sentence(SECONDS)
    timings = benchmark.pedantic(
        lambda: render(film, pcm, tmp_path / "a.mp4", Idle(0, fps), fps), rounds=rounds(8), warmup_rounds=1
    )
    benchmark.extra_info["real_time_factor"] = timings.real_time_factor
    stages = {name: timing.Spread.of(getattr(timings, name)).p50_ms for name in ("mel", "step", "encode")}
    benchmark.extra_info["p50_ms"] = stages
    shown = list(Reader(tmp_path / "a.mp4"))
    assert len(shown) == int(SECONDS * fps)
    luma = np.array([0.2126, 0.7152, 0.0722])  # chroma at half resolution would cost hard edges more
    for frame, control in zip(shown, works.controls(session, pcm), strict=True):
        assert np.abs(frame @ luma - session.step(*control) @ luma).mean() < 5  # of 255


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_encode(
    benchmark: Benchmark,
    suffix: str,
    models: Path,
    opened: Open,
    controls: list[Control],
    fps: Fraction,
    tmp_path: Path,
    rounds: Rounds,
) -> None:
    session = opened(shipped(models))
    frames = [session.step(*control) for control in controls]
    count = itertools.count(1)
    with Writer(tmp_path / f"a.{suffix}", session.size, fps, audio=works.sentence(10.0)) as writer:
        work = works.encode_work(writer, frames)
        benchmark.pedantic(lambda: (work(), next(count)), rounds=rounds(200), warmup_rounds=rounds(20))
    assert len(list(Reader(tmp_path / f"a.{suffix}"))) == next(count) - 1
