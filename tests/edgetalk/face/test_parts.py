"""Faces against naive forms: track files, anchors, decoding, merging, crops, pose, lids, smoothing.

Who finds and follows whom is in test_tracker.py.
"""

import io
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from edgetalk import InputError
from edgetalk.backends import open_engine
from edgetalk.errors import ModelError
from edgetalk.face import Face, Track, blazeface, facemesh, find, read_track, track_beside, write_track
from edgetalk.face.look import OPEN, Eyes
from edgetalk.face.smooth import OneEuro
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.camera import rotation as turned_by  # written apart, from the same words
from edgetalk.train.announcers.landmarks import CONTOUR

from . import doubles


def some_face(seed):
    rng = np.random.default_rng(seed)
    return Face(
        rng.uniform(0, 600, 4).astype(np.float32),
        rng.uniform(0, 600, (5, 2)).astype(np.float32),
        0.9,
        rng.uniform(0, 600, (468, 2)).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
        rng.uniform(0, 1, 2).astype(np.float32),
        rng.uniform(0, 600, (17, 2)).astype(np.float32),
    )


def test_a_track_comes_back_as_it_was_written(tmp_path):
    faces = [some_face(0), None, some_face(1), some_face(2), None]
    path = tmp_path / "film.track.npz"
    write_track(path, faces, Fraction(30000, 1001), (640, 480))
    assert [file.name for file in tmp_path.iterdir()] == ["film.track.npz"]
    got, rate, size = read_track(path)
    assert (rate, size) == (Fraction(30000, 1001), (640, 480)) and len(read_track(path).faces) == 5
    assert [face is None for face in got] == [face is None for face in faces]
    for face, want in zip(got, faces, strict=True):
        if face is not None and want is not None:
            for name in ("box", "points", "pose", "blink", "jaw"):
                assert np.array_equal(getattr(face, name), getattr(want, name))
            assert face.mesh is None and face.score == 1.0
    with np.load(path, allow_pickle=False) as file:  # the format as other programs read it
        assert {name: file[name].shape for name in file.files} == {
            "points": (5, 5, 2), "boxes": (5, 4), "pose": (5, 3), "blink": (5, 2), "fps": (2,), "size": (2,),
            "jaws": (5, 17, 2),
        }  # fmt: skip
        assert np.isnan(file["points"][1]).all()
        assert file["fps"].tolist() == [30000, 1001] and file["size"].tolist() == [640, 480]


def test_a_track_may_know_the_jaw_of_some_faces_or_of_none(tmp_path):
    faces = [some_face(0), replace(some_face(1), jaw=None), None]
    write_track(tmp_path / "a.track.npz", faces, 25)
    assert [face and face.jaw is not None for face in read_track(tmp_path / "a.track.npz").faces] == [True, False, None]
    write_track(tmp_path / "b.track.npz", faces[1:], 25)  # as files were before there were jaws
    with np.load(tmp_path / "b.track.npz", allow_pickle=False) as file:
        assert "jaws" not in file.files
    assert read_track(tmp_path / "b.track.npz").faces[0].jaw is None


@pytest.mark.parametrize(
    "fps, rate", [(25, Fraction(25)), (29.97, Fraction(2997, 100)), ("30000/1001", Fraction(30000, 1001))]
)
def test_a_track_takes_a_rate_as_everything_does(tmp_path, fps, rate):
    write_track(tmp_path / "a.track.npz", [None], fps)
    assert read_track(tmp_path / "a.track.npz") == ([None], rate, None)
    with pytest.raises(InputError, match="fps: got 0, expected a number from 1"):
        write_track(tmp_path / "a.track.npz", [None], 0)


def at(x, y, side=100):
    """A face whose box has its middle at (x, y)."""
    half = np.float32(side / 2)
    return replace(some_face(0), box=np.float32([x - half, y - half, x + half, y + half]))


