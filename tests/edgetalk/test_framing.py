"""Photos whose face is known or found: in the square that is cut out it lies where AMNet's faces do."""

import warnings
from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgetalk.cli import main
from edgetalk.errors import InputError
from edgetalk.face import find, write_track
from edgetalk.framing import framed
from edgetalk.preprocess import TEMPLATES, similarity
from edgetalk.train.announcers.announcer import Announcer
from edgetalk.train.announcers.features import Controls
from edgetalk.train.announcers.identity import CAST

from .dub_models import face

FIVE = TEMPLATES["amnet"]
POINTS = [74, 84, 54, 86, 92]  # of the announcers' landmarks: eyes, tip of the nose, corners of the mouth


def photo(path, angle, side, middle, size=(900, 700), colour=60):
    """Write a photo with a dot at each of the five points of a face, and a track that says where these are."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (FIVE - 0.5) * side @ turn.T + middle
    picture = np.full((size[1], size[0], 3), colour, np.uint8)
    for number, point in enumerate(points):
        spot = tuple(int(v) for v in np.round(point * 16))
        cv2.circle(picture, spot, round(side * 0.015 * 16), (255, 40 * number, 0), -1, cv2.LINE_AA, 4)
    cv2.imwrite(str(path), picture[..., ::-1])
    write_track(path.with_suffix(".track.npz"), [face(points=points)], Fraction(25), size)
    return path


def dots(picture):
    """Where the dots are, (5, 2), fractions of the square."""
    red = (picture[..., 0] > 150) & (picture[..., 2] < 40)
    _, _, _, middles = cv2.connectedComponentsWithStats(red.astype(np.uint8))
    return (middles[1:] + 0.5) / len(picture)


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2])
@pytest.mark.parametrize("side", [100, 380])
def test_the_face_is_turned_upright_and_as_large_as_those_of_training(tmp_path, angle, side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        square = framed(photo(tmp_path / "a.png", angle, side, (430, 360)))
    assert square.dtype == np.uint8 and square.shape == (side, side, 3)  # no pixel is made up or lost
    found = dots(square)
    for point in FIVE:
        assert np.hypot(*(found - point).T).min() < 0.006


def test_a_large_photo_is_made_smaller(tmp_path):
    square = framed(photo(tmp_path / "a.png", 0.1, 1900, (1100, 1000), size=(2200, 2100)))
    assert square.shape == (1024, 1024, 3)
    assert np.hypot(*(dots(square)[:, None] - FIVE).transpose(2, 0, 1)).min(0).max() < 0.004


def test_who_leaves_no_room_around_the_head_is_told(tmp_path):
    with pytest.warns(UserWarning, match=r"a.png shows too little around the head: 2\d% of the square lie outside"):
        framed(photo(tmp_path / "a.png", 0.0, 400, (100, 350)))


def test_a_face_of_few_pixels_is_refused(tmp_path):
    with pytest.raises(InputError, match="a.png: got a face for a square of 40 pixels, expected 64 or more"):
        framed(photo(tmp_path / "a.png", 0.3, 40, (430, 360)))


def test_the_command_cuts_shows_and_refuses(zoo, tmp_path, capsys):
    engine = str(zoo.set("f32", tmp_path))
    picture = photo(tmp_path / "a.png", 0.4, 300, (430, 360))
    assert main(["avatar", engine, str(picture)]) == 1
    assert "picture: got 900x700, expected a square" in (told := capsys.readouterr().err) and "--crop" in told
    command = ["avatar", engine, str(picture), "--crop", "-o", str(tmp_path / "b.avatar")]
    assert main([*command, "--show", str(tmp_path / "seen.png")]) == 0
    seen = cv2.imread(str(tmp_path / "seen.png"))[..., ::-1]
    expected = cv2.resize(framed(picture), seen.shape[:2], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(seen, expected)
    assert main([*command[:-1], str(tmp_path / "B.AVATAR"), "--show", str(tmp_path / "SEEN.JPEG")]) == 0
    assert np.abs(cv2.imread(str(tmp_path / "SEEN.JPEG"))[..., ::-1].astype(int) - seen).mean() < 5
    before, other = picture.read_bytes(), photo(tmp_path / "c.png", 0.4, 300, (430, 360))
    for arguments, words in (
        ([*command, "--show", str(picture)], "a.png is read and would be written over"),
        ([*command, "--face", str(other), "--show", str(other)], "c.png is read and would be written over"),
        ([*command, "--show", str(tmp_path / "seen.bmp")], "show: got seen.bmp, expected a name that ends in"),
        ([*command, "--show", str(tmp_path / "none" / "seen.png")], "No such folder"),
        ([*command[:3], "--face", "1"], "face: nothing is looked for in a square; add --crop"),
        (["avatar", engine, "--crop", "--video", str(picture), "--portrait", "a.png"], "crop: is of photos"),
    ):
        capsys.readouterr()
        assert main(arguments) == 1
        assert words in capsys.readouterr().err
    assert picture.read_bytes() == before


@pytest.mark.usefixtures("tracking_networks")
@pytest.mark.parametrize("name", ["ada", "finn"])
def test_a_drawn_person_in_a_turned_photo_is_found(name):
    announcer = Announcer(CAST[name])
    drawn = announcer.draw(Controls())
    height, width = 600, 800
    turned = cv2.getRotationMatrix2D((128, 128), 25, 1.4) + [[0, 0, 270], [0, 0, 170]]
    whole = cv2.warpAffine(drawn, turned, (width, height), borderMode=cv2.BORDER_REPLICATE)
    square = framed(whole)
    five = announcer.landmarks(Controls())[POINTS]  # upright; how large and where differs a little between persons
    seen = (find(square)[0].points + 0.5) / len(square)
    matrix = similarity(seen, five)
    assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) < 2  # of 25
    assert abs(np.hypot(*matrix[:, 0]) - 1) < 0.15
    assert np.abs(seen - FIVE).max() < 0.03
    np.testing.assert_allclose(framed(whole, face=0).shape, square.shape, atol=4)
    with pytest.raises(InputError, match="the photo shows no face 1; choose another"):
        framed(whole, face=1)
