"""Speech and motion: phone times against the sound, splits, and how the mouth follows."""

import numpy as np
import pytest

from edgetalk.errors import BackendError, InputError
from edgetalk.train.announcers import espeak, motion, sentences, speech
from edgetalk.train.announcers.visemes import ARPABET, IPA, SHAPES, from_ipa

TEXT = "Bob prefers pepper, but Pam prefers the vivid film."


@pytest.mark.parametrize("voice", speech.VOICES)
def test_phones_cover_the_sound_and_rest_where_it_is_silent(voice):
    said = speech.synthesize(TEXT, voice)
    assert said.pcm.dtype == np.float32 and 0.2 < np.abs(said.pcm).max() <= 1 and 2 < said.seconds < 7
    starts, ends = (np.array([phone[k] for phone in said.phones]) for k in (0, 1))
    assert starts[0] == 0 and ends[-1] == pytest.approx(said.seconds) and (ends > starts).all()
    assert np.array_equal(starts[1:], ends[:-1])
    assert {"mbp", "fv", "er"} <= {phone.viseme for phone in said.phones}

    def loudness(visemes):
        return np.mean(
            [
                np.sqrt(np.mean(said.pcm[int(a * 16000) : int(b * 16000)] ** 2))
                for a, b, viseme in said.phones
                if viseme in visemes and b - a > 0.03
            ]
        )

    assert loudness({"ae", "ah", "eh", "er", "ih", "aa"}) > 1.5 * loudness({"mbp", "fv", "tdn", "sil"})


def test_shift_moves_sound_and_phones_alike():
    plain, low = speech.synthesize(TEXT, "slt"), speech.synthesize(TEXT, "slt-low")
    assert low.seconds == pytest.approx(plain.seconds / 0.92, rel=0.01)
    assert [phone.viseme for phone in low.phones] == [phone.viseme for phone in plain.phones]


def test_a_stretched_flite_voice_says_the_same_for_longer_and_its_pitch_is_what_was_asked_for():
    librosa = pytest.importorskip("librosa")
    short, long = (speech.synthesize(TEXT, speech.Voice("f", "flite", "slt", stretch=s)) for s in (0.8, 1.2))
    assert long.seconds == pytest.approx(1.5 * short.seconds, rel=0.02)
    assert [phone.viseme for phone in long.phones] == [phone.viseme for phone in short.phones]
    for pitch in (110, 220):
        said = speech.synthesize(TEXT, speech.Voice("f", "flite", "slt", pitch=pitch))
        assert np.median(librosa.yin(said.pcm, fmin=60, fmax=400, sr=16_000)) == pytest.approx(pitch, rel=0.15)


def test_random_voices_differ_speak_in_time_and_are_never_a_held_out_one():
    rng = np.random.default_rng(0)
    voices = [speech.random_voice(rng) for _ in range(60)]
    assert len(set(voices)) == 60 and {voice.tool for voice in voices} == {"flite", "espeak"}
    held_out = {speech.VOICES[name].name for name in speech.HELD_OUT_VOICES}
    assert not held_out & {voice.name for voice in voices}
    for voice in voices[:6]:
        said = speech.synthesize(TEXT, voice)
        level = {
            kind: np.concatenate([said.pcm[int(a * 16000) : int(b * 16000)] for a, b, v in said.phones if v in kind])
            for kind in (frozenset({"ae", "ah", "eh", "er", "ih"}), frozenset({"mbp", "sil"}))
        }
        vowels, closures = (float(np.sqrt(np.mean(pcm**2))) for pcm in level.values())
        assert vowels > 1.3 * closures, voice


def test_every_variant_of_a_random_voice_is_installed_and_its_own():
    first = {
        name: speech.synthesize("A", speech.Voice("", "espeak", f"en-us+{name}")).pcm.tobytes()
        for name in speech._VARIANTS
    }
    assert len(set(first.values())) == len(speech._VARIANTS)


def test_scrambled_words_are_those_of_training_sentences():
    rng = np.random.default_rng(0)
    known = set(" ".join(sentences.training()).lower().replace(",", " ").replace(".", " ").split())
    texts = [sentences.scrambled(rng) for _ in range(50)]
    assert len(set(texts)) == 50
    words = {word.strip(",.").lower() for text in texts for word in text.split()}
    assert len(words & known) > 0.9 * len(words) and all(4 <= len(text.split()) <= 12 for text in texts)


def test_there_are_several_voices_of_either_sex():
    for sex in "fm":
        assert sum(speech.VOICES[name].sex == sex for name in speech.TRAINING_VOICES) >= 3


def test_unknown_voice_and_missing_flite_are_one_line(monkeypatch):
    with pytest.raises(InputError, match="got 'nobody', expected one of slt"):
        speech.synthesize(TEXT, "nobody")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendError, match="flite is not installed.*install"):
        speech.synthesize(TEXT, "slt")


