"""Files that appear whole or not at all."""

from fractions import Fraction

import numpy as np
import pytest

from edgetalk import audio, video
from edgetalk.files import replacing
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


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, frame = "take-12:30.mp4", np.full((64, 96, 3), 90, np.uint8)
    with video.Writer(name, (96, 64), Fraction(25), np.zeros(16000, np.float32)) as writer:
        for _ in range(5):
            writer.write(frame)
    assert len(list(video.frames(name))) == len(list(Reader(name))) == 5
    assert len(audio.read(name)) == 3200
