"""Session through real OpenVINO on tiny networks: frames as numpy computes them, and every refusal."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import re
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgetalk import BackendError, InputError, ModelError, Session, bundled, cli
from edgetalk import avatar as avatars
from edgetalk.backends import open_engine
from edgetalk.clock import frame_count
from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.motion import Idle


def speech(seconds: float = 1.3) -> np.ndarray:
    rng = np.random.default_rng(11)
    samples = int(16000 * seconds)
    return (rng.normal(size=samples) * 0.2 * (np.sin(np.arange(samples) / 900) > 0)).astype(np.float32)


# --- a step


@pytest.mark.parametrize("name", ["onnx", "dynamic", "f32", "bf16", "int8"])
def test_step_equals_the_numpy_reference(zoo, controls, name, tmp_path):
    with Session(zoo.set(name, tmp_path)) as session:
        frame = session.step(*controls)
        appearance = zoo.reference.appearance(session.avatar.source)
        want, landmarks = zoo.reference.step(appearance, *controls)
        assert frame.dtype == np.uint8 and frame.shape == (32, 32, 3) and frame.std() > 20
        assert session.size == (32, 32) and session.fps == 25
        if name in ("bf16", "int8"):
            assert np.abs(frame.astype(int) - want).mean() < 2
            np.testing.assert_allclose(session.landmarks, landmarks, atol=0.02)
        else:
            assert np.abs(frame.astype(int) - want).max() <= 1
            np.testing.assert_allclose(session.landmarks, landmarks, atol=1e-5)


def test_every_input_counts(engine, controls):
    mel, pose, blink = controls
    with Session(engine) as session:
        base = session.step(mel, pose, blink)
        for other in ((mel * 0.5, pose, blink), (mel, pose + 0.3, blink), (mel, pose, 1 - blink)):
            assert np.abs(session.step(*other).astype(int) - base).mean() > 1
        np.testing.assert_array_equal(session.step(mel, pose, blink), base)


def test_a_frame_and_its_landmarks_stay_as_they_were(engine, controls):
    mel, pose, blink = controls
    with Session(engine) as session:
        first, marks = session.step(mel, pose, blink), session.landmarks
        kept, kept_marks = first.copy(), marks.copy()
        second = session.step(mel, -pose, blink)
        assert not np.array_equal(first, second) and not np.array_equal(marks, session.landmarks)
        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(marks, kept_marks)


def test_what_numpy_sees_without_a_copy_is_taken(engine, controls):
    mel, pose, blink = controls
    with Session(engine) as session:
        want = session.step(mel, pose, blink)
        np.testing.assert_array_equal(session.step(memoryview(mel), pose, blink), want)
        np.testing.assert_array_equal(session.step(np.asfortranarray(mel), pose, np.repeat(blink, 2)[::2]), want)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mel": np.zeros((80, 32))}, r"mel: got float64 \(80, 32\), expected float32 \(32, 80\); use mel.T.astype"),
        ({"mel": np.full((32, 80), np.nan, np.float32)}, r"mel: got nan at \[0, 0\]"),
        ({"pose": np.zeros(2, np.float32)}, r"pose: got float32 \(2,\), expected float32 \(3,\)"),
        ({"pose": np.array([0, 4, 0], np.float32)}, r"pose: got pitch 4, expected -3.142 to 3.142"),
        ({"pose": np.array([0, 0, np.inf], np.float32)}, r"pose: got inf"),
        ({"pose": None}, "pose: got none, amnet.xml takes one"),
        ({"blink": np.array([0, 1.5], np.float32)}, "blink: got right 1.5, expected 0 to 1"),
        ({"blink": np.array([-0.1, 1], np.float32)}, "blink: got left -0.1, expected 0 to 1"),
        ({"blink": np.array([0.0, 1.0])}, r'blink: got float64 .* use blink.astype\("float32"\)'),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_leave_the_session_usable(engine, controls, change, message):
    good = dict(zip(("mel", "pose", "blink"), controls, strict=True))
    with Session(engine) as session:
        want = session.step(**good)
        with pytest.raises(InputError, match=message) as caught:
            session.step(**{**good, **change})
        assert "\n" not in str(caught.value)
        np.testing.assert_array_equal(session.step(**good), want)


def test_units_of_other_checkpoints_lift_our_ranges(zoo, controls, tmp_path):
    mel, pose, blink = controls
    zoo.set("onnx", tmp_path)
    units = {"pose": "degrees", "blink": "centred on 0"}
    zoo.write("step", tmp_path / "amnet.onnx", dataclasses.replace(zoo.metadata, units=units))
    with Session(tmp_path / "amnet.onnx") as session:
        session.step(mel, pose + 20, blink - 2)
        with pytest.raises(InputError, match="pose: got nan"):
            session.step(mel, pose * np.float32("nan"), blink)
    units = {"pose": "rad: yaw, pitch, roll", "blink": "subject's left, right: 0 open, 1 closed"}
    zoo.write("step", tmp_path / "amnet.onnx", dataclasses.replace(zoo.metadata, units=units))
    with Session(tmp_path / "amnet.onnx") as session, pytest.raises(InputError, match="pose: got yaw"):
        session.step(mel, pose + 20, blink)


# --- sound


@pytest.mark.parametrize("fps", [None, "30000/1001"])
def test_talk_equals_steps_on_windows_of_the_whole_sound(engine, fps):
    pcm, spec, rate = speech(), AudioSpec(), Fraction(fps or 25)
    count = frame_count(len(pcm), rate)
    life = Idle(5, rate)
    with Session(engine) as session:
        cut = windows(log_mel(pcm, spec), count, spec, rate)
        want = [session.step(cut[i], *life.pose_blink(i)) for i in range(count)]
        got = list(session.talk(pcm, seed=5, fps=fps))
        assert len(got) == count
        assert np.abs(np.stack(got).astype(int) - np.stack(want)).max() <= 1
        other = list(session.talk(pcm, seed=6, fps=fps))
        assert not np.array_equal(other, got)
        later = session.talk(pcm, seed=5, fps=fps)
        pcm[:] = 0  # whoever reads a microphone uses the array again
        assert np.array_equal(list(later), got)


def test_numbers_of_numpy_and_rates_as_they_are_written(engine):
    window, (pose, blink) = np.zeros((32, 80), np.float32), Idle(3, Fraction(30000, 1001)).pose_blink(7)
    with Session(engine, threads=np.int64(1), streams=np.int64(2)) as session:
        move = session.motion("idle", np.int64(3), "30000/1001")
        assert all(map(np.array_equal, move.pose_blink(7), (pose, blink)))
        assert np.array_equal(session.frame(7, window, move, "30000/1001"), session.step(window, pose, blink))
        with pytest.raises(InputError, match="fps: got 0"):
            session.motion("idle", 0, 0)


@pytest.mark.parametrize("name", ["f32", "onnx"])
def test_suffixes_may_be_in_capitals(zoo, tmp_path, controls, name):
    engine = zoo.set(name, tmp_path)
    with Session(engine) as session:
        want = session.step(*controls)
    shouted = engine.rename(engine.with_suffix(engine.suffix.upper()))
    with Session(shouted) as session:
        assert np.array_equal(session.step(*controls), want)


def test_stream_equals_talk_for_chunks_of_any_size(engine):
    pcm = speech(2.1)
    rng = np.random.default_rng(2)
    sizes = [0, 1, 7, 160, 4000, *rng.integers(1, 2500, 50)]
    chunks = np.split(pcm, np.minimum(np.cumsum(sizes), len(pcm)))
    assert sum(map(len, chunks)) == len(pcm)
    with Session(engine) as session:
        want = list(session.talk(pcm, motion="still"))
        got = list(session.stream(chunks, motion="still"))
        assert len(got) == len(want) == 53
        assert np.abs(np.stack(got).astype(int) - np.stack(want)).max() <= 1


def test_a_live_frame_waits_for_no_more_sound_than_it_needs(engine):
    heard = 0

    def microphone():
        nonlocal heard
        for at in range(0, 16000, 160):  # 10 ms
            heard = at + 160
            yield np.zeros(160, np.float32)

    with Session(engine) as session:
        waits = [heard - i * 640 for i, _ in enumerate(session.stream(microphone(), motion="still"))]
    assert len(waits) == 25
    assert max(waits[:20]) <= 320 + 1600 + 160  # the middle of the frame, 100 ms, and one chunk


def test_talk_reads_files(engine, tmp_path):
    pcm = speech(0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([pcm, pcm], 1), 16000, "FLOAT")
    with Session(engine) as session:
        want = list(session.talk(pcm))
        got = list(session.talk(tmp_path / "a.wav"))
    np.testing.assert_array_equal(got, want)


def test_a_motion_of_ones_own_is_as_the_docs_write_it(engine):
    text = (Path(__file__).parents[2] / "docs/live.md").read_text()
    (example,) = (code for code in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "pose_blink" in code)
    with Session(engine) as session:
        names: dict[str, object] = {"session": session, "pcm": np.zeros(16000, np.float32), "shown": []}
        exec(example.replace('"speech.wav"', "pcm").replace("show(", "shown.append("), names)
        for i in (0, 7, 40):
            pose, blink = names["Nod"]().pose_blink(i)
            assert (pose.dtype, pose.shape, blink.dtype, blink.shape) == (np.float32, (3,), np.float32, (2,))
            session.step(np.zeros((32, 80), np.float32), pose, blink)
    assert len(names["shown"]) == 25 and not np.array_equal(names["shown"][10], names["shown"][20])


def test_motion_may_be_any_object_that_knows_the_pose(engine):
    class Nod:
        def pose_blink(self, i):
            return np.array([0, 0.1 * i, 0], np.float32), np.zeros(2, np.float32)

    with Session(engine) as session:
        frames = list(session.talk(np.zeros(16000, np.float32), motion=Nod()))
    assert not np.array_equal(frames[10], frames[20])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros(0, np.float32),), "pcm: got 0 samples, expected sound"),
        ((np.zeros(9, np.int16),), r"pcm: got int16 .* use \(pcm / 32768\)"),
        ((np.full(9, np.nan, np.float32),), "pcm: got NaN or infinite samples"),
        ((np.full(9, 20000, np.float32),), "pcm: got samples up to 20000, expected -1 to 1; divide them"),
        ((np.zeros(9, np.float32), "dance"), "motion: got 'dance'"),
        ((np.zeros(9, np.float32), None), r"motion: got None, .* or an object with pose_blink\(i\)"),
        ((np.zeros(9, np.float32), np.zeros((64, 5))), r"motion: got float64 \(64, 5\), expected one of .* film whose"),
        ((np.zeros(9, np.float32), [[0.0] * 5] * 64), r"^motion: got [][0., ]{9,60}…, expected one of idle"),
        ((np.zeros(9, np.float32), "idle", 1.5), "seed: got 1.5, expected a whole number"),
        ((np.zeros(9, np.float32), "idle", 0, 0), "fps: got 0"),
    ],
)
def test_talk_refuses_at_once(engine, arguments, message):
    with Session(engine) as session, pytest.raises(InputError, match=message):
        session.talk(*arguments)  # not first when a frame is asked for


def test_stream_refuses_a_bad_chunk(engine):
    with Session(engine) as session:
        frames = session.stream([np.zeros(5000, np.float32), np.zeros(10, np.float64)])
        with pytest.raises(InputError, match="pcm: got float64"):
            list(frames)


@pytest.mark.parametrize("chunks", [speech(), b"00", "microphone", None, 5])
def test_stream_refuses_at_once_what_holds_no_chunks(engine, chunks):
    with Session(engine) as session, pytest.raises(InputError, match="pcm_chunks: got .*, expected an iterable"):
        session.stream(chunks)


def test_sound_needs_a_front_end_in_the_metadata(zoo, tmp_path, controls):
    zoo.set("onnx", tmp_path)
    zoo.write("step", tmp_path / "amnet.onnx", dataclasses.replace(zoo.metadata, audio=None))
    with Session(tmp_path / "amnet.onnx") as session:
        session.step(*controls)
        with pytest.raises(ModelError, match="amnet.onnx does not say how it hears"):
            session.talk(speech())


# --- opening and closing


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_session_is_not_copied_behind_its_engine(engine, copied):
    with (
        Session(engine) as session,
        pytest.raises(TypeError, match="cannot be copied or pickled: open one"),
    ):
        copied(session)


def test_after_close_there_is_one_clear_error(engine, controls):
    session = Session(engine)
    frame = session.step(*controls)
    before = frame.copy()
    frames = session.talk(speech())
    session.close()
    session.close()
    np.testing.assert_array_equal(frame, before)
    for call in (lambda: session.step(*controls), lambda: session.talk(speech()), lambda: next(frames)):
        with pytest.raises(BackendError, match="the session of amnet.xml is closed; open a new one"):
            call()


def test_metadata_and_device_are_told(engine):
    with Session(engine) as session:
        assert session.metadata.family == "amnet" and session.metadata.audio == AudioSpec()
        assert session.device.startswith("CPU (") and "OpenVINO" in session.device
        session._backend.device = "CUDA graph off, it could not be recorded"  # as a GPU may find out while it steps
        assert session.device == "CUDA graph off, it could not be recorded"


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "has no edgetalk metadata"),
        ('{"format":2}', "has metadata of format 2"),
        ("{", "has edgetalk metadata that is damaged"),
    ],
)
def test_metadata_missing_newer_or_damaged(zoo, tmp_path, text, message):
    import onnx

    path = zoo.set("onnx", tmp_path)
    model = onnx.load(path)
    del model.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(model, {"edgetalk": text})
    onnx.save(model, path)
    with pytest.raises(ModelError, match=f"amnet.onnx {message}"):
        Session(path)


def test_a_source_engine_is_no_session(engine):
    with pytest.raises(ModelError, match="amnet-source.xml makes appearance from source, .*open amnet.xml"):
        Session(engine.with_name("amnet-source.xml"))


def test_a_fixed_batch_is_refused(zoo, tmp_path):
    zoo.set("onnx", tmp_path)
    zoo.write("step", tmp_path / "amnet.onnx", batch=4)
    with pytest.raises(ModelError, match="amnet.onnx has appearance of batch 4, expected 1; build it again"):
        Session(tmp_path / "amnet.onnx")


def test_commercial_use(zoo, tmp_path, controls):
    path = zoo.set("onnx", tmp_path)
    Session(path, use="commercial").close()
    zoo.write("step", path, dataclasses.replace(zoo.metadata, use="non-commercial", licence="CC BY-NC 4.0"))
    Session(path).close()
    with pytest.raises(ModelError, match=r"amnet.onnx is for non-commercial use \(licence: CC BY-NC 4.0\)"):
        Session(path, use="commercial")
    with pytest.raises(InputError, match="use: got 'private'"):
        Session(path, use="private")


def test_a_bare_name_means_a_bundled_model(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "MODELS", tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileNotFoundError, match="no bundled model is called amnet; bundled here: none"):
        Session("amnet")
    zoo.set("onnx", tmp_path)
    with Session("amnet") as session:
        assert session.device.startswith("CPU") and "f32" in session.device
    zoo.set("int8", tmp_path)  # .xml goes before .onnx
    with Session("amnet") as session:
        assert session.metadata.precision == "int8"
    Path("amnet").mkdir()  # hides nothing
    with Session("amnet") as session:
        assert session.metadata.precision == "int8"
    with pytest.raises(ModelError, match="amnet is a folder; name the engine in it"):
        Session("./amnet")
    (tmp_path / "amnet-identity.xml").touch()  # which nobody opens by name
    with pytest.raises(FileNotFoundError, match="no bundled model is called anna; bundled here: amnet;"):
        Session("anna")
    with pytest.raises(FileNotFoundError, match="No such engine; the bundled model is called by its bare name, amnet"):
        Session("amnet.xml")  # a path, in this folder
    with pytest.raises(FileNotFoundError, match="No such engine: 'anna.xml'"):
        Session("anna.xml")


@pytest.mark.parametrize("given, got", [(None, "NoneType"), (123, "int"), (b"amnet", "bytes"), ("", "an empty name")])
def test_what_names_no_engine_or_avatar_is_refused(engine, given, got):
    with pytest.raises(
        InputError, match=f"^engine: got {got}, expected the path of an engine, or a bundled model's name"
    ):
        Session(given)
    if given is not None:
        told = f"^avatar: got {got}, expected the path of an .avatar file, or a bundled face's name, as ada$"
        with pytest.raises(InputError, match=told):
            Session(engine, avatar=given)


@pytest.mark.parametrize("folder", [".", "/", ".."])
def test_a_folder_is_no_avatar(engine, folder, capsys):
    with pytest.raises(IsADirectoryError, match="Is a folder, expected an .avatar file"):
        Session(engine, avatar=folder)
    assert cli.main(["bench", str(engine), "--avatar", folder]) == 1
    told = f"edgetalk bench: {folder}: Is a folder, expected an .avatar file; name the one in it\n"
    assert capsys.readouterr().err == told


def test_a_bare_name_means_a_bundled_face(zoo, engine, tmp_path, monkeypatch):
    models, here = tmp_path / "models", tmp_path / "here"
    for folder in (models, here):
        folder.mkdir()
    monkeypatch.setattr(bundled, "MODELS", models)
    monkeypatch.chdir(here)
    own = avatars.load_avatar(engine.with_suffix(".avatar"))
    avatars.save_avatar(dataclasses.replace(own, name="zoe"), models / "zoe.avatar")
    avatars.save_avatar(dataclasses.replace(own, name="mine"), here / "mine.avatar")
    with Session(engine, avatar="zoe") as session:
        assert session.avatar.name == "zoe"
    with Session(engine, avatar="mine.avatar") as session:
        assert session.avatar.name == "mine"
    with pytest.raises(FileNotFoundError, match="no bundled avatar is called mine; bundled here: zoe; or pass"):
        Session(engine, avatar="mine")
    with pytest.raises(FileNotFoundError, match="No such avatar; the bundled face .* bare name, zoe: 'zoe.avatar'"):
        Session(engine, avatar="zoe.avatar")
    with pytest.raises(FileNotFoundError, match="No such file or directory: 'anna.avatar'"):
        Session(engine, avatar="anna.avatar")
    for word in ("zoe", "zoe.avatar"):
        with pytest.raises(FileNotFoundError, match=f"No such picture; zoe is a bundled face: .*: '{word}'"):
            Session(engine, source=word)
    with pytest.raises(FileNotFoundError, match="No such file or directory: 'anna'"):
        Session(engine, source="anna")


# --- whose face


def test_a_whole_graph_opens_too(zoo, tmp_path, controls):
    path = zoo.write("step", tmp_path / "whole.onnx", dataclasses.replace(zoo.metadata, source=""), whole=True)
    with Session(path, source=zoo.face(64)) as session:
        want, _ = zoo.reference.step(zoo.reference.appearance(session.avatar.source), *controls)
        assert np.abs(session.step(*controls).astype(int) - want).max() <= 1
    with Session(path, avatar=zoo.root / "onnx/amnet.avatar") as session:
        assert session.avatar.name == "nobody"
        want, _ = zoo.reference.step(zoo.reference.appearance(session.avatar.source), *controls)
        assert np.abs(session.step(*controls).astype(int) - want).max() <= 1


def test_source_prepares_a_face(zoo, engine, controls):
    picture = zoo.face(64)[:, ::-1].copy()
    with Session(engine, source=picture) as session:
        want, _ = zoo.reference.step(zoo.reference.appearance(session.avatar.source), *controls)
        frame = session.step(*controls)
        assert np.abs(frame.astype(int) - want).max() <= 1
    with Session(engine) as session:
        assert np.abs(session.step(*controls).astype(int) - frame).mean() > 5


def test_a_face_that_a_model_of_few_persons_cannot_know_gets_a_warning(zoo, tmp_path):
    path = zoo.set("onnx", tmp_path)
    zoo.write("step", path, dataclasses.replace(zoo.metadata, persons=("ada", "bea")))
    with pytest.warns(UserWarning, match="amnet.onnx was trained on ada, bea alone: this face is none of them"):
        Session(path, source=zoo.face(64))
    with pytest.warns(UserWarning, match="this face is none of them"):
        Session(path)  # the avatar in this set is of nobody
    own = avatars.load_avatar(path.with_suffix(".avatar"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Session(path, avatar=dataclasses.replace(own, name="bea"))


def test_a_thread_that_comes_into_the_step_of_another_is_told_so(zoo, controls, monkeypatch):
    """Both would write into the arrays of one request, and a frame might show half of each."""
    with Session(zoo.root / "f32/amnet.xml") as session, session.twin() as twin:
        run, told = session._backend.run, []

        def meanwhile(feeds):
            for other in (session, twin):
                try:
                    other.step(*controls)
                except BackendError as error:
                    told.append(str(error))
            return run(feeds)

        monkeypatch.setattr(session._backend, "run", meanwhile)
        frame = session.step(*controls)
        assert len(told) == 1 and told[0].startswith("the session of amnet.xml was asked for a step while another")
        monkeypatch.setattr(session._backend, "run", run)
        assert np.array_equal(session.step(*controls), frame)


def test_closing_waits_for_the_step_of_another_thread(zoo, controls, monkeypatch):
    """A card would read and write memory that was freed, or is somebody else's by now."""
    session = Session(zoo.root / "f32/amnet.xml")
    expected = session.step(*controls)
    run, close, order, inside = session._backend.run, session._backend.close, [], threading.Event()

    def slow(feeds):
        inside.set()
        time.sleep(0.3)
        result = run(feeds)
        order.append("step")
        return result

    monkeypatch.setattr(session._backend, "run", slow)
    monkeypatch.setattr(session._backend, "close", lambda: order.append("close") or close())
    with ThreadPoolExecutor(1) as other:
        stepping = other.submit(session.step, *controls)
        assert inside.wait(20)
        session.close()
        assert np.array_equal(stepping.result(20), expected)
    assert order == ["step", "close"]


