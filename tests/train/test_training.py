"""The recipe and the loop: exact resume, equations of the losses, checkpoints, batches by index."""

import argparse
import itertools
import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from edgetalk import signals
from edgetalk.errors import InputError, ModelError
from edgetalk.mel import windows
from edgetalk.metadata import AudioSpec
from edgetalk.train import loop, state, torchrun
from edgetalk.train.amnet import losses
from edgetalk.train.amnet import recipe as amnet
from edgetalk.train.amnet.data import Footage
from edgetalk.train.amnet.dataset import Script
from edgetalk.train.amnet.recipe import AMNetRecipe, Config
from edgetalk.train.announcers import dataset
from edgetalk.train.networks.checkpoint import load_checkpoint
from edgetalk.train.networks.patchgan import PatchGAN

CHECKPOINT = Path(__file__).parents[2] / "train/checkpoints/amnet.safetensors"
SMALL = Config(size=32, width=0.25, batch=2, images=12, mouth=3.0)


def footage(frames: int = 60, size: int = 32) -> Footage:
    rng = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(shape, generator=rng)  # noqa: E731
    count = torch.full((frames,), 200)
    return Footage(
        name="noise",
        device=torch.device("cpu"),
        spec=AudioSpec(),
        frames=(rand(frames, size, size, 3) * 255).byte(),
        person=torch.arange(frames) % 3,
        persons=("a", "b", "c"),
        landmarks=rand(frames, 106, 2),
        pose=rand(frames, 3) - 0.5,
        blink=rand(frames, 2),
        mel=(rand(3, 201, 80) * 8 - 4).half(),
        first=torch.ones(frames).long(),
        count=count,
        start=torch.arange(frames) * 4 - 24,
        train=torch.arange(0, 45),
        test=torch.arange(45, frames),
        voice=torch.zeros(frames).long(),
        voices=("v",),
    )


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    data = footage()
    whole = AMNetRecipe(SMALL, data)
    expected = [{k: float(v.detach()) for k, v in whole.step(i).items()} for i in range(6)]

    first = AMNetRecipe(SMALL, data)
    for i in range(3):
        first.step(i)
    state.save(first, tmp_path, 3)
    second = AMNetRecipe(SMALL, data)
    assert state.resume(second, tmp_path) == 3
    for i in range(3, 6):
        losses_now = {k: float(v.detach()) for k, v in second.step(i).items()}
        assert losses_now == pytest.approx(expected[i], rel=1e-5)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(second.tensors()[name], tensor, atol=1e-6, rtol=1e-4)


