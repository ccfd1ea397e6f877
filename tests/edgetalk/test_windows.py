"""The windows of a sound: those of a stream are those of the whole, and come as soon as they can."""

from fractions import Fraction

import numpy as np
import pytest

from edgetalk import InputError
from edgetalk.clock import frame_count
from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec
from edgetalk.windows import WindowStream, sound_windows


@pytest.mark.parametrize("offset, window", [(-23.4, 32), (-6.4, 16), (0.0, 16)])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("samples", [1, 639, 641, 16000, 40123])
def test_windows_of_a_stream_equal_those_of_the_whole(offset, window, fps, samples):
    spec = AudioSpec(offset=offset, window=window)
    rng = np.random.default_rng(samples)
    pcm = (rng.normal(size=samples) * 0.1).astype(np.float32)
    stream, cut, at = WindowStream(spec, fps), [], 0
    while at < samples:
        size = int(rng.integers(0, 3000))
        cut += stream.push(pcm[at : at + size])
        at += size
    cut += stream.flush()
    whole = windows(log_mel(pcm, spec), frame_count(samples, fps), spec, fps)
    assert len(cut) == len(whole)
    np.testing.assert_allclose(np.stack(cut), whole, atol=1e-6)


def test_a_window_comes_as_soon_as_its_sound_is_there():
    spec, fps = AudioSpec(), Fraction(25)
    stream, came = WindowStream(spec, fps), []
    for heard in range(100, 16001, 100):
        came += [heard] * len(list(stream.push(np.zeros(100, np.float32))))
    # frame 0: window of mel frames -24 … 7; frame 7 is centred on sample 1400 and looks 400 samples ahead
    assert came[0] == 1800
    assert came[10] == 1800 + 10 * 640
    assert came[10] - (10 * 640 + 320) <= 0.1 * 16000  # at most 100 ms after the middle of the frame


def test_a_front_end_of_another_rate_hears_the_sound_at_that_rate():
    """A tone is in the same bands, and the windows are of the same moments."""
    spec, fps = AudioSpec(), Fraction(25)
    half = AudioSpec(sample_rate=8000, n_fft=400, hop=100, fmax=3800.0)
    low = AudioSpec(fmax=3800.0)
    pcm = (0.3 * np.sin(np.arange(16000) * 2 * np.pi * 1000 / 16000)).astype(np.float32)
    pcm[8000:] = 0
    heard, wanted = (np.stack(list(sound_windows(pcm, each, fps))) for each in (half, low))
    assert heard.shape == wanted.shape == (25, spec.window, 80)
    np.testing.assert_array_equal(heard[:12].mean(1).argmax(1), wanted[:12].mean(1).argmax(1))
    assert np.abs(heard.mean((1, 2)) - wanted.mean((1, 2))).max() < 0.5
    with pytest.raises(InputError, match="at 8000 Hz: a live sound is at 16000 Hz .*; use talk instead of stream"):
        WindowStream(half, fps)


def test_silence_before_any_sound_gives_no_frame():
    stream = WindowStream(AudioSpec(), Fraction(25))
    assert [*stream.push(np.zeros(0, np.float32)), *stream.flush()] == []
