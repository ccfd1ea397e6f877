"""Every bad input through the command line: exit status 1, one line on stderr, nothing half-written."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import soundfile

from edgetalk import avatar as avatars
from edgetalk.cli import main

from .conftest import cut


@pytest.fixture
def folder(zoo, tmp_path) -> Path:
    """A model, a sound and a picture, all of them good."""
    zoo.set("onnx", tmp_path)
    zoo.set("f32", tmp_path)
    pcm = np.random.default_rng(0).normal(size=4000).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", pcm, 16000, subtype="PCM_16")
    cv2.imwrite(str(tmp_path / "face.png"), zoo.face(96))
    return tmp_path


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def metadata(path: Path, text: str | None) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(model, {"edgetalk": text})
    onnx.save(model, path)


def foreign(folder: Path) -> None:
    """An avatar of other weights, and no engine that could prepare it again."""
    own = avatars.load_avatar(folder / "amnet.avatar")
    avatars.save_avatar(dataclasses.replace(own, weights="0" * 64), folder / "new.avatar")
    (folder / "new.avatar").replace(folder / "amnet.avatar")
    for file in folder.glob("amnet-source.*"):
        file.unlink()


def private(folder: Path) -> None:
    """The same face, which is not for every use."""
    own = avatars.load_avatar(folder / "amnet.avatar")
    avatars.save_avatar(dataclasses.replace(own, use="non-commercial", licence="on paper"), folder / "new.avatar")
    (folder / "new.avatar").replace(folder / "amnet.avatar")


def wav(folder: Path, samples: np.ndarray, rate: int = 16000) -> None:
    soundfile.write(folder / "a.wav", samples.astype(np.float32), rate, subtype="FLOAT")


TALK = ["talk", "amnet.xml", "--audio", "a.wav", "-o", "out.mp4"]
ONNX = ["talk", "amnet.onnx", "--audio", "a.wav", "-o", "out.mp4"]
FACE = [*TALK, "--source", "face.png"]
AVATAR = ["avatar", "amnet.xml", "face.png", "-o", "new.avatar"]
DOCTOR = ["doctor", "amnet.xml"]
LONG = "z" * 248  # with .mp4 a name that a disk takes, with .part behind it none: root, too, cannot write it

CASES = {
    # engines
    "xml cut": (lambda f: cut(f / "amnet.xml"), TALK, "amnet.xml is truncated"),
    "bin cut": (lambda f: cut(f / "amnet.bin"), TALK, "amnet.xml cannot be read: Incorrect weights"),
    "bin gone": (lambda f: (f / "amnet.bin").unlink(), DOCTOR, "amnet.xml has no amnet.bin beside it"),
    "xml text": (lambda f: (f / "amnet.xml").write_text("hello"), DOCTOR, "amnet.xml is no OpenVINO model"),
    "onnx cut": (lambda f: cut(f / "amnet.onnx", 0.9), ONNX, "amnet.onnx is truncated"),
    "onnx text": (lambda f: (f / "amnet.onnx").write_text("hello"), ONNX, "amnet.onnx is no ONNX model"),
    "no engine": (lambda f: (f / "amnet.xml").unlink(), TALK, "amnet.xml: No such engine"),
    "no such suffix": (lambda f: None, ["doctor", "amnet.bin"], "amnet.bin is no engine that edgetalk knows"),
    "no such name": (lambda f: None, ["doctor", "anna"], "no bundled model is called anna"),
    "no such device": (lambda f: None, [*TALK, "--device", "FPGA"], 'device "FPGA" is missing: OpenVINO sees'),
    "source as step": (lambda f: None, [TALK[0], "amnet-source.xml", *TALK[2:]], "amnet-source.xml makes appearance"),
    # metadata
    "no metadata": (lambda f: metadata(f / "amnet.onnx", None), ONNX, "amnet.onnx has no edgetalk metadata"),
    "newer metadata": (lambda f: metadata(f / "amnet.onnx", '{"format":2}'), ONNX, "metadata of format 2"),
    "damaged metadata": (lambda f: metadata(f / "amnet.onnx", '{"form'), ONNX, "edgetalk metadata that is damaged"),
    # avatars
    "avatar cut": (lambda f: cut(f / "amnet.avatar"), TALK, "amnet.avatar is truncated or no avatar"),
    "no avatar": (lambda f: (f / "amnet.avatar").unlink(), TALK, "amnet.xml has no amnet.avatar beside it"),
    "no such avatar": (
        lambda f: None,
        [*TALK, "--avatar", "bea.avatar"],
        "bea.avatar: No such avatar; the bundled face is called",
    ),
    "no such file of an avatar": (
        lambda f: None,
        [*TALK, "--avatar", "none.avatar"],
        "none.avatar: No such file",
    ),
    "avatar of other weights": (foreign, TALK, "amnet.avatar was prepared with other weights"),
    "avatar of another use": (
        private,
        [*TALK, "--use", "commercial"],
        "is for non-commercial use (licence: on paper)",
    ),
    "a face for an engine": (lambda f: None, ["talk", "bea", *TALK[2:]], "no bundled model is called bea"),
    "no such avatar to look at": (
        lambda f: None,
        ["doctor", "bea.avatar"],
        "bea.avatar: No such avatar; the bundled face",
    ),
    # pictures
    "a face for a picture": (lambda f: None, [*TALK, "--source", "bea"], "bea: No such picture; bea is a bundled face"),
    "png text": (lambda f: (f / "face.png").write_text("no picture"), FACE, "face.png is no whole picture"),
    "png cut": (lambda f: cut(f / "face.png"), AVATAR, "face.png is no whole picture"),
    "png not square": (
        lambda f: cv2.imwrite(str(f / "face.png"), np.zeros((90, 80, 3), np.uint8)),
        AVATAR,
        "got 80x90",
    ),
    "png small": (lambda f: cv2.imwrite(str(f / "face.png"), np.zeros((40, 40, 3), np.uint8)), FACE, "got 40x40"),
    "no picture": (lambda f: (f / "face.png").unlink(), AVATAR, "face.png: No such file or directory"),
    "picture is a folder": (lambda f: None, ["avatar", "amnet.xml", "."], ".: Is a directory"),
    "no source engine": (lambda f: [p.unlink() for p in f.glob("*-source.*")], AVATAR, "has no amnet-source.xml"),
    "source engine cut": (lambda f: cut(f / "amnet-source.bin"), AVATAR, "amnet-source.xml cannot be read"),
    "no folder for the avatar": (
        lambda f: None,
        [*AVATAR[:-1], "there/new.avatar"],
        "there: No such folder; make it: mkdir -p there",
    ),
    "an avatar over its picture": (lambda f: None, [*AVATAR[:-1], "face.png"], "face.png: got suffix '.png', expected"),
    "no such device for a face": (lambda f: None, [*AVATAR, "--device", "FPGA"], 'device "FPGA" is missing: OpenVINO'),
    "threads for a face": (lambda f: None, [*AVATAR, "--threads", "0"], "threads: got 0, expected a whole number"),
    "threads": (lambda f: None, [*TALK, "--threads", "-3"], "threads: got -3, expected a whole number"),
    # sounds
    "no sound": (lambda f: (f / "a.wav").unlink(), TALK, "a.wav: No such file or directory"),
    "empty wav": (lambda f: (f / "a.wav").write_bytes(b""), TALK, "a.wav is empty"),
    "wav without samples": (lambda f: wav(f, np.zeros(0)), TALK, "a.wav is empty"),
    "one sample": (lambda f: wav(f, np.zeros(1)), TALK, "a.wav lasts 1 sample"),
    "wav cut": (lambda f: cut(f / "a.wav"), TALK, "a.wav is truncated"),
    "wav text": (lambda f: (f / "a.wav").write_text("no sound, a text"), TALK, "a.wav is no sound"),
    "wav with NaN": (lambda f: wav(f, np.full(4000, np.nan)), TALK, "a.wav holds NaN"),
    "slow wav": (lambda f: wav(f, np.zeros(4000), 4000), TALK, "a.wav is sampled at 4000 Hz"),
    # outputs
    "no such film": (lambda f: None, [*TALK[:-1], "out.avi"], "expected .mp4 or .webm"),
    "no folder for the film": (
        lambda f: None,
        [*TALK[:-1], "there/out.mp4"],
        "there: No such folder; make it: mkdir -p there",
    ),
    "film over a film": (
        lambda f: (f / "out.mp4").mkdir(),
        TALK,
        "out.mp4: Is a folder, a file was to take its name",
    ),
    "film in a file": (lambda f: None, [*TALK[:-1], "a.wav/out.mp4"], "a.wav: Is a file, a folder was expected"),
    "avatar over a folder": (
        lambda f: (f / "new.avatar").mkdir(),
        ["avatar", "none.xml", *AVATAR[2:]],
        "new.avatar: Is a folder, a file was to take its name",
    ),
    "avatar in a file": (
        lambda f: None,
        ["avatar", "none.xml", "face.png", "-o", "face.png/new.avatar"],
        "face.png: Is a file, a folder was expected to write into",
    ),
    "picture of an avatar over a folder": (
        lambda f: (f / "seen.png").mkdir(),
        ["avatar", "none.xml", *AVATAR[2:], "--show", "seen.png"],
        "seen.png: Is a folder, a file was to take its name",
    ),
    "film over its sound": (
        lambda f: (f / "a.wav").rename(f / "a.mp4"),
        ["talk", "amnet.xml", "--audio", "a.mp4", "-o", "./a.mp4"],
        "./a.mp4 is read and would be written over",
    ),
    "film of a long name": (
        lambda f: None,
        [*TALK[:-1], f"{LONG}.mp4"],
        f"edgetalk talk: {LONG}.mp4: File name too long",
    ),
    "avatar of a long name": (
        lambda f: None,
        [*AVATAR[:-1], f"{LONG[3:]}.avatar"],
        f"edgetalk avatar: {LONG[3:]}.avatar: File name too long",
    ),
    "crf": (lambda f: None, [*TALK, "--crf", "-5"], "crf: got -5, expected 0 (the best) to 51"),
    "bad rate": (lambda f: None, [*TALK, "--fps", "0"], "fps: got 0"),
    "no rate": (lambda f: None, [*TALK, "--fps", ""], "fps: got nothing, expected a number"),
}


def check(arguments: list[str], message: str, status: int, out: str, err: str) -> None:
    assert status == 1, err
    assert err.startswith(f"edgetalk {arguments[0]}: ") and message in err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert "Errno" not in err and ".part" not in err, "what nobody typed"
    assert out == ""


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_half_written(folder, monkeypatch, capfd, case):
    """In this process, but with all that comes out of its file descriptors, C++ libraries included."""
    spoil, arguments, message = CASES[case]
    spoil(folder)
    before = listing(folder)
    monkeypatch.chdir(folder)
    capfd.readouterr()
    status = main(arguments)
    check(arguments, message, status, *capfd.readouterr())
    assert listing(folder) == before


@pytest.mark.parametrize("case", ["xml cut", "onnx text", "png cut", "wav cut", "no such name", "no such device"])
def test_the_same_from_a_process_of_its_own(folder, edgetalk_cli, case):
    spoil, arguments, message = CASES[case]
    spoil(folder)
    before = listing(folder)
    result = edgetalk_cli(*arguments, cwd=folder)
    check(arguments, message, result.returncode, result.stdout, result.stderr)
    assert listing(folder) == before


def test_a_warning_is_one_line_too(zoo, folder, edgetalk_cli):
    """Persons that the network knows, and a face that is none of them."""
    persons = dataclasses.replace(zoo.metadata, persons=("ada", "bea"))
    zoo.write("step", folder / "amnet.onnx", persons)
    for arguments in ([*ONNX, "--source", "face.png"], ["avatar", "amnet.onnx", "face.png", "-o", "new.avatar"]):
        result = edgetalk_cli(*arguments, cwd=folder)
        assert result.returncode == 0
        assert result.stderr.count("\n") == 1 and "amnet.onnx was trained on ada, bea alone" in result.stderr
        assert (folder / arguments[-1].replace("face.png", "out.mp4")).stat().st_size
    result = edgetalk_cli("avatar", "amnet.onnx", "face.png", "--name", "ada", cwd=folder)
    assert result.stderr == "" and avatars.load_avatar(folder / "face.avatar").name == "ada"


@pytest.mark.parametrize("arguments", [["train", "amnet"], ["data", "announcers", "-o", "there"], ["score", "amnet"]])
def test_what_is_not_installed_is_told_with_the_way_to_install_it(tmp_path, arguments):
    """Whether the command's own module imports it, or one of its families or steps does."""
    code = "import sys; sys.modules |= dict(torch=None, scipy=None)\n"
    code += "from edgetalk.cli import main; sys.exit(main(sys.argv[1:]))"
    told = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 1, told.stderr
    wanted = rf'edgetalk {arguments[0]} needs (torch|scipy): pip install "edgetalk\[train\]"\n'
    assert re.fullmatch(wanted, told.stderr)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["talk", "--help"], ["doctor", "amnet"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_takes(arguments, unbuffered):
    """A reader that has gone is no error, a full disk is one line; neither leaves anything for Python's end to say."""
    command = [sys.executable, "-m", "edgetalk.cli", *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    told = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (told.returncode, told.stderr) == (0, "")
    if not os.path.exists("/dev/full"):
        return
    with open("/dev/full", "w") as full:
        told = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    if arguments != ["talk", "--help"] or not unbuffered:  # argparse keeps to itself what it could not write
        assert told.returncode == 1 and told.stderr.startswith(f"edgetalk {arguments[0]}: ")
        assert told.stderr.endswith("No space left on device\n") and "Errno" not in told.stderr
        assert told.stderr.count("\n") == 1


def test_the_help_tells_of_the_version_too(capsys):
    assert main(["--help"]) == 0
    assert "edgetalk --version" in capsys.readouterr().out


def test_the_help_of_avatar_tells_what_is_written_and_where(capsys):
    assert main(["avatar", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the .avatar file (default: beside the picture or video, by its name)" in told
    assert "--show FILE write the picture that the network sees, too: .png or .jpg" in told


def test_letters_that_the_terminal_has_not(folder):
    """Its encoding decides nothing: help with … in it, names of files that are no text at all."""
    (folder / "a.wav").rename(folder / "caf\udce9.wav")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}

    def run(*arguments):
        command = [sys.executable, "-m", "edgetalk.cli", *arguments]
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)

    assert "a film \\u2026" in run("talk", "--help").stdout
    told = run("talk", "amnet.xml", "--audio", "caf\udce9.wav", "-o", "\u6587\udce9.mp4")
    assert (told.returncode, told.stderr) == (0, "") and told.stdout.startswith("\\u6587\\udce9.mp4: 7 frames")


@pytest.mark.parametrize("module", ["argparse", "edgetalk.commands.talk", "numpy"])
def test_ctrl_c_while_a_command_is_loaded_is_one_line(tmp_path, module):
    code = f"""
import sys
class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
from edgetalk.cli import main
sys.exit(main(sys.argv[1:]))"""
    told = subprocess.run([sys.executable, "-c", code, *TALK], capture_output=True, text=True, cwd=tmp_path)
    assert (told.returncode, told.stderr) == (130, "edgetalk talk: interrupted\n")


def test_avatar_and_talk_work_where_nothing_is_wrong(folder, edgetalk_cli):
    details = ["--licence", "CC0-1.0", "--consent", "drawn", "--name", "ada"]
    result = edgetalk_cli(*AVATAR, *details, cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    made = avatars.load_avatar(folder / "new.avatar")
    assert (made.licence, made.consent, made.name) == ("CC0-1.0", "drawn", "ada")
    result = edgetalk_cli(*TALK, "--avatar", "new.avatar", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert (folder / "out.mp4").stat().st_size
