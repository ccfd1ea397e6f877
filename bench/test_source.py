"""What a new face costs, once: the source graph."""

from pathlib import Path

import numpy as np
import pytest

from bench.fixtures import Benchmark, Rounds, Run
from edgetalk.avatar import Avatar
from edgetalk.backends import open_engine


@pytest.mark.parametrize("name", ["amnet-source.onnx", "amnet-source.xml"])
def test_source(
    benchmark: Benchmark, name: str, models: Path, avatar: Avatar, onnx_run: Run, threads: int, rounds: Rounds
) -> None:
    if not (models / name).is_file():
        pytest.skip(f"there is no {name} in {models}")
    feeds = {"source": avatar.source[None]}
    (expected,) = onnx_run("amnet-source.onnx", [feeds])
    engine = open_engine(models / name, precision="f32", threads=threads)
    try:
        made = benchmark.pedantic(lambda: engine.run(feeds), rounds=rounds(50), warmup_rounds=rounds(5))
        for key, value in expected.items():
            assert np.abs(made[key] - value).mean() < 1e-3 * np.abs(value).mean()
    finally:
        engine.close()
