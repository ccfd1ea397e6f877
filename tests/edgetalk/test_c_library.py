"""libedgetalk against the Python runtime: frames, sound, motion and errors must be the same, and nothing may leak.

The library is built by its presets, in the folder EDGETALK_C_BUILD where that is set: with `build`, what `cmake --build
--preset native` made is taken. What needs no engine is tested by ctest: tests/c.
"""

from __future__ import annotations

import ctypes
import dataclasses
import locale
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from ctypes import c_char_p, c_int32, c_int64, c_size_t, c_void_p
from fractions import Fraction
from pathlib import Path

import numpy as np
import openvino
import pytest
import soundfile

import edgetalk
from edgetalk import avatar as avatars
from edgetalk.cli import main
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.motion import Idle
from edgetalk.reader import Reader
from edgetalk.windows import WindowStream
from edgetalk.writer import Writer

from . import tensorrt_double as double
from .conftest import save_unchecked

ROOT = Path(__file__).resolve().parents[2]
OPENVINO = Path(openvino.__file__).parent / "libs"
OK, WAIT, END = 0, 1, 2
FILE, MODEL, INPUT, BACKEND = -1, -2, -3, -4

pytestmark = [
    pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="needs cmake and a C++ compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="libedgetalk is for Linux"),
]


class Options(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("threads", c_int32),
        ("motion", c_char_p),
        ("seed", c_int64),
        ("fps_num", c_int32),
        ("fps_den", c_int32),
        ("use", c_char_p),
        ("openvino", c_char_p),
        ("tensorrt", c_char_p),
    ]


class Info(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("width", c_int32),
        ("height", c_int32),
        ("frame_bytes", c_size_t),
        ("mel_frames", c_int32),
        ("mel_features", c_int32),
        ("takes_pose", c_int32),
        ("takes_blink", c_int32),
        ("gives_landmarks", c_int32),
        ("fps_num", c_int32),
        ("fps_den", c_int32),
        ("metadata", c_char_p),
        ("device", c_char_p),
        ("warning", c_char_p),
    ]