def test_a_signals_handler_may_close_at_any_point_of_a_step(zoo, controls):
    """It runs in the thread of the step, which it would wait for."""
    threading.Thread(target=_close_everywhere, args=(zoo, controls, done := []), daemon=True).start()
    end = time.monotonic() + 60
    while not done and time.monotonic() < end:
        time.sleep(0.05)
    assert done and done[0] > 8, "else it hangs"


def _close_everywhere(zoo, controls, done):
    """Close before each line of a step, in its thread, until there is none more."""
    for stop in itertools.count():
        session, lines = Session(zoo.root / "f32/amnet.xml"), itertools.count()

        def trace(frame, event, _, session=session, lines=lines, stop=stop):
            if frame.f_code.co_name not in ("_step", "_step_alone", "_run"):
                return None
            if event == "line" and next(lines) == stop:
                session.close()
            return trace

        sys.settrace(trace)
        try:
            session.step(*controls)
        except BackendError:
            pass
        finally:
            sys.settrace(None)
        if next(lines) <= stop:
            session.close()
            break
        with pytest.raises(BackendError, match="closed"):
            session.step(*controls)
    done.append(stop)


def test_a_signals_handler_may_close_in_the_middle_of_a_step(zoo, controls, monkeypatch):
    """It runs in the thread of the step, which it would wait for."""
    session = Session(zoo.root / "f32/amnet.xml")
    expected = session.step(*controls)
    run, close, order = session._backend.run, session._backend.close, []

    def interrupted(feeds):
        session.close()
        order.append("step")
        return run(feeds)

    monkeypatch.setattr(session._backend, "run", interrupted)
    monkeypatch.setattr(session._backend, "close", lambda: order.append("close") or close())
    assert np.array_equal(session.step(*controls), expected)
    assert order == ["step", "close"]
    with pytest.raises(BackendError, match="closed"):
        session.step(*controls)
    session.close()


