"""The shared layer around the networks, against mel.windows, scipy and pictures whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.spatial

from edgetalk import InputError
from edgetalk.postprocess import change, feather, likeness, match_colour, oval, paste, place, spread, within_jaw
from edgetalk.preprocess import (
    ASPECTS,
    TEMPLATES,
    align,
    check_array,
    check_pcm,
    check_range,
    check_text,
    crop_matrix,
    similarity,
    square_crop,
)
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.identity import swapped
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.swap.scene import exact

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


@pytest.mark.parametrize(("text", "kind"), [(None, "NoneType"), (b"Ada", "bytes")])
def test_a_text_that_is_none_is_refused(text, kind):
    with pytest.raises(InputError, match=f"^name: got {kind}, expected text$"):
        check_text("name", text)


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


@pytest.mark.parametrize(
    ("given", "wanted", "gain", "mean"),
    [
        ((60, 10), (200, 40), 1.5, 108),  # mean and deviation: lighter and of more contrast, but not by that much
        ((200, 40), (60, 10), 1 / 1.5, 152),
        ((100, 10), (120, 12), 1.2, 120),
        ((100, 5), (120, 5), 1.0, 120),
        ((100, 0.4), (110, 1.2), 1.2, 110),  # noise, which is no contrast
    ],
)
def test_colours_are_matched_by_so_much_and_no_more(given, wanted, gain, mean):
    signs = np.random.default_rng(0).permutation(np.repeat([-1, 1], 2048)).reshape(64, 64, 1)
    noise = np.random.default_rng(1).uniform(size=(64, 64, 3))
    crop, reference = (
        np.floor(middle + deviation * signs + noise).astype(np.uint8) for middle, deviation in (given, wanted)
    )
    made = match_colour(crop, reference, np.ones((64, 64), np.float32)).astype(float)
    expected = (crop - crop.mean((0, 1))) * gain + mean
    np.testing.assert_allclose(made.mean((0, 1)), expected.mean((0, 1)), atol=0.5)
    np.testing.assert_allclose(made.std((0, 1)), expected.std((0, 1)), rtol=0.05, atol=0.2)


def structure(one, other, y, x):
    """SSIM's contrast times structure about one pixel, by its equations 9 and 10 (Wang et al. 2004), windows of 5."""
    a, b = (
        cv2.copyMakeBorder(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), 2, 2, 2, 2, cv2.BORDER_REFLECT_101)[
            y : y + 5, x : x + 5
        ]
        for p in (one, other)
    )
    a, b = a.astype(float).ravel(), b.astype(float).ravel()
    c2 = (0.03 * 255) ** 2
    contrast = (2 * a.std() * b.std() + c2) / (a.var() + b.var() + c2)
    alike = (((a - a.mean()) * (b - b.mean())).mean() + c2 / 2) / (a.std() * b.std() + c2 / 2)
    return max(contrast * alike, 0.0)


def test_likeness_is_contrast_and_structure_of_ssim():
    rng = np.random.default_rng(2)
    one = cv2.GaussianBlur(rng.integers(0, 256, (24, 20, 3)).astype(np.uint8), (0, 0), 1.2)
    other = np.clip(0.7 * one.astype(float) + rng.normal(20, 6, one.shape), 0, 255).astype(np.uint8)
    other[:, 12:] = 255 - one[:, 12:]  # the same in negative
    expected = [[structure(one, other, y, x) for x in range(20)] for y in range(24)]
    np.testing.assert_allclose(likeness(one, other), expected, atol=1e-4)
    assert np.mean(expected) > 0.3 and np.mean(np.array(expected)[:, 15:]) < 0.1


def test_a_crop_of_the_same_structure_adds_its_colours_to_the_detail_of_the_frame(frame):
    """A face of another skin under the same lines: the frame's lines stay as sharp as they are."""
    original, mask = frame[:96, :96], feather(96, 0.3)
    crop = (0.8 * original + (40, 10, 30)).astype(np.uint8)  # grey differs by a gain and an offset
    colours, share = change(crop, mask, original)
    kept = likeness(crop, original)[..., None] ** 4
    np.testing.assert_allclose(share, mask * (1 - kept[..., 0]), atol=1e-5)
    np.testing.assert_allclose(colours, mask[..., None] * (crop - kept * original), atol=1e-3)
    assert kept.mean() > 0.8


