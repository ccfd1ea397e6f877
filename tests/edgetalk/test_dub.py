"""Films dubbed by tiny engines whose output is known exactly: what changes, what does not, how long, and what fails."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import soundfile

import edgetalk
from edgetalk import audio, bundled, mel
from edgetalk import portrait as portraits
from edgetalk.avatar import APART, Avatar, Film, save_avatar
from edgetalk.backends import open_engine, preflight
from edgetalk.cli import main
from edgetalk.dubbing import Dubbed, _inputs
from edgetalk.errors import BackendError, InputError, ModelError
from edgetalk.face import write_track
from edgetalk.painter import Painter
from edgetalk.pasting import MASKS
from edgetalk.planes import OFFSET, TO_RGB, of_rgb, split, to_rgb
from edgetalk.preprocess import ASPECTS, TEMPLATES, crop_matrix
from edgetalk.reader import Reader
from edgetalk.targets import FITS, LOOK, Faces, Target, length, targets, with_references
from edgetalk.writer import Writer

from . import dub_models as tiny
from .dub_models import POINTS, SIZE, face, film, number, picture, speech
from .face.doubles import RED
from .face.doubles import frame as squares_of

NTSC = Fraction(30000, 1001)
CODEC = 3  # of 255: mean error of two encodings of a soft picture


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    tiny.unchanged(folder / "same.onnx")
    tiny.loud(folder / "loud.onnx")
    tiny.colour(folder / "green.onnx", (60, 200, 90))
    tiny.colour(folder / "flood.onnx", (60, 200, 90), everywhere=True)
    tiny.negative(folder / "negative.onnx")
    tiny.swap(folder / "swap.onnx")
    tiny.extractor(folder / "arcface.onnx")
    tiny.mirror(folder / "mirror.onnx")
    return folder


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return film(tmp_path_factory.mktemp("film") / "target.mp4")


def square(template, frame_size=(tiny.WIDTH, tiny.HEIGHT), size=SIZE):
    """Where the crop's pixels lie in the frame, float (H, W): the mask of a family, warped by nothing of ours."""
    matrix = crop_matrix(template, POINTS, size)
    return np.clip(cv2.warpAffine(MASKS[template](size), cv2.invertAffineTransform(matrix), frame_size), 0, 1)


def exact(planes):
    """Planes as RGB by the matrix itself; FFmpeg's own way makes up to two levels darker."""
    luma, *colours = split(planes)
    yuv = np.dstack([luma, *(colour.repeat(2, 0).repeat(2, 1) for colour in colours)])
    return (yuv - OFFSET) @ TO_RGB.T


def repainted(painter, frame, seen=None, read=to_rgb, **given):
    """What a painter makes of an RGB picture."""
    planes = of_rgb(frame)
    painter(planes, seen or face(), **given)
    return read(planes)


# What changes


@pytest.mark.parametrize("fps", [Fraction(25), NTSC])
@pytest.mark.parametrize("size", [(160, 120), (161, 121)])
def test_an_engine_that_changes_nothing_gives_the_film_back(engines, tmp_path, fps, size):
    source = film(tmp_path / "a.mp4", 24, fps, size)
    done = edgetalk.dub(engines / "same.onnx", source, speech(float(24 / fps)), tmp_path / "b.mp4", crf=4)
    before, after = Reader(source), Reader(tmp_path / "b.mp4")
    assert (done.frames, done.painted, done.fps) == (24, 24, fps)
    assert (after.fps, after.size) == (fps, before.size) == (fps, (size[0] + size[0] % 2, size[1] + size[1] % 2))
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        assert number(other) == i
        assert np.abs(one.astype(int) - other).mean() < CODEC and np.abs(one.astype(int) - other)[20:].max() < 20


def test_a_face_that_an_engine_leaves_as_it_is_keeps_its_finest_detail(engines):
    """More than two interpolations let through: what is blended in is the change alone."""
    planes = of_rgb(np.random.default_rng(1).integers(0, 256, (tiny.HEIGHT, tiny.WIDTH, 3)).astype(np.uint8))
    before = planes.copy()
    with Painter(engines / "same.onnx") as painter:
        painter(planes, face(), np.zeros((tiny.AUDIO.window, tiny.AUDIO.features), np.float32))
    assert np.abs(planes.astype(int) - before).max() <= 1


def test_outside_the_mask_no_byte_changes(engines, target):
    planes = next(Reader(target).planes())
    before = planes.copy()
    with Painter(engines / "flood.onnx") as painter:
        painter(planes, face())
    shown = square("wav2lip")
    reach = cv2.dilate(shown, np.ones((5, 5)))
    changed = [plane != other for plane, other in zip(split(planes), split(before), strict=True)]
    assert not changed[0][reach == 0].any() and changed[0][shown > 0.99].mean() > 0.9
    for colour in changed[1:]:
        assert not colour[reach[::2, ::2] == 0].any() and colour[shown[::2, ::2] > 0.99].mean() > 0.8


def test_a_face_pasted_in_bands_is_the_face_pasted_at_once(engines, target, monkeypatch):
    frame, made = next(iter(Reader(target))), []
    for rows in (7, 10**6):
        monkeypatch.setattr("edgetalk.postprocess.BAND", rows)
        with Painter(engines / "flood.onnx") as painter:
            made.append(repainted(painter, frame, read=lambda planes: planes.astype(int)))
    assert np.abs(made[0] - made[1]).max() <= 1 and (made[0] != of_rgb(frame)).any()


def test_the_mask_of_each_family_is_painted_and_nothing_else(tmp_path, engines, target):
    frame = next(iter(Reader(target)))
    wanted = np.array([60, 200, 90.0])
    for family in MASKS:
        with Painter(tiny.colour(tmp_path / f"{family}.onnx", wanted, family, everywhere=True)) as painter:
            painted = repainted(painter, frame, read=exact)
            crop = painter.crop(of_rgb(frame), painter.matrix(POINTS))
        outside = 1 - MASKS[family](SIZE)[..., None]
        around = (outside * crop).sum((0, 1)) / outside.sum()
        shifted = wanted + np.clip(around - wanted, -48, 48)  # colours are matched, by so much at most
        shown = square(family)
        assert np.abs(painted[shown > 0.99] - shifted).max() <= 4, family
        half = shown[..., None] * shifted + (1 - shown[..., None]) * frame
        assert np.abs(painted - half).mean() < 2, family


JAW = np.array([(-0.5, 0.0), (-0.49, 0.17), (-0.46, 0.33), (-0.42, 0.5), (-0.36, 0.64), (-0.28, 0.77), (-0.19, 0.88),
                (-0.1, 0.96), (0, 1)], np.float32)  # fmt: skip
"""The left half of a jaw as wide and as high as 1, its ears at 0."""


