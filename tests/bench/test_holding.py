"""What the benches hold their figures against, and that none passes for want of something to hold it against."""

import contextlib
import json
import math
from types import SimpleNamespace

import pytest

OWN = "step against .+"


@pytest.fixture
def benches(root):
    from bench import conftest

    return conftest


@pytest.fixture
def baseline(benches, monkeypatch, tmp_path):
    """Writes a baseline, and reads it."""
    monkeypatch.setattr(benches, "BASELINES", tmp_path)

    def written(**ratios):
        (tmp_path / "ratios.json").write_text(json.dumps({name.replace("_", " "): r for name, r in ratios.items()}))

    return written


def options(benches, **other):
    usual = {"threads": benches.THREADS, "models": benches.MODELS, "save_ratios": False, "benchmark_disable": False}
    return SimpleNamespace(**usual | other)


def test_a_ratio_of_the_baseline_that_was_not_measured_fails(benches, baseline, tmp_path):
    baseline(step_against_eager=7.0, step_against_f32=3.0, film=0.9)
    both = {"step against eager": 6.9, "step against f32": 2.9, "step against more": 1.0}
    benches.compare(options(benches), both, OWN)
    with pytest.raises(AssertionError, match="step against f32: not measured, the baseline is 3.00; drop it"):
        benches.compare(options(benches), {"step against eager": 6.9}, OWN)
    other = options(benches, models=tmp_path)  # where there may be other engines
    benches.compare(other, {"step against eager": 6.9}, OWN)
    for option in (options(benches), other):
        with pytest.raises(AssertionError, match="step against eager: 6.20 times, the baseline is 7.00"):
            benches.compare(option, both | {"step against eager": 6.2}, OWN)


def test_ratios_without_a_baseline_are_no_pass(benches, baseline, tmp_path):
    made = {"step against eager": 6.9}
    with pytest.raises(pytest.skip.Exception, match="no baseline of these ratios in .*; write one with --save-ratios"):
        benches.compare(options(benches), made, OWN)
    baseline(step_against_f32=3.0, film=0.9)
    with pytest.raises(pytest.skip.Exception, match="no baseline of these ratios"):
        benches.compare(options(benches, models=tmp_path), made, OWN)
    baseline(step_against_eager=7.0)
    threads = benches.THREADS + 1
    with pytest.raises(pytest.skip.Exception, match=f"nothing is held with --threads {threads}: the baseline is of"):
        benches.compare(options(benches, threads=threads), made, OWN)


def test_what_is_saved_takes_the_place_of_a_test_s_own_names(benches, baseline, tmp_path):
    baseline(step_against_eager=7.0, step_against_f32=3.0, film=0.9)
    benches.save(options(benches), {"step against eager": 8.0}, OWN)
    assert benches.known_ratios()["step against eager"] == 7.0
    saving = options(benches, save_ratios=True)
    benches.save(saving, {"film": 0.95})
    benches.save(saving, {"step against eager": 8.00001}, OWN)
    assert benches.known_ratios() == {"film": 0.95, "step against eager": 8.0}


@pytest.mark.parametrize(("other", "told"), [({"threads": 99}, "--threads 99"), ({"models": None}, "--models ")])
def test_other_engines_and_threads_are_no_baseline(benches, other, told, tmp_path):
    other = {name: value or tmp_path for name, value in other.items()}
    config = SimpleNamespace(option=options(benches, save_ratios=True, **other), stash={})
    with pytest.raises(pytest.UsageError, match=f"--save-ratios: baselines are of .* on all cores; leave out {told}"):
        benches.pytest_configure(config)
    config.option.save_ratios = False
    benches.pytest_configure(config)
    config.option = options(benches, save_ratios=True, models=benches.MODELS / ".." / "models")
    benches.pytest_configure(config)


def test_names_of_the_step_s_ratios_are_known_as_such(benches):
    import re

    from bench.test_ratio import OWN

    files = (benches.HERE / "baselines").glob("*/ratios.json")
    names = {name for file in files for name in json.loads(file.read_text())}
    others = {name for name in names if not re.fullmatch(OWN, name)}
    assert {name.split()[0] for name in others} <= {"film", "dub", "step", "WavSyncSwap,"}
    assert len(names - others) == 6


