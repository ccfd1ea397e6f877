"""Scores against independent references: scikit-image, scipy, numpy, and drawn faces whose truth is exact."""

import numpy as np
import pytest
import torch
from edgetalk.train.scores import measures
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    smooth = rng.random((4, 3, 12, 12)).repeat(8, axis=2).repeat(8, axis=3)
    a = (255 * smooth).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 18, a.shape), 0, 255).astype(np.uint8)
    return a, b


def as_tensor(images):
    return torch.from_numpy(images).float() / 255


def test_ssim_and_psnr_equal_scikit_image(pictures):
    a, b = pictures
    ours = measures.ssim(as_tensor(a), as_tensor(b)).numpy(), measures.psnr(as_tensor(a), as_tensor(b)).numpy()
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        expected = structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=0
        )
        assert ours[0][i] == pytest.approx(expected, abs=2e-4)
        assert ours[1][i] == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-3)


def test_mouth_scores_are_those_of_the_box(pictures):
    a, b = (x[:1] for x in pictures)
    landmarks = torch.full((1, 106, 2), 0.5)
    landmarks[0, 86], landmarks[0, 92] = torch.tensor([0.4, 0.6]), torch.tensor([0.6, 0.6])
    mask = measures.mouth_mask(landmarks, 96)
    rows, columns = (torch.where(mask[0].any(axis))[0] for axis in (1, 0))
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    assert right - left == pytest.approx(0.2 * 96 * 1.7, abs=1.5) and (left + right) / 2 == pytest.approx(48, abs=1)
    box = np.s_[:, :, top:bottom, left:right]
    _, values = structural_similarity(
        a[0],
        b[0],
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=0,
        full=True,
    )
    got = measures.ssim(as_tensor(a), as_tensor(b), mask), measures.psnr(as_tensor(a), as_tensor(b), mask)
    assert float(got[0]) == pytest.approx(values[:, top:bottom, left:right].mean(), abs=2e-4)
    assert float(got[1]) == pytest.approx(peak_signal_noise_ratio(a[box], b[box], data_range=255), abs=1e-3)


def test_frechet_distance_equals_the_matrix_square_root():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12))
    b = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 0.7
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * sqrtm(cov[0] @ cov[1]).real)
    assert measures.frechet(a, b) == pytest.approx(expected, rel=1e-6)
    assert measures.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_a_flat_cloud_is_finite():
    a = np.zeros((20, 5))
    a[:, 0] = np.arange(20)
    assert measures.frechet(a, a + [1, 0, 0, 0, 0]) == pytest.approx(1, abs=1e-6)


def test_pearson_equals_numpy():
    rng = np.random.default_rng(1)
    a = rng.random(300)
    b = a + rng.random(300)
    assert measures.pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert np.isnan(measures.pearson(a, np.ones(300)))


def test_landmark_error_is_the_mean_distance_in_pixels_of_256():
    a, b = torch.zeros(2, 106, 2), torch.zeros(2, 106, 2)
    b[0] = torch.tensor([3 / 256, 4 / 256])
    b[1, 86:106, 0] = 10 / 256
    assert measures.landmark_error(a, b).tolist() == pytest.approx([5, 10 * 20 / 106])
    assert measures.landmark_error(a, b, measures.MOUTH).tolist() == pytest.approx([5, 10])
