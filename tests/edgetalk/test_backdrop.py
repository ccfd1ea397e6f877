"""A face that speaks in the pictures of its film, against dubbing and against its crops pasted one by one."""

import dataclasses
from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgetalk import avatar as avatars
from edgetalk import backdrop, planes
from edgetalk.avatar import Film
from edgetalk.errors import ModelError
from edgetalk.pasting import Pasting
from edgetalk.preprocess import TEMPLATES, crop_matrix
from edgetalk.session import Session

SIDE, FRAMES = 96, 3


def jaw_of(points):
    """Half an ellipse around them, from ear to ear by way of the chin."""
    middle, width = points.mean(0), np.ptp(points[:, 0]) * 1.1
    angles = np.linspace(np.pi, 0, 17)
    return (middle + width * np.c_[np.cos(angles), 1.2 * np.sin(angles)]).astype(np.float32)


def film_of(size, face=60.0):
    """A film of soft noise with its crops, and the same pictures in the codec's form."""
    width, height = size
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.normal(size=(FRAMES, height, width)).transpose(1, 2, 0), (0, 0), 5)
    grey = np.clip(noise / noise.std() * 30 + 120, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    pictures = [cv2.applyColorMap(one, cv2.COLORMAP_PINK) for one in grey]
    coded = [planes.of_rgb(planes.even(one)) for one in pictures]
    spots = [((TEMPLATES["wavsyncswap"] - 0.5) * face + (width / 2 + 2 * i, height / 2)) for i in range(FRAMES)]
    matrices = [crop_matrix("wavsyncswap", spot.astype(np.float32), SIDE) for spot in spots]
    return Film(
        target=np.stack([planes.crop(one, m, SIDE) for one, m in zip(coded, matrices, strict=True)]),
        matrices=np.stack(matrices).astype(np.float32),
        at=np.arange(FRAMES, dtype=np.float32),
        identity=np.zeros((1, 4), np.float32),
        size=size,
        fps=Fraction(25),
        jaws=np.stack([jaw_of(spot) for spot in spots]),
        pictures=backdrop.pile([backdrop.code(one, size) for one in coded]),
    ), coded


def painted(film):
    """Other colours, and another structure in the middle."""
    changed = 255 - film.target
    noise = cv2.GaussianBlur(np.random.default_rng(5).normal(size=(30, 36, 3)), (0, 0), 3)
    changed[:, 40:70, 30:66] = np.clip(noise / noise.std() * 60 + 128, 0, 255)
    return changed


def rgb(coded, size):
    """In colours, rounded to the nearest, as the JPEGs are made of them."""
    return planes.small(coded, (coded.shape[1], coded.shape[0] * 2 // 3))[: size[1], : size[0]]


@pytest.mark.parametrize("size", [(200, 160), (161, 121)])
@pytest.mark.parametrize("jaws", [True, False])
def test_a_crop_comes_where_dubbing_puts_it(size, jaws):
    film, coded = film_of(size)
    if not jaws:
        film = dataclasses.replace(film, jaws=np.full_like(film.jaws, np.nan))
    crops, pasting = painted(film), Pasting("wavsyncswap", SIDE, swaps=True)
    shown = backdrop.Backdrop(film, "wavsyncswap", SIDE)
    assert shown.size == size
    for i in (2, 0, 1):
        matrix = film.matrices[i].astype(np.float64)
        wanted, before = coded[i].copy(), rgb(coded[i], size)
        planes.blend(wanted, *pasting.layers(crops[i], film.target[i], matrix, film.jaws[i] if jaws else None), matrix)
        wanted, got = rgb(wanted, size), shown.show(i, crops[i])
        assert got.shape == (size[1], size[0], 3) and got.dtype == np.uint8
        matrix = cv2.invertAffineTransform(matrix)
        outside = cv2.warpAffine(np.full((SIDE, SIDE), 255, np.uint8), matrix, size) == 0
        error, changed = (np.abs(got.astype(float) - other) for other in (wanted, before))
        assert changed[~outside].mean() > 9 * error[~outside].mean() and error[~outside].mean() < 4
        assert changed[outside].max() < 20 and changed[outside].mean() < 2, "nothing but JPEG's own errors"


def test_large_pictures_are_reduced_and_the_face_with_them(monkeypatch):
    size = (240, 200)
    whole, coded = film_of(size, face=100.0)
    monkeypatch.setattr(backdrop, "LONGEST", 120)
    reduced = dataclasses.replace(whole, pictures=backdrop.pile([backdrop.code(one, size) for one in coded]))
    crops = painted(whole)
    large, small = (backdrop.Backdrop(film, "wavsyncswap", SIDE) for film in (whole, reduced))
    assert (large.size, small.size) == (size, (120, 100))
    for i in range(FRAMES):
        wanted = cv2.resize(large.show(i, crops[i]), small.size, interpolation=cv2.INTER_AREA)
        errors = [np.abs(small.show(i, crops[i]).astype(float) - np.roll(wanted, shift, 1)).mean() for shift in (0, 1)]
        assert errors[0] < 3 and errors[1] > 1.5 * errors[0], errors


def test_pictures_are_found_again_whatever_their_lengths():
    film, _ = film_of((64, 48), face=20.0)
    lengths = [len(row.tobytes().rstrip(b"\0")) for row in film.pictures]
    assert len(set(lengths)) > 1 and film.pictures.shape[1] == max(lengths)
    for row, length in zip(film.pictures, lengths, strict=True):
        assert np.array_equal(cv2.imdecode(row, cv2.IMREAD_COLOR), cv2.imdecode(row[:length], cv2.IMREAD_COLOR))


def test_a_damaged_picture_is_told():
    film, _ = film_of((64, 48), face=20.0)
    film.pictures[0] = 0
    with pytest.raises(ModelError, match="^the avatar's picture 0 is damaged; prepare it again from its film$"):
        backdrop.Backdrop(film, "wavsyncswap", SIDE)
    film, _ = film_of((64, 48), face=20.0)
    shown, other = backdrop.Backdrop(film, "wavsyncswap", SIDE), film_of((32, 48), face=20.0)[0].pictures
    film.pictures[1:] = 0
    film.pictures[2, : other.shape[1]] = other[2]  # whole, and of another size
    for i in (1, 2):
        with pytest.raises(ModelError, match=f"the avatar's picture {i} is damaged"):
            shown.show(i, film.target[i])


def test_pixels_that_are_not_square_are_kept_square():
    """As dubbing tells players to show them."""
    for aspect, limit, shown in (
        (Fraction(2), 1280, (128, 48)),
        (Fraction(1, 2), 1280, (32, 48)),
        (Fraction(2), 64, (64, 24)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backdrop, "LONGEST", limit)
            film, coded = film_of((64, 48), face=20.0)
            pictures = backdrop.pile([backdrop.code(one, (64, 48), aspect) for one in coded])
            wide = backdrop.Backdrop(dataclasses.replace(film, pictures=pictures), "wavsyncswap", SIDE)
        assert wide.size == shown
        crops = painted(film)
        plain = backdrop.Backdrop(film, "wavsyncswap", SIDE).show(1, crops[1])
        wanted = cv2.resize(plain, shown, interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(wide.show(1, crops[1]) - wanted).mean() < 4


@pytest.mark.parametrize(
    ("change", "family", "message"),
    [
        ({}, "amnet", "keeps a film's pictures and is of amnet, expected wav2lip"),
        ({"matrices": np.zeros((FRAMES, 2, 3), np.float32)}, "wavsyncswap", "matrices put its crops nowhere"),
        ({"matrices": np.full((FRAMES, 2, 3), np.nan, np.float32)}, "wavsyncswap", "matrices put its crops nowhere"),
        ({"matrices": np.ones((FRAMES, 3, 3), np.float32)}, "wavsyncswap", "matrices put its crops nowhere"),
    ],
)
def test_what_cannot_be_shown_is_told(change, family, message):
    film = dataclasses.replace(film_of((64, 48), face=20.0)[0], **change)
    with pytest.raises(ModelError, match=message):
        backdrop.Backdrop(film, family, SIDE)


def test_a_session_shows_its_crops_in_the_film(swaps, tmp_path):
    from edgetalk.export import to_onnx
    from edgetalk.film_avatar import recompute

    swaps.write(tmp_path)
    to_onnx(tmp_path / "wavsyncswap.safetensors", tmp_path / "wavsyncswap.onnx", family="wavsyncswap")
    size = (160, 120)
    film, _ = film_of(size)
    boxes, portrait = np.zeros((FRAMES, 4), np.float32), np.full((96, 96, 3), 120, np.uint8)
    bare = avatars.Avatar(portrait, {}, boxes, "wavsyncswap", "", film=film)
    made = recompute(bare, tmp_path / "wavsyncswap.onnx")  # as of another export: the pictures stay
    assert made.film.pictures is film.pictures
    avatars.save_avatar(made, tmp_path / "x.avatar")
    crops = dataclasses.replace(made, film=dataclasses.replace(made.film, pictures=None))
    mels = np.random.default_rng(0).uniform(-4, 4, (5, 16, 80)).astype(np.float32)
    shown = backdrop.Backdrop(made.film, "wavsyncswap", SIDE)
    with (
        Session(tmp_path / "wavsyncswap.onnx", avatar=tmp_path / "x.avatar") as session,
        Session(tmp_path / "wavsyncswap.onnx", avatar=crops) as plain,
        session.twin() as twin,
    ):
        assert session.size == twin.size == size and plain.size == (SIDE, SIDE)
        frames = [session.step(mel) for mel in mels]
        for i, (mel, k) in enumerate(zip(mels, (0, 1, 2, 1, 0), strict=True)):
            wanted = shown.show(k, plain.step(mel))
            assert np.array_equal(frames[i], wanted) and np.array_equal(twin.step(mel), wanted)
            assert session.shown == 0 and plain.shown == k