@pytest.mark.parametrize(
    ("size", "faces", "refused"),
    [
        ((320, 240), [at(160, 120)], None),
        ((640, 480), [at(160, 120)], "a is of pictures of 640×480 pixels, f.mp4 has 320×240; make it again"),
        ((240, 320), [], "a is of pictures of 240×320 pixels"),
        (None, [], None),
        (None, [None, at(318, 120)], None),
        (None, [None, at(322, 120)], "a has its faces outside the 320×240 pixels of f.mp4; make it again"),
        (None, [at(160, 242)], "outside"),
        (None, [at(160, -2)], "outside"),
        (None, [at(-2, 120)], "outside"),
        (None, [at(700, 500)], "outside"),
        (None, [at(160, 120), at(700, 500)], None),  # who leaves the picture
        (None, [at(160, 120), at(700, 500), at(-300, 120)], "outside"),
    ],
)
def test_a_track_of_another_picture_is_told_by_its_size_or_else_by_its_faces(size, faces, refused):
    track = Track(faces, Fraction(25), size)
    if refused is None:
        track.check_size((320, 240), "a", "f.mp4")
    else:
        with pytest.raises(InputError, match=refused):
            track.check_size((320, 240), "a", "f.mp4")


def test_an_empty_track_is_one(tmp_path):
    write_track(tmp_path / "a.track.npz", [], Fraction(25))
    assert read_track(tmp_path / "a.track.npz").faces == []


def test_the_track_of_a_film_is_found_beside_it(tmp_path):
    assert track_beside(tmp_path / "film.mp4") is None
    assert track_beside(".") is None and track_beside("/") is None
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
        ({"jaws": np.zeros((3, 16, 2), np.float32)}, r"jaws float32 \(3, 16, 2\), expected float32 \(3, 17, 2\)"),
        ({"fps": np.array([25, 0])}, r"fps \[25, 0\]"),
        ({"fps": np.array(25.0)}, "fps 25.0"),
        ({"size": np.array([640, 0])}, r"size \[640, 0\]"),
        ({"size": np.array([640.0, 480.0])}, r"size \[640.0, 480.0\], expected two whole numbers"),
        ({"points": np.array([{}, {}], object)}, "damaged"),
    ],
)
def test_a_wrong_track_is_refused_in_one_sentence(tmp_path, change, words):
    arrays = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    np.savez(tmp_path / "a.track.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_track(tmp_path / "a.track.npz")


def told(data, at, value):
    """A zip archive that says something else of its first member: `at` counts from where the list says it."""
    at += data.index(b"PK\1\2")
    return data[:at] + bytes([value]) + data[at + 1 :]


def one_array(_):
    file = io.BytesIO()
    np.save(file, GOOD["points"])
    return file.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:200],
        lambda data: b"no zip at all",
        one_array,
        lambda data: told(data, 8, 1),  # it has a password
        lambda data: told(data, 10, 99),  # it is packed in a way that nobody knows
        lambda data: told(data, 10, 12),  # it is packed by bzip2, which it is not
    ],
)
def test_a_damaged_track_is_refused(tmp_path, damage):
    np.savez(tmp_path / "a.track.npz", **GOOD)
    (tmp_path / "a.track.npz").write_bytes(damage((tmp_path / "a.track.npz").read_bytes()))
    with pytest.raises(InputError, match=r"a\.track\.npz is no track of a face"):
        read_track(tmp_path / "a.track.npz")
    with pytest.raises(FileNotFoundError):
        read_track(tmp_path / "missing.track.npz")


# --- the detector -------------------------------------------------------------------------------------------------


