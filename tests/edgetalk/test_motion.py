"""Idle life: the same everywhere, within its bounds, smooth, and it blinks as people do."""

from fractions import Fraction

import numpy as np
import pytest

from edgetalk import motion
from edgetalk.errors import InputError

MINUTES = 10 * 60 * 25


@pytest.fixture(scope="module")
def life():
    idle = motion.Idle(seed=3)
    poses, blinks = zip(*(idle.pose_blink(i) for i in range(MINUTES)), strict=True)
    return np.array(poses), np.array(blinks)


def test_hash_is_splitmix64():
    """The first outputs of the published generator: state 0, and state 1234567 as its test vectors give them."""
    gamma = 0x9E3779B97F4A7C15
    assert [motion.splitmix64(k * gamma % 2**64) for k in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]
    assert motion.splitmix64(1234567) == 6457827717110365317


def test_numbers_are_pinned():
    """Another language must find these; a change here changes every video made with a seed."""
    pose, blink = motion.Idle(seed=7, fps=Fraction(30000, 1001)).pose_blink(1000)
    assert pose.dtype == blink.dtype == np.float32 and pose.shape == (3,) and blink.shape == (2,)
    assert [float(v).hex() for v in pose] == [
        "-0x1.70b0540000000p-5",
        "0x1.19e5460000000p-6",
        "0x1.8040d80000000p-7",
    ]
    again = motion.Idle(seed=7, fps=Fraction(30000, 1001))
    again.pose_blink(5)
    assert np.array_equal(again.pose_blink(1000)[0], pose)


def test_stays_within_its_bounds_and_uses_them(life):
    poses, blinks = life
    peak = np.abs(poses).max(0)
    bounds = np.array([motion.YAW, motion.PITCH, motion.ROLL])
    assert (peak <= bounds).all() and (peak > 0.6 * bounds).all()
    assert (np.abs(poses.mean(0)) < 0.1 * bounds).all()  # no lean to one side
    assert blinks.min() == 0.0 and blinks.max() == 1.0


def test_moves_slowly(life):
    poses, _ = life
    speed = np.degrees(np.abs(np.diff(poses, axis=0))) * 25
    assert speed.max() < 15.0  # degrees per second: a drift, never a jerk
    jolt = np.degrees(np.abs(np.diff(poses, n=2, axis=0)))
    assert jolt.max() < 0.15


def test_blinks_every_two_to_five_seconds_and_seldom_twice(life):
    _, blinks = life
    lids = blinks[:, 0]
    assert np.array_equal(lids, blinks[:, 1])
    starts = np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0)) / 25
    gaps = np.diff(starts)
    doubles = gaps < 1.0
    assert 0.04 < doubles.mean() < 0.25
    assert (np.abs(gaps[doubles] - motion.DOUBLE_GAP) <= 0.0401).all()
    single = gaps[~doubles & ~np.roll(doubles, 1)]
    assert single.min() > 1.9 and single.max() < 5.1
    for start in starts:
        blink = lids[round(start * 25) : round(start * 25) + 8]
        assert blink.max() == 1.0  # at 25 frames per second every blink has a shut frame
        assert 3 <= np.count_nonzero(blink) <= 7


def test_seeds_differ():
    a, b = (np.array([motion.Idle(seed).pose_blink(i)[0] for i in range(500)]) for seed in (0, 1))
    assert abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) < 0.6 and not np.allclose(a, b)


def test_the_rate_changes_the_sampling_and_not_the_life():
    slow, fast = motion.Idle(5, Fraction(25)), motion.Idle(5, Fraction(50))
    for i in range(0, 400, 7):
        for a, b in zip(slow.pose_blink(i), fast.pose_blink(2 * i), strict=True):
            assert np.array_equal(a, b)


def test_still_is_still():
    pose, blink = motion.still().pose_blink(12345)
    assert pose.dtype == blink.dtype == np.float32 and not pose.any() and not blink.any()


def test_names():
    assert isinstance(motion.named("idle", 4, Fraction(25)), motion.Idle)
    own = motion.Idle(9)
    assert motion.named(own, 4, Fraction(25)) is own
    with pytest.raises(InputError, match="motion: got 'lively', expected one of idle, still"):
        motion.named("lively", 0, Fraction(25))
    for none in (None, motion.Idle, 5):
        with pytest.raises(InputError, match="expected one of idle, still, or a film .* or an object with pose_blink"):
            motion.named(none, 0, Fraction(25))


def test_seeds_are_whole_numbers_of_any_kind():
    (pose, blink), (same, lids) = (motion.Idle(seed).pose_blink(77) for seed in (5, np.int64(5)))
    assert np.array_equal(pose, same) and np.array_equal(blink, lids)
    with pytest.raises(InputError, match="seed: got 1.5, expected a whole number"):
        motion.Idle(1.5)
