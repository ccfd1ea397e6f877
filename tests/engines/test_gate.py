"""The gate's figures against scikit-image, and what it refuses."""

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edgetalk.engines import gate
from edgetalk.errors import ModelError


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


def landmarks_with_mouth(left, top, right, bottom, count=1):
    points = np.full((count, 106, 2), 0.05, np.float32)
    points[:, 86:106] = np.array([left, top], np.float32)
    points[:, 90] = right, bottom
    return points


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


def test_frames_of_another_size_are_refused():
    with pytest.raises(ModelError, match="frames are"):
        gate.compare(np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 16, 32, 3), np.uint8))


def test_vectors_are_held_by_their_smallest_cosine():
    wanted = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    made = np.array([[6.0, 8.0], [1.0, 0.02]], np.float32)
    figures = gate.compare_vectors(wanted, made)
    assert figures == {"cosine": pytest.approx(1 / np.hypot(1, 0.02), abs=1e-6), "vectors": 2}
    gate.check(figures, "fp16", "arcface.xml")
    with pytest.raises(ModelError, match="arcface.xml in f32 has cosine 0.9998 against f32, at least 0.9999"):
        gate.check(figures, "f32", "arcface.xml")
    with pytest.raises(ModelError, match="vectors are"):
        gate.compare_vectors(wanted, made[:1])
