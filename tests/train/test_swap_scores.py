"""The scores of WavSyncSwap against naive forms, on vectors and pictures that were made up for them."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from skimage.metrics import structural_similarity

from edgetalk.errors import InputError
from edgetalk.train.scores import sharpness
from edgetalk.train.swap import scores as swap_scores
from edgetalk.train.swap.data import CLIP_FRAMES, LOOKS, POSES
from edgetalk.train.swap.judging import sync_offsets


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
    measured = sync_offsets(face, audio, reach=6)
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
    clips = torch.from_numpy(np.broadcast_to(picture[..., None], (1, CLIP_FRAMES, 96, 96, 3)).copy())
    got = judge().measure(clips, SimpleNamespace(clips=clips, landmarks=torch.zeros(1, CLIP_FRAMES, 1), sync=None))
    assert got["cpbd"] == pytest.approx(3 / 6, abs=0.02)  # rows where blocks of two kinds meet are of neither
    dim = lambda width: np.tile(np.clip((np.arange(96) - 48) / width + 0.5, 0, 1) * 40 + 30, (96, 1))  # noqa: E731
    assert swap_scores.cpbd(dim(4), 32) == 1 and swap_scores.cpbd(dim(4) * 4, 32) == 0  # little contrast hides blur


# Whole reports of a made-up test set, whose judges are linear maps of a picture's 4×4 mean colours.

CLIPS, SHORT, PEOPLE, VECTOR = 3, 36, 6, 6
META = [(5, 2, 10, 0, 12), (3, 4, 11, 4, 10), (0, 1, 10, 2, 12)]
"""Target, source, sentence, its first frame and the new sentence of each clip; persons count from a million on."""
LATE = {"swap": (0, 2, -1), "other": (-3, 0, 1)}
"""By how many frames the sound of each clip lags behind a rendering."""
RNG = np.random.default_rng(7)
WIDE = {"identity": VECTOR, "extractor": VECTOR, "landmarks": 212, "sync": 16, "inception": 3}
WEIGHTS = {name: RNG.normal(0, 1, (count, 48)).astype(np.float32) for name, count in WIDE.items()}


class Clips(dict):
    """Arrays as Swaps gives them."""

    folder, device, filmed, clips = "made-up", "cpu", False, CLIPS


def seen(pictures, name):
    """The weighted sums (N, D) of the mean colours of pictures (N, 3, S, S), in single precision anywhere."""
    means = F.adaptive_avg_pool2d(pictures.float(), 4).flatten(1)
    return (means[:, None] * torch.from_numpy(WEIGHTS[name])).sum(-1)


def plainly(picture, name):
    """The same (D,) of one picture (S, S, 3)."""
    side = len(picture) // 4
    means = picture.reshape(4, side, 4, side, 3).mean((1, 3), dtype=float)
    return WEIGHTS[name].astype(float) @ means.transpose(2, 0, 1).ravel()


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


def identity_of(picture, name="identity"):
    return unit(plainly(picture / 255 - 0.5, name))


def landmarks_of(picture):
    big = cv2.resize(picture.astype(np.float32) / 255, (128, 128), interpolation=cv2.INTER_LINEAR)
    return 0.5 + 0.05 * plainly(2 * big - 1, "landmarks").reshape(106, 2)


class SyncJudge:
    def face(self, frames):
        return F.normalize(seen(frames.mean(1) - 0.5, "sync"), dim=1)

    def audio(self, mel):
        return F.normalize(mel[:, 3, :16], dim=1)


@pytest.fixture(scope="module")
def made_up():
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    faces = rng.uniform(0, 255, (PEOPLE, 1, 8, 8, 3))

    def shown(persons, count, shares):
        """Some pictures of each person, of whom there is such a share in them; edges are blurred more or less."""
        share = np.reshape(shares, (-1, 1, 1, 1, 1))
        grids = share * faces[persons] + (1 - share) * rng.uniform(0, 255, (len(persons), count, 8, 8, 3))
        fine = grids.astype(np.uint8).repeat(4, 2).repeat(4, 3).reshape(-1, 32, 32, 3)
        how = [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LINEAR]
        large = [cv2.resize(picture, (96, 96), interpolation=how[i % 4]) for i, picture in enumerate(fine)]
        return np.reshape(large, (len(persons), count, 96, 96, 3))

    targets, sources = ([row[column] for row in META] for column in (0, 1))
    own, swap, other = (shown(who, SHORT, (0.45, 0.1, 0.5)) for who in (targets, sources, sources))
    stills = shown(list(range(PEOPLE)), LOOKS * POSES, 0.6).reshape(-1, 96, 96, 3)
    arrays = {"clip_own": own, "clip_swap": swap, "clip_other": other, "still_frames": stills,
              "clip_meta": np.array(META) + [1_000_000, 1_000_000, 0, 0, 0]}  # fmt: skip
    for name, rendering, prefix in (("swap", swap, ""), ("other", other, "other_")):
        mel = rng.normal(0, 1, (CLIPS, SHORT, 16, 80))
        mel[:, :, 0, 0] = rng.integers(0, 30, (CLIPS, SHORT))
        sync = rng.normal(0, 1, (CLIPS, SHORT, 16, 80))
        for clip, late in enumerate(LATE[name]):
            for frame in range(SHORT):
                window = rendering[clip, [min(max(frame - late + k, 0), SHORT - 1) for k in range(5)]].mean(0)
                heard = unit(plainly(window / 255 - 0.5, "sync")) + rng.normal(0, 0.1, 16)
                sync[clip, frame, 3, :16] = heard
        marks = [[landmarks_of(frame) for frame in clip] for clip in rendering]
        arrays |= {f"clip_{prefix}mel": mel.astype(np.float16), f"clip_{prefix}sync": sync.astype(np.float16),
                   f"clip_{name}_landmarks": np.array(marks) + rng.normal(0, 0.02, (CLIPS, SHORT, 106, 2))}  # fmt: skip
    test = Clips({name: torch.from_numpy(array) for name, array in arrays.items()})
    test.rows = {1_000_000 + p: np.arange(LOOKS * POSES) + p * LOOKS * POSES for p in range(PEOPLE)}
    return test


def judging(test, tmp_path, monkeypatch, inception=lambda frames: seen(frames / 255, "inception")):
    """A Judge whose networks are those above; tmp_path has no others."""
    monkeypatch.setattr(swap_scores, "CLIP_FRAMES", SHORT)
    embed = lambda kind, frames: F.normalize(seen(frames.permute(0, 3, 1, 2) / 255 - 0.5, kind.name), dim=1)  # noqa: E731
    monkeypatch.setattr(swap_scores, "embed", embed)
    person = SimpleNamespace(name="identity", config=SimpleNamespace(identity=VECTOR))
    made = swap_scores.Judge(
        test, tmp_path, inception, identities={"identity-b": person}, syncs={"sync-b": SyncJudge()}
    )
    made.landmarker = lambda big: SimpleNamespace(landmarks=0.5 + 0.05 * seen(big, "landmarks").view(-1, 106, 2))
    return made


def method(target, reference, identity, mel):
    """Mixes all that it gets, each clip and frame in its own way, without a fraction that could round otherwise."""
    level = 10 + mel[..., 0, 0].round().int() + 5 * identity.argmax(1)[:, None].int()
    return (target.int() // 4 + reference.int() // 2 + level[..., None, None, None]).clamp(0, 255).byte()


def plain_method(test, sounds, first=False):
    """The same clip by clip and frame by frame, by the mel windows `sounds` (C, SHORT, 16, 80)."""
    own, out = test["clip_own"].numpy().astype(int), []
    for clip, row in enumerate(META):
        still = test["still_frames"][test.rows[1_000_000 + row[1]][0]].numpy()
        level = 10 + 5 * int(np.argmax(identity_of(still, "extractor")))
        out.append([own[clip, i] // 4 + own[clip, 0 if first else i] // 2 + level + int(sounds[clip, i, 0, 0])
                    for i in range(SHORT)])  # fmt: skip
    return np.clip(out, 0, 255).astype(np.uint8)


def plain_measures(test, made, true, marks, sync):
    """What is to be measured of uint8 clips, by loops over clips and frames, in double precision."""
    counted = range(1, SHORT)
    some = range(1, SHORT, 5)
    axis = (np.arange(96) + 0.5) / 96 - 0.5
    face = np.hypot(axis / 0.30, axis[:, None] / 0.32) < 1
    stills = [test["still_frames"][test.rows[1_000_000 + p][POSES:]].numpy() for p in range(PEOPLE)]
    gallery = np.stack([unit(np.mean([identity_of(still) for still in own], 0)) for own in stills])

    def laplacian(picture):
        grey = np.pad(picture.mean(2) / 255, 1)
        around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
        return (np.abs(around - 4 * grey[1:-1, 1:-1]) * face).sum()

    lists = {name: [] for name in ("cpbd", "psnr", "ssim", "colour", "sharp", "retrieval_b", "frame_retrieval_b",
                                   "nearest_target_b", "cosine_b", "gap_r", "lmd", "lmd_m", "offset_within_1_b",
                                   "confidence_b", "cosine_sync_b", "lse_d_b", "lse_c_b")}  # fmt: skip
    spreads, pooled, clouds = ([], []), ([], []), ([], [])
    for clip, (target, source, *_) in enumerate(META):
        vectors = []
        for i in some:
            one, other = made[clip, i].astype(float), true[clip, i].astype(float)
            lists["cpbd"].append(sharpness.cpbd(one @ [0.299, 0.587, 0.114], 32))
            error = ((one - other) ** 2).mean() / 255**2
            lists["psnr"].append(min(60, -10 * math.log10(max(error, 1e-10))))
            lists["ssim"].append(structural_similarity(one, other, channel_axis=2, data_range=255, sigma=1.5,
                                                       gaussian_weights=True, use_sample_covariance=False))  # fmt: skip
            lists["colour"].append(np.mean([abs(one[face, c].mean() - other[face, c].mean()) for c in range(3)]))
            lists["sharp"].append(laplacian(one) / laplacian(other))
            vectors.append(identity_of(one))
            nearest = int(np.argmax(gallery @ vectors[-1]))
            lists["frame_retrieval_b"].append(nearest == source)
            lists["nearest_target_b"].append(nearest == target)
            lists["cosine_b"].append(gallery[source] @ vectors[-1])
            for cloud, picture in zip(clouds, (one, other), strict=True):
                cloud.append(plainly(picture / 255, "inception"))
        lists["retrieval_b"].append(int(np.argmax(gallery @ unit(np.mean(vectors, 0)))) == source)
        found = [landmarks_of(made[clip, i]) for i in counted]
        far = [256 * np.hypot(*(points - marks[clip, i]).T) for i, points in zip(counted, found, strict=True)]
        lists["lmd"].append(np.mean(far))
        lists["lmd_m"].append(np.mean([one[86:106].mean() for one in far]))
        gap = np.array([abs(points[104, 1] - points[100, 1]) for points in found])
        drawn = np.array([abs(marks[clip, i, 104, 1] - marks[clip, i, 100, 1]) for i in counted])
        read = [landmarks_of(true[clip, i]) for i in counted]
        lists["gap_r"].append(np.corrcoef(gap, drawn)[0, 1])
        spreads[0].append(gap.std())
        spreads[1].append(np.std([abs(points[104, 1] - points[100, 1]) for points in read]))
        pooled[0].extend(gap - gap.mean())
        pooled[1].extend(drawn - drawn.mean())
        lips = [unit(plainly(made[clip, i : i + 5].mean(0) / 255 - 0.5, "sync")) for i in range(1, SHORT - 4)]
        heard = [unit(sync[clip, i, 3, :16].astype(float)) for i in range(1, SHORT - 4)]
        alike, apart = [], []
        for shift in range(-15, 16):
            pairs = [(lips[i], heard[i + shift]) for i in range(len(lips)) if 0 <= i + shift < len(heard)]
            alike.append(np.mean([a @ b for a, b in pairs]))
            apart.append(np.mean([math.dist(a, b) for a, b in pairs]))
        lists["offset_within_1_b"].append(abs(int(np.argmax(alike)) - 15) <= 1)
        lists["confidence_b"].append(max(alike) - np.median(alike))
        lists["cosine_sync_b"].append(alike[15])
        lists["lse_d_b"].append(min(apart))
        lists["lse_c_b"].append(np.median(apart) - min(apart))
    cov = [np.cov(np.transpose(cloud)) for cloud in clouds]
    off = np.mean(clouds[0], 0) - np.mean(clouds[1], 0)
    return {name: float(np.mean(values)) for name, values in lists.items()} | {
        "gap_r_pooled": float(np.corrcoef(*pooled)[0, 1]),
        "gap_ratio": float(np.mean(spreads[0]) / np.mean(spreads[1])),
        "fid": float(off @ off + np.trace(cov[0] + cov[1] - 2 * np.real(sqrtm(cov[0] @ cov[1])))),
    }


def test_all_figures_are_those_of_plain_code(made_up, tmp_path, monkeypatch):
    """Truth, target and a method in both protocols, of three clips that differ in everything."""
    scores, made = swap_scores.score({"ours": method}, judging(made_up, tmp_path, monkeypatch),
                                     SimpleNamespace(name="extractor"))  # fmt: skip
    arrays = {name: tensor.numpy() for name, tensor in made_up.items()}
    new = arrays["clip_other_mel"]
    clips = {
        "paper": {"truth": arrays["clip_swap"], "target": arrays["clip_own"],
                  "ours": plain_method(made_up, arrays["clip_mel"])},
        "new": {"truth": arrays["clip_other"], "target": arrays["clip_own"], "ours": plain_method(made_up, new, True),
                "shuffled": plain_method(made_up, new[[1, 2, 1]], True)},  # the first has the sound of the third
    }  # fmt: skip
    for protocol, true, name in (("paper", "clip_swap", "clip_"), ("new", "clip_other", "clip_other_")):
        assert list(scores[protocol]) == list(clips[protocol])
        for row, wanted in clips[protocol].items():
            assert np.array_equal(made[protocol][row].numpy(), wanted), (protocol, row)
            figures = plain_measures(made_up, wanted, arrays[true], arrays[f"{true}_landmarks"], arrays[f"{name}sync"])
            assert scores[protocol][row].keys() == figures.keys()
            for figure, value in figures.items():
                got = scores[protocol][row][figure]
                assert got == pytest.approx(value, abs=4e-4, rel=1e-3), (protocol, row, figure)


def test_a_distance_of_clouds_needs_more_frames_than_features(made_up, tmp_path, monkeypatch):
    """Three clips of 36 frames are 21 that count."""
    for features, told in ((20, {}), (21, {"fid": "got 21 frames, expected 22 or more, for fewer leave the covariance "
                                                  "of 21 features singular; score more clips"})):  # fmt: skip
        made = judging(made_up, tmp_path, monkeypatch, lambda frames, n=features: frames.float().flatten(1)[:, :n])
        assert made.left_out == told and (made.inception is None) == bool(told)


def test_a_new_sentence_is_another_one(made_up, tmp_path, monkeypatch):
    alike = Clips(made_up | {"clip_meta": made_up["clip_meta"].clone()})
    alike.rows, alike["clip_meta"][1, 4] = made_up.rows, 11
    with pytest.raises(InputError, match="^made-up: got 1 test clips whose new sentence is the one that they say, exp"):
        judging(alike, tmp_path, monkeypatch)


@pytest.mark.parametrize(("heard", "elsewhere"), [
    ([3], None), ([3, 3, 3], None), ([3, 4], [1, 0]), ([5, 6, 7], [1, 2, 0]), ([5, 6, 7, 8], [1, 2, 3, 0]),
    ([5, 6, 7, 8, 9], [2, 3, 4, 0, 1]), ([1, 0, 1], [1, 2, 1]), ([2, 0, 1, 2], [1, 2, 3, 2]),
])  # fmt: skip
def test_shuffled_sound_is_another_clips_and_another(heard, elsewhere):
    assert swap_scores.elsewhere(heard) == elsewhere


def test_without_another_sound_none_is_shuffled(made_up, tmp_path, monkeypatch):
    only = Clips({name: tensor[:1] if name.startswith("clip_") else tensor for name, tensor in made_up.items()})
    only.rows, only.clips = made_up.rows, 1
    judge_of_one = judging(only, tmp_path, monkeypatch, None)
    monkeypatch.setattr(judge_of_one, "measure", lambda made, truth: {"gap_r": 0.1})
    scores, made = swap_scores.score({"ours": method, "simswap": method}, judge_of_one,
                                     SimpleNamespace(name="extractor"))  # fmt: skip
    assert {name: list(rows) for name, rows in scores.items()} == {
        "paper": ["truth", "target", "ours", "simswap"], "new": ["truth", "target", "ours"]}  # fmt: skip
    assert judge_of_one.left_out == {"shuffled": "got test clips with one new sound in all, expected two; draw more of "
                                                 "them, or score with a higher --limit"}  # fmt: skip
    assert swap_scores.verdict(scores)["gap_r_shuffled"] == {"got": None, "asked": 0.15, "reached": False}
