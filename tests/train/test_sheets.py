"""Contact sheets: what is driven by what, and that decoupling is measured as it is defined."""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from edgetalk.errors import InputError
from edgetalk.metadata import AudioSpec
from edgetalk.picture import write_picture
from edgetalk.train.amnet import sheets
from edgetalk.train.amnet.data import Footage
from edgetalk.train.announcers import plan
from edgetalk.train.commands import data
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.landmarks import LandmarkNet, Measured
from edgetalk.train.reports import results

SPEC = AudioSpec()
ROOT = Path(__file__).resolve().parents[2]


def marked(source, mel, pose, blink):
    """A frame that shows its inputs as grey levels: yaw, pitch, roll, right lid, left, loudness, one column each."""
    frame = np.zeros((64, 64, 3), np.uint8)
    values = [*(0.5 + np.asarray(pose)), blink[1], blink[0], 0.5 + 0.1 * np.mean(mel)]
    for i, value in enumerate(values):
        frame[:, 10 * i : 10 * i + 10] = round(200 * float(np.clip(value, 0, 1)))
    frame[:, 60:] = source[0, 0]
    return frame


class Reader(LandmarkNet):
    """Reads what `marked` wrote."""

    def forward(self, images):
        levels = ((images + 1) * 127.5 / 200)[:, 0, 0, 5:60:10]
        landmarks = torch.zeros(len(images), 106, 2)
        landmarks[:, 66:86] = torch.tensor([[35 / 64, 0.5]] * 10 + [[45 / 64, 0.5]] * 10)
        landmarks[:, 104, 1] = 0.1 * levels[:, 5]
        return Measured(landmarks, levels[:, :3] - 0.5, levels[:, [4, 3]])


def test_each_input_that_moves_its_own_output_alone_is_decoupled(footage):
    examples = sheets.drives(footage)
    speech = np.stack([np.full((SPEC.window, SPEC.features), v, np.float32) for v in (-4, 0, 2)])
    found = sheets.decoupling(marked, Reader(), examples, speech, SPEC)
    assert found["decoupling"] < 0.01 and found["sources"] == 2
    assert found["response"]["yaw"]["yaw"] == pytest.approx(2 * np.rad2deg(sheets.LIMITS["yaw"]), abs=0.5)
    assert found["response"]["blink_left"]["blink_left"] == pytest.approx(1, abs=0.01)
    assert found["closing"] == {"blink_left": {"left": 1, "right": 0}, "blink_right": {"left": 0, "right": 1}}
    assert found["pose_error_deg"]["pitch"]["largest"] < 0.3
    assert found["leak"]["roll"]["roll"] == pytest.approx(1)


def test_what_leaks_is_counted(footage):
    def coupled(source, mel, pose, blink):
        return marked(source, mel, [pose[0], pose[1] + 0.5 * pose[0], pose[2]], [blink[0], max(blink)])

    speech = np.stack([np.full((SPEC.window, SPEC.features), v, np.float32) for v in (-4, 2)])
    found = sheets.decoupling(coupled, Reader(), sheets.drives(footage)[:1], speech, SPEC)
    expected = 0.5 * sheets.LIMITS["yaw"] / sheets.LIMITS["pitch"]
    assert found["leak"]["yaw"]["pitch"] == pytest.approx(expected, rel=0.05)
    assert found["leak"]["blink_left"]["blink_right"] == pytest.approx(1, abs=0.01)
    assert found["decoupling"] == pytest.approx((expected + 1) / 30, rel=0.1)
    assert found["closing"] == {"blink_left": {"left": 1, "right": 1}, "blink_right": {"left": 0, "right": 1}}
    assert found["groups"]["speech"]["mouth"] > 10 * found["groups"]["yaw"]["mouth"]
    page = results.decoupled(found | {"command": "the command"})
    whole, rest = re.search(r"\*\*([\d.]+)\*\*; ([\d.]+) without that from eye to eye", page).groups()
    assert float(whole) == pytest.approx((expected + 1) / 30, rel=0.1)
    assert float(rest) == pytest.approx(expected / 28, rel=0.1)