def jaw(middle, width, height):
    """A whole jaw (17, 2) with its ears at the height of `middle`."""
    whole = np.concatenate([JAW, JAW[-2::-1] * (-1, 1)])
    return np.float32(whole * (width, height) + middle)


@pytest.mark.parametrize("family", MASKS)
def test_beside_the_jaw_stays_what_a_network_has_not_seen(tmp_path, engines, target, family):
    """Wav2Lip and WavSyncSwap are not shown the lower half of a crop; SimSwap knows what lies beside the face."""
    frame = next(iter(Reader(target)))
    with Painter(tiny.colour(tmp_path / "a.onnx", [250, 0, 250], family, everywhere=True)) as painter:
        to_frame = np.linalg.inv(np.vstack([painter.matrix(POINTS), [0, 0, 1]]))[:2]
        shape = jaw((SIZE / 2 - 0.5, SIZE * 0.3), SIZE / 2, SIZE * 0.6)
        seen = dataclasses.replace(face(), jaw=shape @ to_frame[:, :2].T + to_frame[:, 2])
        whole, some = (repainted(painter, frame, one).astype(int) for one in (face(), seen))
        own = to_rgb(of_rgb(frame)).astype(int)
        places = {"cheek": (32, 40), "beside": (8, 40), "above": (8, 26), "chin": (32, 50), "beside it": (8, 50)}
        at = {name: np.rint(to_frame @ [x, y, 1]).astype(int)[::-1] for name, (x, y) in places.items()}
    for name, (y, x) in at.items():
        kept = family != "simswap" and name.startswith("beside")
        assert np.abs(some[y, x] - (own if kept else whole)[y, x]).max() <= 4, (name, family)
        assert np.abs(whole[y, x] - own[y, x]).max() > 20 or (family, name) == ("wav2lip", "above"), name


def test_the_upper_half_of_wav2lips_crop_stays(engines, target):
    frame = next(iter(Reader(target)))
    with Painter(engines / "flood.onnx") as painter:
        painted = repainted(painter, frame)
        middle = round(float((np.linalg.inv(np.vstack([painter.matrix(POINTS), [0, 0, 1]])) @ [32, 31.5, 1])[1]))
    rows = np.flatnonzero((np.abs(painted.astype(int) - to_rgb(of_rgb(frame))) > 2).any((1, 2)))
    assert middle - 1 <= rows[0] <= middle + 4 and rows[-1] > 95


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_face_of_the_templates_shape_lies_on_the_template(family):
    stretch = [ASPECTS.get(family, 1.0), 1.0]
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    points = (TEMPLATES[family] * stretch) @ turn.T * 230 + (400, 100)
    moved = np.c_[points, np.ones(5)] @ crop_matrix(family, points, 96).T
    np.testing.assert_allclose((moved + 0.5) / 96, TEMPLATES[family], atol=1e-9)


def test_each_frame_gets_its_own_sound(engines, target, tmp_path):
    pcm = speech(0.8)
    edgetalk.dub(engines / "loud.onnx", target, pcm, tmp_path / "a.mp4")
    spec = tiny.AUDIO
    heard = mel.windows(mel.log_mel(pcm, spec), 20, spec, Fraction(25)).mean((1, 2))
    mouth = [frame[84:92, 76:84].mean() for frame in Reader(tmp_path / "a.mp4")]
    assert np.ptp(heard * 24) > 20
    np.testing.assert_allclose(mouth, 128 + 24 * heard, atol=2.5)


def test_networks_follow_each_other_in_the_order_given(engines, target, tmp_path):
    pcm, mouth, green = speech(0.2), np.s_[84:92, 76:84], np.array([60, 200, 90])
    for names, expected in ((["green", "negative"], 255 - green), (["negative", "green"], green)):
        edgetalk.dub([engines / f"{name}.onnx" for name in names], target, pcm, tmp_path / "a.mp4")
        for frame in Reader(tmp_path / "a.mp4"):
            assert np.abs(frame[mouth].reshape(-1, 3).mean(0) - expected).max() < 4, names


def test_the_face_of_the_portrait_is_painted(engines, target, tmp_path):
    portrait = np.full((480, 640, 3), 40, np.uint8)
    portrait[:120, :160] = (240, 120, 80)  # the face's crop lies in this corner
    cv2.imwrite(str(tmp_path / "p.png"), portrait[..., ::-1])
    write_track(tmp_path / "p.track.npz", [face()], Fraction(25))
    edgetalk.dub(engines / "swap.onnx", target, speech(0.4), tmp_path / "a.mp4", tmp_path / "p.png")
    direction = np.array([240, 120, 80]) / np.linalg.norm([240, 120, 80])
    vector = direction[None].astype(np.float32)
    edgetalk.dub(engines / "swap.onnx", target, speech(0.4), tmp_path / "b.mp4", identity=vector)
    for name in ("a.mp4", "b.mp4"):
        painted = next(iter(Reader(tmp_path / name)))[84:92, 76:84].reshape(-1, 3).mean(0)
        assert np.abs(painted - 255 * direction).max() < 4
    with Painter(engines / "swap.onnx") as painter:
        with pytest.raises(InputError, match="takes identity and was not given any"):
            painter(of_rgb(picture(0)), face())
        with pytest.raises(InputError, match=r"got float64 \(3,\), swap.onnx takes float32 \(1, 3\)"):
            painter.wear(direction)


def test_an_extractor_that_is_named_is_taken_and_none_has_to_stand_beside_the_engine(engines, target, tmp_path):
    tiny.swap(tmp_path / "swap.onnx")
    (tmp_path / "elsewhere").mkdir()
    extractor = tmp_path / "elsewhere" / "mine.onnx"
    shutil.copy(engines / "arcface.onnx", extractor)
    cv2.imwrite(str(tmp_path / "p.png"), picture(3)[..., ::-1])
    write_track(tmp_path / "p.track.npz", [face()], Fraction(25))
    given = tmp_path / "swap.onnx", target, speech(0.08), tmp_path / "a.mp4", tmp_path / "p.png"
    assert edgetalk.dub(*given, identity=extractor).painted == 2
    with pytest.raises(ModelError, match="arcface.onnx"):
        edgetalk.dub(*given)


