"""The gate against slower steps, and the proof that it works: see duel.py for how it decides.

    pytest bench/test_gate.py                 against this device's baseline, and the proof
    pytest bench/test_gate.py --base REV      against another revision too, model and code

The baseline is the ratio of the step to a reference work (contestants.py) which no change of ours can touch. A tenth
more time per step must be seen; two processes of one build must pass, ten times out of ten. What is not decided is no
pass: such a test is skipped and says so.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from bench.duel import LIMIT, Verdict, duel
from bench.fixtures import Report
from bench.worker import ROOT, Worker

PLANTED = 0.1
REPEATS = 10
NAME = "step against the reference work, in time"


@pytest.fixture
def engine(models: Path) -> Path:
    return next(models / name for name in ("amnet.xml", "amnet.onnx") if (models / name).is_file())


@pytest.fixture
def fast(request: pytest.FixtureRequest) -> dict[str, int]:
    """Return keywords of duel that make one short look of it where benches are only tested."""
    return {"frames": 1, "pairs": 1} if request.config.option.benchmark_disable else {}


def hold(verdict: Verdict, what: str) -> None:
    """Fail where the step is slower than `what`, and skip where that has not been decided."""
    assert not verdict.slower, f"the step takes {verdict} the time of {what}, up to {LIMIT} would pass"
    if not verdict.decided:
        pytest.skip(f"undecided: the step takes {verdict} the time of {what}; measure on a machine that is less busy")


def test_the_step_is_as_fast_as_the_baseline(
    engine: Path,
    threads: int,
    fast: dict[str, int],
    request: pytest.FixtureRequest,
    baseline: dict[str, float],
    report_ratio: Report,
) -> None:
    with Worker("reference", threads=threads) as reference, Worker("step", engine=engine, threads=threads) as step:
        known = baseline.get(NAME)
        verdict = duel(reference.block, step.block, known or 1.0, **fast)
    report_ratio(NAME, verdict.ratio * (known or 1.0))
    if fast or request.config.option.save_ratios:
        return
    if known is None:
        pytest.skip(f"no baseline of the {NAME}, with {threads} threads; write one with --save-ratios")
    hold(verdict, "the baseline")


def test_the_step_is_as_fast_as_another_build(
    request: pytest.FixtureRequest, engine: Path, threads: int, fast: dict[str, int], tmp_path: Path
) -> None:
    base = request.config.option.base
    if base is None:
        pytest.skip("no --base REVISION was given to compare with")
    archive = subprocess.run(["git", "archive", base, "edgetalk"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    old = tmp_path / "edgetalk" / "models" / engine.name
    with (
        Worker("step", tree=tmp_path, engine=old, threads=threads) as before,
        Worker("step", engine=engine, threads=threads) as now,
    ):
        assert Path(before.told["code"]).is_relative_to(tmp_path) and Path(now.told["code"]).is_relative_to(ROOT)
        verdict = duel(before.block, now.block, **fast)
    print(f"{base}: the step takes {verdict} its time")
    if not fast:
        hold(verdict, base)


def test_a_planted_tenth_is_caught(engine: Path, threads: int, fast: dict[str, int]) -> None:
    with (
        Worker("step", engine=engine, threads=threads) as before,
        Worker("step", engine=engine, threads=threads, slower=PLANTED) as now,
    ):
        verdict = duel(before.block, now.block, **fast)
    print(f"planted {PLANTED:.0%}: {verdict}")
    assert fast or verdict.slower, f"a slowdown by {PLANTED:.0%} was taken for noise: {verdict}"


def test_the_same_code_passes_every_time(engine: Path, threads: int, fast: dict[str, int]) -> None:
    verdicts = []
    for _ in range(1 if fast else REPEATS):
        with (
            Worker("step", engine=engine, threads=threads) as before,
            Worker("step", engine=engine, threads=threads) as now,
        ):
            verdicts.append(duel(before.block, now.block, **fast))
    print("the same code:", *verdicts, sep="\n")
    for verdict in () if fast else sorted(verdicts, key=lambda verdict: not verdict.slower):
        hold(verdict, "the same code")
