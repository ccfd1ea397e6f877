"""What the benches write into a page: between their marks, and the figures that were measured."""

import importlib
import json
from fractions import Fraction

import numpy as np
import pytest

from edgetalk.errors import InputError
from edgetalk.writer import Writer


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# Speed\n\n<!-- bench.a begins -->\nold\n<!-- bench.a ends -->\n\nafter\n")
    return path


def test_a_bench_writes_between_its_marks_alone(page):
    from bench.page import put

    put("new\n", "bench.a", page)
    text = page.read_text()
    assert text == "# Speed\n\n<!-- bench.a begins -->\n\nnew\n\n<!-- bench.a ends -->\n\nafter\n"
    put("new", "bench.a", page)
    assert page.read_text() == text
    with pytest.raises(InputError, match="has no <!-- bench.b begins --> .* add both, or name another page"):
        put("new", "bench.b", page)
    assert page.read_text() == text and not list(page.parent.glob("*.part"))


def test_the_table_of_peers(tmp_path, page):
    from bench import by_hand

    def row(ms, low, ratio, high, **told):
        figures = {"ms": ms, "times_eager": [low, ratio, high], "first_frame_s": 1.26, "peak_rss_mb": 300}
        return {**figures, "file_mb": 13.2, "version": "1.0", **told}

    rows = {name: row(100.0, 0.9, 1.0, 1.1) for name in by_hand.PEERS}
    rows["ours-int8"] = row(12.5, 7.5, 8.0, 8.5, precision="int8")
    rows["openvino"]["precision"] = "bf16"
    runs = [
        {"size": 128, "threads": 1, "turns": 3, "rows": rows},
        {"size": 256, "threads": 2, "turns": 4, "rows": rows},
    ]
    (tmp_path / "peers.json").write_text(json.dumps({"device": "a board", "date": "2026-01-01", "runs": runs}))
    page.write_text("<!-- bench.by_hand begins -->\n<!-- bench.by_hand ends -->\n")
    by_hand.main(["--page", "--output", str(tmp_path / "peers.json"), "--write", str(page)])
    text = page.read_text()
    assert "| 128², 1 thread | 256², 2 threads |" in text
    assert "| PyTorch eager, fp32 | 10.0 frames/s | 10.0 frames/s | 1.3 | 300 | 13.2 |" in text
    assert "| **edgetalk step, int8** | 8.0 × (7.5–8.5) | 8.0 × (7.5–8.5) |" in text
    assert "OpenVINO as it comes (bf16 here)" in text and "of 4 turns. Last three columns: 256², 2 threads" in text


def test_the_table_of_pipelines(tmp_path, page):
    from bench import dubs

    cascade, ours = dubs.PIPELINES
    rows = {
        cascade: {"eager": [4.0, 0.1], "int8": [1.5, 0.05]},
        ours: {"eager": [2.0, 0.2], "int8": [0.5, 0.01], "avatar": [0.1, 0.0]},
    }
    told = {"device": "a board", "threads": 2, "date": "2026-01-01", "seconds": 2, "repeats": 5, "others": 0.01}
    (tmp_path / "dubs.json").write_text(json.dumps(told | {"rows": rows}))
    page.write_text("<!-- bench.dubs begins -->\n<!-- bench.dubs ends -->\n")
    dubs.main(["--page", "--output", str(tmp_path / "dubs.json"), "--write", str(page)])
    text = page.read_text()
    heads, rules = text.splitlines()[2:4]
    assert heads.count("|") == rules.count("|") == 6 and "on a GPU |" not in heads
    assert f"| {cascade} | 0.2005 ± 0.0239 | 4.000 ± 0.100 | 1.500 ± 0.050 |  |\n" in text
    assert f"| {ours} | 0.1024 ± 0.0168 | 2.000 ± 0.200 | 0.500 ± 0.010 | 0.100 ± 0.000 |\n" in text
    assert "| WavSyncSwap against the cascade | 1.96 × | 2.00 × | 3.00 × |  |\n" in text


