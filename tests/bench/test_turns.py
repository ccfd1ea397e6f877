"""What is compared takes turns, whose first calls do not count, and a ratio is of times of one turn."""

import numpy as np
import pytest

from bench import turns


def test_contestants_take_turns_after_a_call_that_does_not_count(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0)
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    taken = turns.in_turns(works, 3, block=2, warm_up=1)
    blocks = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert all(block in (["a"] * 3, ["b"] * 3) for block in blocks)
    assert [{a[0], b[0]} for a, b in zip(blocks[::2], blocks[1::2], strict=True)] == [{"a", "b"}] * 4
    assert {name: seconds.shape for name, seconds in taken.items()} == {"a": (3, 2), "b": (3, 2)}


def test_who_begins_a_turn_changes_and_what_warms_up_is_not_returned(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0)
    calls = []

    def work(name):
        calls.append(name)
        return len(calls)

    made = turns.each_turn({name: lambda name=name: work(name) for name in "abc"}, 30, warm_up=2)
    assert {len(taken) for taken in made.values()} == {30} and min(min(taken) for taken in made.values()) == 7
    assert {calls[i] for i in range(0, len(calls), 3)} == set("abc")
    assert all(sorted(calls[i : i + 3]) == list("abc") for i in range(0, len(calls), 3))


def test_a_ratio_is_of_times_of_one_turn():
    fast = np.array([[1.0, 1.0, 9.0], [4.0, 4.0, 4.0], [2.0, 2.0, 2.0]])  # the machine slows and recovers
    slow = np.array([[3.0, 3.0, 3.0], [12.0, 12.0, 12.0], [6.0, 60.0, 6.0]])
    assert turns.ratio(slow, fast) == pytest.approx(3)
    assert turns.milliseconds(fast) == pytest.approx(2000)
