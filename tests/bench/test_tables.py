"""The tables' machinery on small networks: turns, engines, figures and the page; and the rows that it is run on."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from edgetalk import timing


@pytest.fixture(scope="module")
def tables():
    from bench import tables

    return tables


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.face, self.speak = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(4, 8)

    def forward(self, source, mel):
        return self.face(source) * self.speak(mel)[:, :, None, None]


class Step(nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, face, mel):
        return face * self.whole.speak(mel)[:, :, None, None]


@pytest.fixture(scope="module")
def systems(tables):
    torch.manual_seed(0)
    whole = Whole().eval()
    source, mel = torch.rand(1, 3, 16, 16), torch.rand(1, 4)
    with torch.no_grad():
        step = (Step(whole), {"face": whole.face(source), "mel": mel})
    row = tables.System(
        "II",
        "tiny, 16×16",
        0.3,
        whole,
        {"source": source, "mel": mel},
        step,
        {"params": "0.3", "cpu": "33.8", "gpu": "158.9"},
    )
    other = tables.System("3", "WavSyncSwap 16", 0.2, whole, {"source": source, "mel": mel}, paper={"rtf": "0.1024"})
    cascade = tables.System("3", "cascade 16", 0.4, whole, {"source": source, "mel": mel}, paper={"rtf": "0.2005"})
    return [row, cascade, other]


def test_contestants_compute_the_same(tables, systems, tmp_path):
    runs = tables.contestants(systems, tmp_path, 1, cpu=True)
    assert {column for name, column in runs if name == "tiny, 16×16"} >= {"eager", "f32", "int8", "step-int8"}
    assert {column for name, column in runs if name == "WavSyncSwap 16"} <= {"eager", "f32", "bf16"}
    wanted = runs["tiny, 16×16", "eager"]().numpy()
    for column, error in (("f32", 1e-5), ("int8", 0.05), ("step-int8", 0.05)):
        (made,) = runs["tiny, 16×16", column]().values()
        np.testing.assert_allclose(made, wanted, atol=error * np.abs(wanted).max())


def test_compiled_computes_the_same(tables, systems, monkeypatch):
    """On the CPU, with the compiler's front end alone: what it generates code with depends on the machine."""
    real = torch.compile
    monkeypatch.setattr(tables.torch, "compile", lambda network: real(network, backend="eager"))
    system = systems[0]
    made = tables.in_torch(system.network, system.inputs, "cpu", compiled=True)()
    assert torch.equal(made, tables.in_torch(system.network, system.inputs, "cpu")())


def test_clips_are_taken_in_turns(tables, monkeypatch):
    seen = []
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def work(name, seconds):
        seen.append(name)
        now[0] += seconds * (1 + (len(seen) > 8))  # both are slower in the second half

    runs = {("a", "x"): lambda: work("a", 0.02), ("b", "x"): lambda: work("b", 0.01)}
    figures = tables.clip_factors(runs, 3 / 25, 2)
    assert sorted(seen[:8]) == sorted(seen[8:]) == ["a"] * 4 + ["b"] * 4
    assert all(seen[i : i + 4] == [seen[i]] * 4 for i in range(0, 16, 4))
    assert figures["a"]["x"] == [0.75, pytest.approx(0.5**0.5 * 0.5, abs=1e-5)]  # 0.5 and 1
    assert figures["b"]["x"][0] == 0.375


def test_turns_are_taken_in_turns(tables):
    seen = []
    runs = {("a", "x"): lambda: seen.append("a"), ("b", "x"): lambda: seen.append("b")}
    figures = tables.frame_times(runs, 4)
    turns = [seen[i : i + 4] for i in range(0, len(seen), 4)]  # each turn begins with a call that does not count
    assert len(turns) == 4 + tables.WARM_UP and all(turn in (list("aabb"), list("bbaa")) for turn in turns)
    assert all(low <= median <= high for row in figures.values() for low, median, high in row.values())


def test_page(tables, systems, tmp_path):
    result = tables.measure(systems, 1, 1, 0.2, 2)
    assert (result["kind"], result["turns"], result["threads"]) == ("cpu", 1, 1)
    result["rows"][0]["ms"] = {"eager": [90, 100, 110], "f32": [40, 50, 60], "step-f32": [20, 25, 30]}
    assert all(len(row["rtf"]["f32"]) == 2 and min(row["rtf"]["f32"]) >= 0 for row in result["rows"][1:])
    result["rows"][1]["rtf"] = {"eager": [0.5, 0.02]}
    result["rows"][2]["rtf"] = {"eager": [0.25, 0.01], "f32": [0.125, 0.01]}
    result["busy"] = True
    gpu = result | {
        "device": "NVIDIA Card",
        "kind": "gpu",
        "busy": False,
        "rows": [
            row | ({"ms": {"cuda": [4, 5, 6]}} if row["table"] == "II" else {"rtf": {"cuda": [0.1, 0.0]}})
            for row in result["rows"]
        ],
    }
    for one in (gpu, result):
        tables.save(one, tmp_path / "results")
    assert len(list((tmp_path / "results").glob("*.json"))) == 2
    page = tmp_path / "performance.md"
    begin, end = "<!-- bench.tables begins -->", "<!-- bench.tables ends -->"
    page.write_text(f"# Speed\n\n{begin}\nold\n{end}\n\nafter\n")
    tables.main(["--page", "--output", str(tmp_path / "results"), "--write", str(page)])
    text = page.read_text()
    assert text.startswith(f"# Speed\n\n{begin}\n") and text.endswith(f"{end}\n\nafter\n")
    assert "old" not in text
    assert "| tiny, 16×16 | 0.300 | 0.3 | 33.8 | 158.9 | 10.0 | 20.0 | 40.0 | 200.0 |" in text
    assert "| WavSyncSwap 16 | 0.200 | 0.1024 | 0.2500 ± 0.0100 | 0.1250 ± 0.0100 | 0.1000 ± 0.0000 |" in text
    assert "| WavSyncSwap against cascade 16 | | 1.96 × | 2.00 × |  |  |" in text and "no GPU" not in text
    assert "B = NVIDIA Card" in text and text.count("The machine was busy") == 1
    assert (tmp_path / "tables.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("*.part"))
    before = page.read_text()
    tables.main(["--page", "--output", str(tmp_path / "results"), "--write", str(page)])
    assert page.read_text() == before
    assert json.loads(next((tmp_path / "results").glob("nvidia*")).read_text())["kind"] == "gpu"


def test_steps_are_what_the_whole_networks_do_behind_the_face(root):
    from bench.systems import all_systems

    torch.set_num_threads(1)
    for system in all_systems():
        if system.step is None or "224" in system.name:
            continue
        module, inputs = system.step
        with torch.inference_mode():
            wanted, made = system.network(*system.inputs.values()), module(*inputs.values())
        for a, b in zip(*[x if isinstance(x, tuple) else (x,) for x in (wanted, made)], strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
