"""The README's moving picture, a few frames of it, read back."""

import runpy
import warnings

import cv2
import numpy as np
import pytest

from edgetalk import audio
from edgetalk.train import program
from edgetalk.train.reports import hello


def test_three_speak_and_a_film_is_beside_its_dub(tmp_path, monkeypatch):
    read = audio.read
    monkeypatch.setattr(hello, "FRAMES", 4)
    monkeypatch.setattr(hello.audio, "read", lambda path: read(path)[8000 : 8000 + 4 * 640])
    hello.main(["-o", str(tmp_path / "hello.webp")])
    read_back, animation = cv2.imreadanimation(str(tmp_path / "hello.webp"))
    assert read_back and [path.name for path in tmp_path.iterdir()] == ["hello.webp"]
    assert list(animation.durations) == [40] * 4
    frames = np.stack([frame[..., :3] for frame in animation.frames]).astype(int)
    assert frames.shape == (4, hello.SIDE, 5 * hello.SIDE, 3)
    columns = np.split(frames, 5, 2)
    film, dubbed = columns[3:]
    corner = np.s_[:, : hello.SIDE // 8, : hello.SIDE // 8]
    assert np.abs(film[corner] - dubbed[corner]).mean() < 6 < np.abs(film - dubbed).mean(), "another face, not all"
    assert min(np.abs(a - b).mean() for a in columns[:3] for b in columns[:3] if a is not b) > 20


def test_what_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    def stopped(encode):
        def run(*given):
            encode(*given)
            raise KeyboardInterrupt

        return run

    monkeypatch.setattr(hello, "FRAMES", 2)
    monkeypatch.setattr(hello, "shown", lambda frames: [np.zeros((8, 8, 3), np.uint8)] * 2)
    monkeypatch.setattr(hello, "dubbed", lambda folder: ())
    for name in ("imwriteanimation", "imencodeanimation"):
        monkeypatch.setattr(cv2, name, stopped(getattr(cv2, name)))
    with pytest.raises(KeyboardInterrupt):
        hello.main(["-o", str(tmp_path / "hello.webp")])
    assert not list(tmp_path.iterdir())


def test_the_program_ends_as_others_do(monkeypatch):
    ran = []
    monkeypatch.setattr(program, "run", ran.append)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a module that was imported before
        runpy.run_module("edgetalk.train.reports.hello", run_name="__main__", alter_sys=True)
    assert [main.__name__ for main in ran] == ["main"]