def test_what_a_run_has_learnt_from_stays_in_it_where_it_goes_on_with_others(tmp_path):
    ada = {"consent": "ada; bea", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    dan = {"consent": "dan", "licence": "", "use": "any"}
    both = {"consent": "ada; bea; dan", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    for terms, told in ((ada, ada), (dan, both), (dan, both), ({}, both)):
        recipe = AMNetRecipe(SMALL, replace(footage(), terms=terms))
        state.resume(recipe, tmp_path)
        assert recipe.terms == told
        state.save(recipe, tmp_path, 1)
    recipe.checkpoint(tmp_path, 1)
    assert load_checkpoint(tmp_path / "amnet.safetensors").training["terms"] == both


def test_a_run_goes_on_with_its_own_data_alone(tmp_path):
    """What is kept for tests now may be what the run has learnt from, where the set was made anew."""
    state.save(AMNetRecipe(SMALL, footage()), tmp_path, 1)  # as before there were digests
    for digest in ("", "one", "one", ""):
        assert state.resume(recipe := AMNetRecipe(SMALL, replace(footage(), digest=digest)), tmp_path) == 1
        if digest:
            state.save(recipe, tmp_path, 1)
    with pytest.raises(ModelError, match="digest is one, got data with two, .*; give the data it began with"):
        state.resume(AMNetRecipe(SMALL, replace(footage(), digest="two")), tmp_path)


def test_a_digest_says_whose_each_frame_is_and_what_is_for_tests():
    tables = {"samples_bounds": np.array([0, 640, 1920]), "person": np.array([0, 1], np.uint16),
              "split": np.array([0, 1], np.uint8), "voice": np.zeros(2, np.uint8)}  # fmt: skip
    plan = {"name": "filmed", "terms": {"consent": "ada"}, "asked": {"films": {"ada": [["a.mp4", 9]]}, "terms": {}}}
    script = Script(plan, np.array([0, 1, 3]), tables)
    same = [replace(script, plan=plan | {"terms": {"consent": "ada, in writing"}}),
            replace(script, tables=tables | {"voice": np.ones(2, np.uint8)})]  # fmt: skip
    other = [replace(script, plan=plan | {"asked": {"films": {"ada": [["a.mp4", 8]]}}}),
             replace(script, plan=plan | {"name": "announcers-6"}), replace(script, plan=plan | {"seed": 1}),
             replace(script, tables=tables | {"split": np.array([1, 0], np.uint8)}),
             replace(script, tables=tables | {"person": np.array([1, 0], np.uint16)}),
             replace(script, tables=tables | {"samples_bounds": np.array([0, 1280, 1920])})]  # fmt: skip
    assert {one.digest for one in same} == {script.digest}
    assert len({one.digest for one in [script, *other]}) == 1 + len(other)


def test_a_run_from_before_there_was_a_field_goes_on(tmp_path):
    recipe = AMNetRecipe(replace(SMALL, versions=2), footage())
    del recipe.config["heard"]
    state.save(recipe, tmp_path, 1)
    assert state.resume(AMNetRecipe(replace(SMALL, versions=2), footage()), tmp_path) == 1
    del recipe.config["versions"]  # which was 8 as long as nobody could choose
    state.save(recipe, tmp_path, 1)
    with pytest.raises(ModelError, match=r"another configuration \(versions 8 → 2\)"):
        state.resume(AMNetRecipe(replace(SMALL, versions=2), footage()), tmp_path)


def test_a_batch_is_shared_by_all_processes_or_refused(monkeypatch):
    monkeypatch.setattr(torchrun, "worker", lambda: (1, 2))
    shared = AMNetRecipe(SMALL, footage())
    assert (shared.share, shared.runs) == (1, 8)
    monkeypatch.setattr(torchrun, "worker", lambda: (0, 3))
    with pytest.raises(InputError, match="batch: got 2 for 3 processes, expected a multiple; change --batch"):
        AMNetRecipe(SMALL, footage())


def test_the_average_forgets_its_first_weights_where_a_fuser_was_trained_before():
    recipe = AMNetRecipe(replace(SMALL, geometry_first=300, adversarial=0.0), footage())
    first = {name: tensor.clone() for name, tensor in recipe.network.reenactor.named_parameters()}
    recipe.step(300)
    for name, tensor in recipe.network.reenactor.named_parameters():
        averaged = recipe.average.tensors()[f"reenactor.{name}"]
        torch.testing.assert_close(averaged, tensor.lerp(first[name], 0.1), atol=1e-7, rtol=1e-5)


def test_a_start_of_another_network_is_told(tmp_path):
    AMNetRecipe(replace(SMALL, variant="amnet-lite"), footage()).save_checkpoint(tmp_path / "lite.safetensors")
    start = str(tmp_path / "lite.safetensors")
    with pytest.raises(InputError, match="is of another architecture than this run's; give it the --variant"):
        AMNetRecipe(replace(SMALL, start=start), footage())
    other = footage()
    other.spec = replace(other.spec, window=16)
    with pytest.raises(InputError, match=r"start: got a network that hears .*window=32.* expected .*window=16"):
        AMNetRecipe(replace(SMALL, variant="amnet-lite", start=start), other)


PROCESS = """
import sys, time, torch
from dataclasses import replace
sys.path.insert(0, {tests!r})
from test_training import SMALL, footage
from edgetalk.train import loop, torchrun
from edgetalk.train.amnet.recipe import AMNetRecipe
torch.set_num_threads(1)
decoded = __import__("pathlib").Path({run!r}) / "decoded"
with torchrun.first_before_others():
    if torchrun.worker()[0] == 0:
        time.sleep(1)
        decoded.touch(exist_ok=False)
    assert decoded.exists()
recipe = AMNetRecipe(replace(SMALL, mixed=False, images=4), footage())
loop.train(recipe, __import__("pathlib").Path({run!r}), minutes=5)
torch.save(dict(recipe.tensors()), {run!r} + f"/{{torchrun.worker()[0]}}.pt")
"""


def test_two_processes_train_one_network(tmp_path, monkeypatch):
    """torchrun against two threads that hand each other their gradients and take the mean."""
    script = tmp_path / "process.py"
    script.write_text(PROCESS.format(tests=str(Path(__file__).parent), run=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name

    here, meeting, slots = threading.local(), threading.Barrier(2), [[], []]

    def exchange(parameters):
        mine = [p for p in parameters if p.grad is not None]
        slots[here.rank] = [p.grad.clone() for p in mine]
        meeting.wait()
        for p, a, b in zip(mine, *slots, strict=True):
            p.grad.copy_((a + b) / 2)
        meeting.wait()

    monkeypatch.setattr(torchrun, "worker", lambda: (getattr(here, "rank", 0), 2))
    monkeypatch.setattr(torchrun, "average_gradients", exchange)
    recipes = [AMNetRecipe(replace(SMALL, mixed=False, images=4), footage()) for _ in range(2)]

    def work(rank):
        here.rank = rank
        for i in range(2):
            recipes[rank].step(i)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    largest = max(float(t.norm()) for name, t in first.items() if name.endswith("exp_avg"))
    for name, tensor in recipes[0].tensors().items():  # the weights themselves follow the sign of rounding noise, too
        if name.endswith("exp_avg"):
            assert float((first[name] - tensor).norm()) < 0.01 * float(tensor.norm()) + 1e-4 * largest, name


def test_landmarks_first_train_the_fuser_alone():
    recipe = AMNetRecipe(replace(SMALL, geometry_first=2), footage())
    before = {name: tensor.clone() for name, tensor in recipe.network.state_dict().items()}
    assert [set(recipe.step(i)) for i in range(3)] == [{"L_G"}, {"L_G"}, {"L_G", "L_C", "D", "L_Adv"}]
    fresh = AMNetRecipe(replace(SMALL, geometry_first=2), footage())
    fresh.step(0)
    changed = {n.split(".")[0] for n, t in fresh.network.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"fuser", "landmark_layer"} and recipe.steps == 2 + SMALL.steps


def test_landmarks_first_may_be_of_other_speech(tmp_path, monkeypatch):
    """Whose pictures nobody has: the Fuser goes where the landmarks of that speech lead."""
    dataset.write(tmp_path / "hours", "announcers-6", 60, 5, 32, "none", workers=1)
    config = replace(SMALL, geometry_first=1, versions=2)
    recipe = AMNetRecipe(replace(config, heard=str(tmp_path / "hours")), footage())
    assert recipe.heard.frames.numel() == 0 and recipe.config["heard"] == "hours"
    told = recipe.step(0)["L_G"].detach()
    network = AMNetRecipe(config, footage()).network  # as it was before that step
    heard = Footage.load(tmp_path / "hours", versions=2, device="cpu", seed=config.seed, pictures=False)
    index, version = heard.draw_runs(heard.train, *amnet.RUNS, torchrun.generator(config.seed, 0))
    assert index.shape == version.shape == (512,) and set(index.tolist()) <= set(heard.train.tolist())
    with torch.no_grad():
        f_geo = network.fuser(heard.windows(index, version), heard.pose[index], heard.blink[index])
        landmarks = network.landmarks(f_geo)
    expected = 256 * (landmarks - heard.landmarks[index]).abs().mean()
    assert float(told) == pytest.approx(float(expected), rel=1e-5)
    assert {"L_C", "L_G"} <= set(recipe.step(1))  # pictures are those of the run
    with pytest.raises(InputError, match=r"heard: got .*hours, which the steps of --geometry-first hear"):
        AMNetRecipe(replace(SMALL, heard=str(tmp_path / "hours")), footage())


def test_overlapping_windows_are_heard_as_each_alone():
    data = footage()
    network = AMNetRecipe(SMALL, data).network
    index = torch.tensor([7, 8, 9, 30, 8, 59, 0])
    version = torch.tensor([0, 0, 0, 2, 1, 2, 1])
    windows, (mel, rows) = data.windows(index, version), data.overlapping(index, version)
    assert torch.equal(mel[rows], windows) and len(mel) < 32 * len(index)
    drive = data.pose[index], data.blink[index]
    expected, got = network.fuser(windows, *drive), network.fuser.overlapping(mel, rows, *drive)
    assert (got - expected).abs().max() < 1e-5
    network.fuser.zero_grad()
    gradients = [
        torch.autograd.grad(made.square().sum() + made[0, 0], list(network.fuser.parameters()))
        for made in (expected, got)
    ]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max() + 1e-7


def test_a_schedule_by_the_clock_ends_with_the_clock(tmp_path, monkeypatch):
    ticks = itertools.count(0.0, 0.25)  # every step takes a quarter of a second
    monkeypatch.setattr("edgetalk.train.amnet.recipe.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    recipe = AMNetRecipe(replace(SMALL, clock=1 / 60), footage())
    assert loop.train(recipe, tmp_path) == recipe.steps == 4
    rate = recipe.adam.param_groups[0]["lr"]
    assert rate == pytest.approx(0.5 * SMALL.lr)  # of the last step, three quarters through
    assert loop.train(AMNetRecipe(recipe.settings, footage()), tmp_path) == 4  # the same command again does no more


def test_a_schedule_by_the_clock_tells_its_end_from_the_steps_so_far(monkeypatch):
    ticks = itertools.count(0.0, 0.25)
    monkeypatch.setattr("edgetalk.train.amnet.recipe.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    recipe = AMNetRecipe(replace(SMALL, clock=2 / 60), footage())  # two seconds, a quarter for every step
    recipe.step(0)
    assert recipe.steps == 8


def test_a_checkpoint_keeps_the_pictures_of_few_trained_persons(tmp_path, monkeypatch):
    recipe = AMNetRecipe(SMALL, footage())
    trained = {recipe.footage.persons[n] for n in recipe.footage.person[recipe.footage.train].tolist()}
    for most, kept in ((60, len(trained)), (2, 2)):
        monkeypatch.setattr("edgetalk.train.amnet.recipe.KEPT", most)
        recipe.save_checkpoint(tmp_path / "a.safetensors")
        read = load_checkpoint(tmp_path / "a.safetensors")
        assert (len(read.sources), read.training["people"]) == (kept, len(trained))
        assert set(read.sources) <= trained
        assert set(read.persons) == (trained if kept == len(trained) else set())  # of many nobody is named
    assert len(trained) > 2


@pytest.mark.parametrize("lambdas", [(1.0, 100.0, 1.0), (3.0, 20.0, 40.0)])
def test_a_step_descends_equation_5(lambdas):
    """λ_G L_G + λ_C L_C + λ_Adv L_Adv, each written out; the discriminator's step comes first."""
    geometry, content, adversarial = lambdas
    config = replace(SMALL, mixed=False, mouth=3.0, eyes=7.0, squared=2.0)
    config = replace(config, geometry=geometry, content=content, adversarial=adversarial)
    recipe, other = AMNetRecipe(config, footage()), AMNetRecipe(config, footage())
    batch = other.footage.draw(other.footage.train, 2, torchrun.generator(config.seed, 0), config.neutral, config.rare)
    recipe.step(0)
    made, landmarks = other.network(batch.source, batch.mel, batch.pose, batch.blink)
    away = (made - batch.true).abs()
    weight = losses.region_weight(batch.landmarks, 32, mouth=3.0, eyes=7.0)
    total = content * ((away + 2.0 * away**2) * weight).mean()
    total = total + geometry * 256 * (landmarks - batch.landmarks).abs().mean()
    total = total + adversarial * ((recipe.critic.judge(made, batch.source) - 1) ** 2).mean()
    total.backward()
    for name, parameter in other.network.named_parameters():
        got = dict(recipe.network.named_parameters())[name].grad
        assert (got is None) == (parameter.grad is None), name
        if got is not None:
            torch.testing.assert_close(got, parameter.grad, rtol=1e-3, atol=1e-4 * float(parameter.grad.abs().max()))


def test_the_discriminator_joins_when_the_schedule_says():
    recipe = AMNetRecipe(replace(SMALL, adversarial_from=0.5), footage())
    joined = ["L_Adv" in recipe.step(number) for number in range(6)]
    assert joined == [False] * 3 + [True] * 3


def test_rare_pictures_are_drawn_as_often_as_the_schedule_says():
    blink = torch.zeros(60, 2)
    blink[7, 0] = 1.0  # the only wink, and the only eye that closes
    data = replace(footage(), blink=blink, landmarks=torch.full((60, 106, 2), 0.5))
    recipe, drawn = AMNetRecipe(replace(SMALL, rare=1.0, batch=8, adversarial=0.0), data), []
    generate = recipe._generate
    recipe._generate = lambda source, mel, pose, blink: drawn.append(blink) or generate(source, mel, pose, blink)
    for number in range(4):
        recipe.step(number)
    assert (torch.cat(drawn) == blink[7]).all(1).float().mean() > 0.9


def test_pictures_seen_are_those_of_steps_with_pictures(tmp_path):
    recipe = AMNetRecipe(replace(SMALL, geometry_first=3), footage())
    for step, seen in ((2, 0), (3, 0), (5, 4)):
        recipe.checkpoint(tmp_path, step)
        assert load_checkpoint(tmp_path / "amnet.safetensors").training["images_seen"] == seen


def test_a_checkpoint_is_read_by_whom_the_system_lets(tmp_path):
    (tmp_path / "plain").touch()
    AMNetRecipe(SMALL, footage()).save_checkpoint(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_train_writes_its_folder_and_stops_at_the_end(tmp_path):
    recipe = AMNetRecipe(SMALL, footage())
    told: list[str] = []
    assert loop.train(recipe, tmp_path / "run", show=told.append) == SMALL.steps == 6
    files = {"state.safetensors", "amnet.safetensors", "log.jsonl", "sheets", "index.html"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == files
    assert load_checkpoint(tmp_path / "run" / "amnet.safetensors").training["images_seen"] == 12
    page = (tmp_path / "run" / "index.html").read_text()
    assert (
        "step 6: source, truth, generated" in page
        and "L_C" in page
        and "data:image/jpeg;base64," in page
        and "http" not in page.replace("http://www.w3", "")
    )
    assert "step 6/6" in told[-2] and "held-out SSIM" in told[-1] and "held-out SSIM" in page
    (tmp_path / "run" / "amnet.safetensors").unlink()
    assert loop.train(AMNetRecipe(SMALL, footage()), tmp_path / "run") == 6  # nothing left to do
    assert load_checkpoint(tmp_path / "run" / "amnet.safetensors").training["images_seen"] == 12


def test_what_is_interrupted_leaves_a_checkpoint(tmp_path, capfd):
    recipe = AMNetRecipe(SMALL, footage())
    step = recipe.step

    def interrupted(number):
        if number == 1:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # which the step does not feel
        return step(number)

    recipe.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path)
    assert capfd.readouterr().err.count("ends after this step") == 1
    checkpoint = load_checkpoint(tmp_path / "amnet.safetensors")
    assert checkpoint.training["images_seen"] == 4 and not list((tmp_path / "sheets").iterdir())
    weights = {name: tensor.half().float() for name, tensor in recipe.averaged().state_dict().items()}
    torch.testing.assert_close(checkpoint.network.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [None, 1], ids=["the last save", "the save after an interrupted step"])
def test_a_signal_during_a_save_loses_nothing(tmp_path, monkeypatch, capfd, steps):
    """It comes while `state.safetensors.part` is there: both of what `timeout` sends, to the process and its group."""
    recipe, written = AMNetRecipe(SMALL, footage()), safetensors.torch.save
    step, came = recipe.step, []

    def interrupt():
        for _ in range(2):
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)

    def interrupted_save(*what):
        if (tmp_path / "state.safetensors.part").exists():
            came.append(what)
            interrupt()
        return written(*what)

    def interrupted_step(number):
        if steps and number == steps:
            interrupt()
        return step(number)

    monkeypatch.setattr(safetensors.torch, "save", interrupted_save)
    recipe.step = interrupted_step
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path, show=lambda _: None)
    reached = SMALL.steps if steps is None else steps + 1
    assert len(came) == 1 and capfd.readouterr().err.count("saves, then ends") == 1
    assert state.resume(AMNetRecipe(SMALL, footage()), tmp_path) == reached
    assert load_checkpoint(tmp_path / "amnet.safetensors").training["images_seen"] == 2 * reached
    assert (tmp_path / "index.html").exists() and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_interrupts_twice_does_not_wait_and_no_half_step_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "REPEAT", -1.0)  # however soon the second one comes, it is another
    recipe = AMNetRecipe(SMALL, footage())
    state.save(recipe, tmp_path, 0)
    before = (tmp_path / "state.safetensors").read_bytes()
    step = recipe.step

    def interrupted(number):
        step(number)
        for _ in range(2):
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        pytest.fail("the second one waits, too")

    recipe.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_sheet_tells_how_near_pictures_of_held_out_frames_are(tmp_path):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    recipe = AMNetRecipe(replace(SMALL, mixed=False), footage())
    recipe.step(0)
    told = recipe.sheet(tmp_path / "a.jpg")
    batch, network = recipe.footage.examples(amnet.HELD_OUT), recipe.averaged()
    assert set(batch.index.tolist()) <= set(recipe.footage.test.tolist()) and len(batch.index) == 48
    with torch.no_grad():
        made, landmarks = network(batch.source, batch.mel, batch.pose, batch.blink)
    options = dict(channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0)
    pairs = zip((made.numpy() + 1) / 2, (batch.true.numpy() + 1) / 2, strict=True)
    similar = [structural_similarity(a, b, **options) for a, b in pairs]
    away = np.linalg.norm(256 * (landmarks - batch.landmarks).numpy(), axis=-1).mean()
    assert told == pytest.approx({"held-out SSIM": np.mean(similar), "held-out landmarks px": away}, rel=1e-3)


def test_a_log_tells_each_step_once_after_a_kill(tmp_path):
    recipe = AMNetRecipe(SMALL, footage())
    state.save(recipe, tmp_path, 4)
    told = ['{"step": 2, "L_C": 0.5}', '{"step": 4, "L_C": 0.4}', '{"step": 5, "L_C": 0.9}', '{"step": 6, "L_']
    (tmp_path / "log.jsonl").write_text("\n".join(told))  # killed as it wrote the last line
    loop.train(recipe, tmp_path, show=lambda _: None)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    steps = [told["step"] for told in map(json.loads, lines) if "L_C" in told]  # every ten seconds, and the last
    assert lines[:2] == told[:2] and told[2] not in lines and steps == sorted(set(steps)) and steps[-1] == 6


def test_a_run_refuses_another_configuration(tmp_path):
    recipe = AMNetRecipe(SMALL, footage())
    recipe.step(0)
    state.save(recipe, tmp_path, 1)
    with pytest.raises(ModelError, match=r"another configuration \(lr 0.0002 → 0.1\); choose another folder with -o$"):
        loop.train(AMNetRecipe(replace(SMALL, lr=0.1), footage()), tmp_path)


def test_a_damaged_state_is_told_in_one_line(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match=r"is damaged \(.*\); delete it to start the run anew$"):
        loop.train(AMNetRecipe(SMALL, footage()), tmp_path)


@pytest.mark.parametrize("save_every", [0, 120])
def test_a_loss_that_is_no_number_stops_without_saving(tmp_path, save_every):
    recipe = AMNetRecipe(SMALL, footage())
    with torch.no_grad():
        recipe.network.landmark_layer.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="a loss is not a number"):
        loop.train(recipe, tmp_path, save_every=save_every)
    assert not (tmp_path / "state.safetensors").exists()


def test_weights_that_are_no_numbers_leave_what_was_saved_before(tmp_path):
    recipe = AMNetRecipe(SMALL, footage())
    state.save(recipe, tmp_path, 3)
    with torch.no_grad():
        recipe.average.slow[0].fill_(float("nan"))
    with pytest.raises(ModelError, match=r"average\.\S+ is not finite at step 4"):
        state.save(recipe, tmp_path, 4)
    assert state.resume(AMNetRecipe(SMALL, footage()), tmp_path) == 3


def test_a_disk_that_takes_no_more_is_told_in_one_line(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large: '.*state.safetensors'"):
            state.save(AMNetRecipe(SMALL, footage()), tmp_path, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_checkpoint_round_trip_and_half_precision(tmp_path):
    from safetensors.torch import load_file, save_file

    data = footage()
    data.pose[50] = 1.0  # of a held-out frame, which nothing is learnt from
    recipe = AMNetRecipe(SMALL, data)
    recipe.step(0)
    path = tmp_path / "amnet.safetensors"
    recipe.save_checkpoint(path, images_seen=2)
    checkpoint = load_checkpoint(path)
    assert checkpoint.persons == ("a", "b", "c") and checkpoint.size == 32 and checkpoint.audio == AudioSpec()
    assert np.allclose(checkpoint.training["limits"]["pose"], np.abs(footage().pose.numpy()[:45]).max(0), atol=5e-4)
    assert checkpoint.training["images_seen"] == 2 and checkpoint.sources["a"].shape == (32, 32, 3)
    weights = {name: tensor.half().float() for name, tensor in recipe.averaged().state_dict().items()}
    torch.testing.assert_close(checkpoint.network.state_dict(), weights, rtol=0, atol=0)
    (tmp_path / "wrong.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match="not a checkpoint of AMNet"):
        load_checkpoint(tmp_path / "wrong.safetensors")
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if "stem" not in k}, path)
    with pytest.raises(ModelError, match="not a checkpoint of AMNet"):  # its header is gone
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_run_starts_from_a_checkpoint_of_another_size(tmp_path):
    half = AMNetRecipe(SMALL, footage())
    half.step(0)
    half.save_checkpoint(tmp_path / "half.safetensors")
    whole = AMNetRecipe(replace(SMALL, size=64, start=str(tmp_path / "half.safetensors")), footage(size=64))
    expected = load_checkpoint(tmp_path / "half.safetensors").network.state_dict()
    torch.testing.assert_close(dict(whole.network.state_dict()), dict(expected))
    assert whole.config["start"] == "half.safetensors"  # a name, not somebody's path


def test_a_run_goes_on_with_the_weights_that_it_was_given_alone(tmp_path):
    """The name says little: every run calls its checkpoint the same."""
    made = [AMNetRecipe(replace(SMALL, seed=seed), footage()) for seed in (1, 2)]
    paths = [tmp_path / name / "amnet.safetensors" for name in ("one", "other")]
    for recipe, path in zip(made, paths, strict=True):
        path.parent.mkdir()
        recipe.save_checkpoint(path)

    def begun(start=0, teacher=0):
        return AMNetRecipe(replace(SMALL, start=str(paths[start]), teacher=str(paths[teacher])), footage())

    state.save(run := begun(), tmp_path, 2)
    made[0].save_checkpoint(paths[0], images_seen=9)  # the same weights, of which more is told
    assert state.resume(begun(), tmp_path) == 2
    for name in ("start", "teacher"):
        with pytest.raises(ModelError, match=f"another configuration .{name}_weights [0-9a-f]{{16}} → [0-9a-f]{{16}}"):
            state.resume(begun(**{name: 1}), tmp_path)
        del run.config[f"{name}_weights"]
    state.save(run, tmp_path, 3)  # as before they were noted
    assert state.resume(begun(), tmp_path) == 3


def test_windows_equal_those_of_the_runtime():
    data = footage()
    index = torch.tensor([0, 3, 44, 59])
    expected = windows(data.mel[0, 1:].float().numpy(), 60, data.spec, Fraction(20))  # 4 mel frames per video frame
    data.mel[:, 0] = -4  # row 0 is silence
    starts = np.floor(np.arange(60) * 4 - 23.4).astype(int)
    data.start = torch.from_numpy(starts)
    np.testing.assert_array_equal(data.windows(index).numpy(), expected[index.numpy()])


def test_drawn_sources_are_of_the_same_person():
    data = footage()
    for share, neutral in ((0.0, False), (1.0, True)):
        batch = data.draw(data.train, 64, torch.Generator().manual_seed(1), share)
        flat = data.pictures(torch.arange(60)).flatten(1)
        found = torch.cdist(batch.source.flatten(1), flat).argmin(1)
        assert torch.equal(data.person[found], data.person[batch.index])
        assert torch.isin(found, data.train).all()
        assert bool(torch.isin(found, data.neutral).all()) == neutral


def test_the_longest_clip_among_some_frames():
    data = footage()
    data.first = torch.arange(60) // 7 * 100  # clips of seven, the last of four
    assert data.longest_clip(torch.tensor([0, 1, 8, 14, 9, 16, 10])).tolist() == [8, 9, 10]


def test_rare_faces_are_drawn_as_often_as_asked():
    data = footage()
    data.blink = torch.zeros_like(data.blink)
    data.landmarks[:, 104, 1] = data.landmarks[:, 100, 1]
    data.blink[7], data.blink[50] = 1.0, 1.0  # 50 is held out
    data.blink[11, 1] = 1.0  # a wink, which closes half as much
    data.landmarks[9, 104, 1] += 0.1
    data.landmarks[20, 104, 1] += 0.05  # half as wide: drawn a quarter as often
    data.__post_init__()
    draw = lambda rare: data.draw_frames(data.train, 20_000, torch.Generator().manual_seed(3), rare)[0]  # noqa: E731
    counts = torch.bincount(draw(0.4), minlength=60)
    assert counts[45:].sum() == 0 and torch.equal(draw(0.4), draw(0.4))
    for frame, share in ((7, 2 / 9), (11, 1 / 9 + 1 / 3), (9, 0.8 / 3), (20, 0.2 / 3), (30, 0.0)):
        expected = 20_000 * (0.4 * share + 0.6 / 45)
        assert abs(int(counts[frame]) - expected) < 5 * expected**0.5
    assert torch.equal(draw(0.0), data.train[torch.randint(45, (20_000,), generator=torch.Generator().manual_seed(3))])


def test_the_rate_rises_anew_for_the_pictures_after_landmarks(monkeypatch):
    monkeypatch.setattr(amnet, "RUNS", (1, 4))
    config = replace(SMALL, adversarial=0.0, geometry_first=4, warm=2, images=8)  # four steps of each kind
    recipe, rates = AMNetRecipe(config, footage()), []
    for number in range(recipe.steps):
        recipe.step(number)
        assert recipe.adam.param_groups[0]["lr"] == recipe.critic_adam.param_groups[0]["lr"]
        rates.append(recipe.adam.param_groups[0]["lr"] / SMALL.lr)
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5] * 2)


def test_the_rate_rises_and_a_held_fuser_stays(tmp_path):
    calm = replace(SMALL, adversarial=0.0)
    first = AMNetRecipe(calm, footage())
    first.save_checkpoint(tmp_path / "start.safetensors")
    start = str(tmp_path / "start.safetensors")
    held = AMNetRecipe(replace(calm, start=start, fuser="hold", warm=4, images=40), footage())
    before = {name: tensor.clone() for name, tensor in held.network.state_dict().items()}
    rates = []
    for i in range(5):
        held.step(i)
        rates.append(held.adam.param_groups[0]["lr"] / SMALL.lr)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    changed = {n.split(".")[0] for n, t in held.network.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"reenactor"}
    state.save(held, tmp_path, 5)
    assert state.resume(AMNetRecipe(replace(held.settings), footage()), tmp_path) == 5


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("adversary", "hinge", "adversary: got 'hinge', expected one of lsgan, eq8$"),
        ("size", "250", "size: got 250, expected a multiple of 4, .*, of 32 or more"),
        ("size", "28", "size: got 28, expected a multiple of 4, .*, of 32 or more"),
        ("width", "0", "width: got 0, expected over 0 and at most 4"),
        ("batch", "0", "batch: got 0, expected 1 or more"),
        ("images", "0", "images: got 0, expected 1 or more"),
        ("versions", "0", "versions: got 0, expected 1 or more; change --versions$"),
        ("clock", "-1", "clock: got -1.0, expected 0 or more"),
        ("seed", "-1", "seed: got -1, expected 0 to 4294967295; change --seed$"),
        ("minutes", "nan", "minutes: got nan, expected more than 0; change --minutes$"),
        ("minutes", "-1", "minutes: got -1.0, expected more than 0; change --minutes$"),
        ("rare", "1.5", "rare: got 1.5, expected 0 to 1"),
        ("lr", "0", "lr: got 0.0, expected more than 0; change --lr"),
        ("variant", "amnet-5", "variant: got 'amnet-5', expected one of"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_the_data_is_read(tmp_path, option, value, told):
    parser = argparse.ArgumentParser()
    amnet.configure(parser)
    args = parser.parse_args(["--data", str(tmp_path / "none"), "-o", str(tmp_path / "run"), f"--{option}", value])
    with pytest.raises(InputError, match=told):
        amnet.run(args)
    lite = replace(SMALL, variant="amnet-lite", size=36)  # reduces by 8
    with pytest.raises(InputError, match="size: got 36, expected a multiple of 8"):
        AMNetRecipe(lite, footage())


def test_a_slice_too_short_for_a_step_names_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Footage, "load", lambda *_, **__: footage())
    parser = argparse.ArgumentParser()
    amnet.configure(parser)
    common = ["--data", "noise", "-o", str(tmp_path / "run"), "--size", "32", "--batch", "2", "--images", "2"]
    amnet.run(parser.parse_args([*common, "--minutes", "1e-12"]))
    told = f"{tmp_path / 'run'}: no step in 1e-12 minutes; give the same command with more --minutes\n"
    assert capsys.readouterr().out == told and not list((tmp_path / "run").glob("*.*"))
    amnet.run(parser.parse_args(common))
    made, page = tmp_path / "run" / "amnet.safetensors", tmp_path / "run" / "index.html"
    assert capsys.readouterr().out.endswith(f"{made}: 1 of 1 steps; see {page}\n") and made.exists() and page.exists()


@pytest.mark.parametrize("asked", [{"fuser": "hold"}, {"fuser": "drop"}])
def test_holding_a_fuser_wants_one(asked):
    with pytest.raises(InputError, match="fuser: got"):
        AMNetRecipe(replace(SMALL, **asked), footage())


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="needs AVX-512: without it bfloat16 takes minutes"
)
def test_bfloat16_leads_the_last_layers_where_float32_does():
    """Next to the right picture their gradients nearly cancel: a last convolution in bfloat16 had a cosine of 0.4.

    Of one picture it is anything near that, whatever is rounded; of the six persons' it tells.
    """
    checkpoint = load_checkpoint(CHECKPOINT)
    network, sources = checkpoint.network, torch.stack(list(checkpoint.sources.values()))  # as many as a step sees
    true, count = sources.permute(0, 3, 1, 2).float() / 127.5 - 1, len(sources)
    drive = torch.full((count, 32, 80), -4.0), torch.zeros(count, 3), torch.zeros(count, 2)
    gradients = []
    for fast in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            made, landmarks = network(true, *drive)
        assert made.dtype == landmarks.dtype == torch.float32
        losses.content_loss(made, true).backward()
        gradients.append([p.grad.flatten() for p in network.reenactor.header.parameters()])
    for exact, rough in zip(*gradients, strict=True):
        assert torch.cosine_similarity(exact, rough, 0) > 0.98  # 0.948 and 0.970 where the last ones are rounded


def test_least_squares_and_eq8_as_written():
    critic = PatchGAN()
    made, true = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    fake, real = critic(made), critic(true)
    expected = 0.5 * ((fake**2).mean() + ((real - 1) ** 2).mean())
    torch.testing.assert_close(losses.discriminator_loss("lsgan", critic, made, true, made), expected)
    torch.testing.assert_close(losses.adversarial_loss("lsgan", critic, made, made), ((fake - 1) ** 2).mean())
    torch.testing.assert_close(losses.discriminator_loss("eq8", critic, made, true, made), fake.mean() - real.mean())
    torch.testing.assert_close(losses.adversarial_loss("eq8", critic, made, made), -fake.mean())
    assert sum(isinstance(m, torch.nn.Conv2d) for m in critic.modules()) == 5  # §III: five convolution layers


def test_content_is_absolute_and_may_add_squares():
    made, true = torch.zeros(1, 3, 2, 2), torch.tensor([0.1, -0.2, 0.0, 0.5]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert losses.content_loss(made, true) == pytest.approx(0.2)
    assert losses.content_loss(made, true, squared=3.0) == pytest.approx(0.2 + 3 * 0.3 / 4)


def test_region_weight_stresses_mouth_and_eyes_and_keeps_the_mean():
    landmarks = torch.full((1, 106, 2), 0.5)
    for first, last, left, right, y in ((86, 106, 0.4, 0.6, 0.75), (66, 76, 0.25, 0.4, 0.4), (76, 86, 0.6, 0.75, 0.4)):
        landmarks[:, first:last, 0] = torch.linspace(left, right, last - first)
        landmarks[:, first:last, 1] = y
    weight = losses.region_weight(landmarks, 64, 4.0, 8.0)[0, 0]
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    assert weight[48, 32] / weight[5, 5] == pytest.approx(4.0, rel=0.02)
    assert weight[25, 20] / weight[5, 5] == pytest.approx(8.0, rel=0.02)
    assert weight[25, 43] == pytest.approx(float(weight[25, 20]), rel=0.02)
