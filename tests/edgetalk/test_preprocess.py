"""The shared layer around the networks, against mel.windows, scipy and pictures whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.spatial

from edgetalk import InputError
from edgetalk.postprocess import feather, match_colour, paste
from edgetalk.preprocess import (
    align,
    check_array,
    check_pcm,
    check_range,
    similarity,
    square_crop,
)

FACE = np.array([[87.5, 118.2], [168.1, 117.7], [128.1, 164.0], [95.0, 211.1], [161.7, 210.7]])  # 5 points in 256x256


def placed(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """The five points of a face of this size and tilt, its middle at (x, y)."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (FACE - 127.5) * scale @ turn.T + [x, y]


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """Colours that change smoothly over several pixels, with a range of about 200 of 255."""
    noise = np.random.default_rng(0).normal(size=(360, 480, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    return np.clip(127 + 30 * smooth / smooth.std(), 0, 255).astype(np.uint8)


# --- checks


def test_what_fits_is_passed_on_without_a_copy():
    mel = np.zeros((32, 80), np.float32)
    assert check_array("mel", mel, (32, 80)) is mel
    turned = np.zeros((80, 32), np.float32).T
    assert np.shares_memory(check_array("mel", turned, (32, 80)), turned)
    assert np.shares_memory(check_array("mel", memoryview(mel), (32, 80)), mel)


@pytest.mark.parametrize(
    "name, value, shape, message",
    [
        (
            "mel",
            np.zeros((80, 32)),
            (32, 80),
            'mel: got float64 (80, 32), expected float32 (32, 80); use mel.T.astype("float32")',
        ),
        (
            "mel",
            np.zeros((32, 80), np.float16),
            (32, 80),
            'mel: got float16 (32, 80), expected float32 (32, 80); use mel.astype("float32")',
        ),
        (
            "mel",
            np.zeros((1, 32, 80), np.float32),
            (32, 80),
            "mel: got float32 (1, 32, 80), expected float32 (32, 80); use mel[0]",
        ),
        (
            "mel",
            np.zeros((10, 80), np.float32),
            (32, 80),
            "mel: got float32 (10, 80), expected float32 (32, 80); edgetalk.mel.windows cuts such windows",
        ),
        (
            "pose",
            [0, 0, 0],
            (3,),
            'pose: got int64 (3,), expected float32 (3,); use np.asarray(pose).astype("float32")',
        ),
        ("mel", [[1.0], [1.0, 2.0]], (32, 80), "mel: got list that is no array, expected float32"),
        ("pose", "left", (3,), "pose: got <U4 (), expected float32 (3,); it is yaw, pitch, roll in radians"),
        (
            "blink",
            np.float32(1),
            (2,),
            "blink: got float32 (), expected float32 (2,); it is the subject's left and right eye, 0 open to 1 closed",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_cure(name, value, shape, message):
    with pytest.raises(InputError) as caught:
        check_array(name, value, shape)
    assert str(caught.value) == message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    mel = np.zeros((32, 80), np.float32)
    mel[3, 7] = bad
    with pytest.raises(InputError, match=rf"mel: got {bad} at \[3, 7\], expected finite numbers"):
        check_array("mel", mel, (32, 80))


def test_ranges():
    pi = np.float32(np.pi)
    check_range("pose", np.array([pi, -pi, 0], np.float32), -float(pi), float(pi))
    with pytest.raises(InputError, match=r"pose: got pitch 20, expected .* to 3.142; use np.radians\(pose\)"):
        check_range("pose", np.array([0, 20, 0], np.float32), -float(pi), float(pi))
    with pytest.raises(InputError, match=r"blink: got right 1.01, expected 0 to 1; use np.clip\(blink, 0, 1\)"):
        check_range("blink", np.array([0, 1.01], np.float32), 0, 1)


@pytest.mark.parametrize(
    "pcm, cure",
    [
        (np.zeros(9, np.int16), r'use \(pcm / 32768\).astype\("float32"\)'),
        ([0, -32768], r"got int64 .* pass 16 kHz mono float32 in \[-1, 1\]"),
        (np.zeros(9), r'use pcm.astype\("float32"\)'),
        (np.zeros(9, np.uint8), "pass 16 kHz mono float32"),
        (None, "pass 16 kHz mono float32"),
        (np.array([0, np.nan], np.float32), "got NaN or infinite samples"),
        (np.array([0, -32768], np.float32), "got samples up to 32768, expected -1 to 1"),
    ],
)
def test_sound_that_is_none_is_refused(pcm, cure):
    with pytest.raises(InputError, match=cure):
        check_pcm(pcm)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", "float16"])
@pytest.mark.parametrize("form", [lambda x: x, list, lambda x: x[:, None], lambda x: np.stack([x, x]), bytes])
def test_the_cure_of_a_sound_makes_it_the_sound(dtype, form):
    want = np.linspace(-0.9, 0.9, 700)
    full = -np.iinfo(dtype).min if dtype.startswith("int") else 1
    pcm = form((want * full).astype(dtype))
    if isinstance(pcm, bytes) and dtype != "int16":
        return  # bytes do not tell what they are
    if isinstance(pcm, list):
        pcm = [sample.item() for sample in pcm]
        if full != 1:
            return  # neither do Python's numbers
    try:
        got = check_pcm(pcm)
    except InputError as error:
        got = check_pcm(eval(str(error).partition("; use ")[2]))
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_square_crops_come_at_the_size_of_the_network():
    picture = np.tile(np.arange(0, 256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    assert square_crop(picture, 256) is picture
    half = square_crop(picture, 128)
    np.testing.assert_allclose(half[0, :, 0], np.arange(128) * 2 + 0.5, atol=0.5)  # pixels averaged in pairs
    assert square_crop(picture[:64, :64], 128).shape == (128, 128, 3)


@pytest.mark.parametrize(
    "shape, reason", [((64, 80, 3), "got 80x64, expected a square crop"), ((63, 63, 3), "at least 64x64")]
)
def test_other_source_pictures_are_refused_with_the_reason(shape, reason):
    with pytest.raises(InputError, match=reason):
        square_crop(np.zeros(shape, np.uint8), 256)


# --- aligned crops


def test_similarity_against_scipy():
    rng = np.random.default_rng(4)
    for _ in range(20):
        points, template = rng.normal(size=(2, 5, 2)) * 50
        matrix = similarity(points, template)
        # scipy solves for the rotation alone, of centred points; the scale follows from its residual-free form
        p, t = points - points.mean(0), template - template.mean(0)
        turn, _ = scipy.spatial.transform.Rotation.align_vectors(np.c_[t, np.zeros(5)], np.c_[p, np.zeros(5)])
        turn = turn.as_matrix()[:2, :2]
        if np.linalg.det(turn) < 0:  # in space a half turn can mirror a plane; ours may not
            continue
        scale = (t * (p @ turn.T)).sum() / (p**2).sum()
        np.testing.assert_allclose(matrix[:, :2], scale * turn, atol=1e-9)
        np.testing.assert_allclose(matrix[:, :2] @ points.mean(0) + matrix[:, 2], template.mean(0), atol=1e-9)


def test_similarity_never_mirrors():
    mirrored = FACE * [-1, 1]
    assert np.linalg.det(similarity(mirrored, FACE)[:, :2]) > 0


def test_similarity_needs_different_points():
    with pytest.raises(InputError, match="5 points in one place"):
        similarity(np.ones((5, 2)), FACE)


def test_aligned_points_lie_where_the_template_has_them():
    points = placed(0.8, 0.4, 240.2, 170.7)
    picture = np.zeros((360, 480, 3), np.float64)
    y, x = np.mgrid[0:360, 0:480]
    for px, py in points:  # a soft dot on each landmark
        picture += 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)[:, :, None]
    crop = align(np.clip(picture, 0, 255).astype(np.uint8), similarity(points, FACE), 256).astype(float)[:, :, 0]
    y, x = np.mgrid[0:256, 0:256]
    for tx, ty in FACE:
        near = crop * (np.hypot(x - tx, y - ty) < 9)
        centre = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
        np.testing.assert_allclose(centre, (tx, ty), atol=0.1)


def test_a_strong_reduction_does_not_alias():
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than a quarter of the size can show: the crop has to be grey
    crop = align(stripes, np.array([[0.25, 0, 0], [0, 0.25, 0]]), 256)
    assert np.abs(crop.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("scale, angle, x, y", [(1, 0, 240, 180), (0.7, 0.3, 250.3, 160.8), (0.3, -0.5, 200.5, 99.1)])
def test_an_unchanged_crop_pasted_back_reproduces_the_frame(frame, scale, angle, x, y):
    matrix = similarity(placed(scale, angle, x, y), FACE)
    crop = align(frame, matrix, 256)
    for mask in (feather(256), feather(256, border=0.02), feather(256, top=0.5)):
        back = paste(frame, match_colour(crop, crop, mask), matrix, mask)
        assert np.abs(back.astype(int) - frame).max() <= 2
    sharp = np.random.default_rng(1).integers(0, 256, frame.shape).astype(np.uint8)
    crop = align(sharp, matrix, 256)
    back = paste(sharp, crop, matrix, feather(256), original=crop)  # more detail than two warps let through
    np.testing.assert_array_equal(back, sharp)


def test_paste_changes_what_the_mask_shows_and_nothing_else(frame):
    matrix = similarity(placed(0.6, 0.2, 230, 150), FACE)
    crop = align(frame, matrix, 256)
    changed = crop.copy()
    changed[120:200, 80:180] = (255, 0, 0)
    mask = feather(256, top=0.4)
    back = paste(frame, changed, matrix, mask, original=crop)
    inside = cv2.invertAffineTransform(matrix) @ np.array([130.0, 160.0, 1.0])
    np.testing.assert_allclose(back[round(inside[1]), round(inside[0])], (255, 0, 0), atol=2)
    shown = cv2.warpAffine(mask, cv2.invertAffineTransform(matrix), (480, 360))
    far = cv2.dilate(shown, np.ones((5, 5))) == 0
    np.testing.assert_array_equal(back[far], frame[far])
    assert back is not frame


def test_a_crop_beyond_the_border_is_cut_off(frame):
    for x, y in ((5, 5), (475, 350), (-400, 0)):
        matrix = similarity(placed(0.5, 0.1, x, y), FACE)
        crop = align(frame, matrix, 256)
        back = paste(frame, crop, matrix, feather(256))
        assert back.shape == frame.shape
        assert np.abs(back.astype(int) - frame).max() <= 3  # at the border cubic weights meet repeated pixels


def test_feather_is_one_inside_and_falls_to_nothing():
    mask = feather(100, border=0.2)
    assert mask[50, 50] == 1 and mask.max() == 1 and mask[0].max() < 0.01
    np.testing.assert_allclose(mask, mask[::-1, ::-1])
    assert (np.diff(mask[50, :20]) > 0).all()
    lower = feather(100, border=0.2, top=0.5)
    assert lower[:30].max() == 0 and lower[50:79, 50].min() == 1


def test_colours_are_matched_where_the_mask_says(frame):
    crop = frame[:256, :256]
    light = np.clip(crop * np.array([1.2, 0.9, 1.0]) * 0.8 + np.array([10, 0, 20]), 0, 255).astype(np.uint8)
    mask = np.ones((256, 256), np.float32)
    assert np.abs(match_colour(light, crop, mask).astype(int) - crop).mean() < 1
    np.testing.assert_array_equal(match_colour(crop, crop, mask), crop)
    light[:128] = 0  # not the same there: must not count
    mask[:128] = 0
    assert np.abs(match_colour(light, crop, mask).astype(int) - crop)[128:].mean() < 1
