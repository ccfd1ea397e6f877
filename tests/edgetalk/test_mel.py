"""The audio front end against librosa, and streaming against the whole, sample by sample."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

from edgetalk import mel
from edgetalk.errors import InputError
from edgetalk.export import published_amnet
from edgetalk.metadata import AudioSpec

OURS = AudioSpec()
WAV2LIP = AudioSpec(window=16, offset=0.0)
RELEASED = published_amnet.AUDIO
NTSC = Fraction(30000, 1001)


def sound(samples, seed=0):
    """Noise, a chirp and pauses of digital silence: every level from full scale down to nothing."""
    time = np.arange(samples) / 16000
    noise = 0.1 * np.random.default_rng(seed).normal(size=samples)
    chirp = 0.5 * np.sin(2 * np.pi * (100 + 900 * time) * time)
    return ((noise + chirp) * np.clip(np.sin(7 * time), 0, None) ** 3).astype(np.float32)


@pytest.fixture(scope="module")
def librosa():
    return pytest.importorskip("librosa")


@pytest.mark.parametrize("samples", [800, 8000, 48123])
def test_log_mel_is_librosas(librosa, samples):
    pcm = sound(samples)
    emphasised = np.append(pcm[:1], pcm[1:] - np.float64(0.97) * pcm[:-1]).astype(np.float64)
    magnitudes = np.abs(librosa.stft(emphasised, n_fft=800, hop_length=200, pad_mode="constant"))
    filters = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600, dtype=np.float64)
    level = 20 * np.log10(np.maximum(1e-5, filters @ magnitudes)) - 20
    expected = np.clip(8 * (level + 100) / 100 - 4, -4, 4).T
    ours = mel.log_mel(pcm, OURS)
    assert ours.dtype == np.float32 and ours.shape == (samples // 200 + 1, 80) == expected.shape
    assert np.abs(ours - expected).max() < 1e-5
    assert samples < 8000 or (ours.min() == -4.0 and ours.max() > 0)


@pytest.mark.parametrize("samples", [44100, 20000])
def test_mfcc_is_librosas_and_its_differences_the_authors(librosa, samples):
    pcm = sound(samples)
    cepstra = librosa.feature.mfcc(
        y=pcm.astype(np.float64), sr=44100, n_mfcc=20, n_fft=2048, hop_length=512, pad_mode="constant"
    )
    # The authors' script hands (coefficients, frames) to a function that takes differences along its first axis: the
    # sum over n of n * (row i + n) by the sum of n squared, n from -2 to 2, the outermost rows repeated.
    rows = np.arange(20)
    delta = sum(n * cepstra[np.clip(rows + n, 0, 19)] for n in range(-2, 3)) / 10
    delta2 = sum(n * delta[np.clip(rows + n, 0, 19)] for n in range(-2, 3)) / 10
    expected = np.concatenate([cepstra, delta, delta2]).T
    ours = mel.log_mel(pcm, RELEASED)
    assert ours.shape == (samples // 512 + 1, 60) == expected.shape and RELEASED.features == 60
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("samples", [0, 1, 199, 200, 4567])
@pytest.mark.parametrize("seed", range(8))
def test_any_chunks_make_the_frames_of_the_whole(samples, seed):
    random = np.random.default_rng([samples, seed])
    pcm = sound(samples, seed)
    stream = mel.MelStream(OURS)
    if seed % 2:  # what an earlier sound left behind must not be heard
        stream.push(sound(777, 99))
        stream.flush() if seed % 4 == 1 else stream.reset()
    frames, rest = [], pcm
    while len(rest):
        size = int(random.choice([0, 1, 7, 160, 199, 200, 201, 640, 2000]))
        frames.append(stream.push(rest[:size]))
        rest = rest[size:]
    frames = np.concatenate([*frames, stream.flush()])
    assert frames.dtype == np.float32 and np.array_equal(frames, mel.log_mel(pcm, OURS))


def test_one_sample_at_a_time():
    pcm = sound(1700)
    stream = mel.MelStream(OURS)
    frames = [stream.push(pcm[i : i + 1]) for i in range(len(pcm))]
    for i, frame in enumerate(frames):  # frame j needs the samples before j * hop + n_fft / 2, and no later one
        assert len(frame) == (1 if i + 1 >= 400 and (i + 1) % 200 == 0 else 0)
    assert np.array_equal(np.concatenate([*frames, stream.flush()]), mel.log_mel(pcm, OURS))


def test_mfcc_has_no_stream():
    with pytest.raises(InputError, match="use talk instead of stream"):
        mel.MelStream(RELEASED)


@pytest.mark.parametrize("spec", [OURS, RELEASED], ids=["logmel", "mfcc"])
def test_a_long_sound_takes_little_more_than_its_frames(spec):
    """All spectra of half an hour at once would be 3 and 5 GB."""
    pcm = np.random.default_rng(0).normal(size=100 * spec.sample_rate).astype(np.float32)
    tracemalloc.start()
    frames = mel.log_mel(pcm, spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(frames) == len(pcm) // spec.hop + 1
    assert peak < 4 * 8 * len(pcm) + 12 * frames.nbytes


def test_a_frame_is_centred_on_its_sample():
    pcm = np.zeros(8000, np.float32)
    pcm[4000] = 1.0
    energy = mel.log_mel(pcm, OURS).mean(1)
    assert int(np.argmax(energy)) == 20
    assert np.allclose(energy[19], energy[21], atol=0.01)  # pre-emphasis adds a sample on one side
    # The Hann window is zero at its edge: frames two hops away do not hear the click.
    assert np.array_equal(mel.log_mel(pcm, OURS)[[18, 23]], np.stack([mel.silence(OURS)] * 2))


@pytest.mark.parametrize("spec", [OURS, WAV2LIP, RELEASED, AudioSpec(window=16, offset=-6.4)])
@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(60)])
def test_windows_start_where_the_rate_says(spec, fps):
    starts = mel.window_starts(1000, spec, fps)
    assert starts.dtype == np.int64
    hops = Fraction(spec.sample_rate, spec.hop)
    for i in (0, 1, 2, 499, 998, 999):
        exact = i * hops / fps + Fraction(str(spec.offset))
        assert starts[i] <= exact < starts[i] + 1
    assert np.array_equal(mel.window_starts(100, spec, fps, first=900), starts[900:])


def test_our_window_hears_at_most_a_tenth_of_a_second_ahead():
    """At the rate of training, from the middle of the frame to the last sample under the last window."""
    ends = [(int(start) + OURS.window - 1) * 200 + 400 for start in mel.window_starts(500, OURS, Fraction(25))]
    ahead = [Fraction(end, 16000) - Fraction(2 * i + 1, 50) for i, end in enumerate(ends)]
    assert Fraction(8, 100) < min(ahead) and max(ahead) == Fraction(1, 10)


@pytest.mark.parametrize("spec", [OURS, WAV2LIP])
def test_windows_beyond_the_sound_hold_silence(spec):
    frames = mel.log_mel(sound(6400), spec)
    windows = mel.windows(frames, 12, spec, Fraction(25))
    assert windows.dtype == np.float32 and windows.shape == (12, spec.window, 80)
    quiet = mel.silence(spec)
    for i, start in enumerate(mel.window_starts(12, spec, Fraction(25))):
        for t in range(spec.window):
            j = start + t
            assert np.array_equal(windows[i, t], frames[j] if 0 <= j < len(frames) else quiet)
    assert np.array_equal(quiet, np.full(80, -4, np.float32))


def test_the_cepstra_of_silence_are_those_of_the_lowest_level():
    """-100 dB in every band, of which the orthonormal cosine transform keeps the mean alone."""
    level = np.full(RELEASED.n_mels, -100.0)
    cepstra = np.zeros(RELEASED.n_mfcc)
    cepstra[0] = level.sum() / np.sqrt(RELEASED.n_mels)
    np.testing.assert_allclose(mel.silence(RELEASED)[: RELEASED.n_mfcc], cepstra, atol=1e-3)


def test_nobody_writes_into_the_silence_of_others():
    with pytest.raises(ValueError, match="read-only"):
        mel.silence(OURS)[:] = 1
    assert np.array_equal(mel.silence(OURS), np.full(80, -4, np.float32))