@pytest.mark.parametrize("size", [28, 112, 320])
def test_a_portrait_of_few_pixels_is_told(tmp_path, size):
    """Of a track's points, as far apart as in `size` pixels of the crop that the extractor takes, 112."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((400, 400, 3), np.uint8))
    write_track(tmp_path / "a.track.npz", [face(TEMPLATES["arcface"] * size + 10)], Fraction(25), (400, 400))
    cut = portraits.aligned(tmp_path / "a.png")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cut("arcface", 112)
    assert ["a.png shows a face of few pixels, enlarged 4.0 times" in str(each.message) for each in told] == (
        [True] if size == 28 else []
    )


def test_the_track_of_a_film_is_not_that_of_a_portrait_of_its_name(tmp_path, monkeypatch):
    portrait, moved = tmp_path / "me.png", dataclasses.replace(face(), points=POINTS + 9)
    cv2.imwrite(str(portrait), picture(0))
    monkeypatch.setattr(portraits, "find", lambda _, face_models: [moved])
    for faces, expected in (([face()] * 3, moved), ([None], None), ([face()], face())):
        write_track(tmp_path / "me.track.npz", faces, Fraction(25), (tiny.WIDTH, tiny.HEIGHT))
        if expected is None:
            with pytest.raises(InputError, match="me.track.npz has no face in it"):
                portraits.points(portrait, picture(0))
        else:
            assert np.array_equal(portraits.points(portrait, picture(0)), expected.points)
    with pytest.raises(InputError, match="me.track.npz is of pictures of 160×120 pixels, me.png has 80×60; make it"):
        portraits.points(portrait, picture(0, 80, 60))


@pytest.fixture
def opened(monkeypatch):
    """(name, device, threads) of every engine that is opened, on "CPU" or "auto"; of a plan the ONNX is opened."""
    seen = []

    def spy(path, *, device="auto", threads=None, streams=1):
        seen.append((path.name, device, threads))
        real = path.with_suffix(".onnx") if path.suffix == ".plan" else path
        return open_engine(real, device="auto" if device == "cuda:0" else device, threads=threads)

    monkeypatch.setattr("edgetalk.model.open_engine", spy)
    return seen


def test_every_engine_gets_the_device_and_threads(engines, target, tmp_path, opened):
    cv2.imwrite(str(tmp_path / "p.png"), picture(0))
    write_track(tmp_path / "p.track.npz", [face()], Fraction(25))
    names = [engines / name for name in ("mirror.onnx", "swap.onnx")]
    edgetalk.dub(names, target, speech(0.2), tmp_path / "a.mp4", tmp_path / "p.png", device="CPU", threads=1)
    # Each once, whatever the number of threads that repaint.
    assert sorted(opened) == [(f"{name}.onnx", "CPU", 1) for name in ("arcface", "mirror-source", "mirror", "swap")]


def test_a_twin_paints_the_same_face_on_the_engines_that_were_opened(tmp_path):
    """Not on what has their names by now; each has inputs of its own, and is closed alone."""
    shown = np.full((SIZE, SIZE, 3), 200, np.uint8)
    for write, given in ((tiny.swap, {}), (tiny.mirror, {"reference": shown})):
        write(tmp_path / "a.onnx")
        painter = Painter(tmp_path / "a.onnx")
        if not given:
            painter.wear(np.float32([[0, 0, 1]]))
        for file in tmp_path.iterdir():
            file.unlink()
        with painter.twin() as twin:
            wanted, got = (repainted(one, picture(0), **given) for one in (painter, twin))
            assert np.array_equal(wanted, got) and np.abs(wanted.astype(int) - picture(0)).max() > 50
            painter.close()
            assert np.array_equal(repainted(twin, picture(0), **given), wanted)
        with pytest.raises(BackendError, match="is closed"):
            repainted(twin, picture(0), **given)


def test_what_another_kind_of_engine_runs_gets_no_device_of_the_first(engines, target, tmp_path, opened):
    cv2.imwrite(str(tmp_path / "p.png"), picture(0))
    write_track(tmp_path / "p.track.npz", [face()], Fraction(25))
    names = [engines / name for name in ("mirror.plan", "swap.plan")]
    edgetalk.dub(names, target, speech(0.2), tmp_path / "a.mp4", tmp_path / "p.png", device="cuda:0")
    assert {(name, device) for name, device, _ in opened} == {
        ("mirror.plan", "cuda:0"),
        ("swap.plan", "cuda:0"),
        ("mirror-source.onnx", "auto"),
        ("arcface.onnx", "auto"),
    }


def test_the_reference_is_another_frame(engines, tmp_path):
    source = tmp_path / "a.mp4"
    with Writer(source, (160, 120), Fraction(25), crf=2) as writer:
        for i in range(24):
            frame = picture(i)
            frame[74:102, 66:94] = 40 + 6 * i  # the mouth tells the number, too
            writer.write(frame)
    write_track(tmp_path / "a.track.npz", [None, None, *[face()] * 22], Fraction(25))
    edgetalk.dub(engines / "mirror.onnx", source, speech(0.96), tmp_path / "b.mp4", crf=4)
    shown = [round((float(frame[86:90, 78:82].mean()) - 40) / 6) for frame in Reader(tmp_path / "b.mp4")]
    # The first with a face is 2; for those near it, the first that is eight frames away from it.
    assert shown == [0, 1, *[10] * 8, *[2] * 14]


def test_the_reference_is_of_the_same_scene(engines, tmp_path):
    """Two scenes, there and back: what is beyond the cut may be somebody else's face."""
    source = tmp_path / "a.mp4"
    with Writer(source, (160, 120), Fraction(25), crf=2) as writer:
        for i in range(24):
            frame = picture(i) if i < 12 else 255 - picture(i)
            frame[74:102, 66:94] = 40 + 6 * i
            writer.write(frame)
    write_track(tmp_path / "a.track.npz", [face()] * 24, Fraction(25))
    edgetalk.dub(engines / "mirror.onnx", source, speech(2.0), tmp_path / "b.mp4", crf=4)
    shown = [round((float(frame[86:90, 78:82].mean()) - 40) / 6) for frame in Reader(tmp_path / "b.mp4")]
    there = [*[8] * 8, *[0] * 4, *[20] * 8, *[12] * 4]
    back = [*[12] * 3, *[20] * 8, *[3] * 8, *[11] * 4]  # the second scene goes on; the first begins at its end
    assert shown == [*there, *back, 11, 11, 11][:50]


