"""Several sessions on one engine: twins, and films whose frames are stepped side by side."""

import dataclasses
import re
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import soundfile

import edgetalk
from edgetalk import BackendError, InputError, Session, cli, motion, render
from edgetalk import avatar as avatars
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.writer import Writer

FPS = Fraction(25)


def speech(seconds):
    rng = np.random.default_rng(0)
    envelope = np.clip(np.sin(np.arange(round(seconds * 16000)) / 1500), 0, 1)
    return (0.3 * envelope * rng.normal(size=len(envelope))).astype(np.float32)


@pytest.fixture
def film(zoo, tmp_path):
    """A step that takes mel alone, and an avatar of four frames, which it walks to and fro."""
    spec = AudioSpec(window=16, offset=-6.4)
    path = zoo.write("swap", tmp_path / "swap.onnx", Metadata(family="wavsyncswap", audio=spec, source="f" * 64))
    faces = np.random.default_rng(0).normal(size=(4, 8, 8, 8)).astype(np.float16)
    return path, avatars.Avatar(zoo.face(), {"face": faces}, np.zeros((4, 4), np.float32), "wavsyncswap", "f" * 64)


def test_a_twin_has_the_face_and_its_own_time(film):
    path, face = film
    mel = np.zeros((16, 80), np.float32)
    with Session(path, avatar=face) as session:
        frames = [session.step(mel) for _ in range(4)]
        with session.twin() as twin:
            assert twin.avatar is session.avatar and (twin._at, session._at) == (0, 4)
            for frame in frames:
                assert np.array_equal(twin.step(mel), frame)
            assert np.array_equal(twin.frame(2, mel, motion.Still(), twin.fps), frames[2]) and twin._at == 3
        assert np.array_equal(session.step(mel), frames[2])  # on its way back, whatever the twin did
    with pytest.raises(BackendError, match="swap.onnx is closed"):
        session.twin()


def test_a_frame_that_is_refused_does_not_move_the_avatar_of_the_one_that_is_made(film, monkeypatch):
    path, face = film
    mel, refused = np.zeros((16, 80), np.float32), []
    with Session(path, avatar=face) as session:
        run = session._backend.run

        def meanwhile(feeds):
            with pytest.raises(BackendError, match="was asked for a step while another thread is in one") as told:
                session.frame(3, mel, motion.Still(), session.fps)
            refused.append(told)
            return run(feeds)

        session.step(mel)
        monkeypatch.setattr(session._backend, "run", meanwhile)
        session.frame(0, mel, motion.Still(), session.fps)
        assert len(refused) == 1 and session._at == 1