def test_a_session_that_is_closed_before_a_step_begins_runs_no_more(zoo, controls, monkeypatch):
    """As by another thread, between the check of what was passed and the step."""
    session = Session(zoo.root / "f32/amnet.xml")
    ran = []
    monkeypatch.setattr(session._backend, "run", ran.append)
    monkeypatch.setattr("edgetalk.session.check_array", lambda name, value, shape: session.close() or value)
    with pytest.raises(BackendError, match="the session of amnet.xml is closed; open a new one"):
        session.step(*controls)
    assert not ran


def test_a_session_may_be_closed_between_two_frames_of_its_own(engine):
    session = Session(engine)
    frames = session.talk(speech())
    assert next(frames).shape == (32, 32, 3)
    session.close()
    with pytest.raises(BackendError, match="the session of amnet.xml is closed"):
        next(frames)


def test_avatar_and_source_exclude_each_other(zoo, engine):
    with pytest.raises(InputError, match="avatar and source were both given"):
        Session(engine, avatar=engine.with_suffix(".avatar"), source=zoo.face(64))


def test_without_an_avatar_the_way_out_is_told(engine):
    engine.with_suffix(".avatar").unlink()
    told = (
        "amnet.xml has no amnet.avatar beside it; pass one as avatar= or --avatar, made by: edgetalk avatar amnet.xml "
    )
    with pytest.raises(ModelError, match=told + "PICTURE -o amnet.avatar$"):
        Session(engine)
    with pytest.raises(FileNotFoundError):
        Session(engine, avatar="nobody.avatar")