@pytest.mark.parametrize(
    ("scenes", "order", "expected"),
    [
        ("a" * 12, range(12), [8] * 8 + [0] * 4),
        ("a" * 5, range(5), [4] * 4 + [0]),  # too short: the farthest
        ("a" * 5, [0, 1, 2, 3, 4, 3, 2, 1, 0], [4] * 4 + [0] + [4] * 4),
        ("a" * 3, [0, 1, 2, 1] * 40, [2, 2, 0, 2] * 40),
        ("aab", [0, 1, 2, 1, 0], [1, 0, 2, 0, 1]),
        ("a" * 9 + "b", [*range(10), 8, 7, 6, 5, 4, 3, 2, 1, 0], [8] * 8 + [0, 9] + [0] * 8 + [8]),
        ("--aa--aa", range(8), [None, None, 7, 7, 7, 7, 7, 2]),
        ("aaa" + "-" * 80 + "aa", range(85), [2, 2, *[0] * 83]),
        ("a" + "-" * 40 + "a" * 10, range(51), [*[41] * 8, *[0] * 43]),  # away for less than is waited
        ("--", range(2), [None, None]),
        ("aabb", [3, 2, 1, 0], [2, 3, 0, 1]),
    ],
)
def test_which_frame_is_the_reference(scenes, order, expected):
    """A picture of "-" is of scene a and has no face."""
    frames = [
        Target(at, np.uint8([at]), None if scenes[at] == "-" else face(), "ab".index(scenes[at].replace("-", "a")))
        for at in order
    ]
    got = list(with_references(iter(frames), lambda planes, _: [planes]))
    assert [frame for frame, _ in got] == frames
    assert [int(crops[0][0]) if crops else None for _, crops in got] == expected


def test_a_reference_is_seen_by_every_network_that_looks_at_one(tmp_path):
    """A face at the edge may lie outside the crop of one network and inside that of another."""

    class Looking:
        audio, takes = None, frozenset(["reference"])

        def __init__(self, outside):
            self.outside = outside

        def matrix(self, points):
            return points

        def crop(self, planes, _):
            return None if int(planes[0]) in self.outside else planes

    frames = (Target(at, np.uint8([at]), face(), 0) for at in range(16))
    other = Looking([])
    other.takes = frozenset()
    painters = [Looking([0, 9]), Looking([0, 1]), other]
    given = [[each["reference"] for each in inputs.given] for inputs in _inputs(frames, painters, speech(0.1), None)]
    seen = [[None if each is None else int(each[0]) for each in references] for references in given]
    own = [[None] * 3, [1, None, None]]  # what is outside is not painted, and looks at nothing
    assert seen == own + [[10, 10, None]] * 8 + [[2, 2, None]] * 6


def test_no_more_frames_wait_for_a_reference_than_it_is_looked_for():
    """A face that was seen once and left: frames are large, and a film has many."""
    drawn = []

    def frames():
        for at in range(300):
            drawn.append(at)
            yield Target(at, np.uint8([at % 256]), None if at else face(), 0)

    for given, (frame, crops) in enumerate(with_references(frames(), lambda planes, _: [planes]), 1):
        assert frame.at == given - 1 and crops == [0]
        assert len(drawn) - given <= LOOK


@pytest.mark.parametrize(("length", "cropped", "wait"), [(300, 9, APART), (3, 3, LOOK)])
def test_what_may_be_a_reference_is_cropped_once_and_no_longer_than_needed(length, cropped, wait):
    """In a film that goes on, and in one that runs back and forth within a few pictures."""
    drawn, crops = [], []

    def frames():
        for given in range(300):
            drawn.append(given)
            at = given % (2 * length - 2)
            yield Target(min(at, 2 * length - 2 - at), np.uint8([0]), face(), 0)

    for given, _ in enumerate(with_references(frames(), lambda planes, _: crops.append(planes) or [planes]), 1):
        assert len(drawn) - given <= wait
    assert given == 300 and len(crops) == cropped


# How long


def order(path):
    return [number(frame) for frame in Reader(path)]


FORTH, BACK = list(range(10)), list(range(8, -1, -1))


@pytest.mark.parametrize(
    ("fit", "seconds", "expected"),
    [
        ("ping-pong", 0.4, FORTH),
        ("ping-pong", 0.2, FORTH[:5]),
        ("ping-pong", 1.2, [*FORTH, *BACK, *FORTH[1:], *BACK[:2]]),
        ("hold", 0.2, FORTH),
        ("hold", 0.6, [*FORTH, *[9] * 5]),
        ("trim", 0.2, FORTH[:5]),
        ("trim", 0.6, FORTH),
    ],
)
def test_lengths(engines, tmp_path, fit, seconds, expected):
    source = film(tmp_path / "a.mp4", 10)
    pcm = speech(seconds)
    totals = []
    done = edgetalk.dub(
        engines / "same.onnx", source, pcm, tmp_path / "b.mp4", fit=fit, crf=4, progress=lambda *n: totals.append(n)
    )
    assert order(tmp_path / "b.mp4") == expected
    assert totals == [(i + 1, len(expected)) for i in range(len(expected))]
    assert done.frames == done.painted == len(expected) and done.left_out == max(0, 10 - len(expected))
    sound = audio.read(tmp_path / "b.mp4")
    assert abs(len(sound) - 640 * len(expected)) <= 1100, "the sound ends with the picture"
    kept = min(len(pcm), 640 * len(expected)) - 800
    assert np.corrcoef(sound[:kept], pcm[:kept])[0, 1] > 0.9
    assert np.abs(sound[len(pcm) + 1100 :]).max(initial=0) < 0.02


@pytest.mark.parametrize(
    ("fit", "seconds", "left_out"), [("hold", 0.2, 0), ("ping-pong", 0.48, 0), ("trim", 0.48, 0), ("trim", 0.2, 12)]
)
def test_pictures_that_nobody_has_are_not_left_out(engines, tmp_path, monkeypatch, fit, seconds, left_out):
    """As where the length is that of a longer sound: ten of seventeen are there."""
    monkeypatch.setattr("edgetalk.reader._promised", lambda stream, begins: Fraction(17, 25))
    monkeypatch.setattr(Reader, "_truncated", None)
    source = film(tmp_path / "a.mp4", 10)
    monkeypatch.setattr("edgetalk.reader.SLACK", 1)
    done = edgetalk.dub(engines / "same.onnx", source, speech(seconds), tmp_path / "b.mp4", fit=fit)
    assert done.left_out == left_out


@pytest.mark.parametrize(
    ("promised", "fit", "frames"),
    [(30, "hold", 30), (30, "trim", 12), (5, "hold", 12), (5, "trim", 5), (5, "ping-pong", 12), (30, "ping-pong", 12)],
)
def test_the_length_that_is_told_beforehand(promised, fit, frames):
    """For 12 frames of sound; a film that promises nothing is as long as that."""
    assert length(SimpleNamespace(length=promised), 12, fit) == frames
    assert length(SimpleNamespace(length=0), 12, fit) == 12


@pytest.mark.parametrize(("samples", "frames"), [(640, 1), (641, 2), (1280, 2), (2561, 5)])
def test_frames_are_made_until_the_last_sample_has_sounded(engines, target, tmp_path, samples, frames):
    done = edgetalk.dub(engines / "same.onnx", target, speech(samples / 16000), tmp_path / "a.mp4")
    assert done.frames == len(list(Reader(tmp_path / "a.mp4"))) == frames
    assert [len(each) for each in (done.read, done.paint, done.encode)] == [frames] * 3


