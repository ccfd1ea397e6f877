"""Files that appear whole or not at all."""

import errno
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from edgetalk import audio
from edgetalk.errors import InputError
from edgetalk.files import check_place, claim, replacing, together
from edgetalk.reader import Reader
from edgetalk.writer import Writer


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_where_no_file_can_be_is_told_before_the_work(tmp_path):
    file, folder = tmp_path / "a.txt", tmp_path / "folder"
    file.write_text("read")
    folder.mkdir()
    check_place(file)
    check_place(folder / "b.txt", file, 5, None)
    for path, error, words in (
        (folder, IsADirectoryError, "Is a folder, a file was to take its name: '.*folder'"),
        (tmp_path / "none" / "b.txt", FileNotFoundError, "No such folder; make it: mkdir -p .*none'"),
        (file / "b.txt", NotADirectoryError, "Is a file, a folder was expected .*: '.*a.txt'"),
        (file / "deep" / "b.txt", NotADirectoryError, "Is a file, a folder was expected .*: '.*a.txt'"),
    ):
        with pytest.raises(error, match=words):
            check_place(path)
    with pytest.raises(InputError, match="a.txt is read and would be written over"):
        check_place(file, None, str(file))
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):  # only trying tells
        check_place(tmp_path / ("z" * 252))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "folder"] and not list(folder.iterdir())


def test_a_folder_that_may_not_be_written_is_told_before_the_work(tmp_path, without_rights):
    code = "import sys\nfrom edgetalk.files import check_place\ncheck_place(sys.argv[1])\n"
    command = [sys.executable, "-c", code, tmp_path / "a.txt"]
    tmp_path.chmod(0o555)
    told = subprocess.run(command, capture_output=True, text=True, preexec_fn=without_rights)
    tmp_path.chmod(0o755)
    assert told.stderr.endswith(f"PermissionError: [Errno 13] Permission denied: '{tmp_path / 'a.txt'}'\n")


@pytest.mark.skipif(os.name != "posix", reason="locks files")
def test_a_file_that_is_being_written_is_left_to_its_writer(tmp_path):
    with replacing(tmp_path / "a.txt") as part:
        part.write_text("theirs")
        with pytest.raises(BlockingIOError, match="Another process is writing it.*a.txt'"):
            check_place(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "theirs"


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


def test_what_cannot_be_written_is_told_by_the_name_that_was_asked_for(tmp_path):
    """And not by NAME.part; where that is a folder, it has to be named to be found."""
    long = tmp_path / ("z" * 252)
    with pytest.raises(OSError) as told, replacing(long):
        pytest.fail("there is no such name")
    assert told.value.errno == errno.ENAMETOOLONG and told.value.filename == str(long)
    with pytest.raises(IsADirectoryError) as told, replacing(tmp_path / "a.txt") as part:
        (tmp_path / "a.txt").mkdir()
        part.write_text("whole")
    assert told.value.filename == str(tmp_path / "a.txt") and not part.exists()
    with pytest.raises(FileNotFoundError) as told, replacing(tmp_path / "b.txt"):
        open(tmp_path / "c.txt")
    assert told.value.filename == str(tmp_path / "c.txt"), "another file is left alone"
    (tmp_path / "d.txt.part").mkdir()
    with pytest.raises(IsADirectoryError) as told, replacing(tmp_path / "d.txt"):
        pytest.fail("it was opened")
    assert told.value.filename == str(tmp_path / "d.txt.part")


def test_a_set_of_files_names_the_folder_that_takes_none(tmp_path, monkeypatch):
    def refused(prefix, suffix, dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{dir}/{prefix}x{suffix}")

    monkeypatch.setattr("tempfile.mkdtemp", refused)  # root may write everywhere
    with pytest.raises(PermissionError) as told, together(tmp_path):
        pytest.fail("it was written")
    assert told.value.filename == str(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_film_that_the_disk_does_not_hold_is_told_by_its_name(tmp_path):
    code = (
        "import resource, sys\nfrom edgetalk.signals import status\nfrom fractions import Fraction\n"
        "import numpy as np\nfrom edgetalk.writer import Writer\n"
        "def work():\n"
        "    with Writer('z.mp4', (256, 256), Fraction(25)) as writer:\n"
        "        for i in range(60):\n"
        "            writer.write(np.random.default_rng(i).integers(0, 256, (256, 256, 3)).astype(np.uint8))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "sys.exit(status('film', work))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (1, "film: z.mp4: File too large\n")
    assert not list(tmp_path.iterdir())


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
    with Writer(tmp_path / "a.mp4", (96, 64), Fraction(25)) as writer:
        writer.write(frame)
        with pytest.raises(BlockingIOError):
            Writer(tmp_path / "a.mp4", (96, 64), Fraction(25))
        writer.write(frame)
    assert len(list(Reader(tmp_path / "a.mp4"))) == 2
    with Writer(tmp_path / "a.mp4", (96, 64), Fraction(25)) as writer:
        writer.write(frame)
    assert len(list(Reader(tmp_path / "a.mp4"))) == 1


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, frame = "take-12:30.mp4", np.full((64, 96, 3), 90, np.uint8)
    with Writer(name, (96, 64), Fraction(25), np.zeros(16000, np.float32)) as writer:
        for _ in range(5):
            writer.write(frame)
    assert len(list(Reader(name))) == 5
    assert len(audio.read(name)) == 3200
