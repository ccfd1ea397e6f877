"""`python -m bench` without its benches: what is run, what is told, and what a bench's figures become."""

import contextlib
import importlib
import json
import runpy
import sys
import warnings
from types import SimpleNamespace

import pytest


@pytest.fixture
def bench(root):
    from bench import __main__ as bench

    return bench


def test_aims_are_told_as_reached_or_not(root):
    from bench.aims import AIMS, report

    exact = {name: aim.wanted for name, aim in AIMS.items()}
    assert report(exact).count(" reached") == len(AIMS)  # at the bound it is reached, from either side
    worse = {name: aim.wanted * (1.01 if aim.upper else 0.99) for name, aim in AIMS.items()}
    lines = report(worse).splitlines()
    assert len(lines) == len(AIMS) and all(line.endswith(" NOT") for line in lines)
    assert report({}).count("not measured") == len(AIMS)
    assert "the floor of its arithmetic" in lines[3] and "<=    1.5 times" in lines[3] and "    1.52 NOT" in lines[3]


def test_parts_run_in_turn_with_their_options_and_the_aims_come_last(bench, monkeypatch, tmp_path, capsys):
    run = []

    def part(name, got):
        def measured(args, folder):
            assert folder.is_dir() and folder.name == name and args.threads == 3
            run.append(name)
            if got is None:
                raise RuntimeError("no compiler")
            return got

        return measured

    parts = {"by_hand": {"eager": 7.2}, "roofline": {"floor": 1.4}, "tables": None, "dubs": {}}
    monkeypatch.setattr(bench, "PARTS", {name: part(name, got) for name, got in parts.items()})
    with pytest.raises(SystemExit, match="2"):
        bench.main([])  # curve wants data
    assert "--data: got none" in capsys.readouterr().err and not run
    with pytest.raises(RuntimeError, match="no compiler"):
        bench.main(["--data", str(tmp_path), "--threads", "3", "--prepared", str(tmp_path / "kept")])
    assert run == ["by_hand", "roofline", "tables"] and (tmp_path / "kept" / "by_hand").is_dir()
    out = capsys.readouterr().out
    assert "7.20 NOT\n" in out and "1.40 reached\n" in out and out.count("not measured") == len(out.splitlines()) - 2
    run.clear()
    bench.main(["--data", str(tmp_path), "--threads", "3", "--skip", "tables", "by_hand"])
    assert run == ["roofline", "dubs"]


@pytest.mark.parametrize("written", [True, False])
def test_benches_that_fail_have_told_what_they_measured(bench, monkeypatch, tmp_path, written):
    def run(command, cwd, check):
        assert command[1:3] == ["-m", "pytest"] and not check
        assert all((cwd / word.split("::")[0]).is_file() for word in command if word.startswith("bench/"))
        if written:
            (tmp_path / "told.json").write_text('{"film": 0.95}')
            assert command[-2:] == ["--told", str(tmp_path / "told.json")]

    (tmp_path / "told.json").write_text('{"film": 0.5}')  # of another day
    monkeypatch.setattr(bench.subprocess, "run", run)
    assert bench.tests(SimpleNamespace(threads=2), tmp_path) == ({"film": 0.95} if written else {})


def test_figures_of_the_benches_become_those_of_aims(bench, monkeypatch, tmp_path):
    from bench import by_hand, dubs

    args = SimpleNamespace(threads=2, write=tmp_path / "page.md")
    rows = {"ours-int8": {"ms": 12.0, "times_eager": [7, 7.5, 8], "times_openvino": [4, 4.2, 5]}}
    rows["openvino-f32"] = {"ms": 54.0}
    runs = [{"size": 256, "threads": 1, "rows": {}}, {"size": 256, "threads": 2, "rows": rows}]
    called = []
    for module, result in (
        (by_hand, {"runs": runs}),
        (
            dubs,
            {
                "rows": dict(
                    zip(
                        dubs.PIPELINES,
                        ({"eager": [8.0, 0.1], "int8": [3.0, 0.1]}, {"eager": [2.0, 0.1], "int8": [0.5, 0.1]}),
                        strict=True,
                    )
                )
            },
        ),
    ):
        monkeypatch.setattr(module, "RESULTS", tmp_path / f"{module.__name__}.json")
        module.RESULTS.write_text(json.dumps(result))
        monkeypatch.setattr(module, "main", called.append)
    assert bench.by_hand(args, tmp_path) == {"eager": 7.5, "openvino": 4.2}
    assert called[0][:3] == ["--threads", "1", "2"]
    assert bench.dubs(args, tmp_path) == {"pipeline-eager": 4.0, "pipeline": 6.0}
    group = lambda name, taken, others: SimpleNamespace(  # noqa: E731
        name=name, convolutions=taken, others=others, floor=lambda peaks: peaks["int8"]
    )
    groups = [group("residual cells 1–4", 2.2, 0.8), group("header", 4.0, 1.0)]
    from bench import roofline

    assert roofline.floors(groups, {"int8": 2.0}) == {"floor": 2.0, "residual": 1.1}


def test_peers_are_compared_within_their_turns(root, monkeypatch, tmp_path):
    """In the third turn the machine is slow for ours alone, in the last two for all: no ratio of the others minds."""
    from bench import by_hand

    peer = SimpleNamespace(block=int, first=0.1, peak=lambda: 1e8, told={"version": "1", "precision": "f32"})
    monkeypatch.setattr(by_hand, "Worker", lambda *given, **told: contextlib.nullcontext(peer))
    monkeypatch.setattr(by_hand, "megabytes", lambda *files: 1.0)
    taken = {name: [[3.0], [3.0], [3.0], [6.0], [6.0]] for name in by_hand.PEERS} | {
        "eager": [[8.0]] * 3 + [[16.0]] * 2
    }
    taken["ours-int8"] = [[1.0], [1.0], [2.0], [2.0], [2.0]]
    monkeypatch.setattr(by_hand, "each_turn", lambda works, turns: taken)
    (tmp_path / "feeds.npz").touch()
    rows = by_hand.measure(256, 2, 5, tmp_path)["rows"]
    assert (rows["ours-int8"]["times_openvino"], rows["ours-int8"]["times_eager"]) == ([3.0] * 3, [8.0] * 3)
    assert rows["openvino-f32"]["ms"] / rows["ours-int8"]["ms"] == 1.5  # what the medians say
    assert rows["eager"]["times_openvino"][1] == 0.38


PROGRAMS = "by_hand curve dubs gains gpu likeness lite live roofline tables throughput __main__".split()


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_has_words_and_o_is_output(root, name, check_options):
    with pytest.raises(SystemExit):
        importlib.import_module(f"bench.{name}").main()
    assert check_options()


def run_as_program(name):
    """As python -m runs it, but in this process, which has imported PyTorch already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a module that was imported before
        runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_bench_ends_as_other_programs_do(root, name, monkeypatch):
    ran = []
    monkeypatch.setattr("edgetalk.train.program.run", ran.append)
    run_as_program(name)
    assert [main.__name__ for main in ran] == ["main"]


def test_what_is_missing_or_has_no_marks_is_one_line(root, monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.touch()
    for name, words, told in (
        ("by_hand", ["--page", "-o", "none.json"], "none.json: No such file or directory"),
        ("gpu", ["--page", str(page)], f"{page} has no <!-- bench.gpu begins --> … <!-- bench.gpu ends -->"),
    ):
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as ended:
            run_as_program(name)
        [line] = capsys.readouterr().err.splitlines()
        assert ended.value.code == 1 and line.startswith(f"python -m bench.{name}: {told}")
