"""One frame of each precision of which there is an engine, and of bf16."""

import itertools
from pathlib import Path

import pytest

from bench.fixtures import Benchmark, Control, Judge, Open, Rounds

PRECISIONS = {"f32": "amnet.onnx", "int8": "amnet.xml", "fp16": "amnet.plan", "bf16": None}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_step(
    benchmark: Benchmark,
    precision: str,
    request: pytest.FixtureRequest,
    models: Path,
    opened: Open,
    controls: list[Control],
    judge: Judge,
    rounds: Rounds,
) -> None:
    name = PRECISIONS[precision]
    engine = request.getfixturevalue("bf16") if name is None else models / name
    if not engine.is_file():
        pytest.skip(f"there is no {name} in {models}")
    session = opened(engine)
    if session.metadata.precision != precision:
        pytest.skip(f"{name} holds {session.metadata.precision}, which is another bench")
    feeds = itertools.cycle(controls)
    benchmark.extra_info.update(device=session.device, size=session.size)
    benchmark.pedantic(lambda: session.step(*next(feeds)), rounds=rounds(200), warmup_rounds=rounds(20))
    judge(f"test_step, {precision}", [session.step(*control) for control in controls], precision)