def test_anchors_are_those_of_the_published_network():
    naive = []
    for stride, layers in ((8, 1), (16, 3)):  # three layers share the coarse grid, two anchors each
        for row in range(128 // stride):
            for column in range(128 // stride):
                naive += [((column + 0.5) * stride / 128, (row + 0.5) * stride / 128)] * (2 * layers)
    assert np.allclose(blazeface.anchors(), naive) and len(naive) == 896


def test_decoding_against_one_anchor_at_a_time():
    rng = np.random.default_rng(0)
    regressors, logits = rng.normal(0, 20, (896, 16)).astype(np.float32), rng.normal(-2, 2, 896).astype(np.float32)
    boxes, points, scores = blazeface.decode(regressors, logits, blazeface.anchors())
    k = 0
    for anchor, raw, logit in zip(blazeface.anchors().tolist(), regressors.tolist(), logits.tolist(), strict=True):
        score = 1 / (1 + math.exp(-logit))
        if score < 0.5:
            continue
        x, y, w, h = raw[0] / 128 + anchor[0], raw[1] / 128 + anchor[1], raw[2] / 128, raw[3] / 128
        assert np.allclose(boxes[k], (x - w / 2, y - h / 2, x + w / 2, y + h / 2), atol=1e-5)
        for j in range(6):
            assert np.allclose(
                points[k, j], (raw[4 + 2 * j] / 128 + anchor[0], raw[5 + 2 * j] / 128 + anchor[1]), atol=1e-5
            )
        assert scores[k] == pytest.approx(score, rel=1e-5)
        k += 1
    assert k == len(scores) > 50


def counted(a, b):
    """Overlap of two boxes of whole numbers over their union, and over the smaller, by counting pixels."""
    canvas = np.zeros((2, 60, 60), bool)
    for layer, (left, top, right, bottom) in zip(canvas, (a, b), strict=True):
        layer[top:bottom, left:right] = True
    shared = (canvas[0] & canvas[1]).sum()
    return shared / (canvas[0] | canvas[1]).sum(), shared / min(canvas[0].sum(), canvas[1].sum())


def naive_merge(boxes, points, scores):
    rest = sorted(range(len(boxes)), key=lambda i: -scores[i])
    found = []
    while rest:
        best, same, left = rest[0], [], []
        for i in rest:
            union, smaller = counted(boxes[best], boxes[i])
            if union > 0.3:
                same.append(i)
            elif smaller <= 0.6:
                left.append(i)
        total = sum(scores[i] for i in same)
        found.append([sum(scores[i] * values[i] for i in same) / total for values in (boxes, points)] + [scores[best]])
        rest = left
    return found


@pytest.mark.parametrize("seed", range(8))
def test_merging_against_counted_pixels(seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 40, (40, 2))
    boxes = np.concatenate([corner, corner + rng.integers(4, 20, (40, 2))], 1)
    points, scores = rng.normal(size=(40, 6, 2)).astype(np.float32), rng.uniform(0.5, 1, 40).astype(np.float32)
    want = naive_merge(boxes, points, scores)
    got = blazeface.merge(boxes.astype(np.float32), points, scores)
    assert 3 < len(got) < 40 and len(got) == len(want)
    for one, (box, mean, score) in zip(got, want, strict=True):
        assert np.allclose(one.box, box, atol=1e-4) and np.allclose(one.points, mean, atol=1e-4)
        assert one.score == pytest.approx(score)


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (640, 640), (1920, 800), (99, 70)])
@pytest.mark.parametrize("closely", [False, True])
def test_every_face_is_whole_and_large_in_one_of_the_squares(size, closely):
    rng = np.random.default_rng(1)
    places = blazeface.squares(*size, closely)
    assert max(side for *_, side in places) == max(size)
    smallest = min(size) * (0.16 if closely else 0.33)
    for width in rng.uniform(smallest, min(size), 300):
        x, y = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - width)
        assert any(
            left <= x + 1e-6 and top <= y + 1e-6 and x + width <= left + side + 1e-6 and y + width <= top + side + 1e-6
            and width > side * 0.15
            for left, top, side in places
        ), (x, y, width)  # fmt: skip


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (1000, 700), (100, 100)])
def test_what_is_found_lies_where_it_is_in_the_picture(tmp_path, size):
    doubles.write_detector(tmp_path / "detector.onnx")
    detector = blazeface.BlazeFace(tmp_path / "detector.onnx")
    side = 0.3 * max(size)
    x, y = 0.6 * size[0], 0.45 * size[1]
    found = detector.find(doubles.frame((x, y, side), size=size), closely=False)
    cell = max(size) / 16
    middle = (found[0].box[:2] + found[0].box[2:]) / 2
    assert np.abs(middle - (x, y)).max() < 0.75 * cell
    nose = found[0].points[2] - middle  # of the double: 2 of the 128 pixels of the square it was seen in
    assert abs(nose[0]) < 0.01 and 2 / 128 * min(size) - 0.01 < nose[1] < 2 / 128 * max(size) + 0.01


