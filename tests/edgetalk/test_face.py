"""Faces against naive forms: track files, anchors, decoding, suppression, pose, lids, smoothing, and the tracker."""

from fractions import Fraction

import numpy as np
import pytest

from edgetalk import InputError
from edgetalk.face import Face, read_track, track_beside, track_rate, write_track


def some_face(seed):
    rng = np.random.default_rng(seed)
    return Face(
        rng.uniform(0, 600, 4).astype(np.float32),
        rng.uniform(0, 600, (5, 2)).astype(np.float32),
        0.9,
        rng.uniform(0, 600, (468, 2)).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
        rng.uniform(0, 1, 2).astype(np.float32),
    )


def test_a_track_comes_back_as_it_was_written(tmp_path):
    faces = [some_face(0), None, some_face(1), some_face(2), None]
    path = tmp_path / "film.track.npz"
    write_track(path, faces, Fraction(30000, 1001))
    assert [file.name for file in tmp_path.iterdir()] == ["film.track.npz"]
    got = read_track(path)
    assert [face is None for face in got] == [face is None for face in faces]
    for face, want in zip(got, faces, strict=True):
        if face is not None and want is not None:
            for name in ("box", "points", "pose", "blink"):
                assert np.array_equal(getattr(face, name), getattr(want, name))
            assert face.landmarks is None and face.score == 1.0
    assert track_rate(path) == Fraction(30000, 1001)
    with np.load(path, allow_pickle=False) as file:  # the format as other programs read it
        assert {name: file[name].shape for name in file.files} == {
            "points": (5, 5, 2), "boxes": (5, 4), "pose": (5, 3), "blink": (5, 2), "fps": (2,),
        }  # fmt: skip
        assert np.isnan(file["points"][1]).all() and file["fps"].tolist() == [30000, 1001]


def test_an_empty_track_is_one(tmp_path):
    write_track(tmp_path / "a.track.npz", [], Fraction(25))
    assert read_track(tmp_path / "a.track.npz") == []


def test_the_track_of_a_film_is_found_beside_it(tmp_path):
    assert track_beside(tmp_path / "film.mp4") is None
    write_track(tmp_path / "film.track.npz", [None], Fraction(25))
    assert track_beside(tmp_path / "film.mp4") == tmp_path / "film.track.npz"


GOOD = {
    "points": np.zeros((3, 5, 2), np.float32),
    "boxes": np.zeros((3, 4), np.float32),
    "pose": np.zeros((3, 3), np.float32),
    "blink": np.zeros((3, 2), np.float32),
    "fps": np.array([25, 1]),
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pose": None}, "it has no pose"),
        ({"pose": np.zeros((2, 3), np.float32)}, r"pose float32 \(2, 3\), expected float32 \(3, 3\)"),
        ({"points": np.zeros((3, 68, 2), np.float32)}, r"points float32 \(3, 68, 2\)"),
        ({"boxes": np.zeros((3, 4), int)}, "boxes int64"),
        ({"boxes": np.full((3, 4), np.inf, np.float32)}, "boxes that are no numbers"),
        ({"fps": np.array([25, 0])}, r"fps \[25, 0\]"),
        ({"fps": np.array(25.0)}, "fps 25.0"),
        ({"points": np.array([{}, {}], object)}, "damaged"),
    ],
)
def test_a_wrong_track_is_refused_in_one_sentence(tmp_path, change, words):
    arrays = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    np.savez(tmp_path / "a.track.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_track(tmp_path / "a.track.npz")


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:200], lambda data: b"no zip at all"])
def test_a_damaged_track_is_refused(tmp_path, damage):
    np.savez(tmp_path / "a.track.npz", **GOOD)
    (tmp_path / "a.track.npz").write_bytes(damage((tmp_path / "a.track.npz").read_bytes()))
    with pytest.raises(InputError, match=r"a\.track\.npz is no track of a face"):
        read_track(tmp_path / "a.track.npz")
    with pytest.raises(FileNotFoundError):
        read_track(tmp_path / "missing.track.npz")
