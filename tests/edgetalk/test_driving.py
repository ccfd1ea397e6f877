"""Motion from a film: resampling, ping-pong, gaps, cuts and limits against a naive walk over the frames."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import soundfile

from edgetalk import InputError, Session, driving, motion
from edgetalk.cli import main
from edgetalk.driving import CUT, Driven, drive
from edgetalk.face import Face, write_track
from edgetalk.metadata import Metadata
from edgetalk.writer import Writer

from .face.doubles import frame as squares

RATES = [(Fraction(25), Fraction(25)), (Fraction(30000, 1001), Fraction(25)), (Fraction(24), Fraction(30000, 1001))]


def face(pose, blink=(0.0, 0.0)):
    zeros = np.zeros((5, 2), np.float32)
    return Face(np.zeros(4, np.float32), zeros, 1.0, None, np.array(pose, np.float32), np.array(blink, np.float32))


def nod(count, seed=0):
    """Frames of a head that moves slowly."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 0.02, (count, 3)), 0)
    return [face(pose, rng.uniform(0, 1, 2)) for pose in walk]


def naive(faces, film_fps, fps, i):
    """Walk back and forth over the film, step by step, to the two frames around the time that is asked for."""
    order = list(range(len(faces))) + list(range(len(faces) - 2, 0, -1))
    at = Fraction(i) * film_fps / fps
    whole = at.numerator // at.denominator
    a, b = (faces[order[k % len(order)]] for k in (whole, whole + 1))
    share = float(at - whole)
    return a.pose * (1 - share) + b.pose * share, a.blink * (1 - share) + b.blink * share


@pytest.mark.parametrize(("film_fps", "fps"), RATES)
@pytest.mark.parametrize("count", [2, 3, 17])
def test_frames_between_frames_and_back_and_forth(film_fps, fps, count):
    faces = nod(count)
    driven = Driven(faces, film_fps, fps)
    for i in [0, 1, 2, 7, 16, 17, 33, 50, 500, 12345]:
        for got, want in zip(driven.pose_blink(i), naive(faces, film_fps, fps, i), strict=True):
            assert got.dtype == np.float32 and np.allclose(got, want, atol=1e-6)


def test_one_frame_holds_still():
    driven = Driven([face((0.1, 0.2, 0.3), (1, 0))], Fraction(25), Fraction(30))
    for i in (0, 1, 99):
        pose, blink = driven.pose_blink(i)
        assert np.allclose(pose, (0.1, 0.2, 0.3)) and blink.tolist() == [1, 0]


def test_while_the_face_is_away_the_pose_goes_on_and_the_eyes_are_open():
    faces = [None, None, face((0.1, 0, 0), (1, 1)), None, None, None, face((0.3, 0, 0), (1, 0)), None]
    driven = Driven(faces, Fraction(25), Fraction(25))
    yaw = [driven.pose_blink(i)[0][0] for i in range(8)]
    assert np.allclose(yaw, [0.1, 0.1, 0.1, 0.15, 0.2, 0.25, 0.3, 0.3])
    blinks = np.array([driven.pose_blink(i)[1] for i in range(8)])
    assert blinks[2].tolist() == [1, 1] and blinks[6].tolist() == [1, 0] and blinks.sum() == 3


def test_nothing_is_interpolated_over_a_cut():
    before, after = np.array((0.1, 0, 0)), np.array((0.1, CUT + 0.1, 0))
    driven = Driven([face(before)] * 4 + [face(after)] * 4, Fraction(25), Fraction(100))
    for i in range(28):
        pose = driven.pose_blink(i)[0]
        assert np.allclose(pose, before) or np.allclose(pose, after)


def test_a_pose_beyond_what_was_trained_is_clipped():
    faces = [face((0.9, -0.8, 0.1)), face((-0.9, 0.1, 0.7))]
    driven = Driven(faces, Fraction(25), Fraction(25), {"pose": [0.5, 0.3, 0.2]})
    assert np.allclose(driven.pose_blink(0)[0], (0.5, -0.3, 0.1))
    assert np.allclose(driven.pose_blink(1)[0], (-0.5, 0.1, 0.2))
    assert np.allclose(Driven(faces, Fraction(25), Fraction(25)).pose_blink(0)[0], (0.9, -0.8, 0.1))


@pytest.mark.parametrize("faces", [[], [None] * 9])
def test_a_film_without_a_face_is_refused(tmp_path, faces):
    for name in ("a.track.npz", "A.NPZ"):
        write_track(tmp_path / name, faces, Fraction(25))
        with pytest.raises(InputError, match=f"{name} shows no face in {len(faces)} frames"):
            drive(tmp_path / name, Fraction(25))