def test_what_prepares_a_face_gets_the_device_and_threads_of_the_step(zoo, engine, monkeypatch):
    opened = []

    def spy(path, **options):
        opened.append((path.name, options["device"], options["threads"]))
        return open_engine(path, **options)

    monkeypatch.setattr("edgetalk.model.open_engine", spy)
    with Session(engine, source=zoo.face(64), device="CPU", threads=1) as session:
        foreign = dataclasses.replace(session.avatar, weights="0" * 64)
    with pytest.warns(UserWarning, match="prepared again"):
        Session(engine, avatar=foreign, device="CPU", threads=1).close()
    assert opened == [("amnet.xml", "CPU", 1), ("amnet-source.xml", "CPU", 1)] * 2


def test_without_a_source_engine_there_are_no_new_faces(zoo, engine):
    for file in engine.parent.glob("amnet-source.*"):
        file.unlink()
    Session(engine).close()
    with pytest.raises(ModelError, match="amnet.xml has no amnet-source.xml beside it"):
        Session(engine, source=zoo.face(64))


@pytest.mark.parametrize("moved", [None, np.zeros(3), (np.zeros(3),), (0, 0, 0)])
def test_a_motion_that_gives_no_pose_and_blink_is_refused(engine, moved):
    class Motion:
        def pose_blink(self, i):
            return moved

    with Session(engine) as session, pytest.raises(InputError, match=r"^motion: pose_blink\(0\) gave .*, expected two"):
        next(session.talk(np.zeros(4000, np.float32), motion=Motion()))


