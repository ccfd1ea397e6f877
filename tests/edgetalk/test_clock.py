"""Frames and samples: compared with time computed in integers of one common unit, over a whole day."""

from fractions import Fraction

import numpy as np
import pytest

from edgetalk import clock
from edgetalk.clock import first_sample, frame_at, frame_count, frame_rate
from edgetalk.errors import InputError

NTSC = Fraction(30000, 1001)
DAY = 24 * 3600 * 16000  # samples


@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(30), Fraction(60)])
def test_a_day_of_frames_never_leaves_the_sound(fps):
    frames = frame_count(DAY, fps)
    for i in [*range(200), frames // 2, *range(frames - 200, frames)]:
        # The frame's time and its first sample's time differ by less than a sample, the whole day long.
        behind = Fraction(first_sample(i, fps), 16000) - i / fps
        assert 0 <= behind < Fraction(1, 16000)
        assert frame_at(first_sample(i, fps), fps) == i
        assert frame_at(first_sample(i + 1, fps) - 1, fps) == i
    assert 0 <= frames / fps - Fraction(DAY, 16000) < 1 / fps


def test_a_day_in_chunks_of_a_tenth_of_a_second_drifts_less_than_a_frame():
    shown = 0
    for samples in range(1600, DAY + 1, 1600):
        due = frame_at(samples, NTSC)
        assert 2 <= due - shown <= 3  # 2.997 frames per chunk: never a burst, never a gap
        shown = due
        # samples / 16000 seconds against due * 1001 / 30000 seconds, in units of 1 / 480,000,000 s
        assert 0 <= samples * 30000 - due * 1001 * 16000 < 1001 * 16000
    assert shown == 24 * 3600 * 30000 // 1001 == 2_589_410


@pytest.mark.parametrize(
    ("samples", "fps", "count"),
    [
        (0, Fraction(25), 0),
        (1, Fraction(25), 1),
        (639, Fraction(25), 1),
        (640, Fraction(25), 1),
        (641, Fraction(25), 2),
        (1280, Fraction(25), 2),
        (16016, NTSC, 30),
        (16015, NTSC, 30),
        (16017, NTSC, 31),
    ],
)
def test_frames_last_until_the_last_sample_has_sounded(samples, fps, count):
    assert frame_count(samples, fps) == count


def test_chunks_between_frames_add_up():
    sizes = [first_sample(i + 1, NTSC) - first_sample(i, NTSC) for i in range(30000)]
    assert sum(sizes) == 1001 * 16000 and set(sizes) == {533, 534}


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (25, Fraction(25)),
        ("25", Fraction(25)),
        ("30000/1001", NTSC),
        (29.97, Fraction(2997, 100)),
        (NTSC, NTSC),
        ("12.5", Fraction(25, 2)),
        ("2.4e2", Fraction(240)),
        (30000 / 1001, NTSC),
        (24000 / 1001, Fraction(24000, 1001)),
        (60000 / 1001, Fraction(60000, 1001)),
        (12.3456, Fraction(123456, 10000)),
        (np.float64(30000 / 1001), NTSC),
        ("268435456/2236963", Fraction(1 << 28, 2236963)),
        (1, Fraction(1)),
        (240, Fraction(240)),
    ],
)
def test_rates_are_exact(given, rate):
    assert frame_rate(given) == rate


@pytest.mark.parametrize(
    "given",
    [0, -25, "0", "a", "25/0", "", 1e9, float("nan"), float("inf"), "1001/30000", "240.001", "25;", "/", "-25/-1"],
)
def test_rates_that_are_none_are_refused(given):
    with pytest.raises(InputError, match="^fps: got .*expected a number from 1 to 240"):
        frame_rate(given)


@pytest.mark.parametrize(
    "given",
    [
        "29.97002997002997",
        29.970029970029,
        "268435457/2236963",
        "268435457/268435456",
        Fraction(2997002997002997, 10**14),
    ],
)
def test_rates_that_no_film_can_keep_are_told_how_to_be_written(given):
    with pytest.raises(InputError, match="^fps: got .*expected a fraction of numbers up to 268435456; .*30000/1001$"):
        frame_rate(given)


@pytest.mark.parametrize("given", ["1e99999999", "1E+99999999", "1e-99999999", "25" + 999 * "0", "1/1" + 999 * "0"])
def test_no_rate_is_computed_digit_by_digit(given, monkeypatch):
    """The first would take minutes, and memory without end."""

    class Never(Fraction):
        def __new__(cls, number=0):
            return super().__new__(cls, number) if number == 0 else pytest.fail("it was computed")

    monkeypatch.setattr(clock, "Fraction", Never)
    with pytest.raises(InputError, match="^fps: got .*expected a number from 1 to 240"):
        frame_rate(given)


def test_a_rate_that_was_left_empty_is_called_so():
    with pytest.raises(InputError, match="^fps: got nothing, expected a number"):
        frame_rate("")