@pytest.mark.parametrize("start", [0.4, 0.5, 0.6, 7.4, -3.4])
def test_a_small_square_that_starts_within_a_pixel_is_seen(start):
    picture = np.full((60, 60, 3), 255, np.uint8)
    for left, top in ((start, 0.0), (0.0, start), (start, start)):
        seen = blazeface._square(picture, left, top, 40.0)
        assert np.all(seen[16:112, 16:112] == 1)


# --- the mesh -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "mesh.onnx"
    doubles.write_mesh(path)
    return facemesh.FaceMesh(path)


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2, 3.0])
@pytest.mark.parametrize("square", [(160, 120, 60), (60.3, 99.6, 41), (250, 200, 30)])
def test_the_mesh_sees_the_place_that_it_is_shown(mesh, angle, square):
    """The double measures the middle in its turned crop; it has to come back as the middle in the picture."""
    x, y, side = square
    place = facemesh.Place(np.array([x + 4, y - 3]), 2.2 * side, angle)
    points, presence = mesh.look(doubles.frame(square), place)
    assert presence > 0.9
    spin = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    want = (x, y) + doubles.template()[:, :2] @ spin.T * side / 2
    assert np.abs(points[:, :2] - want).max() < 0.02 * side + 0.25
    assert np.abs(points[:, :2].mean(0) - want.mean(0)).max() < 0.12
    assert np.allclose(points[:, 2], doubles.template()[:, 2] * side / 2, atol=0.03 * side)


def test_nothing_there_is_seen_as_nothing(mesh):
    assert mesh.look(doubles.frame(), facemesh.Place(np.array([100.0, 100.0]), 80, 0))[1] < 0.1


@pytest.mark.parametrize("angle", np.linspace(-3, 3, 7))
def test_the_place_around_points_is_upright_and_half_as_large_again(angle):
    rng = np.random.default_rng(2)
    upright = rng.uniform(-1, 1, (50, 2)) * [30, 40]
    upright[:4] = [(-30, 0), (30, 0), (0, -40), (0, 40)]
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = upright @ turn.T + [200, 100]
    place = facemesh.place_around(points, points[0], points[1])
    assert np.allclose(place.centre, (200, 100)) and place.side == pytest.approx(1.5 * 80)
    assert math.cos(place.angle - angle) == pytest.approx(1)


FLIP = np.diag([1.0, -1.0, -1.0])  # y up and z to the viewer, as announcers are drawn; y down and z away here


def seen_from(distance, pose, unit=80.0, noise=0.0, seed=0):
    """A face of CANONICAL's shape under a pose, seen by a camera at a distance in its own unit: (468, 3)."""
    rng = np.random.default_rng(seed)
    solid = facemesh.CANONICAL @ (FLIP @ turned_by(pose) @ FLIP).T
    points = np.zeros((468, 3))
    points[facemesh.RIGID, :2] = solid[:, :2] * distance / (distance + solid[:, 2:]) * unit + rng.uniform(50, 500, 2)
    points[facemesh.RIGID, 2] = solid[:, 2] * unit
    return points + rng.normal(0, noise * unit, points.shape)


