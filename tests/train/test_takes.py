"""Takes of a film: where they begin and end, one fixed upright crop for each, tests that are nobody's neighbours."""

import numpy as np
import pytest

from edgetalk.errors import InputError
from edgetalk.preprocess import TEMPLATES, align
from edgetalk.train.amnet.dataset import TEST, TRAIN
from edgetalk.train.announcers import CAST, Announcer, motion
from edgetalk.train.announcers.features import Controls
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.filmed.takes import Crop, Take, Track, divided, takes

CROP = Crop(0, 0, 100)
FIVE = TEMPLATES["amnet"]


def track(middles, sides=200.0, unseen=(), scene=None):
    """A track of faces with their middle at `middles` (N, 2), in pictures of which the crop is `sides` wide."""
    middles = np.asarray(middles, float)
    sides = np.broadcast_to(sides, len(middles))
    points = ((FIVE - FIVE.mean(0)) * sides[:, None, None] + middles[:, None]).astype(np.float32)
    points[list(unseen)] = np.nan
    count = len(points)
    scene = np.zeros(count, np.int32) if scene is None else np.asarray(scene)
    return Track(np.zeros((count, 106, 2)), points, np.zeros((count, 3)), np.zeros((count, 2)), scene)


def spans(found):
    return [(take.first, take.last) for take in found]


STILL = np.full((100, 2), 300.0)


@pytest.mark.parametrize(
    ("seen", "sounding", "wanted"),
    [
        (track(STILL), 100, [(0, 100)]),
        (track(STILL), 70, [(0, 70)]),
        (track(STILL, unseen=(0, 40, 41, 99)), 100, [(1, 40), (42, 99)]),
        (track(STILL, scene=[0] * 30 + [1] * 70), 100, [(0, 30), (30, 100)]),
        (track(STILL, sides=[200] * 50 + [120] * 50), 100, [(0, 50)]),  # to be enlarged more than twice
        (track(STILL, sides=[260] * 50 + [360] * 50), 100, [(0, 50), (50, 100)]),  # comes nearer
        (track(np.r_[STILL[:50], STILL[:50] + (80, 0)]), 100, [(0, 50), (50, 100)]),  # goes aside
        (track(np.r_[STILL[:50], STILL[:50] + (0, 60)]), 100, [(0, 100)]),  # nods
        (track(STILL, unseen=range(100)), 100, []),
    ],
)  # fmt: skip
def test_a_take_lasts_while_the_face_stays_in_its_place(seen, sounding, wanted):
    assert spans(takes(seen, sounding, 256)) == wanted


def test_the_crop_puts_an_announcer_where_he_is_drawn():
    """Of a drawn picture in a larger one the crop gives back the drawn picture, heads turning at random."""
    rng = np.random.default_rng(1)
    places, fives = [], []
    for name, identity in CAST.items():
        announcer = Announcer(identity, 64)
        for pose in motion.head_motion(3000, 25, rng)[::100]:
            controls = Controls(list(SHAPES.values())[rng.integers(len(SHAPES))], pose, np.zeros(2))
            fives.append(announcer.landmarks(controls)[[74, 84, 54, 86, 92]])
        (take,) = takes(track_of(np.array(fives[-30:]) * 300 + (170, 40) - 0.5), 30, 256)
        places.append(((take.crop.left - 170) / 300, (take.crop.top - 40) / 300, take.crop.side / 300))
        assert np.abs(np.array(places[-1]) - (0, 0, 1)).max() < 0.25, name
    assert np.abs(np.mean(places, 0) - (0, 0, 1)).max() < 0.04


def track_of(points):
    seen = track(STILL[: len(points)])
    return Track(seen.landmarks, points.astype(np.float32), seen.pose, seen.blink, seen.scene)


def test_pictures_and_points_are_cropped_alike():
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[30, 50] = picture[30, 51] = picture[31, 50] = picture[31, 51] = 255  # about (50.5, 30.5)
    crop = Crop(40.3, 20.2, 30.0)
    seen = align(picture, crop.matrix(90), 90)[..., 0].astype(float)
    at = (np.arange(90) + 0.5) / 90
    found = [(seen.sum(axis) * at).sum() / seen.sum() for axis in (0, 1)]
    assert np.allclose(crop.fractions(np.array([50.5, 30.5])), found, atol=0.002)


@pytest.mark.parametrize(
    ("crop", "wanted"),
    [(Crop(10, 0, 50), 0), (Crop(-10, 0, 50), 0.2), (Crop(60, 30, 50), 0.2), (Crop(10, 55, 50), 0.1)],
)
def test_what_lies_beyond_the_picture_is_measured(crop, wanted):
    assert crop.beyond((100, 100)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "lengths",
    [
        [(0, 0, 1000)],
        [(0, 0, 400), (0, 500, 900)],
        [(0, 0, 1000), (1, 0, 191)],
        [(0, 0, 840), (0, 840, 1000)],
        [(0, 0, 835), (0, 835, 1000)],
        [(0, 0, 800), (0, 800, 1000), (1, 0, 20)],
        [(0, i * 30, i * 30 + 30) for i in range(30)],
    ],
)
def test_tests_are_the_last_sixth_and_a_second_away(lengths):
    given = [Take(film, first, last, CROP) for film, first, last in lengths]
    out = divided(given, "ada")
    assert all(len(take) >= 25 for take in out)
    parts = [{(t.film, i) for t in out if t.split == split for i in range(t.first, t.last)} for split in (TRAIN, TEST)]
    everything = {(t.film, i) for t in given for i in range(t.first, t.last)}
    assert parts[0] | parts[1] <= everything
    assert max(parts[0]) < min(parts[1])
    assert 0.1 * len(everything) < len(parts[1]) <= 0.16 * len(everything) + 1
    assert len(parts[0]) >= 0.7 * len(everything)
    last, first = max(parts[0]), min(parts[1])
    assert last[0] < first[0] or first[1] - last[1] > 25


@pytest.mark.parametrize("lengths", [[], [(0, 24)], [(0, 150)], [(i * 40, i * 40 + 24) for i in range(50)]])
def test_too_little_film_is_refused(lengths):
    with pytest.raises(InputError, match=r"^ada: got .* too little for training and tests; film for 10 s"):
        divided([Take(0, first, last, CROP) for first, last in lengths], "ada")