class Failure(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def pointer(array):
    if array is None:
        return None
    assert array.flags.c_contiguous and array.dtype in (np.float32, np.int16, np.uint8)
    return array.ctypes.data_as(c_void_p)


class Library:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.c = ctypes.CDLL(str(path))
        self.c.et_last_error.restype = c_char_p
        self.c.et_close.restype = None
        self.c.et_close.argtypes = [c_void_p]

    def __call__(self, name: str, *arguments) -> int:
        """Call a function; negative answers are raised."""
        status = getattr(self.c, f"et_{name}")(*arguments)
        if status < 0:
            raise Failure(status, self.c.et_last_error().decode())
        return status

    def open(self, engine, avatar=None, **options) -> Face:
        return Face(self, engine, avatar, options)


class Face:
    """A C session, with the methods of the Python one."""

    def __init__(self, library, engine, avatar, options) -> None:
        self.call = library
        self.at = c_void_p()
        known = Options(ctypes.sizeof(Options), threads=1, openvino=str(OPENVINO).encode())
        for key, value in options.items():
            setattr(known, key, value.encode() if isinstance(value, str) else value)
        where = None if avatar is None else str(avatar).encode()
        library("open", str(engine).encode(), where, ctypes.byref(known), ctypes.byref(self.at))
        self.info = Info(ctypes.sizeof(Info))
        library("get_info", self.at, ctypes.byref(self.info))
        self.frame = np.zeros((self.info.height, self.info.width, 3), np.uint8)
        assert self.frame.nbytes == self.info.frame_bytes

    def step(self, mel, pose=None, blink=None):
        self.call("step", self.at, pointer(mel), pointer(pose), pointer(blink), pointer(self.frame))
        return self.frame.copy()

    def landmarks(self):
        points = np.zeros((106, 2), np.float32)
        self.call("get_landmarks", self.at, pointer(points))
        return points

    def push(self, pcm):
        name = "push_s16" if pcm.dtype == np.int16 else "push"
        self.call(name, self.at, pointer(pcm), c_size_t(len(pcm)))

    def finish(self):
        self.call("finish", self.at)

    def next(self):
        """The status, or a frame."""
        status = self.call("next", self.at, pointer(self.frame))
        return status if status else self.frame.copy()

    def inputs(self):
        mel = np.zeros((self.info.mel_frames, self.info.mel_features), np.float32)
        pose, blink = np.zeros(3, np.float32), np.zeros(2, np.float32)
        status = self.call("next_inputs", self.at, pointer(mel), pointer(pose), pointer(blink))
        return status if status else (mel, pose, blink)

    def drain(self, read):
        results = []
        while not isinstance(result := read(), int):
            results.append(result)
        return results, result

    def talk(self, pcm, cuts=(), read=None):
        """Everything that comes of a sound, pushed in pieces that end at `cuts`."""
        results = []
        for piece in np.split(pcm, list(cuts)):
            self.push(piece)
            some, status = self.drain(read or self.next)
            assert status == WAIT
            results += some
        self.finish()
        some, status = self.drain(read or self.next)
        assert status == END
        return results + some

    def reset(self):
        self.call("reset", self.at)

    def close(self):
        self.call.c.et_close(self.at)
        self.at = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def build(preset: str, root: Path, *targets: str) -> Path:
    folder = Path(os.environ.get("EDGETALK_C_BUILD", root)).resolve() / preset
    for command in (["--preset", preset, "-B", folder], ["--build", folder, "--target", *targets]):
        cmake(*command)
    return folder


def cmake(*command) -> str:
    done = subprocess.run(["cmake", *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "warning:" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return build("native", tmp_path_factory.mktemp("c"), "edgetalk", "talk")


@pytest.fixture(scope="module")
def library(built) -> Library:
    return Library(built / "libedgetalk.so")


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    n = int(seconds * 16000)
    return (rng.normal(size=n) * 0.2 * np.sin(np.arange(n) / 2500) ** 2).astype(np.float32)


def difference(ours, theirs) -> int:
    assert len(ours) == len(theirs)
    return max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["f32", "bf16", "int8", "onnx", "dynamic"])
def test_speaks_like_python(library, zoo, tmp_path, name):
    engine = zoo.set(name, tmp_path)
    pcm = sound(1.3)
    with edgetalk.Session(engine, threads=1) as session, library.open(engine, seed=5) as face:
        theirs = list(session.talk(pcm, seed=5))
        assert difference(face.talk(pcm, cuts=(1, 2, 700, 701, 9000)), theirs) <= 1
        assert face.info.device.decode() == session.device
        assert Metadata.from_json(face.info.metadata.decode(), "C") == session.metadata
        assert np.abs(face.landmarks() - session.landmarks).max() < 1e-4
        face.reset()
        assert difference(face.talk(pcm), theirs) <= 1
        assert np.ptp(np.stack(theirs), 0).max() > 50  # it moved


def test_hears_16_bit_samples_as_floats(library, zoo, tmp_path):
    pcm = np.round(sound(0.5) * 32768).astype(np.int16)
    pcm[:2] = -32768, 32767
    with library.open(zoo.set("f32", tmp_path)) as face:
        frames = face.talk(pcm, cuts=(1, 700, 701))
        with pytest.raises(Failure, match="after et_finish; call et_reset"):
            face.push(pcm)
        with pytest.raises(Failure, match="pcm: got NULL"):
            face.call("push_s16", face.at, None, c_size_t(1))
        face.reset()
        assert difference(face.talk((pcm / 32768).astype(np.float32)), frames) == 0
    assert len(frames) == 13


@pytest.mark.parametrize("motion", ["idle", "still"])
def test_speaks_at_another_rate(library, zoo, tmp_path, motion):
    engine = zoo.set("f32", tmp_path)
    pcm = sound(1.0, 1)
    with (
        edgetalk.Session(engine, threads=1) as session,
        library.open(engine, motion=motion, seed=-9, fps_num=30000, fps_den=1001) as face,
    ):
        theirs = list(session.talk(pcm, motion=motion, seed=-9, fps="30000/1001"))
        assert (face.info.fps_num, face.info.fps_den) == (30000, 1001)
        assert difference(face.talk(pcm), theirs) <= 1


def test_steps_like_python(library, zoo, tmp_path, controls):
    engine = zoo.set("f32", tmp_path)
    with edgetalk.Session(engine, threads=1) as session, library.open(engine) as face:
        frame = face.step(*controls)
        assert difference([frame], [session.step(*controls)]) <= 1
        assert (
            difference([frame], [zoo.reference.step(zoo.reference.appearance(session.avatar.source), *controls)[0]])
            <= 1
        )
        assert np.abs(face.landmarks() - session.landmarks).max() < 1e-5


def test_follows_a_film_of_three_frames(library, zoo, tmp_path):
    """Networks without pose and blink, and avatars of several frames that are walked to and fro."""
    metadata = dataclasses.replace(zoo.metadata, family="wavsyncswap", audio=AudioSpec(window=16, offset=-6.4))
    engine = zoo.write("swap", tmp_path / "amnet.onnx", metadata)
    rng = np.random.default_rng(0)
    film = rng.normal(size=(3, 8, 8, 8)).astype(np.float16)
    picture = zoo.face()
    kept = avatars.Film(
        target=np.zeros((3, 4, 4, 3), np.uint8),
        matrices=np.zeros((3, 2, 3), np.float32),
        at=np.arange(3, dtype=np.float32),
        identity=np.zeros((1, 5), np.float32),
        size=(64, 48),
        fps=Fraction(25),
    )
    face = avatars.Avatar(
        picture,
        {"face": film},
        np.zeros((3, 4), np.float32),
        "wavsyncswap",
        metadata.source,
        use="non-commercial",
        film=kept,
    )
    for opened in (lambda: edgetalk.Session(engine), lambda: library.open(engine)):
        what = "amnet.onnx --video FILM --portrait PICTURE -o amnet.avatar"
        with pytest.raises((edgetalk.ModelError, Failure), match=f"has no amnet.avatar beside it; .*avatar {what}"):
            opened()
    avatars.save_avatar(face, tmp_path / "a.avatar")
    avatars.save_avatar(dataclasses.replace(face, weights="x"), tmp_path / "b.avatar")
    with pytest.raises(Failure, match="other weights .*: edgetalk avatar amnet.onnx b.avatar -o NEW.avatar$"):
        library.open(engine, tmp_path / "b.avatar")
    with pytest.raises(Failure, match="motion: got .*still.*, and amnet.onnx takes no pose"):
        library.open(engine, tmp_path / "a.avatar", motion="still")
    pcm = sound(0.4)
    with edgetalk.Session(engine, threads=1, avatar=tmp_path / "a.avatar") as session:
        theirs = list(session.talk(pcm))
    with library.open(engine, tmp_path / "a.avatar") as face:
        assert (face.info.takes_pose, face.info.takes_blink, face.info.gives_landmarks) == (0, 0, 0)
        assert difference(face.talk(pcm), theirs) <= 1
        assert difference([theirs[0]], [theirs[1]]) > 20
        with pytest.raises(Failure, match="pose: got one, .* takes none"):
            face.step(np.zeros((16, 80), np.float32), np.zeros(3, np.float32))
    a, c, d = (tmp_path / f"{name}.avatar" for name in "acd")
    whole = dataclasses.replace(kept, jaws=np.zeros((3, 17, 2), np.float32), pictures=np.zeros((3, 9), np.uint8))
    avatars.save_avatar(
        dataclasses.replace(avatars.load_avatar(tmp_path / "a.avatar"), film=whole), tmp_path / "c.avatar"
    )
    with library.open(engine, tmp_path / "c.avatar") as face:  # in C it is the crops that speak
        assert difference(face.talk(pcm), theirs) <= 1
    for change, message in (
        ({"pictures": whole.pictures[:2]}, "no avatar: it has 2 and 3 frames"),
        ({"jaws": whole.jaws[0]}, r"no avatar: its jaws has shape \(17, 2\)"),
    ):
        film = dataclasses.replace(whole, **change)
        save_unchecked(dataclasses.replace(avatars.load_avatar(a), film=film), d)
        with pytest.raises(Failure, match=message):
            library.open(engine, d)
    for rate in (50, 15):  # the film keeps its speed
        with edgetalk.Session(engine, threads=1, avatar=tmp_path / "a.avatar") as session:
            theirs = list(session.talk(pcm, fps=rate))
        with library.open(engine, tmp_path / "a.avatar", fps_num=rate, fps_den=1) as face:
            assert difference(face.talk(pcm), theirs) <= 1

            def by_step(face=face):
                return given if isinstance(given := face.inputs(), int) else face.step(given[0])

            face.reset()
            assert difference(face.talk(pcm, read=by_step), theirs) <= 1
    with pytest.raises(Failure, match="a.avatar is for non-commercial use .licence: not stated., and commercial use"):
        library.open(engine, tmp_path / "a.avatar", use="commercial")


def test_takes_the_picture_itself(library, zoo, tmp_path):
    engine = zoo.write("step", tmp_path / "amnet.onnx", whole=True)
    shutil.copy(zoo.root / "onnx/amnet.avatar", tmp_path)
    pcm = sound(0.3)
    with edgetalk.Session(engine, threads=1) as session, library.open(engine) as face:
        assert difference(face.talk(pcm), list(session.talk(pcm, seed=0))) <= 1


SPECS = [
    AudioSpec(),
    AudioSpec(n_fft=512, hop=160, fmin=0.0, fmax=8000.0, preemphasis=0.0, offset=0.0),
    AudioSpec(n_fft=551, hop=113, fmin=80.0, fmax=7000.0, preemphasis=0.9, offset=2.75),
    AudioSpec(n_fft=1024, hop=1000, offset=-31.999),
    AudioSpec(n_fft=640, offset=-23.400000000000002),  # computed: frame 2 begins a mel frame before that of -23.4
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.n_fft))
@pytest.mark.parametrize("fps", ["25", "30000/1001", "29.97"])
def test_hears_and_moves_number_by_number(library, zoo, tmp_path, spec, fps):
    metadata = dataclasses.replace(zoo.metadata, audio=spec, fps=fps)
    engine = zoo.write("step", tmp_path / "amnet.onnx", metadata)
    shutil.copy(zoo.root / "onnx/amnet.avatar", tmp_path)
    rng = np.random.default_rng(3)
    with library.open(engine, seed=2**40 + 1) as face:
        idle = Idle(2**40 + 1, Fraction(fps))
        for length in (0, 1, 639, 640, 641, 21000):
            pcm = sound(length / 16000, length)
            face.reset()
            stream = WindowStream(spec, Fraction(fps))
            theirs = [window.copy() for window in stream.push(pcm)]
            early = len(theirs)
            theirs += [window.copy() for window in stream.flush()]
            face.push(pcm)
            ours, status = face.drain(face.inputs)
            assert (len(ours), status) == (early, WAIT)
            face.reset()
            cuts = np.sort(rng.integers(0, length + 1, 7))
            ours = face.talk(pcm, cuts, face.inputs)
            assert len(ours) == len(theirs)
            for i, ((mel, pose, blink), window) in enumerate(zip(ours, theirs, strict=True)):
                assert np.abs(mel - window).max() <= 1e-5
                yaw_pitch_roll, lids = idle.pose_blink(i)
                assert (pose == yaw_pitch_roll).all() and (blink == lids).all()


def test_refuses_what_python_refuses(library, zoo, tmp_path, controls):
    mel, pose, blink = controls
    engine = zoo.set("f32", tmp_path)
    with library.open(engine) as face:

        def refused(match, call, *arguments):
            with pytest.raises(Failure, match=match) as caught:
                call(*arguments)
            assert caught.value.status == INPUT

        refused("none before the first frame", face.landmarks)
        broken = mel.copy()
        broken[3, 5] = np.nan
        refused("mel: got -?nan as value 245", face.step, broken, pose, blink)
        refused("mel: got NULL", face.step, None, pose, blink)
        refused("pose: got NULL, .* takes one", face.step, mel, None, blink)
        refused("pose: got 4 as value 0, expected -3.14159 to", face.step, mel, np.float32([4, 0, 0]), blink)
        refused("blink: got -0.5 as value 1, expected 0 to 1", face.step, mel, pose, np.float32([0, -0.5]))
        for count in (2**64 - 1, 2**31 + 1):
            for name in ("push", "push_s16"):
                for samples in (pointer(mel), None):
                    arguments = (name, face.at, samples, c_size_t(count))
                    refused(f"count: got {count}, .*was an error code passed as a count?", face.call, *arguments)
        refused("pcm: got NaN or infinite", face.push, np.float32([0, np.inf]))
        refused("pcm: got samples up to 32768, expected -1 to 1", face.push, np.float32([0, -32768]))
        face.push(sound(0.1))
        face.finish()
        face.finish()
        refused("after et_finish; call et_reset", face.push, sound(0.1))
        assert len(face.drain(face.next)[0]) == 3
        frame = face.step(mel, np.float32([np.pi, 0, 0]), blink)  # float32 pi is more than pi
        face.reset()
        assert face.next() == WAIT
        assert (face.step(mel, np.float32([np.pi, 0, 0]), blink) == frame).all()


@pytest.mark.skipif(not shutil.which("localedef"), reason="needs localedef to make a locale")
def test_numbers_in_a_sentence_have_a_point_wherever_it_is_told(library, zoo, tmp_path, monkeypatch):
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], capture_output=True)
    if made.returncode:
        pytest.skip("needs the sources of the system's locales")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    before = locale.setlocale(locale.LC_NUMERIC)
    locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
    try:
        assert locale.localeconv()["decimal_point"] == ","
        with library.open(zoo.set("f32", tmp_path / "f32")) as face, pytest.raises(Failure, match=r"up to 16\.5, "):
            face.push(np.float32([16.5]))
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