def test_an_avatar_of_other_weights_is_prepared_again_or_refused(zoo, engine, controls):
    with Session(engine) as session:
        want = session.step(*controls)
        own = session.avatar
    foreign = dataclasses.replace(
        own, weights="0" * 64, features={"appearance": own.features["appearance"] * np.float16(2)}
    )
    avatars.save_avatar(foreign, engine.with_suffix(".avatar"))
    told = "amnet.avatar was prepared with other weights .* prepared again .* amnet.avatar -o NEW.avatar$"
    with pytest.warns(UserWarning, match=told):
        session = Session(engine)
    assert np.abs(session.step(*controls).astype(int) - want).max() <= 1
    for file in engine.parent.glob("amnet-source.*"):
        file.unlink()
    with pytest.raises(
        ModelError, match="prepared with other weights than those of amnet.xml, and there is no amnet-source.xml"
    ):
        Session(engine)


def test_an_avatar_too_small_for_another_model_is_told_as_an_avatar(zoo, engine):
    own = avatars.load_avatar(engine.with_suffix(".avatar"))
    small = dataclasses.replace(own, weights="0" * 64, source=own.source[:8, :8])
    told = r"^the avatar was prepared with other weights .* cannot be prepared again: picture: got 8x8, expected"
    with pytest.raises(ModelError, match=told):
        Session(engine, avatar=small)


