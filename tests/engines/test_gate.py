"""The gate's figures against scikit-image, what it refuses, and what of a graph's outputs is judged."""

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edgetalk.engines import gate, judge
from edgetalk.engines.judge import Judge
from edgetalk.errors import ModelError
from edgetalk.preprocess import TEMPLATES


def pair(noise, side=72, count=1):
    """Soft pictures and the same with noise."""
    random = np.random.default_rng(int(noise * 10))
    soft = [cv2.GaussianBlur(random.normal(size=(side, side + 8, 3)), (0, 0), 3) * 700 + 128 for _ in range(count)]
    other = np.stack(soft) + random.normal(0, noise, (count, side, side + 8, 3))
    return [np.clip(p, 0, 255).astype(np.uint8) for p in (np.stack(soft), other)]


@pytest.mark.parametrize("noise", [0.0, 2.0, 15.0, 80.0])
def test_ssim_is_that_of_scikit_image(noise):
    (a,), (b,) = pair(noise)
    wanted = structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert gate.ssim(a, b) == pytest.approx(wanted, abs=1e-9)


def test_psnr_is_that_of_scikit_image():
    a, b = pair(6.0, count=3)
    figures = gate.compare(a, b)
    assert figures["psnr"] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=0.005)
    assert figures["max_error"] == np.abs(a.astype(int) - b).max()
    assert figures["mean_error"] == pytest.approx(np.abs(a.astype(int) - b).mean(), abs=5e-5)
    assert figures["frames"] == 3
    assert figures["ssim_min"] <= figures["ssim"]


def landmarks_with_mouth(left, top, right, bottom, count=1, last=90):
    points = np.full((count, 106, 2), 0.05, np.float32)
    points[:, 86:106] = np.array([left, top], np.float32)
    points[:, last] = right, bottom
    return points


@pytest.mark.parametrize("point", [86, 105])
def test_the_mouth_is_points_86_to_105(point):
    box = gate.mouth_box(landmarks_with_mouth(0.375, 0.5, 0.625, 0.75, last=point)[0], 64, 128)
    assert box == (slice(28, 52), slice(40, 88))


def test_mouth_psnr_sees_the_mouth_alone():
    a = np.full((1, 64, 128, 3), 100, np.uint8)
    b = a.copy()
    b[:, 30:34, 50:54] += 10
    landmarks = landmarks_with_mouth(0.375, 0.5, 0.625, 0.75)
    assert gate.mouth_box(landmarks[0], 64, 128) == (slice(28, 52), slice(40, 88))
    inside = gate.compare(a, b, landmarks)
    assert inside["mouth_psnr"] == pytest.approx(10 * np.log10(255**2 / (100 * 16 / (24 * 48))), abs=0.01)
    b[:] = a
    b[:, :28] += 50  # outside
    assert gate.compare(a, b, landmarks)["mouth_psnr"] == gate.PERFECT


def test_a_mouth_outside_the_frame_still_has_a_box():
    for corner in ((-3.0, -2.0, -1.0, -1.0), (1.5, 2.0, 3.0, 3.0), (0.5, 0.5, 0.5, 0.5)):
        box = gate.mouth_box(landmarks_with_mouth(*corner)[0], 64, 64)
        assert np.zeros((64, 64))[box].size


@pytest.mark.parametrize("figure", ["ssim", "psnr", "mouth_psnr"])
@pytest.mark.parametrize("precision", gate.FLOORS)
def test_each_floor_is_held(precision, figure):
    floors = gate.FLOORS[precision]
    gate.check(dict(floors), precision, "a.xml")
    low = dict(floors) | {figure: floors[figure] - 0.001}
    with pytest.raises(ModelError, match=rf"a.xml in {precision} has {figure} {low[figure]} .* {floors[figure]} is"):
        gate.check(low, precision, "a.xml")
    with pytest.raises(ModelError, match=figure):
        gate.check(dict(floors) | {figure: float("nan")}, precision, "a.xml")


def test_bounds_are_what_they_were_set_to():
    """A bound that is moved has to be moved here too, where one sees it."""
    assert gate.FLOORS == {
        "f32": {"ssim": 0.999, "psnr": 55.0, "mouth_psnr": 55.0, "cosine": 0.9999},
        "fp16": {"ssim": 0.995, "psnr": 45.0, "mouth_psnr": 45.0, "cosine": 0.999},
        "bf16": {"ssim": 0.98, "psnr": 36.0, "mouth_psnr": 34.0, "cosine": 0.995},
        "int8": {"ssim": 0.98, "psnr": 33.0, "mouth_psnr": 31.0, "cosine": 0.98},
    }
    most = {"f32": 0.001, "fp16": 0.01, "bf16": 0.01, "int8": 0.01}
    errors = ("landmarks_error", "length_error", "relative_error")
    assert gate.CEILINGS == {precision: dict.fromkeys(errors, error) for precision, error in most.items()}