def test_warns_of_a_face_that_the_network_has_not_learnt(library, built, zoo, tmp_path):
    engine = other_metadata(zoo, tmp_path / "amnet.onnx", persons=("ada", "Bo\x1b[2J"))
    face = avatars.load_avatar(zoo.root / "onnx/amnet.avatar")
    avatars.save_avatar(dataclasses.replace(face, name="ada"), tmp_path / "ada.avatar")
    avatars.save_avatar(dataclasses.replace(face, name="zoe"), tmp_path / "amnet.avatar")
    with library.open(engine, tmp_path / "ada.avatar") as known, library.open(engine) as unknown:
        assert known.info.warning == b""
        with pytest.warns(UserWarning) as told, edgetalk.Session(engine, threads=1):
            pass
        sentence = str(told[0].message).replace("\x1b", "?")  # which would control a terminal
        assert unknown.info.warning.decode() == sentence
        older = Info(Info.warning.offset, warning=b"as it was")
        library("get_info", unknown.at, ctypes.byref(older))
        assert older.warning == b"as it was" and older.device == unknown.info.device
    with library.open(zoo.set("f32", tmp_path / "f32")) as face:
        assert face.info.warning == b""
    soundfile.write(tmp_path / "a.wav", sound(0.1), 16000)
    environment = {**os.environ, "EDGETALK_OPENVINO": str(OPENVINO)}
    done = subprocess.run([built / "talk", engine, tmp_path / "a.wav"], capture_output=True, env=environment)
    assert done.returncode == 0 and f"talk: {sentence}\n" in done.stderr.decode()