@pytest.mark.parametrize("seed", range(12))
def test_the_pose_of_a_projected_face_comes_back(seed):
    pose = np.random.default_rng(seed).uniform(-1, 1, 3) * [0.9, 0.6, 1.5]
    exact = facemesh.angles(facemesh.rotation(seen_from(facemesh.DISTANCE, pose)))
    assert np.abs(exact - pose).max() < 0.01
    for distance in (7.0, 40.0):  # a face held before a phone; one seen through a long lens
        assert np.abs(facemesh.angles(facemesh.rotation(seen_from(distance, pose))) - pose).max() < math.radians(6)
    noisy = facemesh.angles(facemesh.rotation(seen_from(facemesh.DISTANCE, pose, noise=0.01, seed=seed)))
    assert np.abs(noisy - pose).max() < math.radians(4)


@pytest.mark.parametrize(("pose", "sign"), [((0.3, 0, 0), (1, 0)), ((0, 0.3, 0), (0, -1)), ((-0.3, 0, 0), (-1, 0))])
def test_the_nose_goes_where_the_pose_says(pose, sign):
    """Yaw > 0 to the image's right, pitch > 0 up: without a rotation matrix, by where the tip of the nose goes."""
    ahead, turned = seen_from(30.0, (0, 0, 0)), seen_from(30.0, pose)
    tip = facemesh.NOSE, slice(0, 2)
    middle = facemesh.RIGID
    moved = (turned[tip] - turned[middle, :2].mean(0)) - (ahead[tip] - ahead[middle, :2].mean(0))
    assert np.allclose(moved @ np.array(sign), np.abs(moved).max(), rtol=0.2) and moved @ np.array(sign) > 5
    assert np.allclose(facemesh.angles(facemesh.rotation(turned)), pose, atol=0.03)


def test_roll_is_clockwise_as_seen():
    points = seen_from(30.0, (0, 0, 0.4))
    along = points[263, :2] - points[33, :2]
    assert along[0] > 0 and along[1] > 0  # the eye on the viewer's right is lower
    assert facemesh.angles(facemesh.rotation(points))[2] == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_angles_are_those_that_heads_are_drawn_with(seed):
    pose = np.random.default_rng(seed).uniform(-1.2, 1.2, 3)
    assert np.allclose(facemesh.angles(FLIP @ turned_by(pose) @ FLIP), pose, atol=1e-6)


@pytest.mark.parametrize("pose", [(0, 0, 0), (0.6, 0, 0), (0, -0.5, 0.3)])
def test_lids_keep_their_opening_while_the_head_turns(pose):
    face = doubles.template().astype(float)
    for upper, lower in facemesh.LIDS[1]:  # the eye on the viewer's right is half as open: 0.15 of its width
        middle = (face[upper] + face[lower]) / 2
        face[upper], face[lower] = (face[upper] + middle) / 2, (face[lower] + middle) / 2
    turn = FLIP @ turned_by(pose) @ FLIP
    ratios = facemesh.openness((face * 70) @ turn.T + [200, 100, 0], turn)
    widths = [np.linalg.norm(face[b] - face[a]) / abs(face[b, 0] - face[a, 0]) for a, b in facemesh.EYES]
    assert np.allclose(ratios * widths, (0.3, 0.15), atol=1e-3)


def test_the_five_points_are_eyes_nose_and_mouth_from_left_to_right():
    points = facemesh.five_points(doubles.template())
    assert points[0, 0] < points[2, 0] < points[1, 0] and points[3, 0] < points[4, 0]
    assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()
    assert np.allclose(points[0] * [-1, 1], points[1], atol=1e-6)


