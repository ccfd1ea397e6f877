"""Announcers: what the conventions promise is measured on pictures and landmarks."""

from dataclasses import replace

import numpy as np
import pytest

from edgetalk.train.announcers import (
    CAST,
    FACE,
    PORTRAIT,
    Announcer,
    Controls,
    Light,
    dressed,
    random_identity,
    swapped,
)
from edgetalk.train.announcers.identity import FACE_FIELDS
from edgetalk.train.announcers.landmarks import CONTOUR, EYE_LEFT, EYE_RIGHT, MOUTH
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.networks.landmarks import inner_opening

SIZE = 64
CHIN, NOSE_TIP = 16, 54


def controls(viseme="sil", yaw=0.0, pitch=0.0, roll=0.0, blink=(0.0, 0.0)):
    return Controls(SHAPES[viseme], np.radians([yaw, pitch, roll]), np.array(blink))


@pytest.fixture(scope="module")
def ada():
    return Announcer(CAST["ada"], SIZE)


@pytest.fixture(scope="module")
def dan():
    return Announcer(CAST["dan"], SIZE)


def lid_gap(points):
    """Opening of the subject's left and right eye, fractions of the picture's height."""
    return np.array([abs(points[eye.start + 6, 1] - points[eye.start + 2, 1]) for eye in (EYE_RIGHT, EYE_LEFT)])


def nose_over_eyes(points):
    """Nose tip from the middle between the eyes, in eye distances."""
    left, right = points[EYE_LEFT][8], points[EYE_RIGHT][8]
    return (points[NOSE_TIP] - (left + right) / 2) / np.hypot(*(right - left))


def test_landmarks_are_fractions_in_the_documented_order(ada):
    points = ada.landmarks(controls("ah"))
    assert points.shape == (106, 2) and points.dtype == np.float32
    assert 0 < points.min() and points.max() < 1
    contour = points[CONTOUR]
    assert contour[CHIN, 1] == contour[:, 1].max() and abs(contour[CHIN, 0] - 0.5) < 0.02
    assert contour[0, 0] < 0.3 and contour[-1, 0] > 0.7 and (np.diff(contour[:, 0]) > -0.01).all()
    brow_left, brow_right = points[33:38], points[42:47]
    assert brow_left[:, 0].max() < 0.5 < brow_right[:, 0].min()
    assert (np.diff(brow_left[:, 0]) > 0).all() and (np.diff(brow_right[:, 0]) > 0).all()
    assert points[EYE_LEFT, 0].max() < 0.5 < points[EYE_RIGHT, 0].min()
    for first in (EYE_LEFT.start, EYE_RIGHT.start):
        assert (np.diff(points[first : first + 5, 0]) > 0).all() and (
            np.diff(points[first + 5 : first + 8, 0]) < 0
        ).all()
        assert points[first + 2, 1] < points[first + 8, 1] < points[first + 6, 1]
    mouth = points[MOUTH]
    assert mouth[0, 0] == mouth[:, 0].min() and mouth[6, 0] == mouth[:, 0].max()
    assert mouth[3, 1] < mouth[14, 1] < mouth[18, 1] < mouth[9, 1]  # outer, inner, inner, outer, going down the middle
    assert (np.diff(mouth[12:17, 0]) > 0).all() and (np.diff(mouth[17:, 0]) < 0).all()


def test_landmarks_do_not_depend_on_the_size_of_the_picture(ada):
    small, large = (Announcer(CAST["ada"], size).landmarks(controls("aa", 10, 5, 3)) for size in (SIZE, 128))
    assert np.allclose(small, large, atol=1e-5)


@pytest.mark.parametrize("name", CAST)
def test_yaw_turns_right_pitch_up_roll_clockwise(name):
    announcer = Announcer(CAST[name], SIZE)
    still = announcer.landmarks(controls())
    assert nose_over_eyes(announcer.landmarks(controls(yaw=20)))[0] > nose_over_eyes(still)[0] + 0.1
    assert nose_over_eyes(announcer.landmarks(controls(pitch=12)))[1] < nose_over_eyes(still)[1] - 0.05
    left, right = (announcer.landmarks(controls(roll=9))[eye][8] for eye in (EYE_LEFT, EYE_RIGHT))
    assert np.degrees(np.arctan2(*(right - left)[::-1])) == pytest.approx(9, abs=0.5)  # y down: the right eye sinks


def test_pictures_turn_as_landmarks_do():
    """The dark of the nostrils follows the nose's landmark."""
    finn = Announcer(replace(CAST["finn"], glasses=False), 128)
    centres = []
    for yaw in (-15, 15):
        picture, points = finn.draw(controls(yaw=yaw)), finn.landmarks(controls(yaw=yaw))
        column, row = np.round(points[NOSE_TIP] * 128).astype(int)
        nostrils = picture[row : row + 8, column - 12 : column + 12].astype(int).sum(2)
        centres.append(column - 12 + int(nostrils.min(0).argmin()))
        assert nostrils.min() < 250  # the nostrils are dark and lie below the tip
    assert centres[1] > centres[0] + 8