def test_a_twin_is_of_the_engine_that_was_opened(zoo, tmp_path, monkeypatch, controls):
    """Not of what has its file's name by now: a program may go to another folder, an update bring other weights."""
    path = zoo.set("f32", tmp_path / "model")
    monkeypatch.chdir(path.parent)
    with Session(path.name) as session:
        frame = session.step(*controls)
        monkeypatch.chdir(tmp_path)
        for file in path.parent.iterdir():
            file.unlink()
        with session.twin() as twin:
            assert np.array_equal(twin.step(*controls), frame)


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_a_film_made_side_by_side_is_the_film_made_in_turn(film, zoo, tmp_path, streams):
    """Every frame in its place, of the right moment of sound, pose and avatar; threads come and go as they like."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    pcm = speech(1.6)
    path, face = film
    amnet = zoo.set("f32", tmp_path / "model")
    try:
        for engine, avatar in ((path, face), (amnet, None)):
            with Session(engine, avatar=avatar, threads=2, streams=streams) as session:
                want = list(session.talk(pcm, seed=3))
                with Caught() as caught:
                    timings = render.render(session, pcm, tmp_path / "a.mp4", motion.Idle(3, FPS), FPS)
            assert len(timings.step) == len(want) == 40 and timings.rate == 40 / timings.wall
            for got, expected in zip(caught.frames, want, strict=True):
                assert np.abs(got.astype(int) - expected).max() <= 1
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("fps", "shown"),
    [
        (50, [0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3]),
        (25, [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]),
        ("25/2", [1, 3, 1, 1, 3]),  # pictures 1, 3, 5, 7, 9: at the middle of each frame's time
    ],
)
def test_an_avatar_moves_at_its_own_speed_whatever_the_rate(film, tmp_path, fps, shown):
    path, face = film
    pcm, rate = speech(0.4), Fraction(fps)
    with Session(path, avatar=face, threads=2, streams=2) as session:
        talked = [(frame, session.shown) for frame in session.talk(pcm, fps=fps)]
        streamed = [session.shown for _ in session.stream([pcm], fps=fps)]
        with Caught() as caught:
            render.render(session, pcm, tmp_path / "a.mp4", motion.Still(), rate)
    assert [k for _, k in talked] == streamed == shown
    for (frame, _), rendered in zip(talked, caught.frames, strict=True):
        assert np.abs(frame.astype(int) - rendered).max() <= 1


def test_a_film_as_motion_is_refused_where_no_pose_is_taken(film, zoo, tmp_path, capsys):
    path, face = film
    avatars.save_avatar(face, path.with_suffix(".avatar"))
    (tmp_path / "nod.mp4").write_bytes(b"not even looked at")
    words = "motion: got .*nod.mp4, and swap.onnx takes no pose, its head moves as in the avatar's film; leave it out"
    with Session(path) as session:
        for made in (session.talk, session.stream):
            with pytest.raises(InputError, match=words):
                made(speech(0.4) if made == session.talk else [], motion=tmp_path / "nod.mp4")
        with pytest.raises(InputError, match="motion: got still, and swap.onnx takes no pose"):
            session.talk(speech(0.4), motion="still")  # the film's head would not stand still
    soundfile.write(tmp_path / "a.wav", speech(0.4), 16000)
    told = ["--audio", tmp_path / "a.wav", "--motion", tmp_path / "nod.mp4", "-o", tmp_path / "a.mp4"]
    assert cli.main(["talk", *map(str, [path, *told])]) == 1
    assert re.search(words, capsys.readouterr().err)


class Caught:
    """Keeps what the writer is given."""

    def __enter__(self):
        self.frames, self.write = [], Writer.write
        Writer.write = lambda writer, frame: (self.frames.append(frame.copy()), self.write(writer, frame))
        return self

    def __exit__(self, *_):
        Writer.write = self.write


def test_as_many_steps_at_once_as_there_are_streams(zoo, tmp_path, monkeypatch):
    running, most, lock = set(), [], threading.Lock()
    step = Session._step

    def watched(session, *inputs):
        with lock:
            assert id(session) not in running  # one thread at a time may use a session
            running.add(id(session))
            most.append(len(running))
        time.sleep(0.001)
        try:
            return step(session, *inputs)
        finally:
            with lock:
                running.remove(id(session))

    monkeypatch.setattr(Session, "_step", watched)
    with Session(zoo.set("f32", tmp_path / "model"), threads=2, streams=2) as session:
        render.render(session, speech(4.0), tmp_path / "a.mp4", motion.Still(), FPS)
        session.step(*(np.zeros(shape, np.float32) for shape in session.inputs.values()))  # is as usable as before
    assert max(most) == 2


def test_a_failing_step_among_several_leaves_nothing(zoo, tmp_path):
    class Leaning:
        def pose_blink(self, i):
            return np.array([4.0 if i == 20 else 0.0, 0, 0], np.float32), np.zeros(2, np.float32)

    engine = zoo.set("f32", tmp_path / "model")
    before = threading.active_count()
    with Session(engine, streams=2) as session, pytest.raises(ValueError, match="pose"):
        render.render(session, speech(2.0), tmp_path / "a.mp4", Leaning(), FPS)
    assert not list(tmp_path.glob("a.*")) and threading.active_count() == before


def test_streams_of_a_film(monkeypatch):
    assert render.side_by_side(1) == 1 and render.side_by_side(8) == render.STREAMS
    monkeypatch.setattr(render.os, "sched_getaffinity", lambda _: {0})
    assert render.side_by_side(None) == 1
    assert render.side_by_side(1, 3) == 3
    for wrong in ({"threads": "2"}, {"threads": 0}, {"threads": None, "streams": 0}, {"threads": 2, "streams": "2"}):
        with pytest.raises(InputError, match=f"{[*wrong][-1]}: got .*, expected a whole number, at least 1"):
            render.side_by_side(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"threads": "4"}, {"threads": 0}, {"threads": 1.5}, {"threads": True}, {"streams": "2"}, {"streams": 0}]
)
def test_counts_that_are_none_are_refused_in_one_sentence(zoo, tmp_path, wrong):
    ((name, count),) = wrong.items()
    with pytest.raises(InputError, match=f"^{name}: got {count!r}, expected a whole number, at least 1$"):
        render.talk(zoo.set("f32", tmp_path / "model"), speech(0.2), tmp_path / "a.mp4", **wrong)
    assert not list(tmp_path.glob("a.*"))


def test_a_dub_tells_of_its_threads_in_the_same_sentence(tmp_path):
    with Writer(tmp_path / "film.mp4", (64, 64), FPS) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="^threads: got '4', expected a whole number, at least 1$"):
        edgetalk.dub("none.xml", tmp_path / "film.mp4", speech(0.2), tmp_path / "a.mp4", threads="4")


@pytest.mark.parametrize(("asked", "made"), [({}, 2), ({"threads": 1}, 1), ({"threads": 2, "streams": 3}, 3)])
def test_a_film_is_made_in_the_streams_that_were_asked_for(zoo, tmp_path, monkeypatch, asked, made):
    opened = []
    monkeypatch.setattr(render, "cores", lambda: 4)

    def opening(*args, **options):
        opened.append(Session(*args, **options))
        return opened[0]

    monkeypatch.setattr(render, "Session", opening)
    render.talk(zoo.set("f32", tmp_path / "model"), speech(0.2), tmp_path / "a.mp4", **asked)
    assert [session.streams for session in opened] == [made]


def test_avatars_differ_on_one_engine(film):
    path, face = film
    mel = np.ones((16, 80), np.float32)
    other = dataclasses.replace(face, features={"face": face.features["face"][::-1].copy()})
    with Session(path, avatar=face) as one, Session(path, avatar=other) as two:
        frames = [one.step(mel) for _ in range(4)]
        assert np.array_equal(two.step(mel), frames[3]) and not np.array_equal(two.step(mel), frames[3])
