"""What training does to sound: it stays in time, differs from draw to draw, and is the same for the same numbers."""

import numpy as np

from edgetalk.metadata import AudioSpec
from edgetalk.train.amnet.augment import degrade, mel_versions

RATE = 16_000


def bursts():
    """Two seconds: noise for 100 ms in every 400."""
    t = np.arange(2 * RATE) / RATE
    return (np.random.default_rng(0).normal(0, 0.1, len(t)) * (t % 0.4 < 0.1)).astype(np.float32)


def envelope(pcm):
    return np.sqrt(np.convolve(pcm.astype(np.float64) ** 2, np.ones(320) / 320, "same"))


def test_degraded_sound_is_in_time_and_of_many_kinds():
    pcm, made = bursts(), []
    for seed in range(40):
        sound = degrade(pcm, np.random.default_rng(seed))
        assert sound.shape == pcm.shape and sound.dtype == np.float32 and np.abs(sound).max() <= 1
        assert np.array_equal(sound, degrade(pcm, np.random.default_rng(seed)))
        shifts = range(-800, 801, 80)
        fits = [np.corrcoef(np.roll(envelope(pcm), s)[2000:-2000], envelope(sound)[2000:-2000])[0, 1] for s in shifts]
        assert abs(shifts[int(np.argmax(fits))]) <= 320, f"seed {seed}: late by {shifts[int(np.argmax(fits))]} samples"
        made.append(sound)
    levels = 20 * np.log10([np.sqrt(np.mean(sound**2)) for sound in made])
    assert levels.max() - levels.min() > 10


def test_some_versions_stress_words_otherwise():
    pcm = bursts()

    def spread(sound):
        peaks = [
            envelope(sound)[round(start * RATE) : round((start + 0.1) * RATE)].max() for start in (0.4, 0.8, 1.2, 1.6)
        ]
        return 20 * np.log10(max(peaks) / min(peaks))

    spreads = [spread(degrade(pcm, np.random.default_rng(seed))) for seed in range(40)]
    assert spread(pcm) < 2 and sum(s > 4 for s in spreads) >= 8 and sum(s < 2.5 for s in spreads) >= 8


def test_the_first_version_is_the_clean_one_and_all_have_its_frames():
    spec = AudioSpec()
    made = mel_versions(bursts(), spec, 4, seed=1)
    assert made.shape == (4, 2 * RATE // spec.hop + 1, spec.n_mels) and made.dtype == np.float16
    clean = mel_versions(bursts(), spec, 1, seed=9)[0]
    assert np.array_equal(made[0], clean) and not any(np.array_equal(clean, other) for other in made[1:])
