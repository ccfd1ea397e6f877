"""Crops as a tracker gives them, and the drawn scene to dub: film, track, portrait and sound fit together."""

import copy
import shutil

import cv2
import numpy as np
import pytest

from edgetalk.errors import InputError
from edgetalk.face import read_track, track_beside
from edgetalk.preprocess import TEMPLATES, align, crop_matrix
from edgetalk.reader import Reader
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.camera import FACE
from edgetalk.train.announcers.features import features
from edgetalk.train.announcers.head import at
from edgetalk.train.announcers.speech import synthesize
from edgetalk.train.swap import command as swap_command
from edgetalk.train.swap import crops
from edgetalk.train.swap import scene as swap_scene

TEMPLATE = TEMPLATES["wavsyncswap"]


@pytest.fixture(scope="module")
def landmarks():
    announcer = Announcer(CAST["ada"], 96, FACE, finer=2)
    poses = [np.array([0.3 * np.sin(t), 0.1 * np.cos(t), 0.1 * np.sin(2 * t)]) for t in np.arange(60) * 0.02]
    return np.stack([announcer.landmarks(Controls(pose=pose)) for pose in poses])


def test_without_noise_the_points_come_to_the_template(landmarks):
    views = crops.tracked(landmarks, np.random.default_rng(0), noise=0.0)
    placed = crops.apply(views, landmarks)[:, crops.FIVE]
    # Least squares: the mean is the template's, what is left is what no similarity can remove.
    np.testing.assert_allclose(placed[30:].mean(1), np.broadcast_to(TEMPLATE.mean(0), (30, 2)), atol=0.004)
    assert np.abs(placed - TEMPLATE).max() < 0.12
    still = np.repeat(landmarks[:1], 3, 0)
    exact = crops.apply(crops.tracked(still, np.random.default_rng(0), noise=0.0), still)[:, crops.FIVE]
    np.testing.assert_allclose(exact.mean(1), np.broadcast_to(TEMPLATE.mean(0), (3, 2)), atol=1e-9)


def test_noise_moves_scales_and_turns_crops_as_much_as_it_says(landmarks):
    still = np.repeat(landmarks[:1], 2, 0)
    exact = crops.tracked(still, np.random.default_rng(0), noise=0.0)[0]
    sizes, turns, places = [], [], []
    for seed in range(300):
        view = crops.tracked(still, np.random.default_rng(seed))[0]
        linear = view[:, :2] @ np.linalg.inv(exact[:, :2])
        sizes.append(np.sqrt(np.linalg.det(linear)))
        turns.append(np.degrees(np.arctan2(linear[1, 0], linear[0, 0])))
        places.append(crops.apply(view, still[0])[list(crops.FIVE)].mean(0) - TEMPLATE.mean(0))
    assert 0.02 < np.std(sizes) < 0.04 and 1.3 < np.std(turns) < 2.2
    assert ((np.std(places, axis=0) > 0.010) & (np.std(places, axis=0) < 0.016)).all()


def test_a_view_moves_everything_in_the_picture():
    announcer = Announcer(CAST["dan"], 96, FACE, finer=2)
    controls = Controls(pose=np.array([0.1, 0.0, 0.0]))
    plain = announcer.draw(controls)
    assert np.array_equal(announcer.draw(controls, np.eye(2, 3)), plain)
    view = np.array([[1.1, -0.1, 0.03], [0.1, 1.1, -0.08]])
    pixels = view * [1, 1, 96]
    pixels[:, 2] += (view[:, :2] @ [0.5, 0.5]) - 0.5  # from pixel centres to pixel centres
    warped = cv2.warpAffine(plain, pixels, (96, 96), flags=cv2.INTER_CUBIC)
    inside = slice(25, 90), slice(15, 80)
    drawn = announcer.draw(controls, view)
    assert np.abs(drawn[inside].astype(float) - warped[inside]).mean() < 4
    assert np.abs(drawn[inside].astype(float) - plain[inside]).mean() > 12


