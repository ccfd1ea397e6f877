"""Sound in, a film out: every stage overlapped, as `edgetalk talk` does it, and the encoder alone."""

import itertools

import numpy as np
import pytest

from edgetalk import benchmark as works
from edgetalk import video
from edgetalk.motion import Idle
from edgetalk.render import render

SECONDS = 2.0


def shipped(models):
    """The engine that a bare name opens."""
    return next(models / name for name in ("amnet.xml", "amnet.onnx") if (models / name).is_file())


def test_end_to_end(benchmark, models, opened, fps, tmp_path, rounds):
    session = opened(shipped(models))
    pcm = works.sentence(SECONDS)
    timings = benchmark.pedantic(
        lambda: render(session, pcm, tmp_path / "a.mp4", Idle(0, fps), fps), rounds=rounds(8), warmup_rounds=1
    )
    benchmark.extra_info["real_time_factor"] = timings.real_time_factor
    stages = {name: works.Stage.of(getattr(timings, name)).p50_ms for name in ("mel", "step", "encode")}
    benchmark.extra_info["p50_ms"] = stages
    shown = list(video.frames(tmp_path / "a.mp4"))
    assert len(shown) == int(SECONDS * fps)
    luma = np.array([0.2126, 0.7152, 0.0722])  # chroma at half resolution would cost hard edges more
    for frame, control in zip(shown, works.controls(session, pcm), strict=True):
        assert np.abs(frame @ luma - session.step(*control) @ luma).mean() < 5  # of 255


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_encode(benchmark, suffix, models, opened, controls, fps, tmp_path, rounds):
    session = opened(shipped(models))
    frames = [session.step(*control).copy() for control in controls]
    count = itertools.count(1)
    with video.Writer(tmp_path / f"a.{suffix}", session.size, fps, audio=works.sentence(10.0)) as writer:
        work = works.encode_work(writer, frames)
        benchmark.pedantic(lambda: (work(), next(count)), rounds=rounds(200), warmup_rounds=rounds(20))
    assert len(list(video.frames(tmp_path / f"a.{suffix}"))) == next(count) - 1