def test_files_that_are_not_there_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such film to drive the head"):
        drive(tmp_path / "a.mp4", Fraction(25))
    write_track(tmp_path / "a.track.npz", nod(3), Fraction(25))
    with pytest.raises(FileNotFoundError):  # a track does not stand for its film
        drive(tmp_path / "a.mp4", Fraction(25))
    with pytest.raises(InputError, match="motion: got 'idel', expected one of idle, still, or a film"):
        motion.motion_of("idel", 0, Fraction(25))


def test_a_session_talks_as_the_track_beside_the_film_moves(zoo, tmp_path):
    faces = nod(12, seed=3)
    (tmp_path / "film.mp4").write_bytes(b"never opened, for its track lies beside it")
    write_track(tmp_path / "film.track.npz", faces, Fraction(30))
    pcm = (0.1 * np.random.default_rng(0).normal(size=16000)).astype(np.float32)
    limited = replace(zoo.metadata, limits={"pose": [0.02, 0.02, 0.02]})
    engine = zoo.set("onnx", tmp_path / "model")
    zoo.write("step", tmp_path / "limited/amnet.onnx", limited)
    (tmp_path / "limited/amnet.avatar").write_bytes((tmp_path / "model/amnet.avatar").read_bytes())
    for path, limits in ((engine, {}), (tmp_path / "limited/amnet.onnx", limited.limits)):
        with Session(path) as session:
            assert session.metadata.limits == limits
            own = Driven(faces, Fraction(30), session.fps, limits)
            want = list(session.talk(pcm, motion=own))
            got = list(session.talk(pcm, motion=tmp_path / "film.mp4"))
            assert np.array_equal(got, want) and len(got) == 25
            live = list(session.stream([pcm], motion=str(tmp_path / "film.track.npz")))
            assert np.array_equal(live, want)
    assert Metadata.from_json(limited.to_json(), "it").limits == limited.limits


def test_a_film_that_is_tracked_drives_by_faces_without_their_landmarks(tmp_path, face_models, monkeypatch):
    with Writer(tmp_path / "film.mp4", (320, 240), Fraction(25)) as writer:
        for frame in (squares(), *[squares((150, 120, 90))] * 4):
            writer.write(frame)
    monkeypatch.setattr(driving, "Driven", lambda faces, *_: faces)
    kept = drive(tmp_path / "film.mp4", Fraction(25), face_models=face_models)
    assert kept[0] is None and len(kept) == 5
    assert all(face.mesh is None and np.abs(face.pose).max() < 0.06 for face in kept[1:])


def test_the_command_line_takes_a_film(zoo, tmp_path, edgetalk_cli):
    engine = zoo.set("f32", tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1, np.float32), 16000)
    write_track(tmp_path / "film.track.npz", nod(5), Fraction(25))
    args = ["talk", engine, "--audio", tmp_path / "a.wav", "-o", tmp_path / "out.mp4", "--motion"]
    done = edgetalk_cli(*args, tmp_path / "film.track.npz")
    assert done.returncode == 0 and (tmp_path / "out.mp4").stat().st_size, done.stderr
    failed = edgetalk_cli(*args, tmp_path / "none.mp4")
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1
    assert "No such film to drive the head" in failed.stderr


def test_the_face_models_that_are_named_track_a_driving_film(zoo, tmp_path, face_models, elsewhere, capsys):
    engine = zoo.set("f32", tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", np.zeros(3200, np.float32), 16000)
    with Writer(tmp_path / "film.mp4", (320, 240), Fraction(25)) as writer:
        for _ in range(5):
            writer.write(squares((150, 120, 90)))
    args = [
        "talk",
        engine,
        "--audio",
        tmp_path / "a.wav",
        "-o",
        tmp_path / "out.mp4",
        "--motion",
        tmp_path / "film.mp4",
    ]
    args = [str(word) for word in args]
    assert main([*args, "--face-models", str(tmp_path)]) == 1
    assert "No such face model" in capsys.readouterr().err
    assert main([*args, "--face-models", str(face_models)]) == 0
    assert (tmp_path / "out.mp4").stat().st_size


def test_a_session_tracks_a_driving_film_with_the_face_models_that_are_named(zoo, tmp_path, face_models, elsewhere):
    pcm = np.zeros(3200, np.float32)
    with Writer(tmp_path / "film.mp4", (320, 240), Fraction(25)) as writer:
        for _ in range(5):
            writer.write(squares((150, 120, 90)))
    with Session(zoo.set("f32", tmp_path / "model")) as session:
        for speak in (lambda **how: session.talk(pcm, **how), lambda **how: session.stream([pcm], **how), session.live):
            with pytest.raises(FileNotFoundError, match="No such face model"):
                speak(motion=tmp_path / "film.mp4", face_models=tmp_path)
        asked = {"motion": tmp_path / "film.mp4", "face_models": face_models}
        assert len(list(session.talk(pcm, **asked))) == len(list(session.stream([pcm], **asked))) == 5
        assert session.live(**asked).step()[0].shape == (*session.size[::-1], 3)
