"""The README's moving picture, a few frames of it, read back."""

import cv2
import numpy as np

from edgetalk import audio
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