def test_missing_library_and_voice_are_one_line(monkeypatch):
    monkeypatch.setitem(speech.VOICES, "nobody", speech.Voice("m", "espeak", "xx-nobody"))
    with pytest.raises(BackendError, match="^libespeak-ng: no voice xx-nobody.*install the package espeak-ng-data$"):
        speech.synthesize(TEXT, "nobody")

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(espeak.ctypes, "CDLL", missing)
    with pytest.raises(RuntimeError, match="^libespeak-ng: not installed.*install the package libespeak-ng1"):
        espeak.say(b"hello", "en-us", 160, 50)


def test_what_was_said_before_changes_nothing():
    first = speech.synthesize("Good evening.", "paul")
    speech.synthesize(TEXT, "joan")
    again = speech.synthesize("Good evening.", "paul")
    assert np.array_equal(first.pcm, again.pcm) and first.phones == again.phones


def test_sentences_are_many_different_and_cover_all_visemes():
    lines = sentences.sentences()
    assert len(lines) >= 300 and len(set(lines)) == len(lines) and all(line.strip() == line for line in lines)
    assert len(sentences.held_out()) == len(lines) // 5
    assert not set(sentences.training()) & set(sentences.held_out())
    for part in (sentences.training()[-12:], sentences.held_out()[-12:]):
        spoken = {phone.viseme for phone in speech.synthesize(" ".join(part), "slt").phones}
        assert spoken == set(SHAPES)


def test_every_phone_has_a_shape():
    assert set(ARPABET.values()) == set(IPA.values()) | {"sil"} == set(SHAPES)
    assert from_ipa("ɑːɹ") == "aa" and from_ipa("tʃ") == "sh" and from_ipa("iː") == "iy" and from_ipa("_:") == "sil"


def test_the_mouth_leads_closes_and_rests():
    phones = (
        speech.Phone(0, 1, "sil"),
        speech.Phone(1, 1.4, "aa"),
        speech.Phone(1.4, 1.48, "mbp"),
        speech.Phone(1.48, 1.9, "aa"),
        speech.Phone(1.9, 3, "sil"),
    )
    track = motion.viseme_track(phones, 75, 25)
    assert track.shape == (75, 7)
    jaw, press = track[:, 0], track[:, 4]
    assert jaw[:20].max() < 0.05 and jaw[-20:].max() < 0.05
    assert jaw[26:33].min() > 0.5
    closed = int((1.44 - motion.LEAD) * 25)
    assert press[closed] == 1 and jaw[closed] < 0.2
    opening, sound = int(np.argmax(jaw > 0.5)), 25
    assert -3 <= opening - sound <= 0  # 60 ms before the sound, within a frame


def test_a_closure_before_the_clip_closes_no_frame_of_it():
    phones = (speech.Phone(0, 0.08, "mbp"), speech.Phone(0.08, 1, "aa"))
    assert motion.LEAD - 0.04 < 0.04 < motion.LEAD  # shown in the last frame before
    assert motion.viseme_track(phones, 25, 25)[0, 4] < 1


def test_every_bilabial_closes_the_lips():
    said = speech.synthesize(TEXT, "rms")
    track = motion.viseme_track(said.phones, int(said.seconds * 25), 25)
    middles = [(a + b) / 2 for a, b, viseme in said.phones if viseme == "mbp"]
    frames = [int((middle - motion.LEAD) * 25) for middle in middles]
    assert len(frames) >= 6 and all(track[frame, 4] == 1 for frame in frames)


def test_motion_is_seeded_wide_and_deaf():
    said, quiet = speech.synthesize(TEXT, "slt"), speech.silence(5)
    assert len(motion.controls(said, 25, 1)) == int(len(said.pcm) / 16000 * 25)
    one, two = motion.controls(said, 25, 1), motion.controls(said, 25, 1)
    assert all(np.array_equal(np.r_[a.pose, a.blink], np.r_[b.pose, b.blink]) for a, b in zip(one, two, strict=True))
    still = motion.controls(speech.silence(said.seconds), 25, 1)  # the same seed moves the head alike whatever is said
    assert all(np.array_equal(np.r_[a.pose, a.blink], np.r_[b.pose, b.blink]) for a, b in zip(one, still, strict=True))
    assert max(c.mouth[0] for c in motion.controls(quiet, 25, 1)) < 0.01
    moves = [motion.controls(quiet, 25, seed) for seed in range(60)]
    pose = np.degrees([c.pose for clip in moves for c in clip])
    for axis, (reached, limit) in enumerate(zip((25, 14, 9), (28, 15.5, 10), strict=True)):
        assert np.percentile(pose[:, axis], 92) > 0.8 * reached and pose[:, axis].max() > reached
        assert np.percentile(pose[:, axis], 8) < -0.8 * reached and np.abs(pose[:, axis]).max() <= limit
    lids = np.array([c.blink for clip in moves for c in clip])
    assert 0 <= lids.min() and lids.max() <= 1 and 0.05 < (lids > 0.5).mean() < 0.3
    assert (np.abs(lids[:, 0] - lids[:, 1]) > 0.5).mean() > 0.01
