"""What is compared takes turns, whose first calls do not count, and a ratio is of times of one turn."""

import itertools

import numpy as np
import pytest

from bench import turns


def test_contestants_take_turns_after_a_call_that_does_not_count(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0)
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    taken = turns.in_turns(works, 3, block=2, warm_up=1)
    assert [(name, len(list(same))) for name, same in itertools.groupby(calls)] == [("a", 3), ("b", 3)] * 4
    assert {name: seconds.shape for name, seconds in taken.items()} == {"a": (3, 2), "b": (3, 2)}


def test_a_ratio_is_of_times_of_one_turn():
    fast = np.array([[1.0, 1.0, 9.0], [4.0, 4.0, 4.0], [2.0, 2.0, 2.0]])  # the machine slows and recovers
    slow = np.array([[3.0, 3.0, 3.0], [12.0, 12.0, 12.0], [6.0, 60.0, 6.0]])
    assert turns.times(slow, fast) == pytest.approx(3)
    assert turns.milliseconds(fast) == pytest.approx(2000)