def test_a_swap_is_nearer_to_the_truth_with_the_detail_of_the_film():
    """A face on another's film: a crop of 96 pixels and the film come nearer to it than the crop alone."""
    said = Controls()
    people = CAST["dan"], swapped(CAST["finn"], CAST["dan"])
    film, truth = (Announcer(identity, 384).draw(said) for identity in people)
    points = exact(Announcer(CAST["dan"], 384).landmarks(said), said.pose, said.blink, 384).points
    matrix, mask = crop_matrix("wavsyncswap", points, 96), oval(96, 0.08)
    painted, cut = align(truth, matrix, 96), align(film, matrix, 96)
    alone, both = (paste(film, painted, matrix, mask, original).astype(float) for original in (None, cut))

    def edges(picture):
        return np.stack([cv2.Sobel(picture.mean(2), cv2.CV_64F, *axis) for axis in ((1, 0), (0, 1))])

    for wrong, least in ((lambda p: np.abs(edges(p) - edges(truth)), 0.2), (lambda p: np.square(p - truth), 0.1)):
        assert wrong(both).mean() < (1 - least) * wrong(alone).mean()


def test_a_crop_of_other_structure_replaces_the_frame():
    rng = np.random.default_rng(3)
    crop, original = (rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(2))
    original[:, 16:] = crop[:, 16:]
    colours, share = change(crop, np.ones((32, 32), np.float32), original)
    assert share[:, :13].mean() > 0.98  # a window reaches two pixels further
    np.testing.assert_allclose(colours[:, :13], crop[:, :13], atol=40)
    assert not share[:, 19:].any() and not colours[:, 19:].any()


def test_at_a_jaw_the_frame_stays_and_gets_the_colours_of_the_face_within():
    """A face of another skin and with a narrower jaw: what was painted between the two jaws is not seen."""
    size, skin = 96, np.array((20, -10, 15))
    original = np.random.default_rng(4).integers(70, 180, (size, size, 3)).astype(np.uint8)
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([48 + 38 * np.cos(angle), 46 + 40 * np.sin(angle)], 1)
    y, x = np.mgrid[:size, :size]
    inside = 1 - np.hypot((x - 48) / 38, (y - 46) / 40)  # of half the face's width; 0 at the jaw
    crop = np.where(inside[..., None] > 0.12, original + skin, (0, 255, 0)).astype(np.uint8)
    ones = np.ones((size, size), np.float32)

    def pasted(*jaws):
        colours, share = change(crop, ones, original, *jaws)
        return original * (1 - share[..., None]) + colours

    lower, within = y > 56, inside > 0.7
    error, without = (np.abs(pasted(*jaws) - original - skin).max(2) for jaws in ((jaw,), ()))
    at, near = lower & (np.abs(inside) < 0.02), lower & (inside > 0) & (inside < 0.06)
    assert error[at].max() < 20 and error[near].max() < 0.4 * without[near].min() and without[at].min() > 60
    np.testing.assert_allclose(pasted(jaw)[within], pasted()[within], atol=0.5)
    np.testing.assert_allclose(pasted(jaw)[:48], pasted()[:48], atol=1e-3)  # the upper half was seen