def other_metadata(zoo, path, **changes):
    return zoo.write("step", path, dataclasses.replace(zoo.metadata, **changes))


def without_metadata(zoo, path):
    import onnx

    model = onnx.load(zoo.root / "onnx/amnet.onnx")
    del model.metadata_props[:]
    onnx.save(model, path)


def cut(name: str, size: int):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def replaced(name: str, old: bytes, new: bytes):
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        (folder / name).write_bytes(data.replace(old, new))

    return spoil


def other_avatar(save=avatars.save_avatar, **changes):
    def spoil(folder: Path) -> None:
        (folder / "amnet-source.xml").unlink()  # with which Python would prepare it again
        path = folder / "amnet.avatar"
        save(dataclasses.replace(avatars.load_avatar(path), **changes), path)

    return spoil


def source_as_step(folder: Path) -> None:
    for suffix in ("xml", "bin"):
        shutil.copy(folder / f"amnet-source.{suffix}", folder / f"amnet.{suffix}")


BAD = {
    "empty.xml": (cut("amnet.xml", 0), "is empty"),
    "other.xml": (lambda folder: (folder / "amnet.xml").write_bytes(b"<html></html>"), "is no OpenVINO model"),
    "short.xml": (cut("amnet.xml", -100), "is truncated at"),
    "no.bin": (lambda folder: (folder / "amnet.bin").unlink(), "has no amnet.bin beside it"),
    "short.bin": (cut("amnet.bin", -100), "amnet.xml cannot be read: .*; copy it and amnet.bin again"),
    "newer.xml": (replaced("amnet.xml", b"format&quot;:1", b"format&quot;:9"), "metadata of format 9"),
    "torn.xml": (replaced("amnet.xml", b"&quot;audio", b"audio"), "metadata that is damaged"),
    "source.xml": (source_as_step, "no step|expected a step"),
    "source alone": (
        lambda folder: (source_as_step(folder), (folder / "amnet.avatar").unlink()),
        "no step|expected a step",
    ),
    "no.avatar": (
        lambda folder: (folder / "amnet.avatar").unlink(),
        "has no amnet.avatar beside it; .*edgetalk avatar .*amnet.xml PICTURE -o amnet.avatar",
    ),
    "empty.avatar": (cut("amnet.avatar", 0), "amnet.avatar is truncated or no avatar"),
    "short.avatar": (cut("amnet.avatar", -1), "amnet.avatar is truncated or no avatar"),
    "picture.avatar": (
        lambda folder: (folder / "amnet.avatar").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
        "amnet.avatar is a picture and no avatar; .*prepare it: edgetalk avatar ENGINE amnet.avatar -o amnet.avatar",
    ),
    "newer.avatar": (replaced("amnet.avatar", b'format":"1"', b'format":"2"'), "avatar of format 2"),
    "weights.avatar": (other_avatar(weights="x"), "other weights than those of amnet.xml"),
    "shape.avatar": (
        other_avatar(features={"appearance": np.zeros((1, 8, 8, 9), np.float16)}),
        r"takes appearance \(8, 8, 8\) and the avatar has appearance \(8, 8, 9\)",
    ),
    "family.avatar": (
        other_avatar(family="other"),
        "amnet.avatar is of other and amnet.xml is amnet; prepare one for it: edgetalk avatar .*amnet.xml PICTURE$",
    ),
    "boxes.avatar": (
        other_avatar(save_unchecked, boxes=np.zeros((1, 3), np.float32)),
        r"no avatar: its boxes have shape \(1, 3\)",
    ),
    "frames.avatar": (
        other_avatar(save_unchecked, boxes=np.zeros((3, 4), np.float32)),
        "no avatar: it has 1 and 3 frames",
    ),
    "type.avatar": (replaced("amnet.avatar", b'"F32"', b'"I32"'), "no avatar: its boxes is I32, expected U8, F16, F32"),
    "number.avatar": (
        replaced("amnet.avatar", b'format":"1"', b'format": 1 '),
        "amnet.avatar is truncated or no avatar",
    ),
    "name.avatar": (other_avatar(features={"face": np.zeros((1, 8), np.float16)}), "the avatar has no appearance"),
}