def test_the_rate_of_dubbing_counts_every_frame_that_was_written():
    assert Dubbed(Fraction(25), done=[0.0] * 10, painted=4, wall=2.0).rate == 5


def test_pixels_that_are_not_square_stay_so(engines, tmp_path):
    with Writer(tmp_path / "a.mp4", (160, 120), Fraction(25), pixel_aspect=Fraction(16, 15)) as writer:
        writer.write(picture(0))
    write_track(tmp_path / "a.track.npz", [face()], Fraction(25))
    edgetalk.dub(engines / "same.onnx", tmp_path / "a.mp4", speech(0.08), tmp_path / "b.mp4")
    assert Reader(tmp_path / "b.mp4").pixel_aspect == Fraction(16, 15)


def test_a_film_of_more_pictures_than_it_promised_is_not_done_beyond_the_whole(engines, target, tmp_path, monkeypatch):
    monkeypatch.setattr("edgetalk.dubbing.length", lambda film, sounding, fit: 2)
    told = []
    edgetalk.dub(
        engines / "same.onnx", target, speech(0.2), tmp_path / "a.mp4", progress=lambda *counts: told.append(counts)
    )
    assert told == [(1, 2), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_what_is_held_is_painted_anew_and_not_twice(engines, tmp_path):
    source = film(tmp_path / "a.mp4", 2)
    edgetalk.dub(engines / "negative.onnx", source, speech(0.32), tmp_path / "b.mp4", fit="hold", crf=4)
    frames = np.stack(list(Reader(tmp_path / "b.mp4"))).astype(int)
    assert len(frames) == 8 and np.abs(frames[2:] - frames[1]).mean() < 1


@pytest.mark.parametrize("fit", ["hold", "ping-pong"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_target_is_a_picture_of_its_own(tmp_path, fit, count):
    """Each is painted before the next is asked for."""
    given = Reader(film(tmp_path / "a.mp4", count))
    seen = []
    for target in targets(given, Faces(given), 6, fit):
        seen.append((target.at, number(to_rgb(target.planes))))
        target.planes[:] = 255
    expected = {"hold": [0, 1, 2, 2, 2, 2], "ping-pong": [0, 1, 2, 1, 0, 1]}[fit] if count > 1 else [0] * 6
    assert seen == [(at, at) for at in expected]


def test_what_is_held_is_not_read_again(engines, tmp_path, monkeypatch):
    """A film that cannot be searched would be read from its start for it."""
    source, passes, planes = film(tmp_path / "a.mp4", 3), [], Reader.planes
    monkeypatch.setattr(Reader, "planes", lambda *given: passes.append(given) or planes(*given))
    edgetalk.dub(engines / "same.onnx", source, speech(0.32), tmp_path / "b.mp4", fit="hold", crf=4)
    assert len(passes) == 1
    monkeypatch.undo()
    assert order(tmp_path / "b.mp4") == [0, 1, *[2] * 6]


def test_the_track_of_a_film_of_nearly_the_same_rate_is_refused(tmp_path):
    """By a frame in a thousand it would leave the pictures within a minute."""
    source = film(tmp_path / "a.mp4", 3, Fraction(30))
    write_track(tmp_path / "a.track.npz", [face()] * 3, NTSC)
    with pytest.raises(InputError, match="is of a film of 30000/1001 frames per second, a.mp4 has 30; make it again"):
        Faces(Reader(source))


def test_the_track_of_a_film_of_another_size_is_refused(engines, tmp_path, capsys):
    """As one that was rescaled under the same name: the face would be painted beside itself."""
    film(tmp_path / "large.mp4", 5, size=(320, 240), faces=[face(2 * POINTS)] * 5)
    source = film(tmp_path / "a.mp4", 5)
    shutil.copy(tmp_path / "large.track.npz", tmp_path / "a.track.npz")
    wanted = "a.track.npz is of pictures of 320×240 pixels, a.mp4 has 160×120; make it again"
    with pytest.raises(InputError, match=wanted):
        edgetalk.dub(engines / "same.onnx", source, speech(0.2), tmp_path / "b.mp4")
    write_track(tmp_path / "a.track.npz", [face(2 * POINTS + 40)] * 5, Fraction(25))  # older ones tell no size
    with pytest.raises(InputError, match="a.track.npz has its faces outside the 160×120 pixels of a.mp4; make it"):
        edgetalk.dub(engines / "same.onnx", source, speech(0.2), tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize("seconds", [0.2, 0.32])
@pytest.mark.parametrize("fit", FITS)
def test_a_track_that_goes_on_after_the_films_end_is_refused(engines, tmp_path, fit, seconds):
    source = film(tmp_path / "a.mp4", 5)
    write_track(tmp_path / "a.track.npz", [face()] * 6, Fraction(25), (tiny.WIDTH, tiny.HEIGHT))
    with pytest.raises(InputError, match="a.track.npz has 6 frames and a.mp4 has 5; make it again"):
        edgetalk.dub(engines / "same.onnx", source, speech(seconds), tmp_path / "b.mp4", fit=fit)
    assert not (tmp_path / "b.mp4").exists()


def test_who_dubs_with_a_network_of_drawn_faces_hears_of_it(tmp_path, target):
    drawn = tiny.unchanged(tmp_path / "drawn.onnx", faces="drawn")
    with pytest.warns(UserWarning, match="^drawn.onnx has learnt from drawn faces alone: if this film shows filmed"):
        edgetalk.dub(drawn, target, speech(0.2), tmp_path / "a.mp4")
    scene = bundled.MODELS / "scene" / "target.mp4"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edgetalk.dub(drawn, scene, speech(0.2), tmp_path / "a.mp4")  # is drawn itself
    assert "knows drawn faces alone" in dict(preflight(drawn))["metadata"]


def test_a_picture_speaks_as_long_as_the_sound(engines, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(3)[..., ::-1])
    write_track(tmp_path / "a.track.npz", [face()], Fraction(25))
    for fit in ("ping-pong", "hold"):
        edgetalk.dub(engines / "same.onnx", tmp_path / "a.png", speech(0.5), tmp_path / "b.mp4", fit=fit, crf=4)
        assert order(tmp_path / "b.mp4") == [3] * 13


def test_the_mouth_closes_where_the_sound_has_ended(engines, target, tmp_path):
    edgetalk.dub(engines / "loud.onnx", target, speech(0.4), tmp_path / "a.mp4", fit="hold")
    mouth = [frame[84:92, 76:84].mean() for frame in Reader(tmp_path / "a.mp4")]
    assert len(mouth) == 20 and np.ptp(mouth[11:]) < 3 and mouth[3] > mouth[15] + 20


# Faces


def test_a_still_picture_is_opened_for_what_is_asked_of_it_and_not_for_every_frame(engines, tmp_path, monkeypatch):
    source, passes, planes = film(tmp_path / "a.mp4", 1), [], Reader.planes
    monkeypatch.setattr(Reader, "planes", lambda *given: passes.append(given) or planes(*given))
    edgetalk.dub(engines / "negative.onnx", source, speech(0.4), tmp_path / "b.mp4", crf=4)
    monkeypatch.undo()
    assert len(passes) == 2  # once as the film, once to go back and forth
    frames = np.stack(list(Reader(tmp_path / "b.mp4"))).astype(int)
    assert len(frames) == 10 and np.abs(frames - frames[0]).mean() < 1  # none was painted over one that was painted


def untracked(path, frames):
    """Write a film without a track, of squares that are faces to the doubles of face tracking."""
    with Writer(path, (320, 240), Fraction(25), crf=2) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_frames_without_a_face_are_untouched(engines, tmp_path):
    faces = [face() if i % 3 else None for i in range(12)]
    source = film(tmp_path / "a.mp4", 12, faces=faces)
    done = edgetalk.dub(engines / "green.onnx", source, speech(0.48), tmp_path / "b.mp4")
    assert (done.frames, done.painted) == (12, 8)
    for i, (one, other) in enumerate(zip(Reader(source), Reader(tmp_path / "b.mp4"), strict=True)):
        error = np.abs(one[84:92, 76:84].astype(int) - other[84:92, 76:84]).mean()
        assert error < CODEC if i % 3 == 0 else error > 20


def test_faces_partly_and_wholly_outside_the_picture(engines, tmp_path):
    faces = [face(POINTS + shift) for shift in ((-75, 0), (70, 40), (0, -60), (400, 0), (-300, -300))]
    source = film(tmp_path / "a.mp4", 5, faces=[*faces])
    done = edgetalk.dub(engines / "green.onnx", source, speech(0.2), tmp_path / "b.mp4")
    assert done.frames == 5
    far = list(zip(Reader(source), Reader(tmp_path / "b.mp4"), strict=True))[3:]
    assert max(np.abs(one.astype(int) - other).mean() for one, other in far) < CODEC


def test_a_track_may_lie_elsewhere(engines, target, tmp_path):
    shutil.copy(target, tmp_path / "alone.mp4")
    track = target.with_name("target.track.npz")
    done = edgetalk.dub(engines / "same.onnx", tmp_path / "alone.mp4", speech(0.2), tmp_path / "b.mp4", track=track)
    assert done.painted == 5


def test_the_face_models_that_are_named_find_the_faces_of_film_and_portrait(engines, tmp_path, face_models, elsewhere):
    untracked(tmp_path / "a.mp4", [squares_of((160, 120, 90))] * 5)
    portrait = tmp_path / "p.png"
    cv2.imwrite(str(portrait), squares_of((150, 110, 100))[..., ::-1])
    arguments = ["dub", engines / "swap.onnx", "--video", tmp_path / "a.mp4", "--portrait", portrait]
    arguments += ["--audio", write(tmp_path, 0.2), "-o", tmp_path / "b.mp4", "--face-models", face_models]
    assert main([str(argument) for argument in arguments]) == 0
    red = 255 * np.array(RED) / np.linalg.norm(RED)  # the identity is the colour of the portrait's face
    painted = next(iter(Reader(tmp_path / "b.mp4")))[135:145, 155:165].reshape(-1, 3).mean(0)
    assert np.abs(painted - red).max() < 8


def test_the_landmarks_of_faces_are_told_and_not_kept(tmp_path, face_models, elsewhere):
    film = Reader(untracked(tmp_path / "a.mp4", [squares_of((160, 120, 90))] * 3))
    with contextlib.closing(Faces(film, face_models=face_models)) as faces:
        new, again = ([faces.of(i, planes) for i, planes in enumerate(film.planes())] for _ in range(2))
    for told, kept in zip(new, again, strict=True):
        assert told.mesh.shape == (468, 2) and kept.mesh is None
        assert np.array_equal(told.points, kept.points) and np.array_equal(told.box, kept.box)


def marked(picture, x, y, side, colour=(240, 240, 240)):
    """Put a dot into a square, by which it is told from others; in its middle the doubles see it where it was."""
    half = round(side / 12)  # a larger one would break the square up
    picture[round(y) - half : round(y) + half + 1, round(x) - half : round(x) + half + 1] = colour
    return picture


def dubbed(folder, engine, frames, face_models, **options):
    """Write a film, dub it, and return what was done and the pictures before and after."""
    source, out, sound = untracked(folder / "a.mp4", frames), folder / "b.mp4", speech(len(frames) / 25)
    done = edgetalk.dub(engine, source, sound, out, crf=4, face_models=face_models, **options)
    return done, list(Reader(source)), list(Reader(out))


def painted_at(before, after, drawn):
    """Which of the squares were painted: those whose mouth has changed."""
    changed = np.abs(before.astype(int) - after).mean(2)
    mouths = [changed[round(y + side / 5) : round(y + side / 3), round(x - 4) : round(x + 5)] for x, y, side in drawn]
    return [i for i, mouth in enumerate(mouths) if mouth.mean() > 20]


def test_the_face_that_was_picked_is_dubbed_and_no_other(engines, tmp_path, face_models, elsewhere):
    drawn = [[(60 + i, 80, 50), (160, 160, 60), (262 - i, 90, 76)] for i in range(6)]
    frames = [marked(squares_of(*three), *three[0]) for three in drawn]
    person = (150, 110, 100)
    cv2.imwrite(str(tmp_path / "p.png"), marked(squares_of(person), *person)[..., ::-1])
    for which, expected in (("largest", 2), (1, 1), (tmp_path / "p.png", 0)):
        done, before, after = dubbed(tmp_path, engines / "green.onnx", frames, face_models, face=which)
        assert (done.frames, done.painted) == (6, 6)
        assert [painted_at(*each) for each in zip(before, after, drawn, strict=True)] == [[expected]] * 6, which
    with pytest.raises(InputError, match=r"a.mp4 shows no face 3 \(0 is the leftmost\) in 6 pictures"):
        dubbed(tmp_path, engines / "green.onnx", frames, face_models, face=3)


def test_a_face_that_leaves_is_dubbed_again_where_it_comes_back(engines, tmp_path, face_models, elsewhere):
    drawn = [[] if 4 <= i < 9 else [(100 + 8 * (i > 8), 110, 80)] for i in range(14)]
    frames = [squares_of(*one) for one in drawn]
    done, before, after = dubbed(tmp_path, engines / "green.onnx", frames, face_models)
    assert (done.frames, done.painted) == (14, 9)
    assert [painted_at(*each) for each in zip(before, after, drawn, strict=True)] == [
        [0] if one else [] for one in drawn
    ]
    for i in range(4, 9):
        assert np.abs(before[i].astype(int) - after[i]).max() < 8  # encoded twice


def test_at_a_cut_the_pick_is_asked_again_and_the_reference_is_of_the_new_scene(
    engines, tmp_path, face_models, elsewhere
):
    first, second = [(100, 100, 60)], [(110, 110, 50), (230, 120, 70)]
    blue, pale = (40, 60, 220), (240, 240, 240)
    frames = []
    for squares, (x, y, side), ground, colour in ((first, first[0], 40, blue), (second, second[1], 200, pale)):
        frame = squares_of(*squares, ground=(ground,) * 3)
        for at in (y - 3 / 8 * side, y + 3 / 8 * side):  # a mouth, and what balances it
            marked(frame, x, at, side, colour)
        frames += [frame] * 10
    drawn = [first] * 10 + [second] * 10
    done, before, after = dubbed(tmp_path, engines / "green.onnx", frames, face_models)
    assert done.painted == 20
    assert [painted_at(*each) for each in zip(before, after, drawn, strict=True)] == [[0]] * 10 + [[1]] * 10
    _, _, after = dubbed(tmp_path, engines / "mirror.onnx", frames, face_models)  # shows the reference
    mouths = [frame[120:125, 98:103] for frame in after[:10]] + [frame[144:149, 228:233] for frame in after[10:]]
    seen = np.array([mouth.mean((0, 1)) for mouth in mouths])
    nearer = np.linalg.norm(seen[:, None] - [blue, pale], axis=2).argmin(1)
    assert nearer.tolist() == [0] * 10 + [1] * 10


# What the file says, and what is left where something fails


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_the_file_says_what_it_is(engines, target, tmp_path, suffix):
    out = tmp_path / f"a.{suffix}"
    arguments = ["dub", engines / "same.onnx", "--video", target, "--audio", write(tmp_path), "-o", out]
    assert main([str(argument) for argument in arguments]) == 0
    if not shutil.which("ffprobe"):
        pytest.skip("needs the ffprobe program")
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(out)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    tags = {name.lower(): value for name, value in told["format"]["tags"].items()}
    assert tags["comment"].startswith("AI-generated by edgetalk")
    assert tags["description"].endswith("digitalsourcetype/compositeWithTrainedAlgorithmicMedia")
    assert sorted(stream["codec_type"] for stream in told["streams"]) == ["audio", "video"]


def write(folder, seconds=0.4):
    soundfile.write(folder / "speech.wav", speech(seconds), 16000)
    return str(folder / "speech.wav")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(engines, target, tmp_path, error):
    out = tmp_path / "a.mp4"
    out.write_bytes(b"older")

    def stop(done, total):
        if done == 3:
            raise error

    with pytest.raises(error):
        edgetalk.dub(engines / "same.onnx", target, speech(0.8), out, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"] and out.read_bytes() == b"older"


def test_ctrl_c_leaves_nothing(engines, target, tmp_path):
    sound = write(tmp_path, 400.0)
    arguments = ["dub", engines / "same.onnx", "--video", target, "--audio", sound, "-o", tmp_path / "a.mp4"]
    command = [sys.executable, "-m", "edgetalk.cli", *map(str, arguments)]
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731, a background job ignores it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    part = tmp_path / "a.mp4.part"
    while not (part.exists() and part.stat().st_size) and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "interrupted" in told, told
    assert [path.name for path in tmp_path.iterdir()] == ["speech.wav"]


# What is refused


def test_commercial_use(tmp_path, engines, target):
    limited = tiny.unchanged(tmp_path / "limited.onnx", use="non-commercial", licence="for research")
    dub = dict(video=target, audio=speech(0.2), out=tmp_path / "a.mp4", use="commercial")
    with pytest.raises(ModelError, match=r"limited.onnx is for non-commercial use \(licence: for research\)"):
        edgetalk.dub(limited, **dub)
    with pytest.raises(ModelError, match="limited.onnx is for non-commercial use"):
        edgetalk.dub([engines / "same.onnx", limited], **dub)
    half = tiny.unchanged(tmp_path / "half.onnx", source="")
    nodes = [tiny.cast("target", "face")]
    terms = {"use": "non-commercial", "licence": "for research"}
    tiny.model(tmp_path / "half-source.onnx", nodes, ["target"], ["face"], family="wav2lip", role="source", **terms)
    with pytest.raises(ModelError, match=r"half-source.onnx is for non-commercial use \(licence: for research\)"):
        edgetalk.dub(half, **dub)
    tiny.swap(tmp_path / "swap.onnx")
    tiny.extractor(tmp_path / "arcface.onnx", use="non-commercial", licence="theirs")
    with pytest.raises(ModelError, match="arcface.onnx is for non-commercial use"):
        edgetalk.dub(tmp_path / "swap.onnx", portrait=picture(0), **dub)
    assert not (tmp_path / "a.mp4").exists()
    edgetalk.dub(engines / "same.onnx", **dub)
    with pytest.raises(InputError, match="use: got \"fun\"|use: got 'fun'"):
        edgetalk.dub(limited, **{**dub, "use": "fun"})


def test_the_terms_of_an_avatar_are_kept(tmp_path, target):
    engine = tiny.swap(tmp_path / "swap.onnx")
    vector, still = np.array([[0.6, 0.8, 0]], np.float32), np.zeros((1, SIZE, SIZE, 3), np.uint8)
    prepared = Film(still, np.zeros((1, 2, 3), np.float32), np.zeros(1, np.float32), vector, (160, 120), Fraction(25))
    boxes = np.zeros((1, 4), np.float32)
    for name, terms in {
        "free": {},
        "limited": {"use": "non-commercial", "licence": "for family", "consent": "Ada, 2026-11-01"},
        "strange": {"weights": "0" * 64},
    }.items():
        made = Avatar(still[0], {}, boxes, "simswap", **{"weights": "", **terms}, film=prepared)
        save_avatar(made, tmp_path / f"{name}.avatar")
    save_avatar(Avatar(still[0], {}, boxes, "simswap", ""), tmp_path / "PICTURE.AVATAR")

    def dub(name, **options):
        edgetalk.dub(engine, target, speech(0.2), tmp_path / "a.mp4", tmp_path / name, **options)

    dub("free.avatar", use="commercial")
    painted = next(iter(Reader(tmp_path / "a.mp4")))[84:92, 76:84].reshape(-1, 3).mean(0)
    assert np.abs(painted - 255 * vector[0]).max() < 4
    dub("limited.avatar")
    with pytest.raises(ModelError, match=r"limited.avatar is for non-commercial use \(licence: for family\)"):
        dub("limited.avatar", use="commercial")
    with pytest.raises(
        ModelError, match="strange.avatar was prepared for another network, .*; give a picture of the person instead"
    ):
        dub("strange.avatar")
    with pytest.raises(InputError, match="PICTURE.AVATAR holds one picture and no identity"):
        dub("PICTURE.AVATAR")
    for identity in (vector, tmp_path / "none.onnx"):
        with pytest.raises(InputError, match="identity: got one beside an avatar, which has its own; leave it away"):
            dub("limited.avatar", identity=identity, use="commercial")


def test_every_bad_input_is_one_line(engines, target, tmp_path, capsys):
    sound = write(tmp_path)
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.wav").write_bytes(b"")
    short, faceless, slow = (tmp_path / f"{name}.track.npz" for name in ("short", "faceless", "slow"))
    write_track(short, [face()] * 5, Fraction(25))
    write_track(faceless, [None] * 20, Fraction(25))
    write_track(slow, [face()] * 20, Fraction(24))
    tiny.model(
        tmp_path / "amnet.onnx", [tiny.cast("face", "frame", tiny.U8)], ["face"], ["frame"], family="amnet"
    )  # fmt: skip
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(engines / "same.onnx", alone)
    shutil.copy(engines / "swap.onnx", alone)
    tiny.unchanged(tmp_path / "mixed.onnx", source="0" * 64)
    shutil.copy(target, alone / "untracked.mp4")
    picture_file = tmp_path / "p.png"
    cv2.imwrite(str(picture_file), picture(0))
    write_track(tmp_path / "p.track.npz", [None], Fraction(25))
    same, swap, out = engines / "same.onnx", engines / "swap.onnx", tmp_path / "out.mp4"
    cases = [
        ({"--video": tmp_path / "text.mp4"}, "is no film that FFmpeg can read"),
        ({"--video": tmp_path / "none.mp4"}, "No such file"),
        ({"--video": sound}, "has no picture stream"),
        ({"--audio": tmp_path / "empty.wav"}, "is empty"),
        ({"--audio": tmp_path / "none.wav"}, "No such file"),
        ({"-o": tmp_path / "out.avi"}, "expected .mp4 or .webm"),
        ({"-o": tmp_path / "none" / "out.mp4"}, "No such folder"),
        ({"--track": short}, "short.track.npz has 5 frames and target.mp4 has more"),
        ({"--track": slow}, "of 24 frames per second, target.mp4 has 25"),
        ({"--track": faceless}, "target.mp4 shows no face in 10 pictures"),
        ({"--track": faceless, "--face": 1}, "face: got 1, and faceless.track.npz holds one face"),
        ({"--face": picture_file}, f"face: got {picture_file}, and target.track.npz holds one face"),
        ({"--video": alone / "untracked.mp4", "--face-models": tmp_path}, "No such face model"),
        ({"--track": tmp_path / "none.npz"}, "No such file"),
        ({"--track": sound}, "is no track of a face"),
        ({"engine": tmp_path / "none.onnx"}, "No such engine"),
        ({"engine": sound}, "is no engine that edgetalk knows by its suffix"),
        ({"engine": tmp_path / "amnet.onnx"}, "expected the step of wav2lip, simswap, wavsyncswap"),
        ({"engine": engines / "arcface.onnx"}, "expected the step of wav2lip, simswap, wavsyncswap"),
        ({"engine": alone / "same.onnx"}, "there is no same-source.onnx beside it"),
        ({"engine": swap}, "portrait: got none, and swap.onnx paints somebody's face"),
        ({"--portrait": picture_file}, "portrait: got one, and same.onnx paints nobody else's face"),
        ({"--identity": tmp_path / "none.onnx"}, "identity: got one, and same.onnx paints nobody else's face"),
        ({"engine": alone / "swap.onnx", "--portrait": picture_file}, "name the extractor with --identity"),
        ({"engine": swap, "--portrait": picture_file}, "has no face in it"),
        ({"engine": swap, "--portrait": picture_file, "--identity": same}, "expected an extractor"),
        ({"engine": swap, "--portrait": tmp_path / "none.png"}, "No such file"),
        ({"engine": swap, "--portrait": sound}, "is no whole picture"),
    ]
    for change, words in cases:
        options = {"engine": same, "--video": target, "--audio": sound, "-o": out, **change}
        engine = options.pop("engine")
        arguments = ["dub", str(engine), *(str(part) for option in options.items() for part in option)]
        assert main(arguments) == 1, change
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and words in told, (change, told)
        assert not out.exists() and not list(tmp_path.glob("*.part"))


def test_numbers_that_cannot_be_are_refused(engines, target, tmp_path):
    dub = partial(edgetalk.dub, engines / "swap.onnx", target, speech(0.4), tmp_path / "out.mp4")
    for streams in (0, -1):
        with pytest.raises(InputError, match=f"streams: got {streams}, expected a whole number, at least 1"):
            dub(identity=np.ones((1, 3), np.float32), streams=streams)
    with pytest.raises(InputError, match="identity: got NaN or infinite numbers"):
        dub(identity=np.full((1, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="identity: got a vector beside a portrait, expected one of them"):
        dub(picture(0), identity=np.ones((1, 3), np.float32))
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize("which", ["film", "sound", "portrait"])
def test_nothing_that_is_read_is_written_over(engines, tmp_path, which):
    for name in ("film.mp4", "sound.mp4", "portrait.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    given = [tmp_path / name for name in ("film.mp4", "sound.mp4")]
    with pytest.raises(InputError, match=f"{which}.mp4 is read and would be written over"):
        edgetalk.dub(engines / "swap.onnx", *given, tmp_path / f"{which}.mp4", tmp_path / "portrait.mp4")
    assert (tmp_path / f"{which}.mp4").read_bytes() == f"{which}.mp4".encode()


def test_an_engine_of_several_frames_at_once_is_refused(target, tmp_path, monkeypatch):
    """One frame would be fed to it several times, and computed as often."""
    for name, (kind, shape) in list(tiny.INPUTS.items()):
        monkeypatch.setitem(tiny.INPUTS, name, (kind, [4, *shape[1:]]))
    engine = tiny.unchanged(tmp_path / "four.onnx")
    with pytest.raises(ModelError, match=r"four(-source)?.onnx has \w+ of batch 4, expected 1; build it again"):
        edgetalk.dub(engine, target, np.zeros(16000, np.float32), tmp_path / "out.mp4")


def test_engines_of_another_export_are_refused(engines, target, tmp_path):
    tiny.unchanged(tmp_path / "same.onnx", source="0" * 64)
    with pytest.raises(ModelError, match="are not of one export"):
        edgetalk.dub(tmp_path / "same.onnx", target, speech(0.2), tmp_path / "a.mp4")