@pytest.mark.parametrize("bench", ["tables", "by_hand"])
def test_nothing_is_prepared_into_nowhere(bench, monkeypatch, capsys):
    module = importlib.import_module(f"bench.{bench}")
    for name in {"all_systems", "models"} & set(dir(module)):
        monkeypatch.setattr(module, name, lambda *_: 1 / 0)  # not even begun
    with pytest.raises(SystemExit, match="2"):
        module.main(["--prepare"])
    assert "--prepare: got no folder to make them in; add --prepared FOLDER" in capsys.readouterr().err


def test_pipelines_that_were_stopped_go_on(tmp_path, monkeypatch, capsys):
    from bench import dubs

    cascade, ours = dubs.PIPELINES
    run, out = [], tmp_path / "results" / "dubs.json"

    def clip(key, factor):
        def measured():
            if len(run) == 3:
                run.append("stopped")
                raise KeyboardInterrupt
            run.append(key)
            return factor + len(run)

        return measured

    keys = {(cascade, "int8"): 10.0, (ours, "int8"): 0.0}
    monkeypatch.setattr(dubs, "scene", lambda *_: None)
    monkeypatch.setattr(dubs, "engines", lambda *_: {})
    monkeypatch.setattr(dubs, "clips", lambda *_: {key: clip(key, factor) for key, factor in keys.items()})
    with pytest.raises(KeyboardInterrupt):
        dubs.measure(2.0, 3, 1, out)
    assert [file.name for file in out.parent.iterdir()] == ["dubs.json.turns.part"]
    dubs.measure(2.0, 3, 1, out)
    assert [file.name for file in out.parent.iterdir()] == ["dubs.json"]
    assert [key for key in run if key != "stopped"] == [*keys] * 3
    rows = json.loads(out.read_text())["rows"]
    # The stop counts as the fourth: 1, 3, 6 and 2, 5, 7.
    assert rows[cascade]["int8"] == [round(10 + 10 / 3, 5), round(float(np.std([1, 3, 6], ddof=1)), 5)]
    assert rows[ours]["int8"] == [round(14 / 3, 5), round(float(np.std([2, 5, 7], ddof=1)), 5)]
    assert capsys.readouterr().err.splitlines()[0] == f"1/3 {cascade}, our engines, int8: 11.000"
    monkeypatch.setattr(dubs, "clips", lambda *_: {key: clip(key, 0.0) for key in keys})
    run.clear()
    (out.parent / "dubs.json.turns.part").write_text(json.dumps({"threads": 2, "rows": {cascade: {"int8": [9.0]}}}))
    dubs.measure(2.0, 1, 1, out)  # what is there is of another number of threads
    assert len(run) == 2


def test_a_kept_film_of_another_length_is_drawn_anew(tmp_path, monkeypatch):
    from bench import dubs

    with Writer(tmp_path / "target.mp4", (16, 16), Fraction(25)) as writer:
        for _ in range(5):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    drawn = []
    monkeypatch.setattr(dubs, "scene", lambda _, seconds: drawn.append(seconds))
    monkeypatch.setattr(dubs, "engines", lambda *_: {})
    monkeypatch.setattr(dubs, "clips", lambda *_: {(name, "int8"): lambda: 1.0 for name in dubs.PIPELINES})
    for seconds in (0.2, 0.4):
        dubs.measure(seconds, 1, 1, tmp_path / "dubs.json", tmp_path)
    assert drawn == [0.4]


def test_eager_is_the_network(root):
    import torch

    from bench.dubs import Eager
    from edgetalk.export.graph import Graph
    from edgetalk.metadata import Metadata

    class Network(torch.nn.Module):
        def forward(self, target, mel):
            return (target.float() + mel.mean()).round().byte()

    inputs = {"target": torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "mel": torch.zeros(1, 16, 80)}
    engine = Eager(Graph("whole", Network(), inputs, ["frame"]), Metadata(family="wav2lip"))
    assert engine.inputs["mel"] == (np.float32, (1, 16, 80)) and engine.outputs["frame"] == (np.uint8, (1, 4, 4, 3))
    picture = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    made = engine.run({"mel": np.full((1, 16, 80), 2, np.float32), "target": picture})["frame"]
    assert np.array_equal(made, picture + 2)


def test_others_are_those_who_are_not_us():
    from bench.machine import Others

    others = Others()
    total = sum(i * i for i in range(300_000))  # our own work
    assert total > 0 and 0 <= others.share() <= 1