@pytest.mark.parametrize("name", ["ada", "cleo", "dan", "finn"])
def test_the_jaw_that_the_mesh_sees_is_the_edge_of_the_drawn_face(tracking_networks, name):
    said = Controls(pose=np.array([0.1, 0.0, 0.05]))
    announcer = Announcer(CAST[name], 256)
    (seen,) = find(announcer.draw(said))
    drawn = announcer.landmarks(said)[CONTOUR] * 256 - 0.5
    along = np.linspace(0, 1, 1000)
    edge = np.stack([np.interp(along * 32, np.arange(33), drawn[:, k]) for k in (0, 1)], 1)
    apart = np.linalg.norm(seen.jaw[:, None] - edge, axis=2)
    width = np.ptp(drawn[:, 0])
    assert apart.min(1).max() < 0.08 * width and apart.min(1).mean() < 0.04 * width
    assert (np.diff(apart.argmin(1)) > 0).all()  # from left to right, none twice
    assert np.linalg.norm(seen.jaw[8] - drawn[16]) < 0.1 * width


# --- lids and smoothing over time ---------------------------------------------------------------------------------


def test_blinks_are_counted_from_what_the_eye_is_when_it_is_open():
    for own in (0.24, OPEN, 0.42):  # narrow, usual and wide eyes
        eyes = Eyes(Fraction(25))
        for _ in range(250):
            rest = eyes(np.array([own, own]))
        assert np.allclose(rest, 0, atol=0.02)
        assert np.allclose(eyes(np.array([0.77 * own, own])), (0, 0.5), atol=0.03)  # subject's left, right
        assert np.allclose(eyes(np.array([own, 0.6 * own])), (1, 0), atol=0.03)
        for _ in range(5):  # a long blink is not taken for a narrow eye
            shut = eyes(np.array([0.6 * own, 0.6 * own]))
        assert shut.min() > 0.85 and eyes(np.array([own, own])).max() < 0.02
        assert shut.dtype == np.float32


def naive_one_euro(values, rate, cutoff, beta):
    """The paper's algorithm for one number, with its own names."""

    def alpha(fc):
        tau, te = 1 / (2 * math.pi * fc), 1 / rate
        return 1 / (1 + tau / te)

    out, previous, dx = [], None, 0.0
    for x in values:
        if previous is None:
            previous = x
        else:
            dx = alpha(1.0) * (x - previous) * rate + (1 - alpha(1.0)) * dx
            a = alpha(cutoff + beta * abs(dx))
            previous = a * x + (1 - a) * previous
        out.append(previous)
    return out


def test_the_one_euro_filter_is_that_of_the_paper():
    rng = np.random.default_rng(4)
    values = np.cumsum(rng.normal(size=(60, 2, 3)), 0)
    smooth = OneEuro(Fraction(30000, 1001), 1.7, 0.4)
    got = np.stack([smooth(value) for value in values])
    for i, j in np.ndindex(2, 3):
        assert np.allclose(got[:, i, j], naive_one_euro(values[:, i, j], 30000 / 1001, 1.7, 0.4), rtol=1e-5, atol=1e-5)
    scaled = OneEuro(Fraction(30000, 1001), 1.7, 0.4)
    assert np.allclose([scaled(value * 50, 50) for value in values], got * 50, rtol=1e-4, atol=1e-3)
    smooth.reset()
    assert np.array_equal(smooth(values[7]), values[7].astype(np.float32))


def test_what_stands_still_is_smoothed_and_what_moves_is_followed():
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.002, 500)
    still, moving = OneEuro(25, 2.0, 12.0), OneEuro(25, 2.0, 12.0)
    assert np.std([float(still(np.array(x))) for x in noise][50:]) < 0.6 * noise.std()
    run = np.arange(50) * 0.08  # two face widths per second
    late = run - [float(moving(np.array(x))) for x in run]
    assert late[10:].max() < 0.3 * 0.08  # a third of a frame


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "is no TensorFlow Lite"), (b"not a model at all", "is no TensorFlow Lite")]
)
def test_a_file_that_only_ends_in_tflite_is_refused(tmp_path, data, words, capfd):
    (tmp_path / "a.tflite").write_bytes(data)
    with pytest.raises(ModelError, match=f"a.tflite {words} model; copy it again"):
        open_engine(tmp_path / "a.tflite")
    assert capfd.readouterr().err == ""