@pytest.mark.parametrize("figure", ["landmarks_error", "length_error", "relative_error"])
@pytest.mark.parametrize("precision", gate.CEILINGS)
def test_each_ceiling_is_held(precision, figure):
    most = gate.CEILINGS[precision][figure]
    gate.check({figure: most}, precision, "a.xml")
    with pytest.raises(
        ModelError, match=rf"a.xml in {precision} has {figure} {most + 0.001} against f32, at most {most}"
    ):
        gate.check({figure: most + 0.001}, precision, "a.xml")
    with pytest.raises(ModelError, match=figure):
        gate.check({figure: float("nan")}, precision, "a.xml")


def test_frames_of_another_size_are_refused():
    with pytest.raises(ModelError, match="frames are"):
        gate.compare(np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 16, 32, 3), np.uint8))


def test_vectors_are_held_by_their_smallest_cosine():
    wanted = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    made = np.array([[3.0, 4.0], [1.0, 0.02]], np.float32)
    figures = gate.compare_vectors(wanted, made)
    longer = np.hypot(1, 0.02) - 1
    cosine = pytest.approx(1 / (1 + longer), abs=1e-6)
    assert figures == {"cosine": cosine, "length_error": pytest.approx(longer, abs=1e-6), "vectors": 2}
    gate.check(figures, "fp16", "arcface.xml")
    with pytest.raises(ModelError, match="arcface.xml in f32 has cosine 0.9998 against f32, at least 0.9999"):
        gate.check(figures, "f32", "arcface.xml")
    with pytest.raises(ModelError, match="vectors are"):
        gate.compare_vectors(wanted, made[:1])


@pytest.mark.parametrize("length", [0.9, 1.1, 0.0])
def test_vectors_are_held_by_their_lengths(length):
    wanted = np.eye(3, 8, dtype=np.float32) * 5
    made = wanted * np.float32([[1], [length], [1]])
    figures = gate.compare_vectors(wanted, made)
    assert figures["length_error"] == pytest.approx(abs(length - 1), abs=1e-6)
    assert figures["cosine"] == pytest.approx(1 if length else 0, abs=1e-6)
    with pytest.raises(ModelError, match="a.xml in int8 has (length_error|cosine)"):
        gate.check(figures, "int8", "a.xml")


def outputs(count=2, **changed):
    """What a graph makes of each of `count` samples, and what runs them so."""
    random = np.random.default_rng(1)
    made = [
        {"frame": random.integers(0, 256, (1, 96, 96, 3), np.uint8), "landmarks": random.random((1, 106, 2))}
        for _ in range(count)
    ]
    return [values | {name: changed[name](values[name]) for name in changed} for values in made]


def judged(true, read, family="amnet"):
    samples = [{"mel": np.float32([i])} for i in range(len(true))]
    run = lambda made: lambda feeds: made[int(feeds["mel"][0])]  # noqa: E731
    return Judge(run(true), samples, family)(run(read))


def test_landmarks_are_judged_by_the_one_that_is_off_the_most():
    true, read = outputs(), outputs()
    read[1]["landmarks"][0, 7, 1] -= 0.03
    read[0]["landmarks"] += 0.002
    figures = judged(true, read)
    assert figures["landmarks_error"] == pytest.approx(0.03) and figures["psnr"] == gate.PERFECT
    with pytest.raises(ModelError, match="has landmarks_error 0.03 against f32, at most 0.01 is allowed"):
        gate.check(figures, "bf16", "a.xml")


def test_a_mouth_without_landmarks_is_the_rows_and_columns_of_the_family_s_crops():
    true = [{"frame": values["frame"]} for values in outputs()]
    read = [{"frame": values["frame"].copy()} for values in true]
    rows, columns = judge.mouth(TEMPLATES["wavsyncswap"], 96)
    assert (rows, columns) != (columns, rows)
    for values in read:
        values["frame"][:, rows, columns] ^= 8
    wanted = 10 * np.log10(255**2 / 64)
    assert judged(true, read, "wavsyncswap")["mouth_psnr"] == pytest.approx(wanted, abs=0.005)


def test_features_are_judged_by_their_largest_error():
    random = np.random.default_rng(2)
    true = [{"a": random.normal(size=(1, 4, 4, 3)), "b": random.normal(size=(1, 5))} for _ in range(2)]
    read = [{name: value.copy() for name, value in values.items()} for values in true]
    assert judged(true, read) == {"relative_error": 0}
    read[1]["b"][0, 2] += 0.2 * np.abs(true[1]["b"]).max()
    assert judged(true, read)["relative_error"] == pytest.approx(0.2, abs=1e-6)
    read[0]["a"][0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="has relative_error nan"):
        gate.check(judged(true, read), "f32", "a.xml")
    with pytest.raises(ModelError, match="features are"):
        judged(true, [{name: value[..., :2] for name, value in values.items()} for values in read])
