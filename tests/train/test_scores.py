"""Scores against independent references: scikit-image, scipy, numpy, and drawn faces whose truth is exact."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edgetalk import cli
from edgetalk.errors import InputError
from edgetalk.train.amnet import recipe as amnet
from edgetalk.train.amnet import scores as amnet_scores
from edgetalk.train.amnet.data import Footage
from edgetalk.train.announcers import CAST, Announcer, Controls, dataset
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.commands import score as score_command
from edgetalk.train.networks.amnet import VARIANTS, AMNet
from edgetalk.train.networks.landmarks import LandmarkNet, inner_opening
from edgetalk.train.networks.landmarks import load as load_judge
from edgetalk.train.networks.landmarks import save as save_judge
from edgetalk.train.precision import autocast
from edgetalk.train.scores import measures, perceptual
from edgetalk.train.scores import report as reports

NARROW = VARIANTS["amnet"].scaled(0.25)


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


def test_lips_of_true_frames_correlate_and_shuffled_ones_do_not():
    """Curves of a talking mouth: read with a little noise, and read on frames of other moments."""
    rng = np.random.default_rng(0)
    count = 2000
    truth = 0.02 * np.abs(np.convolve(rng.normal(size=count + 8), np.ones(9) / 3, "valid"))
    person = np.repeat([0, 1], count // 2)
    other = amnet_scores.shuffled(person, rng)
    assert sorted(other) == list(range(count)) and (person[other] == person).all() and (other != np.arange(count)).all()
    values = {name: np.zeros((count, 2)) for name in ("features", "truth_features")}
    values |= {"true_opening": truth, "truth_opening": truth, "opening": truth + rng.normal(0, 1e-4, count)}
    values["shuffled_opening"] = values["opening"][other]
    for figures in (amnet_scores.summary(values, person == p) for p in (0, 1)):
        assert figures["lip_r"] > 0.999 and figures["lip_r_judge"] == pytest.approx(1)
        assert abs(figures["lip_r_shuffled"]) < 0.1
        assert figures["frames"] == count // 2


def test_lips_of_too_few_frames_have_no_correlation():
    rng = np.random.default_rng(0)
    values = {name: np.zeros((40, 30)) for name in ("features", "truth_features")}
    lips = ("true_opening", "truth_opening", "opening", "shuffled_opening")
    values |= {name: rng.random(40) for name in lips}
    enough, few = (amnet_scores.summary(values, np.arange(40) < count) for count in (20, 19))
    for name in ("lip_r", "lip_r_shuffled", "lip_r_judge"):
        assert np.isfinite(enough[name]) and np.isnan(few[name])
    assert amnet_scores.mean_of([enough, few])["lip_r"] == enough["lip_r"]


@pytest.mark.skipif(not reports.JUDGE.exists(), reason="the bundled landmark judge is not trained yet")
def test_the_bundled_judge_reads_lips_off_true_frames():
    """Frames drawn here, which it was not trained on; sound plays no part."""
    judge, record = load_judge(reports.JUDGE)
    announcer = Announcer(CAST["cleo"], size=128)
    shapes = [SHAPES[name] for name in ("sil", "mbp", "ae", "iy", "ow", "fv", "eh", "ih")]
    controls = [Controls(shape, np.array([yaw, 0.02, 0.0])) for shape in shapes for yaw in (-0.15, 0, 0.1)]
    frames = torch.from_numpy(np.stack([announcer.draw(c) for c in controls])).permute(0, 3, 1, 2).float() / 127.5 - 1
    truth = inner_opening(np.stack([announcer.landmarks(c) for c in controls]))
    with torch.inference_mode():
        measured = judge(frames)
    read = inner_opening(measured.landmarks).numpy()
    assert measures.pearson(read, truth) > 0.9
    assert abs(measures.pearson(np.random.default_rng(0).permutation(read), truth)) < 0.5
    assert torch.rad2deg((measured.pose[:, 0] - torch.tensor([c.pose[0] for c in controls])).abs()).mean() < 4
    assert record["error_on_true_frames"]["opening_r"] > 0.9


@pytest.mark.usefixtures("small_judge")
def test_a_report_holds_what_it_should(footage):
    told = replace(footage, digest="d")
    report = amnet_scores.score(AMNet(architecture=NARROW), told, LandmarkNet(), limit=16)
    assert report["data"] == "drawn" and report["digest"] == "d"
    assert set(report["persons"]) == {"ada", "dan"} and report["frames"] == report["mean"]["frames"] == 16
    assert report["voices"]["b"]["held_out"] and not report["voices"]["a"]["held_out"]
    for figures in (report["mean"], report["known"], report["voices"]["a"]):
        assert {"ssim", "psnr", "mouth_ssim", "ale_px", "judge_ale_px", "ape_rad", "abe", "lip_r"} <= set(figures)
    assert "unknown" not in report and set(report["jitter"]) == {"silent", "speaking"}
    assert report["mean"]["ssim"] < 0.5  # an untrained network draws no faces
    shown = score_command.table({**report, "not_computed": {"fid": "needs weights"}})
    assert "fid: not computed: needs weights" in shown and "voice b (held out)" in shown
    assert "fid" not in report["mean"] and "lip r of fewer than 20 frames is not counted" in shown
    cells = next(line for line in shown.splitlines() if line.startswith("voice b")).split()
    assert "nan" not in shown and "–" in cells  # 8 frames
    assert "NaN" not in json.dumps(reports.plain(report))


@pytest.mark.usefixtures("small_judge")
def test_distances_of_clouds_are_shown_of_all_frames_or_with_what_they_need(footage, monkeypatch):
    still = dict.fromkeys(("pixels", "landmarks_px", "opening_px"), float("nan"))  # of a clip of one frame
    monkeypatch.setattr(amnet_scores, "jitter", lambda *_: {"silent": still, "speaking": still})
    extras = amnet_scores.Extras(inception=lambda pictures: pictures[:, :, 0, :10].flatten(1).float())
    report = amnet_scores.score(AMNet(architecture=NARROW), footage, LandmarkNet(), extras=extras)
    assert report["not_computed"] == {"judge_frechet": "needs 384 frames, got 32"}
    shown = score_command.table(report)
    assert "judge_frechet: not computed: needs 384 frames, got 32" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("all frames"))
    assert f"{report['all']['fid']:.4g}" in line.split() and "fid" not in report["mean"]
    assert "FID: of all frames together" in shown and "pixels move – of 255" in shown


@pytest.mark.usefixtures("small_judge")
def test_true_frames_score_perfectly(footage, monkeypatch):
    """What a network that draws the truth would get, through the whole scoring."""
    rows = footage.test
    at = {footage.pose[i].numpy().tobytes(): int(i) for i in rows}

    def draw(self, person, mel, pose, blink):
        return footage.frames[[at[p.numpy().tobytes()] for p in pose]].permute(0, 3, 1, 2)

    monkeypatch.setattr(amnet_scores.Puppets, "draw", draw)
    puppets = amnet_scores.Puppets(AMNet(architecture=NARROW), footage, 64)
    with torch.inference_mode():
        values = amnet_scores.frame_values(puppets, LandmarkNet().eval(), rows, amnet_scores.Extras())
    assert values["ssim"].min() > 0.9999 and values["mouth_ssim"].min() > 0.9999 and (values["psnr"] == 100).all()
    assert np.array_equal(values["ale"], values["truth_ale"]) and np.array_equal(values["ape"], values["truth_ape"])


def test_smaller_pictures_are_enlarged_before_they_are_compared(footage):
    puppets = amnet_scores.Puppets(AMNet(architecture=NARROW).eval(), footage, 32)
    index = footage.test[:2]
    with torch.inference_mode():
        drive = footage.windows(index), footage.pose[index], footage.blink[index]
        made = puppets.draw(footage.person[index], *drive)
    assert puppets.appearance.shape[-1] == 8 and made.shape == (2, 3, 64, 64) and made.dtype == torch.uint8


def test_persons_are_shown_from_their_checkpoints_pictures(footage):
    network, person = AMNet(architecture=NARROW).eval(), footage.persons[1]
    own = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(5)).byte()
    puppets = amnet_scores.Puppets(network, footage, 64, {person: own, "nobody": own})
    plain = amnet_scores.Puppets(network, footage, 64)
    with torch.inference_mode(), autocast(footage.device):
        expected = network.reenactor.source(own.permute(2, 0, 1)[None].float() / 127.5 - 1)
    torch.testing.assert_close(puppets.appearance[1:2], expected, atol=0.02, rtol=0.02)
    assert torch.equal(puppets.appearance[0], plain.appearance[0])
    assert not torch.equal(puppets.appearance[1], plain.appearance[1])


def test_a_picture_of_the_networks_size_is_given_to_it_as_it_is(footage):
    network, person = AMNet(architecture=NARROW).eval(), footage.persons[1]
    own = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(5)).byte()
    puppets = amnet_scores.Puppets(network, footage, 32, {person: own})
    with torch.inference_mode(), autocast(footage.device):
        given = own.permute(2, 0, 1)[None].float() / 127.5 - 1
        expected = network.reenactor.source(given.expand(len(footage.persons), -1, -1, -1))
    assert torch.equal(puppets.appearance[1], expected[1])


def test_nothing_held_out_is_told(footage):
    empty = replace(footage, test=footage.test[:0])
    with pytest.raises(InputError, match="^data set drawn: got no held-out frames, expected some to measure on"):
        amnet_scores.score(AMNet(architecture=NARROW), empty, LandmarkNet())
    with pytest.raises(InputError, match="no held-out frames"):
        empty.examples(4)


@pytest.mark.usefixtures("small_judge")
@torch.inference_mode()
def test_a_clip_of_one_frame_says_nothing_of_how_a_head_trembles(footage):
    """And takes nothing away from what the others say: here dan's longest held-out clip has one frame."""
    alone = footage.test[footage.person[footage.test] == 1][:1]
    few = replace(footage, test=torch.cat([footage.test[footage.person[footage.test] == 0], alone]))
    puppets = amnet_scores.Puppets(AMNet(architecture=NARROW).eval(), few, 64)
    found = amnet_scores.jitter(puppets, LandmarkNet().eval(), 0.2)
    assert found["speaking"]["pixels"] > 0 and np.isfinite(found["speaking"]["landmarks_px"])
    puppets.footage = replace(footage, test=alone)
    found = amnet_scores.jitter(puppets, LandmarkNet().eval(), 0.2)
    assert np.isnan(found["speaking"]["pixels"])