def test_cross_driving_shows_each_source_under_each_drive(footage):
    examples = sheets.drives(footage)
    assert [d.person for d in examples] == ["ada", "dan"]
    sheet = sheets.cross_driving(marked, examples, side=64)
    for i, source in enumerate(examples):
        for j, d in enumerate(examples):
            cell = sheet[68 * (i + 1) :, 68 * (j + 1) :][:64, :64]
            expected = marked(source.source, d.mel, d.pose, d.blink)
            assert np.array_equal(cell[4:60, 4:60], expected[4:60, 4:60])
            assert (tuple(cell[0, 0]) == (220, 30, 30)) == (i == j)


def test_drives_are_held_out_frames_with_open_mouths(footage):
    for d in sheets.drives(footage):
        frames = footage.frames[footage.test].numpy()
        assert any(np.array_equal(d.frame, frame) for frame in frames)
        assert abs(d.landmarks[104, 1] - d.landmarks[100, 1]) > 0.01
        assert d.mel.shape == (32, 80) and d.pose.shape == (3,) and d.blink.shape == (2,)


def test_a_network_draws_sheets(footage, tmp_path):
    render = sheets.render_of_network(AMNet().eval())
    example = sheets.drives(footage)[0]
    frame = render(example.source, example.mel, example.pose, example.blink)
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
    write_picture(tmp_path / "variants.jpg", sheets.variants({"one": render, "two": marked}, [example], side=32))
    assert cv2.imread(str(tmp_path / "variants.jpg")).shape == (4 * 36, 110 + 36, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["variants.jpg"]


def test_mouth_sheet_has_a_true_and_a_generated_row_per_person(footage):
    sheet = sheets.mouths(marked, footage, SPEC, side=32)
    assert sheet.shape == (4 * 36, 110 + 7 * 36, 3)


@pytest.fixture
def command(footage, tmp_path, monkeypatch):
    """Calls sheets.main; checkpoints are called as the window that they hear, or `small`; returns what each heard."""
    heard, loads = {}, []

    def checkpoint(path, device):
        spec = AudioSpec() if Path(path).stem in ("one", "small") else AudioSpec(window=int(Path(path).stem))

        def render(source, mel, pose, blink):
            heard.setdefault(Path(path).stem, set()).add(mel.shape)
            return marked(source, mel, pose, blink)

        return render, 32 if Path(path).stem == "small" else 64, spec

    def load(folder, *, size=0, device="auto", spec=None, pictures=True):
        loads.append(pictures)
        return replace(footage, spec=spec)

    monkeypatch.setattr(sheets, "render_of_checkpoint", checkpoint)
    monkeypatch.setattr(Footage, "load", load)
    monkeypatch.setattr(sheets, "decoupling", lambda *_: {"decoupling": 0.0, "pose_error_deg": {}})

    def run(*arguments):
        sheets.main(["--checkpoint", "one", "--data", "x", "--device", "cpu", "-o", str(tmp_path), *arguments])
        return heard

    run.loads = loads
    return run


def test_each_variant_hears_by_its_own_front_end(command, tmp_path):
    heard = command("--variants", "as one=one", "a third=24.safetensors")
    assert heard == {"one": {(32, 80)}, "24": {(24, 80)}} and command.loads == [True, False]
    assert cv2.imread(str(tmp_path / "variants.jpg")).shape == (4 * 164, 110 + 2 * 164, 3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["one"], "argument --variants: got 'one', expected NAME=FILE"),
        (["=one"], "got '=one', expected NAME=FILE"),
        (["a=one", "a=24"], "--variants: got a name twice"),
        (["a=one", "b=small"], "--variants: got b of 32×32, expected 64×64"),
    ],
)
def test_variants_are_checked_before_anything_is_loaded(command, given, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("--variants", *given)
    assert told in capsys.readouterr().err and command.loads == [] and list(tmp_path.iterdir()) == []


def test_a_judge_that_is_none_is_told_before_anything_is_loaded(command):
    with pytest.raises(FileNotFoundError, match="no landmark judge none; train it with"):
        command("--judge", "none")
    assert command.loads == []


def test_sheets_of_a_set_without_held_out_frames_are_refused(footage):
    empty = replace(footage, test=footage.test[:0])
    for make in (sheets.drives, sheets.speech_of):
        with pytest.raises(InputError, match="no held-out frames"):
            make(empty)


def ablated(row, seed, ssim, lip_r=0.5):
    figures = {"ssim": ssim, "psnr": 20.0, "lip_r": lip_r, "ale_px": 2.0}
    config = {"size": 64, "width": 0.5, "images": 60000, "batch": 16}
    return {"row": row, "seed": seed, "config": config, "mean": figures, "all": {"judge_frechet": 1.0}}


def test_the_page_is_what_its_files_give():
    assert (ROOT / "docs/results.md").read_text() == results.document(ROOT / "docs/results", "results")


def test_every_set_that_a_command_of_the_page_names_is_told_there():
    page = (ROOT / "docs/results.md").read_text()
    named = set(re.findall(r"--data ([^\s`]+)", page)) - {"DIR", "NAME"}
    assert "announcers-6" in named and named <= set(results.DATA) <= set(plan.SETS)
    parser = argparse.ArgumentParser()
    data.configure(parser)
    trained = (ROOT / "docs/training.md").read_text()
    for name in named:
        (command,) = re.findall(rf"`edgetalk data (announcers -o {name} .*)`", page)
        args = parser.parse_args(command.split())
        assert (args.set or "announcers-6") == name
        for command in re.findall(rf"^edgetalk data (announcers -o {name} .*)", trained, re.MULTILINE):
            assert parser.parse_args(command.split()) == args, "what is scored is drawn as what is trained on"


def test_table_2_has_the_distances_of_all_frames_together():
    """A person of many has too few for one of its own, so the means over persons have none."""
    figures = {"ssim": 0.9, "lpips": 0.02, "lip_r": 0.8, "lip_r_shuffled": 0.0, "ale_px": 2.0, "judge_ale_px": 1.0}
    told = {"variant": "amnet", "size": 64, "compared_at": 64, "checkpoint": "0" * 64, "training": {"images": 9}}
    told |= {"frames": 4096, "data": "wild", "command": "the command", "not_computed": {}}
    table = results.table_2({**told, "mean": figures, "all": {"fid": 12.5, "judge_frechet": 3.25}})
    assert "| **ours**, wild | 12.500 | 3.250 | 0.900 | 0.0200 |" in table


FIGURES = {"ssim": 0.9, "psnr": 30.0, "mouth_psnr": 25.0, "mouth_ssim": 0.8, "ale_px": 1.0, "ape_rad": 0.01}
FIGURES |= {"abe": 0.02, "judge_ale_px": 0.5, "judge_ape_rad": 0.004, "judge_abe": 0.03, "frames": 30}
FIGURES |= {"lip_r": 0.8, "lip_r_judge": 0.9, "lip_r_shuffled": 0.0}


def scored(**told):
    """A report of one person, whose cloud has a distance with all frames' alone."""
    report = {"variant": "amnet", "size": 64, "compared_at": 64, "checkpoint": "0" * 64, "training": {"images": 9}}
    report |= {"frames": 400, "data": "calm", "command": "the command", "not_computed": {}, "voices": {}}
    still = {"pixels": None, "landmarks_px": None, "opening_px": None}
    report |= {"persons": {"ada": FIGURES}, "mean": FIGURES, "all": FIGURES | {"fid": 12.5, "judge_frechet": 0.0325}}
    return report | {"jitter": {"silent": still, "speaking": still}} | told


def test_table_1_has_a_row_of_all_frames_with_their_distances():
    table = results.table_1(scored())
    assert "| ours, ada | – | – | 0.900 |" in table
    assert "| ours, all frames together | 12.500 | 0.0325 | 0.900 |" in table
    assert "One person has too few frames" in table
    few = scored(all=FIGURES, not_computed={"judge_frechet": "needs 384 frames, got 32", "detection": "left out"})
    table = results.table_1(few)
    assert "judge Fréchet not computed: needs 384 frames, got 32." in table and "DR not computed: left out." in table
    assert "One person has too few" not in table


def test_what_did_not_move_is_a_dash():
    assert "a pixel changes by – of 255 from frame to frame" in results.lips(scored())
    assert "Still head" not in results.lips(scored(jitter=None))
    unheard = FIGURES | {"lip_r": None, "lip_r_shuffled": None, "held_out": True}
    page = results.lips(scored(voices={"awb": unheard}, correlated=20))
    assert "| voice awb, held out | – | 0.900 | – |" in page
    assert "A lip r of fewer than 20 frames is not counted" in page
    assert "however few the frames" in results.lips(scored())  # of a report from when all were counted


def test_differences_within_the_deviation_are_called_none(tmp_path):
    rows = [ablated("all", 0, 0.80), ablated("all", 1, 0.82), ablated("adain", 0, 0.81), ablated("adain", 1, 0.82)]
    rows += [ablated("k3", 0, 0.70), ablated("k3", 1, 0.72)]
    (tmp_path / "ablations.json").write_text(json.dumps({"command": "the command", "rows": rows}))
    page = results.document(tmp_path, "results")
    deviation = np.std([0.80, 0.82], ddof=1)
    assert f"0.8100 ± {deviation:.4f}" in page
    assert "0.8150 ± 0.0071 (none)" in page and "0.7100 ± 0.0141 (-0.1000)" in page
    assert page.count("\nthe command\n") == 3
    assert "follow the sound yet" not in page and "2 seeds: mean" in page
    assert page.count("all rows heard the same versions of the sound") == 3
    (tmp_path / "ablations.json").write_text(
        json.dumps({"command": "the command", "rows": [row | {"digest": "d"} for row in rows]})
    )
    assert "heard the same versions" not in results.document(tmp_path, "results")
    (tmp_path / "ablations.json").write_text(
        json.dumps(
            {
                "command": "the command",
                "rows": [ablated("all", 0, 0.8, 0.04), ablated("all", 1, 0.8, 0.04), ablated("k3", 0, 0.8, -0.1)],
            }
        )
    )
    page = results.document(tmp_path, "results")
    assert "The lips of no row follow the sound yet** (lip r 0.04 at best)" in page
    assert "2 seeds, one where no deviation stands: mean" in page
    assert "64×64, 0.5 of the channels in Reenactor and discriminator, 60,000 images per row" in page
    assert "Table I: not made yet" in page and "| L_C | not made yet" in page
    rows = [ablated("all", 0, 0.8, None), ablated("k3", 0, 0.8, None)]  # lips that stood still
    (tmp_path / "ablations.json").write_text(json.dumps({"command": "the command", "rows": rows}))
    page = results.document(tmp_path, "results")
    assert "0.8000 ± – (+0.0000, one seed)" in page and "follow the sound yet" not in page


def test_a_difference_is_told_where_a_t_test_tells_it_and_no_deviation_hides_it():
    rng, calls = np.random.default_rng(0), {}
    for n, m, shift in [(1, 2, 9), (2, 2, 3), (3, 2, 3), (5, 5, 2), (12, 12, 1)] * 60:
        values, reference = rng.normal(shift * rng.random(), 1, n), rng.normal(0, 1, m)
        apart = stats.ttest_ind(values, reference).pvalue < 0.05
        spreads = [np.std(sample, ddof=1) for sample in (values, reference) if len(sample) > 1]
        hidden = abs(values.mean() - reference.mean()) <= max(spreads)
        told = "none" not in results.compared(values, reference, 4)
        assert told == (apart and not hidden)
        calls[n, m, told, apart] = True
    assert len(calls) == 11, "both verdicts of each, and of twelve seeds a difference within the deviation"


def test_noise_of_two_seeds_is_no_difference():
    rng = np.random.default_rng(1)
    told = ["none" not in results.compared(*rng.normal(size=(2, 2)), 4) for _ in range(1500)]
    assert 0.03 < np.mean(told) < 0.07


@pytest.mark.parametrize("found", [{}, {"announcers-6.json": "{}"}, {"decoupling.json": "nothing"}])
def test_a_page_is_not_replaced_by_one_of_nothing(tmp_path, found, capsys):
    page = tmp_path / "results.md"
    page.write_text("the page")
    (tmp_path / "results").mkdir()
    for name, text in found.items():
        (tmp_path / "results" / name).write_text(text)
    with pytest.raises(InputError, match=next(iter(found), "results has no report")):
        results.main([str(tmp_path / "results"), "-o", str(page)])
    assert page.read_text() == "the page"
