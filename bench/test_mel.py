"""The audio front end as it runs live, frame by frame, and for a whole sound at once."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from bench.fixtures import Benchmark, Open, Rounds
from edgetalk import benchmark as works
from edgetalk import mel
from edgetalk.arrays import Array


def test_mel_of_one_frame(
    benchmark: Benchmark,
    models: Path,
    opened: Open,
    pcm: Array,
    fps: Fraction,
    whole_windows: list[Array],
    rounds: Rounds,
) -> None:
    spec = opened(models / "amnet.onnx").audio
    work = works.mel_work(pcm, spec, fps)
    benchmark.pedantic(work, rounds=rounds(200), warmup_rounds=rounds(20))
    work = works.mel_work(pcm, spec, fps)
    expected = mel.windows(mel.log_mel(pcm, spec), len(whole_windows), spec, fps)
    for window in expected[:50]:
        assert np.array_equal(work(), window)


def test_mel_of_ten_seconds(benchmark: Benchmark, models: Path, opened: Open, pcm: Array, rounds: Rounds) -> None:
    spec = opened(models / "amnet.onnx").audio
    made = benchmark.pedantic(mel.log_mel, (pcm, spec), rounds=rounds(50), warmup_rounds=rounds(3))
    assert made.shape == (len(pcm) // spec.hop + 1, spec.features) and np.ptp(made) > 4