def disc(announcer, place, radius=0.05):
    """The announcer as nothing but a white disc, on black, that turns and moves as the face under `place` does."""
    (x, y, z), ring = at(announcer.identity, [place]).rest[0], np.linspace(0, 2 * np.pi, 64, endpoint=False)
    points = np.array([(x, y, z), *((x + radius * np.cos(t), y + radius * np.sin(t), z) for t in ring)])
    first, count = len(announcer.rest), len(ring)
    fan = [(first, first + 1 + i, first + 1 + (i + 1) % count) for i in range(count)]
    alone = copy.copy(announcer)
    alone.rest = np.concatenate([announcer.rest, points])
    alone.rest_normals = np.concatenate([announcer.rest_normals, np.tile([0.0, 0.0, 1.0], (len(points), 1))])
    white = np.array([0, 0, 0, 1, 1, 1, 0, 1], np.float32)
    alone.material = np.concatenate([announcer.material, np.tile(white, (len(points), 1))])
    alone.faces, alone.two_sided = np.array(fan, np.int32), np.ones(count, bool)
    alone.backdrop = np.zeros_like(announcer.backdrop)
    return alone


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (0.25, -0.1, 0.15)])
def test_an_exact_track_has_points_where_they_are_drawn(pose):
    announcer, controls = Announcer(CAST["dan"], 128, finer=4), Controls(pose=np.array(pose))
    shown = features(announcer.identity, controls)
    lips = shown.mouth.upper_outer
    five = [*((eye.x, eye.y) for eye in shown.eyes), (0, -0.27), lips[0], lips[-1]]
    seen = []
    for place in five:
        drawn = disc(announcer, place).draw(controls).astype(float).sum(-1)
        seen.append([drawn.sum(0) @ np.arange(128) / drawn.sum(), drawn.sum(1) @ np.arange(128) / drawn.sum()])
    face = swap_scene.exact(announcer.landmarks(controls), controls.pose, controls.blink, 128)
    np.testing.assert_allclose(face.points, seen, atol=0.1)


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_a_scene_is_as_long_as_asked_even_beyond_its_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(swap_scene, "SIZE", 64)
    monkeypatch.setattr(swap_scene, "SAID", "No.")
    assert synthesize("No.", "rms").seconds < 1
    swap_scene.write_scene(tmp_path, seconds=1.2)
    assert len(list(Reader(tmp_path / "target.mp4"))) == len(read_track(tmp_path / "target.track.npz").faces) == 30


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "0.03"])
def test_a_scene_without_a_frame_or_an_end_is_refused(tmp_path, seconds):
    with pytest.raises(
        InputError, match=f"^seconds: got {float(seconds)}, expected 0.04 or more, a frame; change --sec"
    ):
        swap_command.main(["scene", "-o", str(tmp_path / "scene"), "--seconds", seconds])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_a_scene_has_all_that_dubbing_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(swap_scene, "SIZE", 192)
    swap_command.main(["scene", "-o", str(tmp_path), "--seconds", "0.12"])
    film = list(Reader(tmp_path / "target.mp4"))
    track = read_track(track_beside(tmp_path / "target.mp4")).faces
    assert len(film) == len(track) == 3 and film[0].shape == (192, 192, 3)
    crop = align(film[1], crop_matrix("wavsyncswap", track[1].points, 96), 96)
    eyes = crop[33, [34, 62]]  # where the template has them
    left, top, right, bottom = track[1].box
    assert left < track[1].points[:, 0].min() and track[1].points[:, 0].max() < right and top < bottom
    assert eyes.mean() < crop[42, 48].mean()  # they are darker than the ridge of the nose
    face = read_track(track_beside(tmp_path / "portrait.png")).faces[0]
    assert face.points[0, 0] < face.points[1, 0] and face.points[2, 1] < face.points[3, 1]
    assert (tmp_path / "speech.wav").stat().st_size > 16_000 * 2 * 3
    with pytest.raises(InputError, match="announcer: got 'nobody'"):
        swap_command.main(["scene", "-o", str(tmp_path), "--target", "nobody"])