def test_a_bundled_face_is_prepared_for_every_bundled_model(zoo, tmp_path, monkeypatch, controls):
    engine = zoo.set("f32", tmp_path / "models")
    monkeypatch.setattr(bundled, "MODELS", engine.parent)
    own = avatars.load_avatar(engine.with_suffix(".avatar"))
    other = dataclasses.replace(own, weights="0" * 64, features={"appearance": own.features["appearance"] * 2})
    avatars.save_avatar(other, engine.with_name("zoe.avatar"))
    with Session("amnet") as session:
        want = session.step(*controls)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = Session("amnet", avatar="zoe")
    with session:
        assert np.abs(session.step(*controls).astype(int) - want).max() <= 1


def test_a_source_engine_of_another_export_is_refused(zoo, engine):
    other = zoo.write("source", engine.parent / "other.onnx", seed=1)
    zoo.ir(other, engine.with_name("amnet-source.xml"))
    with pytest.raises(ModelError, match="amnet.xml and its source engine are not of one export"):
        Session(engine, source=zoo.face(64))
    own = avatars.load_avatar(engine.with_suffix(".avatar"))
    with pytest.raises(ModelError, match="are not of one export"):
        Session(engine, avatar=dataclasses.replace(own, weights="0" * 64))


def test_features_that_do_not_fit_the_graph_are_refused(engine):
    own = avatars.load_avatar(engine.with_suffix(".avatar"))
    small = dataclasses.replace(own, features={"appearance": own.features["appearance"][:, :, :4]})
    with pytest.raises(ModelError, match=r"takes appearance \(8, 8, 8\) and the avatar has appearance \(8, 4, 8\)"):
        Session(engine, avatar=small)
    with pytest.raises(ModelError, match="and the avatar has no appearance"):
        Session(engine, avatar=dataclasses.replace(own, features={}))