def test_few_frames_are_spread_over_all_persons():
    person = torch.tensor([0] * 90 + [1] * 10)
    kept = amnet_scores.spread(torch.arange(100), person, 20)
    assert len(kept) == 20 and (person[kept] == 1).sum() == 2 and kept[0] == 0 and kept[-1] == 99
    assert len(amnet_scores.spread(torch.arange(100), person, None)) == 100


def test_weights_are_checked_and_never_replaced(tmp_path):
    with pytest.raises(perceptual.Unavailable, match="alexnet-owt-7be5be79.pth: --lpips PATH"):
        perceptual.lpips(None, torch.device("cpu"))
    with pytest.raises(perceptual.Unavailable, match="--fid PATH"):
        perceptual.inception(None, torch.device("cpu"))
    wrong = tmp_path / "alexnet-owt-7be5be79.pth"
    wrong.write_bytes(b"something else")
    with pytest.raises(InputError, match="sha256 begins with"):
        perceptual.lpips(wrong, torch.device("cpu"))
    with pytest.raises(FileNotFoundError, match="no weights"):
        perceptual.inception(tmp_path / "none", torch.device("cpu"))


def test_the_detector_sees_announcers_and_no_noise():
    pytest.importorskip("dlib")
    seen = perceptual.detector()
    assert seen(Announcer(CAST["ada"], size=128).draw(Controls()))
    assert not seen(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8))


