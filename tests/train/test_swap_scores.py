"""The scores of WavSyncSwap against naive forms, on vectors and pictures that were made up for them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgetalk.train.experts import sync as sync_expert
from edgetalk.train.swap import scores as swap_scores
from edgetalk.train.swap.data import FRAMES


def judge(**told):
    """Return a Judge without data and without measuring networks but for what is told."""
    made = object.__new__(swap_scores.Judge)
    nothing = {"inception": None, "landmarker": None, "identities": {}, "syncs": {}, "galleries": {}}
    vars(made).update(nothing | told)
    return made


def test_lse_d_and_lse_c_are_syncnets():
    """Per shift the mean distance of all pairs of frames that there are; D its least, C how far below the median."""
    torch.manual_seed(0)
    face, audio = (F.normalize(torch.randn(3, 40, 8), dim=-1) for _ in range(2))
    audio[1, 4:] = face[1, :-4] * 0.9 + 0.1 * audio[1, 4:]  # sound that comes four frames late
    measured = sync_expert.sync_offsets(face, audio, reach=6)
    for clip in range(3):
        means = []
        for shift in range(-6, 7):
            pairs = [(i, i + shift) for i in range(40) if 0 <= i + shift < 40]
            means.append(sum(math.dist(face[clip, i].tolist(), audio[clip, j].tolist()) for i, j in pairs) / len(pairs))
        assert measured["lse_d"][clip] == pytest.approx(min(means), abs=1e-5)
        assert measured["lse_c"][clip] == pytest.approx(sorted(means)[6] - min(means), abs=1e-5)
    assert measured["lse_c"][1] > 5 * max(measured["lse_c"][0], measured["lse_c"][2])


def test_who_is_seen_is_the_nearest_of_the_gallery(monkeypatch):
    """Three persons on two axes and between; two clips of four frames, whose vectors their pixels are."""
    gallery = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), dim=1)
    seen = torch.tensor(
        [
            [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.8, 0.3]],  # of 0 wanting 1: two frames are right
            [[-1.0, 0.1], [-0.9, 0.2], [0.1, 0.9], [-0.8, 0.1]],
        ]
    )  # of 1 wanting 2: three are
    seen = F.normalize(seen, dim=-1)
    monkeypatch.setattr(swap_scores, "embed", lambda network, clip: clip)
    known = {"identities": {"identity-b": None}, "galleries": {"identity-b": gallery}}
    got = judge(**known, target=np.array([0, 1]), source=np.array([1, 2]))._who(seen)
    nearest = [[max(range(3), key=lambda p: float(frame @ gallery[p])) for frame in clip] for clip in seen]
    assert nearest == [[0, 1, 1, 0], [2, 2, 1, 2]]
    assert got["frame_retrieval_b"] == 5 / 8 and got["nearest_target_b"] == 3 / 8
    assert got["retrieval_b"] == 1.0  # by the sums of a clip's vectors: (1.1, 1.2) of the first is nearer to 1
    cosines = [float(frame @ gallery[p]) for clip, p in zip(seen, (1, 2), strict=True) for frame in clip]
    assert got["cosine_b"] == pytest.approx(sum(cosines) / 8, abs=1e-6)
    wrong = judge(**known, target=np.array([1, 2]), source=np.array([0, 0]))._who(seen)
    assert wrong["retrieval_b"] == 0 and wrong["nearest_target_b"] == 5 / 8


def test_colour_is_how_far_the_mean_of_the_face_is_off():
    """A tint within the face counts by its mean over it; what is changed outside does not."""
    rng = np.random.default_rng(0)
    true = torch.from_numpy(rng.integers(60, 180, (1, 2, 96, 96, 3)).astype(np.uint8))
    axis = (np.arange(96) + 0.5) / 96
    face = np.hypot((axis - 0.5) / 0.30, (axis[:, None] - 0.5) / 0.32) < 1
    made = true.clone()
    made[0, 0][torch.from_numpy(face)] += torch.tensor([12, 3, 0], dtype=torch.uint8)
    made[0, 1][torch.from_numpy(~face)] += 40
    rows = np.flatnonzero(face.any(1))
    made[0, 1, rows[0] : rows[-1] + 1 : 2, :, 2] += 10  # every other row: half of its face, nearly
    half = face[rows[0] : rows[-1] + 1 : 2].sum() / face.sum()
    wanted = ((12 + 3 + 0) / 3 + 10 * half / 3) / 2
    assert judge()._pictures(made, true)["colour"] == pytest.approx(wanted, abs=1e-3)


def test_cpbd_of_the_scores_looks_at_nine_blocks_of_a_face():
    """An edge in some blocks of 32 pixels, sharp or soft: what is sharp counts among the blocks that have one."""
    # Half a cosine is steepest in one place, where a straight ramp would be everywhere.
    ramp = lambda width: 120 - 90 * np.cos(np.pi * np.clip((np.arange(32) - 16) / width + 0.5, 0, 1))  # noqa: E731
    flat, sharp, soft = np.full(32, 30.0), ramp(1), ramp(8)
    # Neighbours meet at the same grey, or a border would be an edge, too.
    lines = [np.concatenate(line) for line in ((soft, soft[::-1], flat), (flat, flat, soft),
                                               (sharp, sharp[::-1], sharp))]  # fmt: skip
    picture = np.repeat(lines, 32, axis=0).round().astype(np.uint8)
    clips = torch.from_numpy(np.broadcast_to(picture[..., None], (1, FRAMES, 96, 96, 3)).copy())
    got = judge().measure(clips, SimpleNamespace(clips=clips, landmarks=torch.zeros(1, FRAMES, 1), sync=None))
    assert got["cpbd"] == pytest.approx(3 / 6, abs=0.02)  # rows where blocks of two kinds meet are of neither
    dim = lambda width: np.tile(np.clip((np.arange(96) - 48) / width + 0.5, 0, 1) * 40 + 30, (96, 1))  # noqa: E731
    assert swap_scores.cpbd(dim(4), 32) == 1 and swap_scores.cpbd(dim(4) * 4, 32) == 0  # little contrast hides blur
