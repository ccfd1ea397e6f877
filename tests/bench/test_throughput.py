"""Frames one by one, side by side and in batches are the same frames, and the best way is the one that was planted."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from edgetalk.engines.onnx_file import set_metadata
from edgetalk.engines.openvino import write
from edgetalk.export.onnx_file import trace
from edgetalk.metadata import Metadata


@pytest.fixture
def throughput(root):
    from bench import throughput

    return throughput


class Blend(nn.Module):
    def forward(self, appearance, mel):
        return (appearance + mel.mean((1, 2))[:, None, None, None]).round().byte()


def engine_of(batch, folder):
    inputs = {"appearance": torch.zeros(batch, 4, 4, 3), "mel": torch.zeros(batch, 2, 3)}
    model = trace(Blend(), inputs, ["frame"])
    set_metadata(model, Metadata(family="bench"))
    write(model, folder / f"{batch}.xml", halve=False)
    return folder / f"{batch}.xml"


def frames_to_make(count=8):
    random = np.random.default_rng(0)
    return [
        {
            "appearance": random.integers(0, 100, (1, 4, 4, 3)).astype(np.float32),
            "mel": np.full((1, 2, 3), i, np.float32),
        }
        for i in range(count)
    ]


@pytest.mark.parametrize(("requests", "batch"), [(1, 1), (2, 1), (1, 2), (1, 4)])
def test_every_way_makes_the_same_frames_in_their_order(throughput, requests, batch, tmp_path):
    feeds = frames_to_make()
    way = throughput.Way(engine_of(batch, tmp_path), 2, requests, batch)
    for _ in range(2):
        whole, seconds, frames = way.run(feeds)
        wanted = [feed["appearance"] + feed["mel"].mean() for feed in feeds]
        assert np.array_equal(frames, np.concatenate(wanted).astype(np.uint8))
        assert len(seconds) == len(feeds) and 0 < min(seconds) <= max(seconds) < whole
        if requests == 1:
            assert sum(seconds[::batch]) <= whole


def test_batches_leave_over_what_fills_none(throughput):
    made = throughput.batches([{"mel": np.array([[i]])} for i in range(7)], 3)
    assert [one["mel"].ravel().tolist() for one in made] == [[0, 1, 2], [3, 4, 5]]


def test_ways_take_turns_of_the_same_frames(throughput, tmp_path, monkeypatch):
    run = []

    class Way:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, seconds

        def run(self, feeds):
            run.append(self.name)
            return len(feeds) * self.seconds, [self.seconds] * len(feeds), None

    ways = {throughput.ONE: Way("one", 0.01), "two requests": Way("two", 0.008), "batch 2": Way("batch", 0.0125)}
    whole, frames = throughput.take_turns(ways, [{}] * throughput.FRAMES, 12)
    assert [sorted(run[i : i + 3]) for i in range(0, len(run), 3)] == [["batch", "one", "two"]] * 13
    assert {len(values) for values in whole.values()} == {12}
    rows = {name: throughput.row(whole[name], whole[throughput.ONE], frames[name], 2) for name in ways}
    assert rows["two requests"] == {"per_core": 62.5, "times_one": [1.25, 1.25, 1.25], "p50_ms": 8.0, "p99_ms": 8.0}
    assert rows["batch 2"]["times_one"] == [0.8, 0.8, 0.8]
    assert throughput.best(rows) == "Most frames come by **two requests**."
    doubtful = rows | {"two requests": rows["two requests"] | {"times_one": [0.99, 1.02, 1.05]}}
    assert throughput.best(doubtful).startswith("No way makes more frames than one request")
    told = {"device": "a board", "threads": 2, "date": "2026-01-01", "turns": 12, "others": 0.01}
    rows = {name: row | {"ssim": 0.98} for name, row in rows.items()}
    (tmp_path / "told.json").write_text(json.dumps(told | {"rows": rows}))
    page = tmp_path / "page.md"
    page.write_text("<!-- bench.throughput begins -->\n<!-- bench.throughput ends -->\n")
    throughput.main(["--page", "--output", str(tmp_path / "told.json"), "--write", str(page)])
    text = page.read_text()
    assert "| one request | 50.0 | 1 | 10.0 | 10.0 | 0.9800 |" in text
    assert "| two requests | 62.5 | 1.250 × (1.250–1.250) | 8.0 | 8.0 | 0.9800 |" in text
    assert "Most frames come by **two requests**. a board, 2 threads" in text