def test_commands_are_named_without_folders(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "amnet", "--data", "/somewhere/secret/set", "-o", "runs/a.json", "a=/b/c"])
    assert reports.command().endswith("amnet --data set -o runs/a.json a=c")


def test_a_folder_keeps_its_name_with_a_slash_after_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--data", "/somewhere/secret/set/", "--data=/set", "-o", "runs/", "a=/b/c//"])
    assert reports.command().endswith(" --data set --data=set -o runs/ a=c")


@pytest.fixture
def files(small_judge, tmp_path_factory, footage):
    """Folder of a checkpoint and a judge, both untrained."""
    folder = tmp_path_factory.mktemp("untrained")
    record = {f"error_on_{kind}_frames": {"landmarks_px": 9.0} for kind in ("true", "degraded")}
    save_judge(folder / "judge.safetensors", LandmarkNet(), record)
    told = {"variant": "amnet", "size": 64, "audio": asdict(footage.spec), "architecture": NARROW.plain()}
    weights = AMNet(architecture=NARROW).state_dict()
    amnet.save_checkpoint(folder / "amnet.safetensors", weights, persons=["ada", "dan"], training={}, **told)
    return folder


@pytest.fixture
def trained(files, footage, monkeypatch):
    """The command that scores the checkpoint on a data set that needs no disk."""
    monkeypatch.setattr(Footage, "load", lambda *args, **options: footage)
    checkpoint, judge = (str(files / f"{name}.safetensors") for name in ("amnet", "judge"))
    return ["score", "amnet", "--checkpoint", checkpoint, "--judge", judge, "--data", "x", "--device", "cpu"]