def test_an_oval_is_a_superellipse_that_fades_inwards():
    size, border = 400, 0.1
    mask = oval(size, border)
    y, x = (2 * (np.mgrid[:size, :size] + 0.5) / size - 1).astype(float)
    inside = np.abs(x) ** 3 + np.abs(y) ** 3
    assert mask.dtype == np.float32 and not mask[inside >= 1].any() and (mask[inside < 0.98] > 0).all()
    middle = mask[size // 2]
    np.testing.assert_allclose(middle, middle[::-1], atol=1e-6)
    # Along the middle row: half at half the border's width, whole from there on where it ends.
    assert middle[round(size * border / 2)] == pytest.approx(0.5, abs=0.03)
    assert middle[round(size * border * 0.9)] < 1 and (middle[41:200] == 1).all()


@pytest.mark.parametrize("size", [96, 224])
def test_within_a_jaw_is_what_lies_between_its_sides_and_the_neck(size):
    """Counted pixel by pixel: a jaw's sides are functions of the height, of a neck's width from the sixth point on."""
    said = Controls(pose=np.array([0.2, 0.1, 0.0]))
    landmarks = Announcer(CAST["dan"], 128).landmarks(said)
    known = exact(landmarks, said.pose, said.blink, 128)
    matrix = crop_matrix("wavsyncswap", known.points, size)
    jaw = known.jaw @ matrix[:, :2].T + matrix[:, 2]
    mask = within_jaw(jaw, size)
    assert mask.dtype == np.float32 and mask.shape == (size, size) and mask.min() >= 0 and mask.max() <= 1
    ears = (jaw[0, 0] + jaw[16, 0]) / 2
    expected = np.ones((size, size), bool)
    for y in range(size // 2, size):
        sides = [np.interp(y, side[:, 1], side[:, 0]) for side in (jaw[:7], jaw[16:9:-1])]
        left, right = (ears + 1.03 * (x - ears) for x in sides)
        expected[y] = (left <= np.arange(size)) & (np.arange(size) <= right)
    assert 0.1 < (~expected).mean() < 0.4
    edge = cv2.morphologyEx(expected.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    near, about = (cv2.dilate(edge, np.ones((2 * (size // part) + 1,) * 2)) > 0 for part in (48, 16))
    assert ((mask > 0.5) == expected)[~near].all()
    np.testing.assert_allclose(mask[~about], expected[~about], atol=0.02)
    middle = mask[size * 3 // 4]
    assert ((middle > 0.02) & (middle < 0.98)).sum() > size / 24  # it fades


def test_a_jaw_may_lie_anywhere():
    jaw = np.stack([np.linspace(-1e30, 1e30, 17), np.linspace(0, 1e25, 17)], 1)
    picture = np.full((64, 64, 3), 90, np.uint8)
    for shape, least in ((jaw, 1.0), (jaw + 1e31, 0.0), (np.zeros((17, 2)), 0.0)):
        mask = within_jaw(shape, 64)
        assert all(np.isfinite(values).all() for values in change(picture, mask, picture, shape))
        assert np.isfinite(mask).all() and mask[:30].min() == 1 and mask[40:].min() >= least


@pytest.mark.parametrize("grows", [1.5, 3.0, 4.5])
def test_a_layer_that_grows_is_as_smooth_as_a_cubic_warp(grows):
    layer = cv2.GaussianBlur(np.random.default_rng(3).normal(size=(48, 48)), (0, 0), 1.5)
    layer = np.pad((layer / layer.std() * 40).astype(np.float32)[6:-6, 6:-6], 6)
    angle = 0.2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / grows
    matrix = np.c_[turn, 24 - turn @ (150.3, 149.8)]
    wanted = cv2.warpAffine(layer, cv2.invertAffineTransform(matrix), (300, 300), flags=cv2.INTER_CUBIC)
    got = spread(layer, matrix)((slice(0, 300), slice(0, 300)))
    shown = slice(130, 170)
    assert np.sqrt(((got - wanted)[shown, shown] ** 2).mean()) < 1.0


@pytest.mark.parametrize("margin", [0, 4, 10.5])
def test_a_crop_looks_at_the_pixels_around_it(margin):
    """Those whose places lie in it, and as many more as are asked for; none where it lies beside the picture."""
    rng = np.random.default_rng(4)
    x, y = np.meshgrid(np.arange(90), np.arange(70))
    for _ in range(40):
        size = rng.integers(5, 40, 2)
        shift = rng.uniform(-60, 120, 2)
        part = place(np.c_[np.eye(2), -shift], tuple(size), (90, 70), margin)
        away = [np.maximum(at - 0.5 - each, 0) for at, each in zip(shift, (x, y), strict=True)]  # before its first edge
        away += [np.maximum(each + 0.5 - at - n, 0) for at, each, n in zip(shift, (x, y), size, strict=True)]
        seen = (np.max(away, 0) <= margin) if part is not None else np.zeros(x.shape, bool)
        if part is None:
            assert np.max(away, 0).min() >= margin - 1
            continue
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        assert rows.size and 0 <= rows[0] - part[0].start <= 1 and 0 <= part[0].stop - 1 - rows[-1] <= 1
        assert 0 <= columns[0] - part[1].start <= 1 and 0 <= part[1].stop - 1 - columns[-1] <= 1
    for shift in ((-40, 0), (0, -40), (100, 0), (0, 80)):
        assert place(np.c_[np.eye(2), -np.array(shift)], (24, 24), (90, 70), 4) is None
    assert (
        place(np.array([[1.0, 0, 24.5], [0, 1, 0]]), (25, 25), (90, 70), 0) is None
    )  # it ends where the picture begins


# --- templates, in the numbers of those who published them

FRONTAL = [(39.730, 51.138), (72.270, 51.138), (56.000, 68.493), (42.463, 87.010), (69.537, 87.010)]
ARCFACE = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
FFHQ = [
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
]


@pytest.mark.parametrize(
    ("family", "size", "published"),
    [
        ("arcface", 112, ARCFACE),  # InsightFace, face_align.py: arcface_dst
        ("simswap", 112, FRONTAL),  # the same file's frontal src3
        ("simswap-arcface", 112, FRONTAL),
        ("simswap-512", 512, FFHQ),  # facexlib, face_restoration_helper.py: face_template
    ],
)
def test_a_face_on_the_published_points_is_not_moved(family, size, published):
    """Nor is it at another size, but for the size: the whole of the published crop is seen in each."""
    np.testing.assert_allclose(crop_matrix(family, np.array(published), size), np.eye(2, 3), atol=1e-3)
    half = crop_matrix(family, np.array(published), size // 2)
    corners = half @ np.array([[-0.5, -0.5, 1], [size - 0.5, size - 0.5, 1]]).T
    np.testing.assert_allclose(corners, np.repeat([[-0.5, size / 2 - 0.5]], 2, 0), atol=0.01)


def test_the_points_of_wav2lip_have_the_proportions_of_arcface():
    """Its authors cut a detector's box and give no points; the crop shows 0.72 times as much in width as in height."""

    def proportions(points):
        eyes, nose, mouth = points[:2].mean(0), points[2], points[3:].mean(0)
        height = mouth[1] - eyes[1]
        wide = [points[1, 0] - points[0, 0], points[4, 0] - points[3, 0], 2 * nose[0] - 2 * eyes[0]]
        return np.array([*wide, nose[1] - eyes[1]]) / height

    wav2lip = TEMPLATES["wav2lip"] * [0.72, 1]
    np.testing.assert_allclose(proportions(wav2lip), proportions(np.array(ARCFACE)), atol=0.01)
    assert ASPECTS == {"wav2lip": 0.72}


def test_the_points_of_wavsyncswap_have_the_shape_of_drawn_faces():
    """Of their mean, as they turn and speak; where it lies in the crop is how the training data are cut."""
    seen = []
    for identity, mouth in zip(CAST.values(), ("aa", "ih", "ow", "mbp", "iy", "sil"), strict=True):
        drawn = Announcer(identity)
        for pose in ((0.25, 0.1, 0.1), (-0.25, -0.1, -0.1)):
            controls = Controls(pose=np.array(pose), mouth=SHAPES[mouth])
            seen.append(drawn.landmarks(controls)[[74, 84, 54, 86, 92]])  # eyes, tip of the nose, corners of the mouth
    template = TEMPLATES["wavsyncswap"]
    moved = np.c_[np.mean(seen, 0), np.ones(5)] @ similarity(np.mean(seen, 0), template).T
    np.testing.assert_allclose(moved, template, atol=0.008)
    np.testing.assert_allclose(template[[1, 0, 2, 4, 3]] * [-1, 1] + [1, 0], template)  # its own mirror image
