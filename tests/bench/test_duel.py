"""The verdict on made-up times: a tenth is seen through any noise, none is seen where there is none."""

import itertools
import math

import numpy as np
import pytest


@pytest.fixture(scope="module")
def duels():
    from bench import duel

    return duel


class Noisy:
    """Two programs on one machine: load that wanders and jumps, hiccups, and a few per cent of jitter per frame."""

    def __init__(self, seed, slower=1.0, jitter=0.03, bias=0.0):
        self.rng = np.random.default_rng(seed)
        self.load, self.jitter = 1.0, jitter
        self.speed = (0.016, 0.016 * slower * (1 + bias * self.rng.normal()))
        self.blocks = 0

    def block(self, who):
        def make(frames):
            self.blocks += 1
            self.load = min(4.0, max(1.0, self.load * math.exp(self.rng.normal() * 0.02)))
            if self.rng.random() < 0.02:
                self.load = self.rng.uniform(1, 4)  # somebody begins or ends
            times = self.speed[who] * self.load * np.exp(self.jitter * self.rng.normal(size=frames))
            times += (self.rng.random(frames) < 0.03) * self.rng.exponential(0.05, frames)
            return times.tolist()

        return make


def verdicts(duels, count, **noise):
    for seed in range(count):
        machine = Noisy(seed, **noise)
        yield duels.duel(machine.block(0), machine.block(1))


def test_a_tenth_is_caught_every_time(duels):
    assert all(v.slower and v.decided for v in verdicts(duels, 50, slower=1.1, bias=0.005))


def test_the_same_code_is_never_suspected(duels):
    made = list(verdicts(duels, 200, bias=0.005))
    assert not any(v.slower for v in made) and all(v.decided for v in made)
    assert 0.99 < np.median([v.ratio for v in made]) < 1.01


def test_a_faster_build_passes(duels):
    assert not any(v.slower for v in verdicts(duels, 20, slower=0.8))


def test_a_machine_too_noisy_to_tell_suspects_nobody(duels):
    made = list(verdicts(duels, 20, jitter=2.0))
    assert not any(v.slower for v in made) and any(v.pairs > duels.LOOK for v in made)
    assert all(v.pairs <= duels.PAIRS for v in made)


def test_who_begins_changes(duels):
    calls = []
    block = {who: lambda frames, who=who: calls.append((who, frames)) or [1.0] * frames for who in "ab"}
    verdict = duels.duel(block["a"], block["b"], frames=3, pairs=1)
    assert set(calls) == {("a", 3), ("b", 3)} and len(calls) == 2 * duels.LOOK == 2 * verdict.pairs
    pairs = [(calls[i][0], calls[i + 1][0]) for i in range(0, len(calls), 2)]
    assert set(pairs) == {("a", "b"), ("b", "a")}


def test_what_is_expected_is_no_slowdown(duels):
    twice = duels.duel(lambda n: [1.0] * n, lambda n: [2.0] * n, 2.0)
    assert twice.ratio == 1 and not twice.slower
    assert duels.duel(lambda n: [1.0] * n, lambda n: [2.2] * n, 2.0).slower


def test_the_interval_holds_the_median_as_often_as_it_says(duels):
    """Against the definition: the chance, over all ways that samples fall on either side, that it misses."""
    for n, level in itertools.product((8, 15, 20, 41), (0.3, 0.05)):
        low, _ = duels.interval(range(n), level)
        below = sum(math.comb(n, k) for k in range(int(low) + 1)) / 2**n  # so few of n lie below the median
        more = below + math.comb(n, int(low) + 1) / 2**n
        assert below <= level / 2 < more
        assert duels.interval(range(n), level)[1] == n - 1 - low
    assert duels.interval([1.0] * 3, 0.01) == (-math.inf, math.inf)


def test_a_worker_makes_frames_in_its_own_process(root):
    from bench.worker import Worker

    with Worker("reference", threads=1) as worker:
        seconds = worker.block(3)
        assert len(seconds) == 3 and min(seconds) > 0 and worker.first > max(seconds)
        assert worker.peak() > 20e6
    with pytest.raises(RuntimeError, match="nobody .* ended with 1"):
        Worker("nobody")
