"""What opening, the sound front end, a live stream and a film may cost: Session opens in half a second, and so on.

These are milliseconds and megabytes, so they are told always, and held where the machine was idle.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bench.fixtures import Aim, Control, Hold, Open, Rounds
from bench.worker import Worker
from edgetalk import benchmark as works
from edgetalk import timing
from edgetalk.arrays import Array

PROCESSES = 5


@pytest.fixture
def engine(models: Path) -> Path:
    return next(models / name for name in ("amnet.xml", "amnet.onnx") if (models / name).is_file())


def test_a_session_opens_in_half_a_second(engine: Path, threads: int, rounds: Rounds, aim: Aim) -> None:
    """In a new process, with the import of OpenVINO."""
    seconds = []
    for _ in range(rounds(PROCESSES)):
        with Worker("step", engine=engine, threads=threads) as worker:
            seconds.append(worker.told["opened_s"])
    aim("open", 1e3 * float(np.median(seconds)), held=True)


def test_memory_of_talk(engine: Path, threads: int, rounds: Rounds, aim: Aim, tmp_path: Path) -> None:
    with Worker("talk", engine=engine, threads=threads, seconds=rounds(10), out=tmp_path / "a") as worker:
        peak = worker.peak()
    aim("memory", peak / 1e6, held=True)  # a child that still runs would count as another program at work


def test_mel_of_a_frame(models: Path, opened: Open, pcm: Array, fps: Fraction, rounds: Rounds, aim: Aim) -> None:
    spec = opened(models / "amnet.onnx").audio
    seconds = timing.sample(works.mel_work(pcm, spec, fps), rounds(200))
    aim("mel", 1e3 * float(np.median(seconds)), held=True)


def test_what_a_step_costs_beside_its_engine(
    engine: Path, opened: Open, controls: list[Control], rounds: Rounds, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks of what comes in, and the copy of what goes out: the engine itself does nothing here."""
    with opened(engine).twin() as session:  # of its own, for what is fed here never reaches the engine
        made = {name: np.zeros(spec.shape, spec.dtype) for name, spec in session._backend.outputs.items()}
        monkeypatch.setattr(session._backend, "run", lambda feeds: made)
        seconds = timing.sample(lambda: session.step(*controls[0]), rounds(400))
    hold("a step beside its engine's run", 1e6 * float(np.median(seconds)), "µs", 50)


def test_first_frame_of_a_stream(engine: Path, threads: int, rounds: Rounds, hold: Hold) -> None:
    """From the sound that it takes; within the time that a frame is shown, and twice that in a new process."""
    first, later = [], []
    for _ in range(rounds(PROCESSES)):
        with Worker("live", engine=engine, threads=threads) as worker:
            first.append(worker.told["first_s"])
            later += worker.block(5)
    hold("first frame of a process's first stream", 1e3 * float(np.median(first)), "ms", 80)
    hold("first frame of a later stream", 1e3 * float(np.median(later)), "ms", 40)