@contextlib.contextmanager
def idle(*given, **told):
    yield SimpleNamespace(block=None, peak=lambda: 10**9, told={})


def verdict(low, high):
    from bench.duel import Verdict

    return Verdict(math.sqrt(low * high), low, high, 200)


@pytest.mark.parametrize(
    ("known", "low", "high", "outcome"),
    [
        (1.6, 0.99, 1.02, None),
        (1.6, 1.06, 1.2, AssertionError),
        (1.6, 0.9, 1.2, pytest.skip.Exception),
        (None, 0.99, 1.02, pytest.skip.Exception),
    ],
)
def test_the_step_passes_where_it_is_decided_that_it_is_as_fast(root, monkeypatch, tmp_path, known, low, high, outcome):
    from bench import test_gate as gate

    reported = {}
    monkeypatch.setattr(gate, "Worker", idle)
    monkeypatch.setattr(gate, "duel", lambda *given, **fast: verdict(low, high))
    request = SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(save_ratios=False)))
    baseline = {} if known is None else {gate.NAME: known}
    words = {AssertionError: "up to 1.05 would pass", pytest.skip.Exception: "undecided" if known else "no baseline"}
    with contextlib.nullcontext() if outcome is None else pytest.raises(outcome, match=words[outcome]):
        gate.test_the_step_is_as_fast_as_the_baseline(tmp_path, 2, {}, request, baseline, reported.__setitem__)
    assert reported == {gate.NAME: verdict(low, high).ratio * (known or 1)}


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([(0.99, 1.02)] * 10, None),
        ([(0.99, 1.02)] * 9 + [(0.9, 1.2)], pytest.skip.Exception),
        ([(0.9, 1.2)] + [(1.06, 1.2)] * 9, AssertionError),
    ],
)
def test_the_same_code_passes_where_it_is_decided_ten_times(root, monkeypatch, tmp_path, verdicts, outcome):
    from bench import test_gate as gate

    left = iter(verdicts)
    monkeypatch.setattr(gate, "Worker", idle)
    monkeypatch.setattr(gate, "duel", lambda *given: verdict(*next(left)))
    with contextlib.nullcontext() if outcome is None else pytest.raises(outcome):
        gate.test_the_same_code_passes_every_time(tmp_path, 2, {})
    assert next(left, None) is None


def test_memory_is_held_when_its_process_has_ended(root, monkeypatch, tmp_path):
    from bench import test_budget as budget

    events = []

    @contextlib.contextmanager
    def worker(*given, **told):
        yield SimpleNamespace(peak=lambda: 2e8)
        events.append("ended")

    monkeypatch.setattr(budget, "Worker", worker)
    budget.test_memory_of_talk(tmp_path, 2, int, lambda *told, held: events.append((*told, held)), tmp_path)
    assert events == ["ended", ("memory", 200.0, True)]


STAT = """cpu  900 0 900 9000 0 0 0 0 0 0
cpu0 100 10 100 4000 40 5 5 0 0 0
cpu1 {user} 0 0 4000 40 0 0 0 0 0
cpu10 5000 0 0 0 0 0 0 0 0 0
intr 1 2 3
"""


def test_others_are_counted_on_the_cores_that_are_ours(root, monkeypatch):
    from bench import machine

    user, now = [100.0], [0.0]
    text = SimpleNamespace(read_text=lambda: STAT.format(user=int(user[0])))
    monkeypatch.setattr(machine, "Path", lambda name: text)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {1})
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(
        machine.os, "times", lambda: SimpleNamespace(user=0, system=0, children_user=0, children_system=0)
    )
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now[0])
    others = machine.Others()
    assert machine.busy_seconds()[0] == 1.0
    user[0], now[0] = 350.0, 5.0
    assert others.share() == 0.5
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1})
    assert machine.busy_seconds()[0] == 2.2 + 3.5
