"""The windows of a sound: those of a stream are those of the whole, and come as soon as they can."""

from fractions import Fraction

import numpy as np
import pytest

from edgetalk import InputError
from edgetalk.clock import frame_count
from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec
from edgetalk.windows import WindowStream, sound_windows


@pytest.mark.parametrize("offset, window", [(-23.4, 32), (-6.4, 16), (0.0, 16), (2.5, 16)])
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
    for together in (1, 7, 25):
        assert np.array_equal(np.stack(list(sound_windows(pcm, spec, fps, together))), whole)


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


def test_sound_is_heard_whose_windows_nobody_looks_at():
    spec, fps, pcm = AudioSpec(), Fraction(25), np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    stream = WindowStream(spec, fps)
    for chunk in np.split(pcm, 4):
        stream.push(chunk)
    whole = windows(log_mel(pcm, spec), frame_count(len(pcm), fps), spec, fps)
    np.testing.assert_allclose(np.stack(list(stream.flush())), whole, atol=1e-6)


def test_a_fork_goes_on_with_a_sound_of_its_own():
    """What either hears later is not heard by the other."""
    spec, fps = AudioSpec(), Fraction(25)
    rng = np.random.default_rng(2)
    before, one, other = (rng.normal(0, 0.1, size).astype(np.float32) for size in (5000, 4000, 7000))
    stream = WindowStream(spec, fps)
    heard = list(stream.push(before))
    fork = stream.fork()
    # In turns, and the one that was forked first.
    cut, forked = [*stream.push(one[:2000])], [*fork.push(other[:3000])]
    cut += [*stream.push(one[2000:]), *stream.flush()]
    forked += [*fork.push(other[3000:]), *fork.flush()]
    for after, got in ((one, cut), (other, forked)):
        pcm = np.concatenate([before, after])
        whole = windows(log_mel(pcm, spec), frame_count(len(pcm), fps), spec, fps)
        np.testing.assert_allclose(np.stack([*heard, *got]), whole, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 300, 641, 16000, 16639])
@pytest.mark.parametrize("kind", ["logmel", "mfcc"])
def test_windows_of_a_whole_sound_are_those_of_its_mel_frames(monkeypatch, samples, kind):
    """However they are computed: as of a live sound, or some at once."""
    monkeypatch.setattr("edgetalk.windows.BLOCK", 7)
    spec = AudioSpec() if kind == "logmel" else AudioSpec(kind="mfcc", n_mfcc=20, preemphasis=0.0)
    pcm = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    for fps in (Fraction(25), Fraction(30000, 1001)):
        got = list(sound_windows(pcm, spec, fps))
        whole = windows(log_mel(pcm, spec), frame_count(samples, fps), spec, fps)
        assert len(got) == len(whole) >= 1
        np.testing.assert_allclose(np.stack(got), whole, atol=1e-6)


def test_a_sound_that_is_resampled_is_heard_to_its_end():
    spec = AudioSpec(sample_rate=8000, n_fft=400, hop=100, fmax=3800.0)
    pcm = (0.3 * np.sin(np.arange(16000) * 2 * np.pi * 1000 / 16000)).astype(np.float32)
    last, wanted = (list(sound_windows(pcm, each, Fraction(25)))[-1] for each in (spec, AudioSpec(fmax=3800.0)))
    assert np.abs(last.max(1) - wanted.max(1)).max() < 1.5  # of -4 to 4: no mel frame of the tone is missing


def test_a_window_of_the_past_waits_for_the_whole_of_its_frame():
    stream = WindowStream(AudioSpec(offset=-40.0, window=16), Fraction(25))
    came = [len(list(stream.push(np.zeros(size, np.float32)))) for size in (639, 1, 639, 1, 1280)]
    assert came == [0, 1, 0, 1, 2]