def test_blink_0_closes_the_subjects_left_eye(ada):
    open_picture, points = ada.draw(controls()).astype(int), ada.landmarks(controls())
    for blink, closed, other in (((1, 0), EYE_RIGHT, EYE_LEFT), ((0, 1), EYE_LEFT, EYE_RIGHT)):
        gaps = lid_gap(ada.landmarks(controls(blink=blink)))
        assert gaps[blink.index(1)] < 0.005 < 0.02 < gaps[blink.index(0)]
        change = np.abs(ada.draw(controls(blink=blink)).astype(int) - open_picture).sum(2)

        def changed(eye, change=change):
            x, y = (points[eye][8] * SIZE).astype(int)
            return change[y - 2 : y + 3, x - 4 : x + 5].mean()

        assert changed(closed) > 60 and changed(other) < 2


def test_lips_touch_on_closures_and_open_on_vowels(dan):
    gap = {viseme: float(inner_opening(dan.landmarks(controls(viseme)))) * 256 for viseme in SHAPES}
    assert gap["mbp"] < 0.5 and gap["fv"] < 0.5 and gap["sil"] < 1  # pixels of a 256 picture
    assert gap["aa"] > 15 and gap["ae"] > 10 and gap["ah"] > 6
    assert gap["uw"] < gap["ow"] < gap["aa"]


def test_the_mouth_is_dark_when_it_is_open(dan):
    def darkest(viseme):
        points = dan.landmarks(controls(viseme))
        x, y = (points[[100, 104]].mean(0) * SIZE).astype(int)
        return dan.draw(controls(viseme))[y - 1 : y + 2, x - 2 : x + 3].astype(int).sum(2).min()

    assert darkest("aa") < 0.6 * darkest("sil")


def test_same_controls_same_bytes(ada):
    frame = ada.draw(controls("eh", 5, 5, 5, (0.3, 0.6)))
    assert frame.shape == (SIZE, SIZE, 3) and frame.dtype == np.uint8
    ada.draw(controls("aa", -20))
    assert np.array_equal(frame, ada.draw(controls("eh", 5, 5, 5, (0.3, 0.6))))
    assert np.array_equal(frame, Announcer(CAST["ada"], SIZE).draw(controls("eh", 5, 5, 5, (0.3, 0.6))))


def test_only_what_is_told_moves_the_eyes_and_brows(ada):
    talking, still = (ada.landmarks(controls(viseme, 10, -5, 2)) for viseme in ("aa", "sil"))
    assert np.allclose(talking[33:51], still[33:51], atol=2e-3) and np.allclose(talking[66:86], still[66:86], atol=2e-3)


def test_a_swap_has_the_sources_face_and_the_targets_picture():
    source, target = CAST["cleo"], CAST["bea"]
    truth = swapped(source, target)
    assert all(getattr(truth, name) == getattr(source, name) for name in FACE_FIELDS)
    announcers = [Announcer(identity, 128) for identity in (source, target, truth)]
    source_picture, target_picture, picture = (announcer.draw(controls()).astype(int) for announcer in announcers)
    assert np.array_equal(picture[:60, :10], target_picture[:60, :10])  # background
    crown = (slice(12, 17), slice(58, 70))
    assert np.abs(picture[crown] - target_picture[crown]).mean() < 8  # dark hair
    assert np.abs(picture[crown] - source_picture[crown]).mean() > 60  # not cleo's red
    points = announcers[2].landmarks(controls())
    x, y = (points[EYE_LEFT][9] * 128).astype(int)
    iris = picture[y + 1 : y + 3, x - 4 : x + 5]
    assert (iris[..., 2] - iris[..., 0]).max() > 15  # cleo's blue, where bea's iris is brown
    x, y = (points[61] * 128 + [9, 4]).astype(int)
    assert picture[y, x].mean() > target_picture[y, x].mean() + 40  # cleo's light cheek


def test_framings_show_more_and_less():
    portrait, face = (Announcer(CAST["eli"], SIZE, framing).landmarks(controls()) for framing in (PORTRAIT, FACE))
    assert np.ptp(face[MOUTH, 0]) == pytest.approx(np.ptp(portrait[MOUTH, 0]) * FACE.zoom / PORTRAIT.zoom, rel=1e-3)
    assert 0.8 < face[CHIN, 1] < 0.95 and 0 < face[33:51, 1].min()


def test_dressed_keeps_the_face():
    for seed in range(5):
        other = dressed(CAST["eli"], seed)
        assert all(getattr(other, name) == getattr(CAST["eli"], name) for name in FACE_FIELDS)
        assert other.background != CAST["eli"].background
    assert dressed(CAST["eli"], 1) == dressed(CAST["eli"], 1) != dressed(CAST["eli"], 2)


def test_random_identities_differ_and_repeat():
    people = [random_identity(seed) for seed in range(40)]
    assert people == [random_identity(seed) for seed in range(40)]
    assert len({person.skin for person in people}) == 40
    assert {person.sex for person in people} == {"f", "m"} and len({person.style for person in people}) == 6


def test_light_from_the_other_side_lights_the_other_cheek():
    person = replace(CAST["dan"], beard=0.0)
    left, right = (
        Announcer(person, SIZE, light=Light((x, 0.3, 0.6))).draw(controls()).astype(int).sum(2) for x in (-1.0, 1.0)
    )
    row = slice(34, 40)
    assert left[row, 18:28].mean() > left[row, 36:46].mean() + 15
    assert right[row, 36:46].mean() > right[row, 18:28].mean() + 15