def test_an_avatar_of_several_frames_is_walked_to_and_fro(zoo, tmp_path):
    """As WavSyncSwap will: features of a film, and a step that takes mel alone."""
    spec = AudioSpec(window=16, offset=-6.4)
    path = zoo.write("swap", tmp_path / "swap.onnx", Metadata(family="wavsyncswap", audio=spec, source="f" * 64))
    rng = np.random.default_rng(0)
    faces = rng.normal(size=(4, 8, 8, 8)).astype(np.float16)
    film = avatars.Avatar(zoo.face(), {"face": faces}, np.zeros((4, 4), np.float32), "wavsyncswap", "f" * 64)
    mel = rng.uniform(-4, 4, (16, 80)).astype(np.float32)
    with Session(path, avatar=film) as session:
        frames = [session.step(mel) for _ in range(13)]
        assert session.landmarks is None
        with pytest.raises(InputError, match="pose: got one, swap.onnx takes none"):
            session.step(mel, np.zeros(3, np.float32))
        again = list(session.talk(speech(0.4)))
        assert len(again) == 10
    walk = [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    alone = []
    for k in range(4):
        one = dataclasses.replace(film, features={"face": faces[k : k + 1]})
        with Session(path, avatar=one) as session:
            alone.append(session.step(mel))
    for frame, k in zip(frames, walk, strict=True):
        np.testing.assert_array_equal(frame, alone[k])


def test_sessions_do_not_disturb_each_other(zoo, engine, controls):
    mel, pose, blink = controls
    with Session(engine) as one, Session(engine, source=zoo.face(64)[:, ::-1].copy()) as two:
        a = one.step(mel, pose, blink)
        before = a.copy()
        two.step(mel, -pose, blink)
        np.testing.assert_array_equal(a, before)
