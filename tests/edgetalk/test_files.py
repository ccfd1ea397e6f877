"""Files that appear whole or not at all."""

import errno
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from edgetalk import audio, video
from edgetalk.files import claim, replacing
from edgetalk.reader import Reader


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_what_the_disk_has_no_room_for_is_named(tmp_path):
    with pytest.raises(OSError, match="No space left on device: '.*kept.txt'"), replacing(tmp_path / "kept.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_two_processes_do_not_write_one_file(tmp_path):
    """One of them is told, and what the other writes is whole; a process that was killed stands in nobody's way."""
    path = tmp_path / "report.json"
    code = (
        "import sys, time\nfrom edgetalk.files import claim, replacing\n"
        "with replacing(sys.argv[1]) as part:\n"
        "    part.write_text('theirs')\n    print(flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert other.stdout.readline()
    with pytest.raises(BlockingIOError, match="Another process is writing it.*report.json'"), replacing(path):
        pytest.fail("both write")
    assert path.with_name("report.json.part").read_text() == "theirs"
    other.kill()
    other.communicate()
    with replacing(path) as part:
        part.write_text("ours")
    assert path.read_text() == "ours" and [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_nothing_stays_open_where_files_cannot_be_locked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows, which renames no file that is open
    part, held = claim(tmp_path / "report.json")
    assert held.closed and part.exists()
    with replacing(tmp_path / "report.json") as part:
        part.write_text("whole")
    assert (tmp_path / "report.json").read_text() == "whole"


def test_two_films_do_not_take_one_name(tmp_path):
    frame = np.full((64, 96, 3), 90, np.uint8)
    with video.Writer(tmp_path / "a.mp4", (96, 64), Fraction(25)) as writer:
        writer.write(frame)
        with pytest.raises(BlockingIOError):
            video.Writer(tmp_path / "a.mp4", (96, 64), Fraction(25))
        writer.write(frame)
    assert len(list(Reader(tmp_path / "a.mp4"))) == 2
    with video.Writer(tmp_path / "a.mp4", (96, 64), Fraction(25)) as writer:
        writer.write(frame)
    assert len(list(Reader(tmp_path / "a.mp4"))) == 1


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, frame = "take-12:30.mp4", np.full((64, 96, 3), 90, np.uint8)
    with video.Writer(name, (96, 64), Fraction(25), np.zeros(16000, np.float32)) as writer:
        for _ in range(5):
            writer.write(frame)
    assert len(list(Reader(name))) == 5
    assert len(audio.read(name)) == 3200