def test_the_command_prints_a_table_and_writes_its_figures(trained, tmp_path, capsys):
    assert cli.main([*trained, "--limit", "8", "--no-detection", "-o", str(tmp_path / "scores.json")]) == 0
    printed = capsys.readouterr().out
    assert "lpips: not computed: needs the weights" in printed and "detection: not computed: left out" in printed
    report = json.loads((tmp_path / "scores.json").read_text())
    assert report["judge"]["error_on_true_frames"] == {"landmarks_px": 9.0} and len(report["checkpoint"]) == 64
    assert report["frames"] == 8 and report["size"] == report["compared_at"] == 64
    assert f"{report['mean']['ssim']:.4g}" in printed


def test_who_is_known_stands_in_the_checkpoint(trained, files, footage, monkeypatch, capsys):
    monkeypatch.setattr(amnet_scores, "jitter", lambda *_: {})
    told = {"variant": "amnet", "size": 64, "audio": asdict(footage.spec), "architecture": NARROW.plain()}
    for people, known in ((1, {"known", "unknown"}), (500, {"known"})):
        path = files / "others.safetensors"
        training = {"people": people}
        amnet.save_checkpoint(path, AMNet(architecture=NARROW).state_dict(), persons=["dan"], training=training, **told)
        assert cli.main([*trained, "--checkpoint", str(path), "--limit", "4", "--no-detection", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert {"known", "unknown"} & set(report) == known
    assert report["known"]["frames"] == 4  # more than are named: those of whom the set has training frames


def test_drawn_people_without_a_kept_picture_are_shown_from_a_portrait(trained, footage, monkeypatch):
    puppets = Mock(wraps=amnet_scores.Puppets)
    monkeypatch.setattr(Footage, "load", lambda *args, **options: replace(footage, name="announcers-6"))
    monkeypatch.setattr(dataset, "read_plan", lambda path: {"name": "announcers-6", "frames": 100, "seed": 0})
    monkeypatch.setattr(amnet_scores, "Puppets", puppets)
    assert cli.main([*trained, "--limit", "4", "--no-detection"]) == 0
    sources = puppets.call_args.args[3]
    assert sorted(sources) == ["ada", "dan"]
    assert np.array_equal(sources["dan"].numpy(), Announcer(CAST["dan"], 64).draw(Controls()))


@pytest.mark.parametrize("terms", [{}, {"consent": "ada, on paper"}])
def test_a_judge_of_drawn_faces_is_told_of_films(trained, footage, terms, monkeypatch, capsys):
    monkeypatch.setattr(Footage, "load", lambda *args, **options: replace(footage, terms=terms))
    monkeypatch.setattr(score_command, "JUDGE", Path(trained[trained.index("--judge") + 1]))
    assert cli.main([*trained, "--limit", "4", "--no-detection"]) == 0
    assert ("has seen drawn faces alone" in capsys.readouterr().err) == bool(terms)


@pytest.mark.parametrize(
    "change, told",
    [
        (["--limit", "1"], "--limit: got 1, expected at least 2 frames"),
        (["--limit", "0"], "--limit: got 0, expected at least 2 frames"),
        (["--limit", "-1"], "--limit: got -1, expected at least 2 frames"),
        (["--at", "0"], "--at: got 0, expected pictures of 32 to 2048 pixels"),
        (["--at", "8"], "--at: got 8, expected pictures of 32 to 2048 pixels"),
        (["--at", "-4"], "--at: got -4, expected pictures of 32 to 2048 pixels"),
        (["--judge", "none.safetensors"], "no landmark judge none.safetensors; train it with"),
        (["--checkpoint", "none.safetensors"], "no checkpoint at none.safetensors"),
        (["--lpips", "none.pth"], "no weights none.pth; expected alexnet-owt-7be5be79.pth"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(trained, change, told, capsys):
    assert cli.main([*trained, *change]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
