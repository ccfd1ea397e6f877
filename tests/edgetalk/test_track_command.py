"""`edgetalk track` on films of squares, with doubles in the place of the networks: whom it follows, what it writes."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from edgetalk.cli import main
from edgetalk.commands.options import which_face
from edgetalk.commands.track import GREEN, marked
from edgetalk.face import Face, read_track
from edgetalk.reader import Reader
from edgetalk.targets import Faces
from edgetalk.writer import Writer

from .face.doubles import frame as squares


@pytest.fixture
def film(tmp_path):
    """Two faces for five frames, the larger at the left, then nobody."""
    path = tmp_path / "film.mp4"
    with Writer(path, (320, 240), Fraction(24), crf=4) as writer:
        for i in range(5):
            writer.write(squares((80 + i, 100, 80), (230, 120, 56)))
        for _ in range(3):
            writer.write(squares())
    return path


def test_the_track_lies_beside_the_film_and_is_what_dubbing_takes(film, face_models, elsewhere, capsys):
    assert main(["track", str(film), "--face-models", str(face_models)]) == 0
    track = film.with_name("film.track.npz")
    assert capsys.readouterr().out == f"{track}: a face in 5 of 8 frames; 0 cuts\n"
    faces, rate, size = read_track(track)
    assert rate == 24 and size == Reader(film).size and [face is not None for face in faces] == [True] * 5 + [False] * 3
    places = [float(face.points[:, 0].mean()) for face in faces[:5]]
    assert places == pytest.approx([80, 81, 82, 83, 84], abs=3)
    Faces(Reader(film)).close()  # without networks: the track is there


def test_another_face_is_followed_and_shown(film, face_models, elsewhere, tmp_path):
    out, seen = tmp_path / "other.NPZ", tmp_path / "seen.mp4"
    asked = ["--face", "1", "--face-models", str(face_models), "--show", str(seen), "-o", str(out)]
    assert main(["track", str(film), *asked]) == 0
    face = read_track(out).faces[2]
    assert face.points[:, 0].mean() == pytest.approx(230, abs=3) and not film.with_name("film.track.npz").exists()
    frames = list(Reader(seen))
    assert len(frames) == 8
    green = [
        np.argwhere(frame[..., 1] > frame.max(-1, where=[True, False, True], initial=0) + 50.0) for frame in frames
    ]
    assert len(green[2]) > 40 and len(green[7]) == 0
    left, top, right, bottom = face.box
    (y0, x0), (y1, x1) = green[2].min(0), green[2].max(0)
    assert [x0, y0, x1, y1] == pytest.approx([left, top, right, bottom], abs=3)


def test_nobody_is_no_track(film, face_models, elsewhere, capsys):
    asked = ["--face", "2", "--face-models", str(face_models), "--show", str(film.with_name("seen.mp4"))]
    assert main(["track", str(film), *asked]) == 1
    assert "film.mp4 shows no such face in 8 frames, so nothing was written" in capsys.readouterr().err
    assert not list(film.parent.glob("*.npz")) and not list(film.parent.glob("seen*"))


@pytest.mark.parametrize(("frames", "told"), [(1, "1 frame"), (2, "2 frames")])
def test_a_film_of_nobody_is_not_blamed_on_an_option(face_models, elsewhere, tmp_path, capsys, frames, told):
    film = tmp_path / "empty.mp4"
    with Writer(film, (320, 240), Fraction(24), crf=4) as writer:
        for _ in range(frames):
            writer.write(squares())
    assert main(["track", str(film), "--face-models", str(face_models)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"edgetalk track: empty.mp4 shows no face in {told}, so nothing was written"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.mp4"], "nowhere.mp4"),
        (["FILM", "-o", "/nowhere/at/all.npz"], "/nowhere/at"),
        (["FILM", "-o", "FILM/all.npz", "--face-models", "/nowhere"], "film.mp4: Is a file, a folder was expected"),
        (["FILM", "-o", "FOLDER/all.npz", "--face-models", "/nowhere"], "all.npz: Is a folder, a file was to take"),
        (["FILM", "--show", "FILM/seen.mp4"], "film.mp4: Is a file, a folder was expected"),
        (["/nowhere/film.mp4"], "/nowhere/film.mp4: No such file"),
        (["FILM", "--show", "FILM"], "is read and would be written over"),
        (["FILM", "--face-models", "/nowhere"], "/nowhere"),
        (["FILM", "-o", "film.mp4"], "got suffix '.mp4', expected .npz"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(film, elsewhere, tmp_path_factory, capsys, arguments, told):
    folder = tmp_path_factory.mktemp("taken")
    (folder / "all.npz").mkdir()
    given = [word.replace("FILM", str(film)).replace("FOLDER", str(folder)) for word in arguments]
    assert main(["track", *given]) == 1
    line = capsys.readouterr().err
    assert told in line and line.count("\n") == 1
    assert [path.name for path in film.parent.iterdir() if path.name != "cache"] == ["film.mp4"]


def test_numbers_of_the_command_line_count_and_other_words_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("0", "12", "-1", "largest", "anna.png", "1a")
    assert [which_face(word) for word in words] == [0, 12, -1, "largest", "anna.png", "1a"]
    (tmp_path / "12").write_bytes(b"")
    assert which_face("12") == "12"  # a picture may be called so


def test_what_is_shown_is_the_box_the_jaw_and_the_five_points():
    jaw = np.stack([np.linspace(30, 90, 17), 60 + 20 * np.sin(np.linspace(0, np.pi, 17))], 1).astype(np.float32)
    points = np.array([(40, 40), (80, 40), (60, 50), (50, 65), (70, 65)], np.float32)
    zeros = np.zeros(3, np.float32)
    face = Face(np.array([20, 20, 100, 90], np.float32), points, 1.0, None, zeros, zeros[:2], jaw)
    picture = np.zeros((120, 120, 3), np.uint8)
    seen = marked(picture, face)
    for x, y in [*points, *jaw, (20, 50), (60, 90)]:
        assert (seen[round(float(y)), round(float(x))] == GREEN).all()
    assert (seen == 0).all(2).mean() > 0.8 and not picture.any() and not marked(picture, None).any()
    assert not marked(picture, dataclasses.replace(face, jaw=None))[79:82, 55:65].any()  # the chin