@pytest.mark.parametrize("bad", BAD)
def test_refuses_bad_files_as_python_does(library, zoo, tmp_path, bad):
    engine = zoo.set("f32", tmp_path)
    spoil, match = BAD[bad]
    spoil(tmp_path)
    with pytest.raises(edgetalk.ModelError, match=match):
        edgetalk.Session(engine, threads=1)
    with pytest.raises(Failure, match=match) as caught:
        library.open(engine)
    assert caught.value.status == MODEL


def test_refuses_bad_onnx_files(library, zoo, tmp_path):
    def refused(match, path, avatar=zoo.root / "onnx/amnet.avatar", **options):
        with pytest.raises(edgetalk.ModelError, match=match):
            edgetalk.Session(path, threads=1, avatar=avatar, **{k: v for k, v in options.items() if k == "use"})
        with pytest.raises(Failure, match=match) as caught:
            library.open(path, avatar, **options)
        assert caught.value.status == MODEL

    whole = (zoo.root / "onnx/amnet.onnx").read_bytes()
    path = tmp_path / "a.onnx"
    for size in (0, 1, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused("a.onnx is (empty|truncated)", path)
    path.write_bytes(b"no model at all")
    refused("a.onnx is (no ONNX model|truncated)", path)
    without_metadata(zoo, path)
    refused("a.onnx has no edgetalk metadata", path)
    other_metadata(zoo, path, use="non-commercial", licence="CC BY-NC 4.0")
    licence = r"non-commercial use \(licence: CC BY-NC 4.0\)"
    refused(licence, path, use="commercial", openvino="/nowhere")  # before OpenVINO is looked for
    zoo.write("step", path, batch=2)
    with pytest.raises(Failure, match="a.onnx takes mel of shape \\(2, 32, 80\\)"):
        library.open(path, zoo.root / "onnx/amnet.avatar")


PLAN = Metadata(family="amnet", source="w", engine={"compute_capability": ["8.6", "8.9"]})
GOOD = double.header(metadata=PLAN.to_json())


BAD_PLANS = {
    "empty": b"",
    "cut in the header": GOOD[:40],
    "cut": GOOD[:-1],
    "layout": GOOD[:4] + b"\1" + GOOD[5:],
    "no metadata": double.header(metadata="somebody's network"),
    "no device": double.header(metadata=dataclasses.replace(PLAN, engine={}).to_json()),
    "newer": GOOD.replace(b'"format":1', b'"format":2'),
    "damaged": GOOD.replace(b'"amnet"', b"3"),
}


@pytest.mark.parametrize("bad", BAD_PLANS)
def test_refuses_bad_plans_in_the_words_of_python(library, tmp_path, bad):
    path = tmp_path / "amnet.plan"
    path.write_bytes(BAD_PLANS[bad])
    (tmp_path / "amnet.avatar").touch()
    with pytest.raises(edgetalk.ModelError) as theirs:
        edgetalk.Session(path)
    with pytest.raises(Failure) as ours:
        library.open(path)
    assert ours.value.status == MODEL
    wanted = str(theirs.value).replace("this edgetalk", "this libedgetalk").partition("; upgrade it")[0]
    assert str(ours.value).startswith(wanted)


def test_a_good_plan_is_refused_where_the_headers_were_not_given(library, tmp_path):
    (tmp_path / "amnet.plan").write_bytes(GOOD)
    shutil.copy(ROOT / "edgetalk/models/amnet.avatar", tmp_path)
    with pytest.raises(Failure, match="amnet.plan needs TensorRT, for which this libedgetalk was not built") as caught:
        library.open(tmp_path / "amnet.plan")
    assert caught.value.status == BACKEND


def test_a_folder_without_the_headers_is_one_line(tmp_path):
    command = ["cmake", "-S", ROOT, "-B", tmp_path / "b", f"-DEDGETALK_TENSORRT_INCLUDE={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and f"EDGETALK_TENSORRT_INCLUDE: {tmp_path} has no NvInferRuntime.h" in " ".join(
        done.stderr.split()
    )


def test_says_what_is_missing(library, zoo, tmp_path):
    engine = zoo.set("f32", tmp_path)
    for options, match in (
        ({"openvino": "/nowhere"}, "amnet.xml needs OpenVINO's libopenvino_c.so .*in et_options.openvino$"),
        ({"openvino": str(tmp_path)}, f"{tmp_path}/libopenvino_c.so: cannot open"),
        ({"openvino": str(library.path)}, "has no ov_get_openvino_version, expected the C interface of OpenVINO"),
        ({"device": "NPU.7"}, 'device "NPU.7" is missing: OpenVINO sees CPU'),
    ):
        with pytest.raises(Failure, match=match) as caught:
            library.open(engine, **options)
        assert caught.value.status == BACKEND
    for missing in ((tmp_path / "no.xml", None), (engine, tmp_path / "no.avatar")):
        with pytest.raises(Failure, match="no.(xml|avatar): No such file") as caught:
            library.open(*missing)
        assert caught.value.status == FILE


def test_finds_openvino_through_the_environment(built, zoo, tmp_path):
    engine = zoo.set("f32", tmp_path)
    soundfile.write(tmp_path / "a.wav", sound(0.2), 16000)
    for name in ("EDGETALK_OPENVINO", "LD_LIBRARY_PATH"):
        environment = {"PATH": os.environ["PATH"], name: str(OPENVINO)}
        done = subprocess.run([built / "talk", engine, tmp_path / "a.wav"], capture_output=True, env=environment)
        assert (done.returncode, len(done.stdout)) == (0, 5 * 32 * 32 * 3), done.stderr


@pytest.mark.parametrize("of", ["blob", "folder", "models"])
def test_a_cache_of_somebody_else_is_done_without(built, zoo, tmp_path, without_rights, of):
    """As in Python; who runs it is told where it tells the device."""
    engine, cache = zoo.set("f32", tmp_path), tmp_path / "cache/openvino"
    soundfile.write(tmp_path / "a.wav", sound(0.2), 16000)

    def spoken() -> str:
        environment = {"EDGETALK_OPENVINO": str(OPENVINO), "EDGETALK_CACHE": str(cache.parent)}
        command = [built / "talk", engine, tmp_path / "a.wav"]
        done = subprocess.run(command, capture_output=True, env=environment, preexec_fn=without_rights)
        assert (done.returncode, len(done.stdout)) == (0, 5 * 32 * 32 * 3), done.stderr
        return done.stderr.decode()

    assert "EDGETALK_CACHE" not in spoken()
    (blob,) = cache.glob("*.blob")
    if of == "models":
        shutil.rmtree(cache)
        cache.parent.chmod(0o555)
    else:
        blob.chmod(0)
        cache.chmod(0o555 if of == "blob" else 0)
    try:
        assert re.search(r"EDGETALK_CACHE could not be used \(.*Permission denied.*\)", spoken())
    finally:
        (cache.parent if of == "models" else cache).chmod(0o755)


def test_sessions_speak_at_the_same_time(library, zoo, tmp_path):
    engine = zoo.set("f32", tmp_path)
    pcm = sound(2.0)
    with library.open(engine, seed=1) as face:
        alone = face.talk(pcm)
    results: dict[int, list[np.ndarray]] = {}

    def speak(seed):
        with library.open(engine, seed=seed, threads=1) as face:
            results[seed] = face.talk(pcm)

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert difference(results[1], alone) <= 1 and difference(results[2], results[3]) > 1


@pytest.mark.parametrize("name", ["f32", "int8"])
def test_examples_and_the_command_line_make_the_same_video(built, zoo, tmp_path, name):
    """With as many threads: int8 rounds what sums in another order make of it."""
    engine = zoo.set(name, tmp_path)
    wav = tmp_path / "speech.wav"
    soundfile.write(wav, sound(1.1), 16000, subtype="PCM_16")
    environment = {**os.environ, "EDGETALK_OPENVINO": str(OPENVINO)}
    commands = {"c": [built / "talk"], "python": [sys.executable, ROOT / "examples/python/talk.py"]}
    frames = {}
    for kind, command in commands.items():
        done = subprocess.run([*command, engine, wav, "3", "1"], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        frames[kind] = np.frombuffer(done.stdout, np.uint8).reshape(-1, 32, 32, 3)
    assert len(frames["c"]) == 28
    assert difference(frames["c"], frames["python"]) <= 1
    with edgetalk.Session(engine, threads=1) as session:
        assert difference(frames["c"], list(session.talk(wav, seed=3))) <= 1
    with Writer(tmp_path / "c.mp4", (32, 32), Fraction(25), crf=0) as writer:
        for frame in frames["c"]:
            writer.write(frame)
    options = ["--audio", wav, "--seed", 3, "--threads", 1, "--crf", 0, "-o", tmp_path / "talk.mp4"]
    assert main([str(word) for word in ("talk", engine, *options)]) == 0
    videos = [list(Reader(tmp_path / f"{kind}.mp4")) for kind in ("c", "talk")]
    assert difference(*videos) <= 3  # 1 of 255 before it became a video
    for command in commands.values():
        done = subprocess.run([*command, tmp_path / "no.xml", wav], capture_output=True, text=True, env=environment)
        assert done.returncode == 1 and re.fullmatch(r"talk: .*no\.xml.*\n", done.stderr)
    for name in ("text.wav", "text.raw"):
        (tmp_path / name).write_text("no sound, a text")
        for command in commands.values():
            done = subprocess.run([*command, engine, tmp_path / name], capture_output=True, text=True, env=environment)
            told = (
                r"talk: expected a wav file, .*mono at 16 kHz; make one: ffmpeg -i SOUND -ac 1 -ar 16000 speech\.wav\n"
            )
            assert done.returncode == 1 and re.fullmatch(told, done.stderr)
    for command in commands.values():
        done = subprocess.run([*command, engine, "no.wav"], capture_output=True, text=True, env=environment)
        assert done.returncode == 1 and re.fullmatch(r"(talk: )?no.wav: No such file or directory\n", done.stderr)
    for numbers in (["x"], ["3", "1.5"], ["3x", "1"]):
        told = subprocess.run([*commands["c"], engine, wav, *numbers], capture_output=True, text=True, env=environment)
        assert (told.returncode, told.stderr) == (1, "talk: expected whole numbers as SEED and THREADS\n")
    assert len((ROOT / "examples/c/talk.c").read_text().splitlines()) < 100


def test_is_small_and_keeps_to_itself(built):
    library = (built / "libedgetalk.so").resolve()
    assert library.stat().st_size < 300_000
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"\(NEEDED\).*\[(.*?)\.so", needed))
    assert names <= {"libstdc++", "libm", "libc", "libgcc_s", "libdl", "ld-linux-x86-64", "ld-linux-aarch64"}
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in symbols.splitlines()}
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "edgetalk/csrc/edgetalk.h").read_text(), flags=re.S)
    wanted = subprocess.run(["nm", "-D", "-u", library], capture_output=True, text=True, check=True).stdout
    assert not re.search("strto|printf|scanf", wanted)  # they heed the locale, and have new names in newer systems
    assert exported == set(re.findall(r"\b(et_\w+)\(", header))


