"""A face in real time: what it says and when, what it forgets when hushed, and how it keeps the time."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

import edgetalk.live
from edgetalk import BackendError, InputError, Session
from edgetalk.clock import first_sample

AHEAD = 4  # frames at most that the network looks ahead


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Sound without a zero in it, which tells it from silence."""
    rng = np.random.default_rng(seed)
    return (rng.choice([-1, 1], samples) * rng.uniform(0.01, 0.5, samples)).astype(np.float32)


def run(live, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The frames and the sound of `count` steps."""
    frames, sounds = zip(*(live.step() for _ in range(count)), strict=True)
    return list(frames), np.concatenate(sounds)


@pytest.fixture
def session(zoo, tmp_path):
    with Session(zoo.set("f32", tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("fps", ["25", "30000/1001"])
def test_frames_are_those_of_a_film_of_what_was_heard(session, fps):
    live = session.live(seed=3, fps=fps)
    frames, sounds = [], []
    for begin in range(0, 30, 10):
        live.say(noise(5000, begin))
        more, sound = run(live, 10)
        frames += more
        sounds.append(sound)
    heard = np.concatenate(sounds)
    assert len(heard) == first_sample(30, Fraction(fps)) and (heard != 0).sum() > 12000
    film = list(session.talk(heard, seed=3, fps=fps))
    sure = 30 - AHEAD  # what those behind hear ahead is not in the film
    np.testing.assert_array_equal(frames[:sure], film[:sure])
    assert np.abs(np.diff(np.array(film[:sure]).astype(int), axis=0)).mean() > 0.5


def test_sound_of_any_pieces_is_heard_in_order_soon_and_whole(session):
    rng, said, live = np.random.default_rng(1), noise(20000), session.live()
    live.step()  # it has heard ahead: silence
    cuts = np.sort(rng.integers(0, len(said), 40))
    pieces = iter(np.split(said, cuts))
    first = next(pieces)
    live.say(first)
    heard = [live.step()[1] for _ in range(AHEAD + edgetalk.live.PATIENCE)]
    assert np.concatenate(heard).any()
    for piece in pieces:
        live.say(piece)
        heard.append(live.step()[1])
    left = live.left
    while live.left:
        heard.append(live.step()[1])
    whole = np.concatenate(heard)
    np.testing.assert_array_equal(whole[whole != 0], said)
    assert 0 < left < 20000 / 16000
    assert not run(live, AHEAD)[1].any()


@pytest.mark.parametrize("silent", range(4))
def test_a_piece_shorter_than_a_frame_waits_for_the_next(session, silent):
    """However long it was silent before."""
    live, said = session.live(), noise(640)
    run(live, AHEAD + silent)
    live.say(said[:320])
    live.step()
    live.say(said[320:])
    _, heard = run(live, AHEAD + 4)
    np.testing.assert_array_equal(heard[heard.nonzero()[0][0] :][:640], said)


def trimmed(sound: np.ndarray) -> np.ndarray:
    """Sound without the silence before and behind it."""
    there = sound.nonzero()[0]
    return sound[there[0] : there[-1] + 1]


@pytest.mark.parametrize("samples", [300, 641, 1000, 1279, 2000, 12345])
@pytest.mark.parametrize("fps", [25, "30000/1001", 2])
def test_what_is_said_whole_is_heard_without_a_hole(session, samples, fps):
    live, said = session.live(fps=fps), noise(samples)
    live.step()
    live.say(said)
    _, heard = run(live, AHEAD + samples * 30 // 16000 + edgetalk.live.PATIENCE + 2)
    np.testing.assert_array_equal(trimmed(heard), said)
    assert live.left == 0


def test_sentences_that_follow_each_other_are_heard_each_without_a_hole(session):
    live, heard = session.live(), []
    for seed in range(4):
        live.say(noise(5000, seed))
        heard.append(run(live, AHEAD + 12)[1])
    for seed, sound in enumerate(heard):
        np.testing.assert_array_equal(trimmed(sound), noise(5000, seed))


@pytest.mark.parametrize("piece", [160, 320, 512, 441, 1000])
def test_pieces_that_come_in_time_are_heard_without_a_hole(session, piece):
    """At each step as many are there as its time has begun, and one that is on its way."""
    live, said, given, heard = session.live(), noise(piece * 60), 0, []
    run(live, AHEAD)
    for step in range(len(said) // 640 + AHEAD + 4):
        while given < min(len(said), 640 * (step + 1) + piece):
            live.say(said[given : given + piece])
            given += piece
        heard.append(live.step()[1])
    np.testing.assert_array_equal(trimmed(np.concatenate(heard)), said)


@pytest.mark.parametrize("piece", [1000, 1600, 2192, 4800])
def test_a_lead_of_a_piece_fills_the_holes_between_them(session, piece):
    """They come when their last sample was recorded, or up to a frame later."""
    comes = np.arange(1, 13) * piece + np.random.default_rng(piece).integers(0, 640, 12)

    def heard(lead):
        live, said, pieces = session.live(lead=lead), noise(piece * 12), 0
        sounds = [run(live, AHEAD)[1]]
        for step in range(len(said) // 640 + 4 * AHEAD + piece // 640):
            for _ in range(int((comes <= 640 * step).sum()) - pieces):
                live.say(said[pieces * piece :][:piece])
                pieces += 1
            sounds.append(live.step()[1])
        whole = np.concatenate(sounds)
        np.testing.assert_array_equal(whole[whole != 0], said)
        return whole

    assert holes(heard(0)) and not holes(heard(piece / 16000 + 0.08))


def test_what_is_shorter_than_the_lead_is_said_too(session):
    live, said = session.live(lead=0.2), noise(800)
    run(live, AHEAD)
    live.say(said)
    _, heard = run(live, AHEAD + 12)
    np.testing.assert_array_equal(trimmed(heard), said)
    assert live.left == 0


def test_no_more_waits_than_is_allowed(session):
    """Of a microphone that goes on while nobody looks: then the newest is said, and what was to come fades into it."""
    live, said = session.live(most=0.3), noise(16000)
    live.step()
    for begin in range(0, len(said), 640):
        live.say(said[begin : begin + 640])
        assert live.left <= 0.3
    live = session.live(most=0.3, lead=0.1)
    live.step()
    live.say(said[:4800])
    assert live.left == 0.3
    live.say(said[4800:5440])
    assert live.left == 0.1
    _, heard = run(live, AHEAD + 10)
    heard = trimmed(heard)
    seam = edgetalk.live.SEAM
    np.testing.assert_array_equal(heard[seam:], said[5440 - 1600 + seam : 5440])
    weights = np.arange(seam) / (seam - 1)
    mixed = said[5440 - 1600 : 5440 - 1600 + seam] * weights + said[:seam] * (1 - weights)
    np.testing.assert_allclose(heard[:seam], mixed, atol=1e-6)
    live.say(said)  # however long one piece is, it is said
    assert live.left == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lead": -1}, "lead: got -1, expected seconds, 0 or more"),
        ({"lead": float("nan")}, "lead: got nan"),
        ({"lead": 0.2, "most": 0.2}, "most: got 0.2, expected seconds, more than the lead of 0.2"),
        ({"most": float("nan")}, "most: got nan"),
    ],
)
def test_limits_that_are_none_are_refused(session, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        session.live(**options)


def holes(sound: np.ndarray) -> list[int]:
    """Lengths of the silences within a sound, in their order."""
    return [len(list(run)) for silent, run in itertools.groupby(trimmed(sound) == 0) if silent]


def waited_for(arriving: list[int], frame: int, patience: int) -> list[int]:
    """Holes of a stream of which nothing is said before a frame is full, or has waited `patience` frame times."""
    there = waited = 0
    flags = []
    for samples in arriving:
        there += samples
        if there < frame and waited < patience:
            waited += there > 0
            flags += [0] * frame
            continue
        said, waited = min(there, frame), 0
        there -= said
        flags += [1] * said + [0] * (frame - said)
    return holes(np.array(flags))


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_that_runs_dry_has_no_more_holes_than_if_all_of_it_were_waited_for(session, seed):
    """And no longer ones: a hole is used to gather sound, so that the next late piece makes none."""
    rng, live = np.random.default_rng(seed), session.live()
    run(live, AHEAD)
    piece = int(rng.choice([100, 320, 441, 512]))
    late = rng.integers(0, 40 * np.arange(1, 201))  # samples' time, ever more; pieces come in their order
    comes = np.maximum.accumulate(np.arange(200) * piece + late * (rng.random(200) < 0.2)) // 640
    arriving = [int((comes == step).sum()) * piece for step in range(comes[-1] + 1)] + [0] * 20
    said, given, heard = noise(200 * piece, seed), 0, []
    for samples in arriving:
        live.say(said[given : given + samples])
        given += samples
        heard.append(live.step()[1])
    heard.append(run(live, AHEAD)[1])
    whole = np.concatenate(heard)
    np.testing.assert_array_equal(whole[whole != 0], said)
    before = waited_for(arriving, 640, edgetalk.live.PATIENCE)
    assert len(before) > 1, "else this tells nothing"
    assert len(holes(whole)) <= len(before) and sum(holes(whole)) <= sum(before)


def test_a_piece_that_the_caller_writes_into_again_was_heard(session):
    live, buffer = session.live(), noise(1600)
    want = buffer.copy()
    live.say(buffer)
    buffer[:] = 0
    _, heard = run(live, 10)
    np.testing.assert_array_equal(heard[heard != 0], want)


@pytest.mark.parametrize("fps", [2, 25, 240])
def test_hush_ends_within_a_frame_and_without_a_click(session, fps):
    live, said = session.live(fps=fps), np.full(12 * 16000, 0.5, np.float32)
    live.say(said)
    run(live, fps)
    live.hush()
    assert live.left == 0
    _, fading = live.step()
    assert fading[0] == 0.5 and fading[-1] == 0 and (np.diff(fading) < 0).all()
    assert not run(live, 20)[1].any()


def test_the_face_after_a_hush_is_that_of_the_silence_that_follows(session):
    live = session.live(seed=5)
    live.say(noise(32000))
    before, heard = run(live, 12)
    live.hush()
    after, silent = run(live, 20)
    film = list(session.talk(np.concatenate([heard, silent]), seed=5))
    sure = 32 - AHEAD
    np.testing.assert_array_equal((before + after)[12:sure], film[12:sure])
    np.testing.assert_array_equal(before[: 12 - AHEAD], film[: 12 - AHEAD])
    assert any((a != b).any() for a, b in zip(before[12 - AHEAD :], film[12 - AHEAD : 12], strict=True))


def test_what_is_said_after_a_hush_follows_it(session):
    live, words = session.live(), noise(640 * 5, 9)
    live.say(noise(32000))
    run(live, 5)
    live.hush()
    live.say(words)
    _, heard = run(live, 12)
    heard = heard[640:]  # without what fades
    np.testing.assert_array_equal(heard[heard != 0], words)


@pytest.mark.parametrize("steps", range(1, AHEAD + 7))
def test_what_is_said_after_a_hush_does_not_wait_for_what_came_before(session, steps):
    live, words = session.live(), noise(640 * 5, 9)
    live.say(noise(1000))
    run(live, steps)
    live.hush()
    live.say(words)
    heard = run(live, AHEAD + 7)[1][640:]  # without what fades
    assert heard.nonzero()[0][0] % 640 == 0
    np.testing.assert_array_equal(trimmed(heard), words)


def test_hush_before_anything_and_twice(session):
    live = session.live()
    live.hush()
    live.hush()
    assert not run(live, 3)[1].any()
    live.say(noise(640))
    assert (run(live, AHEAD + 1)[1] != 0).sum() == 640


def test_several_frames_at_once_keep_the_last_picture_and_all_sound(session):
    one, other = session.live(), session.live()
    one.say(said := noise(16000))
    other.say(said)
    frames, sound = run(one, 9)
    last, whole = other.step(9)
    np.testing.assert_array_equal(last, frames[-1])
    np.testing.assert_array_equal(whole, sound)
    for wrong in (0, 2.5, True):
        with pytest.raises(InputError, match=f"frames: got {wrong}, expected a whole number, at least 1"):
            one.step(wrong)


class Clock:
    """Time that passes only as it is slept, or spent."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def test_time_is_kept_whatever_a_caller_takes(session, monkeypatch):
    clock, live = Clock(), session.live()
    monkeypatch.setattr(edgetalk.live, "time", clock)
    sounds, begun = [], clock.now
    for (_, sound), spent in zip(live, itertools.chain([0.01, 0.0, 0.3, 0.039, 0.1], [0.02] * 20), strict=False):
        # What leaves now was due by now, and not a frame ago.
        late = clock.now - begun - sum(map(len, sounds)) / 16000
        assert len(sound) // 640 == 1 + int(late * 25 + 1e-9)
        sounds.append(sound)
        clock.now += spent
    assert [len(sound) // 640 for sound in sounds[:7]] == [1, 1, 1, 7, 1, 2, 1]
    assert live.left_out == 6 + 1


def test_a_long_stop_is_not_caught_up_with(session, monkeypatch):
    clock, live = Clock(), session.live()
    monkeypatch.setattr(edgetalk.live, "time", clock)
    live.say(said := noise(16000))
    heard = []
    for i, (_, sound) in zip(range(60), live, strict=False):
        assert len(sound) == 640
        heard.append(sound)
        clock.now += 100.0 if i == 7 else 0.0
    whole = np.concatenate(heard)
    np.testing.assert_array_equal(whole[whole != 0], said)
    assert clock.now == pytest.approx(100 + 59 / 25 + 100 - 1 / 25, abs=0.05)


def test_another_thread_may_say_it(session):
    live, said = session.live(), noise(48000)
    speaker = threading.Thread(target=lambda: [live.say(piece) for piece in np.array_split(said, 200)])
    speaker.start()
    heard = [live.step()[1] for _ in range(20)]
    speaker.join()
    while live.left:
        heard.append(live.step()[1])
    whole = np.concatenate(heard)
    np.testing.assert_array_equal(whole[whole != 0], said)


def test_pieces_without_a_sample_are_not_kept(session):
    live = session.live()
    tracemalloc.start()
    for _ in range(2000):
        live.say(np.empty(0, np.float32))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 50_000


def test_what_is_no_sound_is_refused_and_changes_nothing(session):
    live = session.live()
    with pytest.raises(InputError, match="pcm: got int16"):
        live.say(np.zeros(640, np.int16))
    assert live.left == 0


def test_a_face_that_is_closed_just_before_a_step_ends_its_loop(session, monkeypatch):
    clock, live = Clock(), session.live()
    monkeypatch.setattr(edgetalk.live, "time", clock)
    step = session.frame

    def closing(*given):
        live.close()
        return step(*given)

    monkeypatch.setattr(session, "frame", closing)
    assert len(list(live)) == 1
    live = session.live()
    monkeypatch.setattr(clock, "sleep", lambda _: live.close())
    assert not list(live)


@pytest.mark.parametrize("pause", range(37, 45))
def test_the_lead_of_a_sentence_is_whole_whenever_the_last_one_ended(session, pause):
    """In pieces of half a second, each there when it was recorded."""
    live, piece, heard = session.live(lead=0.58), 8000, []
    run(live, AHEAD)
    first, second = noise(16100, 1), noise(5 * piece, 2)
    comes = [(13, first[:8000]), (26, first[8000:16000]), (27, first[16000:])]
    comes += [(27 + pause + round(k * 12.5), second[k * piece :][:piece]) for k in range(5)]
    for step in range(27 + pause + 90):
        for _, sound in (one for one in comes if one[0] == step):
            live.say(sound)
        heard.append(live.step()[1])
    whole = np.concatenate(heard)
    np.testing.assert_array_equal(whole[whole != 0], np.concatenate([first, second]))
    start = int(np.flatnonzero(whole == second[0])[0])
    assert not holes(whole[start:])


def test_a_face_that_is_closed_ends_its_loop_and_not_its_session(session):
    live, shown = session.live(), []
    other = threading.Thread(target=live.close)
    for frame, _ in live:
        shown.append(frame)
        if len(shown) == 3:
            other.start()
            other.join()
    assert len(shown) == 3 and not list(live)
    for call in (live.step, lambda: live.say(noise(640)), live.hush):
        with pytest.raises(BackendError, match="^this live face was closed; begin another"):
            call()
    live.close()
    assert np.array_equal(session.live().step()[0], shown[0])


def test_a_closed_session_lives_no_more(session):
    live = session.live()
    session.close()
    for call in (live.step, lambda: live.say(noise(640)), live.hush):
        with pytest.raises(BackendError, match="closed"):
            call()
    with pytest.raises(BackendError, match="closed"):
        session.live()
