"""Idle life: the same everywhere, within its bounds, smooth, and it blinks as people do."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from scipy.special import betainc

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


@cache
def drawn(seed, channel, k):
    """The number of (seed, channel, k) in [0, 1), exact: 53 bits of the last of three mixes."""
    mixed = seed % 2**64
    for more in (channel, k):
        mixed = (motion.splitmix64(mixed) + more) % 2**64
    return Fraction(motion.splitmix64(mixed) // 2**11, 2**53)


def ease(x):
    """The quintic from 0 to 1 is the distribution function of Beta(3, 3)."""
    return betainc(3, 3, float(min(max(x, 0), 1)))


def turned(seed, axis, time, degrees):
    """Three quarters of the way by targets every 3.1 s, a quarter by others every 1.3 s."""
    share = 0.0
    for channel, period, part in ((2 * axis, Fraction("3.1"), 0.75), (2 * axis + 1, Fraction("1.3"), 0.25)):
        k, between = divmod(time / period + drawn(seed, channel, -1), 1)
        start, end = (2 * float(drawn(seed, channel, at)) - 1 for at in (k, k + 1))
        share += part * (start + (end - start) * ease(between))
    return np.radians(degrees) * share


def closed(seed, time):
    """The lids by all the blinks there are: 0.07 s closing, 0.04 s shut, 0.1 s opening; one in eight comes twice."""
    lids = 0.0
    for k in range(int(time / 3) + 1):
        start = 1 + Fraction("3.5") * k + Fraction("1.5") * drawn(seed, 6, k)
        for begun in (start, start + Fraction("0.35"))[: 1 + (drawn(seed, 7, k) < Fraction(1, 8))]:
            at = time - begun
            lids = max(lids, ease(at / Fraction("0.07")) - ease((at - Fraction("0.11")) / Fraction("0.1")))
    return lids


@pytest.mark.parametrize("seed", [5, 10, -9, 2**70 + 2])
def test_life_is_what_is_said_of_it(seed):
    """Yaw, pitch, roll and lids of some 20 seconds, in fractions and with every blink written out."""
    rate = Fraction(24000, 1001)
    idle = motion.Idle(seed, rate)
    assert any(drawn(seed, 7, k) < Fraction(1, 8) for k in range(6))  # or no second blink would be looked at
    for i in range(500):
        pose, blink = idle.pose_blink(i)
        assert blink == pytest.approx([closed(seed, i / rate)] * 2, abs=1e-6)
        if i % 10 == 0:
            wanted = [turned(seed, axis, i / rate, degrees) for axis, degrees in enumerate((6, 3, 2))]
            assert pose == pytest.approx(wanted, abs=1e-7)
    assert all(motion._unit(seed, 6, k) == drawn(seed, 6, k) for k in range(64))  # to the last bit


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
    pose, blink = motion.Still().pose_blink(12345)
    assert pose.dtype == blink.dtype == np.float32 and not pose.any() and not blink.any()


def test_names():
    assert isinstance(motion.motion_of("idle", 4, Fraction(25)), motion.Idle)
    own = motion.Idle(9)
    assert motion.motion_of(own, 4, Fraction(25)) is own
    with pytest.raises(InputError, match="motion: got 'lively', expected one of idle, still"):
        motion.motion_of("lively", 0, Fraction(25))
    for none in (None, motion.Idle, 5):
        with pytest.raises(InputError, match="expected one of idle, still, or a film .* or an object with pose_blink"):
            motion.motion_of(none, 0, Fraction(25))


def test_seeds_are_whole_numbers_of_any_kind():
    (pose, blink), (same, lids) = (motion.Idle(seed).pose_blink(77) for seed in (5, np.int64(5)))
    assert np.array_equal(pose, same) and np.array_equal(blink, lids)
    for wrong in (1.5, True):
        with pytest.raises(InputError, match=f"seed: got {wrong}, expected a whole number"):
            motion.Idle(wrong)