CONSUMER = """
cmake_minimum_required(VERSION 3.18)
project(consumer C)
find_package(edgetalk 0.0 REQUIRED)
add_executable(consumer consumer.c)
target_link_libraries(consumer edgetalk::edgetalk)
"""


@pytest.mark.parametrize("shared", ["ON", "OFF"])
def test_is_found_by_cmake_and_pkg_config(built, shared, tmp_path):
    prefix = tmp_path / "prefix"
    if shared == "OFF":
        built = tmp_path / "static"
        cmake("-S", ROOT, "-B", built, "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_BUILD_TYPE=Debug")
        cmake("--build", built, "--target", "edgetalk")
    cmake("--install", built, "--prefix", prefix)
    (tmp_path / "consumer.c").write_text(
        "#include <edgetalk.h>\n#include <stdio.h>\nint main(void) { puts(et_version()); return 0; }\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(CONSUMER)
    folder = tmp_path / "consumer"
    cmake("-S", tmp_path, "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}")
    cmake("--build", folder)
    assert subprocess.check_output([folder / "consumer"], text=True).strip() == edgetalk.__version__
    if shutil.which("pkg-config"):
        [config] = prefix.rglob("edgetalk.pc")
        environment = {**os.environ, "PKG_CONFIG_PATH": str(config.parent)}
        command = ["pkg-config", "--cflags", "--libs", *(["--static"] if shared == "OFF" else []), "edgetalk"]
        flags = subprocess.check_output(command, text=True, env=environment)
        where = ["pkg-config", "--variable=prefix", "edgetalk"]
        assert Path(subprocess.check_output(where, text=True, env=environment).strip()).samefile(prefix)
        program = tmp_path / "by_hand"
        subprocess.run(["cc", tmp_path / "consumer.c", "-o", program, *flags.split()], check=True)
        environment["LD_LIBRARY_PATH"] = str(config.parents[1])
        assert subprocess.check_output([program], text=True, env=environment).strip() == edgetalk.__version__


HOST = """
cmake_minimum_required(VERSION 3.18)
project(host C CXX)
add_subdirectory({repository} edgetalk)
add_library(other other.c)
get_target_property(ours edgetalk TYPE)
get_target_property(theirs other TYPE)
message(STATUS "edgetalk is ${{ours}}, other is ${{theirs}}")
"""


@pytest.mark.parametrize("asked, ours, theirs", [(None, "SHARED", "STATIC"), ("OFF", "STATIC", "STATIC")])
def test_a_project_that_adds_it_keeps_its_own_kind_of_library(asked, ours, theirs, tmp_path):
    (tmp_path / "other.c").write_text("int other;\n")
    (tmp_path / "CMakeLists.txt").write_text(HOST.format(repository=ROOT))
    options = [] if asked is None else [f"-DBUILD_SHARED_LIBS={asked}"]
    printed = cmake("-S", tmp_path, "-B", tmp_path / "build", *options)
    assert f"edgetalk is {ours}_LIBRARY, other is {theirs}_LIBRARY" in printed


def test_fast_mathematics_of_a_host_take_no_check_away(zoo, tmp_path):
    (tmp_path / "other.c").write_text("int other;\n")
    (tmp_path / "CMakeLists.txt").write_text(HOST.format(repository=ROOT))
    folder = tmp_path / "build"
    cmake("-S", tmp_path, "-B", folder, "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1 -ffast-math")
    cmake("--build", folder, "--target", "edgetalk")
    path = folder / "edgetalk/libedgetalk.so"
    assert "set_fast_math" not in subprocess.check_output(["nm", path], text=True)  # it would be set here, too
    with Library(path).open(zoo.set("f32", tmp_path / "f32")) as face:
        for value in (np.nan, np.inf):
            with pytest.raises(Failure, match="pcm: got NaN or infinite"):
                face.push(np.float32([value]))
            with pytest.raises(Failure, match="mel: got (nan|inf) as value 0"):
                face.step(np.full((32, 80), value, np.float32), np.zeros(3, np.float32), np.zeros(2, np.float32))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a compiler that knows -m32")
def test_a_system_of_32_bits_is_one_line(tmp_path):
    options = ["-DCMAKE_CXX_FLAGS=-m32", "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]
    command = ["cmake", "-S", ROOT, "-B", tmp_path / "b", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "libedgetalk is for 64-bit systems" in " ".join(done.stderr.split())


def test_ten_thousand_steps_leak_nothing(zoo, tmp_path):
    folder = build("sanitize", tmp_path, "endure")
    engine = zoo.set("f32", tmp_path / "f32")
    environment = {**os.environ, "EDGETALK_OPENVINO": str(OPENVINO), "ASAN_OPTIONS": "detect_leaks=1"}
    environment["OMP_NUM_THREADS"] = "1"  # under the sanitizer threads wait for one another five times as long
    command = [folder / "tests/c/endure", engine]
    for arguments in (["10000"], ["10", "3"]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "f32/amnet.bin").write_bytes(b"short")
    done = subprocess.run([*command, "10"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "amnet.xml cannot be read" in done.stderr and "Sanitizer" not in done.stderr


@pytest.mark.parametrize("preset", ["native", "sanitize"])
def test_a_program_goes_on_after_its_sessions(zoo, tmp_path, preset):
    """OpenVINO frees the stack for signals that it gave a thread, and its threads do not survive a fork."""
    program = build(preset, tmp_path, "afterwards") / "tests/c/afterwards"
    engine = zoo.set("f32", tmp_path / "f32")
    environment = {**os.environ, "EDGETALK_OPENVINO": str(OPENVINO)}
    for what in ("order", "thread", "fork", "inherit"):
        done = subprocess.run([program, engine, what], capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, (what, done.stderr[-3000:])


def test_a_program_with_rights_of_its_own_does_not_hear_who_starts_it(zoo, tmp_path):
    """What is loaded into a setgid program is code that runs with its rights."""
    group = next((group for group in (os.getgroups() if os.getuid() else [65534]) if group != os.getgid()), None)
    if group is None or os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("needs a second group, and a file system that allows setgid")
    endure = Path(shutil.copy(build("native", tmp_path, "endure") / "tests/c/endure", tmp_path))
    engine = zoo.set("f32", tmp_path / "f32")

    def told() -> str:
        environment = {**os.environ, "EDGETALK_OPENVINO": "/chosen/by/the/caller"}
        return subprocess.run([endure, engine, "1"], capture_output=True, text=True, env=environment).stderr

    assert "/chosen/by/the/caller" in told()
    os.chown(endure, -1, group)
    endure.chmod(0o2755)
    assert "/chosen/by/the/caller" not in told()


ARM = Path(os.environ.get("EDGETALK_AARCH64", "/nowhere"))
SYSTEM = next((root for root in (ARM / "root", Path("/usr/aarch64-linux-gnu")) if root.is_dir()), None)


@pytest.mark.skipif(not (ARM / "site/openvino").is_dir(), reason="needs OpenVINO for aarch64, see .ci/run")
@pytest.mark.skipif(not shutil.which("qemu-aarch64-static"), reason="needs an emulator: apt install qemu-user-static")
@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-g++"), reason="needs apt install g++-aarch64-linux-gnu")
def test_speaks_on_aarch64_as_here(zoo, tmp_path):
    """On a processor that is emulated, so this says nothing about speed."""
    folder = build("aarch64", tmp_path, "talk")
    assert (folder / "libedgetalk.so").stat().st_size < 300_000
    engine = zoo.set("f32", tmp_path / "f32")
    soundfile.write(tmp_path / "speech.wav", sound(0.4), 16000, subtype="PCM_16")
    paths = {"EDGETALK_OPENVINO": ARM / "site/openvino/libs", "LD_LIBRARY_PATH": folder}
    command = ["qemu-aarch64-static", "-cpu", "cortex-a72", "-L", SYSTEM]
    command += [word for name, path in paths.items() for word in ("-E", f"{name}={path}")]
    done = subprocess.run([*command, folder / "talk", engine, tmp_path / "speech.wav", "3"], capture_output=True)
    assert done.returncode == 0, done.stderr
    with edgetalk.Session(engine, threads=1) as session:
        theirs = np.concatenate([frame.ravel().copy() for frame in session.talk(tmp_path / "speech.wav", seed=3)])
    assert difference([np.frombuffer(done.stdout, np.uint8)], [theirs]) <= 1
