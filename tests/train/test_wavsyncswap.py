"""WavSyncSwap: equations against naive forms, shapes and split, the baselines' sizes, and a run that resumes."""

import argparse
import json
import math
import os
import re
import runpy
import signal
import sys
import time
import warnings
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from edgetalk.errors import BackendError, InputError, ModelError
from edgetalk.train import loop, state, torchrun
from edgetalk.train.networks import arcface, simswap, store, syncnet, wav2lip
from edgetalk.train.networks.blocks import audio_encoder
from edgetalk.train.networks.wavsyncswap import AdaIn, Config, Discriminator, Filling, IdBlock, WavSyncSwap, seen
from edgetalk.train.swap import data as swap_data
from edgetalk.train.swap import judging
from edgetalk.train.swap import losses as swap_losses
from edgetalk.train.swap import recipe as swap_recipe
from edgetalk.train.swap import schedule as swap_schedule
from edgetalk.train.swap import simswap as simswap_recipe
from edgetalk.train.swap import wav2lip as wav2lip_recipe
from edgetalk.train.swap import wavsyncswap as whole_command


def count(network):
    return sum(p.numel() for p in network.parameters())


def inputs(batch, size):
    torch.manual_seed(0)
    return (
        torch.rand(batch, 3, size, size),
        torch.rand(batch, 3, size, size),
        torch.randn(batch, 512),
        torch.randn(batch, 16, 80),
    )


def test_adain_is_equation_2():
    torch.manual_seed(1)
    layer = AdaIn(6, 4, plain=2)
    f, v = torch.randn(3, 6, 5, 5) * 3 + 1, torch.randn(3, 4)
    got, style = layer(f, v), layer.style(v)
    for b in range(3):
        assert torch.equal(got[b, :2], f[b, :2])  # left alone
        for c in range(4):
            plane = f[b, 2 + c].detach().numpy().astype(np.float64)
            sigma, mu = float(style[b, c].detach()), float(style[b, 4 + c].detach())
            wanted = sigma * (plane - plane.mean()) / math.sqrt(plane.var() + 1e-5) + mu
            np.testing.assert_allclose(got[b, 2 + c].detach().numpy(), wanted, atol=1e-5)


def test_an_id_block_is_two_convolutions_with_adain_and_a_relu_between():
    torch.manual_seed(2)
    block = IdBlock(8, 4)
    f, v = torch.randn(2, 8, 6, 6), torch.randn(2, 4)
    inner = block.adain1(torch.nn.functional.conv2d(f, block.conv1.weight, block.conv1.bias, padding=1), v).clamp(min=0)
    inner = block.adain2(torch.nn.functional.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1), v)
    torch.testing.assert_close(block(f, v), f + inner)


def test_losses_are_equations_1_3_4_and_6():
    p = torch.tensor([0.9, 0.5, 0.2])
    assert float(swap_losses.sync_loss(p)) == pytest.approx(-sum(math.log(x) for x in (0.9, 0.5, 0.2)) / 3)
    assert float(swap_losses.sync_loss(p, logarithm=False)) == pytest.approx((0.1 + 0.5 + 0.8) / 3)
    a, b = torch.randn(4, 7), torch.randn(4, 7)
    cosines = [float(x @ y) / math.sqrt(float(x @ x) * float(y @ y)) for x, y in zip(a, b, strict=True)]
    assert float(swap_losses.identity_loss(a, b)) == pytest.approx(1 - sum(cosines) / 4, abs=1e-6)
    made, true = ([[torch.randn(2, c, 4, 4) for c in (3, 5, 7, 1)]] for _ in range(2))
    naive = sum(float((x - y).abs().sum()) / x.numel() for x, y in zip(made[0][1:3], true[0][1:3], strict=True))
    assert float(swap_losses.weak_feature_loss(made, true, 2)) == pytest.approx(naive, abs=1e-5)
    x, y = torch.rand(2, 3, 96, 96), torch.rand(2, 3, 96, 96)
    plain = swap_losses.mouth_weight(96, 1.0)
    assert float(swap_losses.pixel_loss(x, y, plain)) == pytest.approx(float((x - y).abs().mean()), abs=1e-6)
    stressed = swap_losses.mouth_weight(96, 4.0)
    assert float(stressed.mean()) == pytest.approx(1, abs=1e-5)
    assert float(stressed[0, 0, 64, 48] / stressed[0, 0, 10, 48]) == pytest.approx(4, rel=0.01)


def test_equation_4_is_a_mean_over_scales_of_sums_over_layers():
    """m = 3 of five outputs: layers 3 and 4 of each scale, and never the map of scores, which is the last."""
    made, true = ([[torch.randn(2, c, side, side) for c in (2, 3, 4, 5, 1)] for side in (8, 4)] for _ in range(2))
    total = 0.0
    for scale in range(2):
        for layer in (2, 3):
            a, b = (side[scale][layer].flatten().tolist() for side in (made, true))
            total += sum(abs(x - y) for x, y in zip(a, b, strict=True)) / len(a)
    assert float(swap_losses.weak_feature_loss(made, true, 3)) == pytest.approx(total / 2, rel=1e-5)


def test_the_gan_is_least_squares_on_the_maps_of_scores():
    made, true = ([[torch.randn(2, 3, 4, 4), torch.randn(2, 1, side, side)] for side in (5, 2)] for _ in range(2))
    fooled = caught = 0.0
    for scale in range(2):  # patches of a scale count alike, and so do scales
        a, b = (side[scale][-1].flatten().tolist() for side in (made, true))
        fooled += sum((x - 1) ** 2 for x in a) / len(a) / 2
        caught += 0.5 * (sum(x**2 for x in a) / len(a) + sum((y - 1) ** 2 for y in b) / len(b)) / 2
    assert float(swap_losses.adversarial_loss(made)) == pytest.approx(fooled, rel=1e-5)
    assert float(swap_losses.critic_loss(made, true)) == pytest.approx(caught, rel=1e-5)


@pytest.mark.parametrize(("size", "skips"), [(96, ()), (96, (64, 32, 16)), (192, (64, 32, 16, 8))])
def test_split_equals_whole_and_the_mask_hides_the_lower_half(size, skips):
    network = WavSyncSwap(Config(size, 0.125, skips=skips)).eval()
    target, reference, identity, mel = inputs(2, size)
    with torch.no_grad():
        face = network.prepare(target, reference, identity)
        whole = network(target, reference, identity, mel)
        assert face[0].shape == (2, 64, 12, 12) and len(face) == 1 + len(skips)
        assert torch.equal(network.step(face, mel), whole)
        assert whole.shape == target.shape and 0 <= float(whole.min()) and float(whole.max()) <= 1
        other = target.clone()
        other[:, :, size // 2 :] = 0.3
        assert torch.equal(network(other, reference, identity, mel), whole)
        assert not torch.equal(network.step(face, mel + 1), whole)


@pytest.mark.parametrize(("size", "skips"), [(96, (64, 32, 16)), (192, ())])
def test_a_matte_mixes_in_what_is_seen_of_the_target_alone(size, skips):
    """Pixel by pixel α p + (1 − α) t, where t is hidden in the lower half of an ellipse."""
    network = WavSyncSwap(Config(size, 0.125, skips=skips, hidden=(0.3, 0.4), matte=True)).eval()
    plain = WavSyncSwap(Config(size, 0.125, skips=skips, hidden=(0.3, 0.4))).eval()
    weights = {n: t[:3] if n.startswith("head.2") else t for n, t in network.state_dict().items()}
    del weights["stem.conv_block.0.weight"]  # of one channel more; features are those of `network` below
    plain.load_state_dict(weights, strict=False)
    target, reference, identity, mel = inputs(2, size)
    hidden = torch.zeros(size, size, dtype=torch.bool)
    for y in range(size):
        for x in range(size):
            down, across = (y + 0.5) / size - 0.5, (x + 0.5) / size - 0.5
            hidden[y, x] = down > 0 and math.hypot(down / 0.4, across / 0.3) < 1
    assert 0.18 < float(hidden.float().mean()) < 0.2  # half of π 0.3 · 0.4
    with torch.no_grad():
        face = network.prepare(target, reference, identity)
        kept = face[-1]
        assert torch.equal(kept[..., ~hidden], target[..., ~hidden]) and len(face) == 2 + len(skips)
        made, picture = network.step(face, mel), plain.step(face[:-1], mel)
        logits = []
        hook = network.head[-1].register_forward_hook(lambda *args: logits.append(args[-1][:, 3:]))
        assert torch.equal(network(target, reference, identity, mel), made)
        hook.remove()
        alpha = 1 - 1 / (1 + torch.exp(-logits[0]))
        torch.testing.assert_close(made, alpha * picture + (1 - alpha) * kept, atol=1e-6, rtol=0)
        assert alpha.unique().numel() > 1000 and float((made - picture).abs().mean()) > 0.01
        other = torch.where(hidden, 1 - target, target)
        assert torch.equal(network(other, reference, identity, mel), made)
        assert not torch.equal(network(torch.where(hidden, target, 1 - target), reference, identity, mel), made)


def test_what_is_hidden_is_filled_from_what_lies_around_the_face():
    """Each cell against its definition, written pixel by pixel; between the centres of cells it is linear."""
    size, cell = 96, 4
    visible = seen(size, (0.36, 0.42))
    fill = Filling(visible)
    target = torch.rand(1, 2, size, size)
    made = fill(target)
    axis = [(i + 0.5) / size - 0.5 for i in range(size)]
    around = [(y, x) for y in range(size) for x in range(size)
              if visible[y, x] and math.hypot(axis[x] / 0.28, axis[y] / 0.42) >= 1]  # fmt: skip

    def cell_mean(row: int, column: int) -> torch.Tensor:
        weights = [(4 * (y // cell - row) ** 2 + (x // cell - column) ** 2 + 0.1) ** -2 for y, x in around]
        return sum(w * target[0, :, y, x] for w, (y, x) in zip(weights, around, strict=True)) / sum(weights)

    for row, column in ((15, 11), (13, 5), (19, 13)):  # the four pixels in a cell's middle have its mean on average
        top, left = row * cell + 1, column * cell + 1
        assert not visible[top : top + 2, left : left + 2].any()
        corners = [cell_mean(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        weight = torch.tensor([a * b for a in (1, 14, 1) for b in (1, 14, 1)]) / 256  # bilinear, 1/8 off the centre
        wanted = sum(w * c for w, c in zip(weight, corners, strict=True))
        torch.testing.assert_close(made[0, :, top : top + 2, left : left + 2].mean((1, 2)), wanted, atol=1e-5, rtol=0)

    flat = torch.tensor([0.2, 0.9])[None, :, None, None].expand(1, 2, size, size)
    torch.testing.assert_close(fill(flat), flat.contiguous())
    inner = torch.tensor([[math.hypot(x / 0.28, y / 0.42) < 1 for x in axis] for y in axis])
    other = fill(torch.where(inner, 1 - target, target))  # another face under the same hair
    assert torch.equal(other, made)


def test_structure_is_what_scikit_image_measures():
    from skimage.metrics import structural_similarity

    made = torch.rand(2, 3, 24, 24)
    true = (made + 0.2 * torch.rand(2, 3, 24, 24)).clamp(0, 1)
    similar = [
        structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False)
        for a, b in zip(made, true, strict=True)
    ]  # fmt: skip
    assert float(swap_losses.structure_loss(made, true)) == pytest.approx(1 - sum(similar) / 2, abs=1e-4)


def test_painting_over_what_is_right_already_costs():
    share, kept = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8)
    true = kept + 0.04
    true[0, 1, 2, 5] += 0.02  # here and around it the target is wrong
    wrong = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    wrong[1, 0, :, :3] = True
    costs = 1 - share
    costs[0, 0, 1:4, 4:7] = 0
    costs[wrong] = 0
    assert float(swap_losses.keep_loss(share, kept, true, wrong)) == pytest.approx(float(costs.mean()), abs=1e-6)


def test_a_run_begins_with_a_checkpoint_of_the_same_arrangement(swaps, tmp_path):
    first = tiny(swaps, "default", singles=2, images=12)
    loop.train(first, tmp_path, show=lambda _: None)
    path = tmp_path / "wavsyncswap.safetensors"
    given, _ = store.load(path, "wavsyncswap")
    second = tiny(swaps, "default", begun=path, singles=2, images=12)
    old, new = given.state_dict(), second.network.state_dict()
    assert old.keys() == new.keys() and all(torch.equal(new[name], old[name]) for name in old)
    loop.train(second, tmp_path / "second", show=lambda _: None)
    assert store.load(tmp_path / "second" / "wavsyncswap.safetensors", "wavsyncswap")[1]["images"] == 24
    for other in ({"width": 0.25}, {"matte": False}):
        with pytest.raises(ModelError, match="has another width or arrangement"):
            tiny(swaps, "default", begun=path, singles=2, **other)
    network, older = WavSyncSwap(Config(width=0.125)), {"width": 0.125, "hidden": 0.42}  # a number, once
    store.save(tmp_path / "older.safetensors", "wavsyncswap", network, older)
    with pytest.raises(ModelError, match="older.safetensors holds a wavsyncswap arranged as no longer built .*again$"):
        store.load(tmp_path / "older.safetensors", "wavsyncswap")
    with pytest.raises(ModelError, match="expected 'simswap'"):
        tiny(swaps, "simswap", begun=path, singles=2)


def test_a_run_goes_on_with_the_checkpoint_that_it_began_with(swaps, tmp_path):
    """Its own would count the pictures of another one, or of none."""
    for name in ("a", "b"):
        network = WavSyncSwap(swap_schedule.arrangement(replace(swap_schedule.PRESETS["default"], width=0.125)))
        store.save(tmp_path / name, "wavsyncswap", network, network.config, images=7)
    run, other, alone = (
        tiny(swaps, "default", singles=2, begun=begun) for begun in (tmp_path / "a", tmp_path / "b", None)
    )
    state.save(run, tmp_path, 1)
    assert state.resume(run, tmp_path) == 1
    for recipe, told in ((other, "[0-9a-f]{16} → [0-9a-f]{16}"), (alone, "[0-9a-f]{16} → None")):
        with pytest.raises(ModelError, match=f"another configuration .begun_weights {told}.; choose another folder"):
            state.resume(recipe, tmp_path)
    del run.config["begun_weights"]  # a run from before they were noted
    state.save(run, tmp_path, 2)
    assert state.resume(other, tmp_path) == 2


def test_paper_arrangement_has_the_papers_shapes():
    network = WavSyncSwap(Config()).eval()
    assert len(network.audio_encoder) == 14 and len(network.id_blocks) == 9
    assert len(network.decoder) == 5 and network.decoder[0].conv_block[0].in_channels == 768
    mel = torch.zeros(1, 1, 80, 16)
    with torch.no_grad():
        audio = network.audio_encoder(mel)
        assert audio.shape == (1, 512, 1, 1) and network.audio_map(audio).shape == (1, 256, 12, 12)


def test_the_widths_that_the_text_leaves_open_are_fields():
    """Given as today's, as others, and in a number that no block is for."""
    told = {"encoder": (64, 128, 256, 512), "audio_encoder": (32, 64, 128, 256), "audio_map": (512, 256),
            "decoder": (384, 256, 192, 128, 64), "head": (48, 32)}  # fmt: skip
    assert Config(**told) == Config()
    other = {"audio_encoder": (16, 24, 40, 48), "audio_map": (72, 56)}
    network = WavSyncSwap(Config(width=1, encoder=(8, 8, 8, 512), id_blocks=0, **other)).eval()
    found = {len(t): t for t in network.audio_encoder.state_dict().values() if t.ndim == 4}
    assert {*found} == {*other["audio_encoder"], 512}
    with torch.no_grad():
        f_a, shapes = network.hear(torch.zeros(1, 16, 80)), []
        for block in network.audio_map:
            f_a = block(f_a)
            shapes.append(tuple(f_a.shape))
    assert shapes == [(1, 72, 3, 3), (1, 56, 6, 6), (1, 256, 12, 12)]
    for name, widths in told.items():
        with pytest.raises(InputError, match=f"^{name}: got {len(widths) - 1} numbers of channels, expected"):
            Config(**{name: widths[1:]})


def test_a_checkpoint_from_before_a_field_is_read(tmp_path):
    network = WavSyncSwap(Config(width=0.125)).eval()
    store.save(tmp_path / "older.safetensors", "wavsyncswap", network, {"width": 0.125, "skips": []})
    read, _ = store.load(tmp_path / "older.safetensors", "wavsyncswap")
    assert read.config == network.config and read.state_dict().keys() == network.state_dict().keys()


def test_what_is_seen_is_kept_once():
    network = WavSyncSwap(Config(width=0.125, matte=True))
    assert [name for name, _ in network.named_buffers() if name.endswith("seen")] == ["seen"]
    assert not any("seen" in name or "filling" in name for name in network.state_dict())


def test_the_arrangements_have_the_sizes_that_are_told():
    skips, ellipse = (64, 48, 32), (0.36, 0.42)
    assert count(WavSyncSwap(Config())) == 70_752_147  # preset `paper`
    assert count(WavSyncSwap(Config(skips=skips))) == 71_257_851
    matte = {"skips": skips, "hidden": ellipse, "matte": True}
    default = replace(swap_schedule.PRESETS["default"], width=1.0)
    assert (default.skips, default.hidden, default.matte) == tuple(matte.values())
    # One input channel of the stem's 64 7×7 kernels more, and one output of the last 3×3 convolution.
    assert count(WavSyncSwap(Config(**matte))) == 71_257_851 + 64 * 49 + 32 * 9 + 1 == 71_261_276
    assert count(WavSyncSwap(Config(size=192, **matte))) == 71_804_060
    assert count(WavSyncSwap(Config(width=0.25, **matte))) == 6_263_728


def test_eight_blocks_of_the_audio_encoder_have_a_shortcut():
    assert sum(block.residual for block in audio_encoder()) == 8 and len(audio_encoder()) == 14


@pytest.mark.parametrize("size", [128, 48, 0])
def test_a_size_without_strides_is_refused(size):
    with pytest.raises(InputError, match=f"size: got {size}, expected 96 or 192"):
        Config(size=size)


def test_baselines_have_their_published_sizes_and_split():
    published = wav2lip.Wav2Lip()
    assert count(published) == 36_298_035
    assert count(simswap.SimSwap()) == 55_051_779
    assert count(syncnet.SyncNet()) == 16_435_072
    assert "face_decoder_blocks.6.2.conv_block.1.running_var" in published.state_dict()
    small = wav2lip.Wav2Lip(0.125).eval()
    target, reference, identity, mel = inputs(2, 96)
    with torch.no_grad():
        assert torch.equal(small.step(small.prepare(target, reference), mel), small(target, reference, mel))
        assert simswap.SimSwap(0.125, deep=True)(target, identity).shape == target.shape


def test_discriminator_gives_features_of_each_layer_and_scale():
    out = Discriminator(8)(torch.rand(2, 3, 96, 96))
    assert [f.shape[1] for f in out[0]] == [8, 16, 32, 64, 1] and len(out) == 2


@pytest.fixture(scope="module")
def swaps(tmp_path_factory):
    """Random pictures in the files that drawing writes, and an extractor that has seen nothing."""
    folder = tmp_path_factory.mktemp("swaps")
    rng = np.random.default_rng(0)
    frames = swap_data.CLIP_FRAMES
    mel = rng.integers(0, 255, (3 * 200, 80)).astype(np.uint8)
    phones = np.array([(0.0, 1.0, "aa"), (1.0, 2.4, "mbp")] * 3, dtype="f4,f4,U4")
    np.savez(
        folder / "speech.npz",
        mel=mel,
        mel_counts=[200] * 3,
        phones=phones,
        phone_counts=[2] * 3,
        samples=[39800] * 3,
        split=["train", "train", "test"],
    )
    picture = lambda *shape: rng.integers(0, 255, (*shape, 96, 96, 3)).astype(np.uint8)  # noqa: E731
    np.savez(
        folder / "train-still-00000.npz",
        frames=picture(24),
        person=np.arange(24) // 12,
        parameters=np.zeros((24, 22), np.float32),
    )
    for n in range(3):
        np.savez(
            folder / f"train-clip-{n:05d}.npz",
            own=picture(frames),
            mouth=rng.random((frames, 7)).astype(np.float32),
            swap=picture(frames),
            meta=np.array([n % 2, 1 - n % 2, n % 2, 3, 0]),
        )
    extractor = arcface.ArcFace(arcface.Config(0.125, (1, 1, 1, 1)))
    store.save(folder / "identity-a.safetensors", "arcface", extractor, extractor.config, scores={"auc": 0.98})
    expert = syncnet.SyncNet(0.125)
    good = {"window_accuracy": 0.9, "offset_within_1": 1.0}
    store.save(folder / "sync-a.safetensors", "syncnet", expert, {"width": 0.125}, scores=good)
    return folder


BASELINES = {"wav2lip": (wav2lip_recipe.Wav2LipRecipe, wav2lip_recipe.PRESET),
             "simswap": (simswap_recipe.SimSwapRecipe, simswap_recipe.PRESET)}  # fmt: skip


def tiny(folder, preset, begun=None, **changed):
    torch.set_num_threads(1)
    kind, config = BASELINES.get(preset) or (swap_recipe.SwapRecipe, swap_schedule.PRESETS[preset])
    start = {"width": 0.125, "clips": min(config.clips, 2), "images": 36, "warm": 0.0, "adversary_from": 0.0}
    config = replace(config, **start | changed)
    data = swap_data.Swaps(folder, folder / "speech.npz", "cpu")
    return kind(config, data, folder, begun=begun)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_a_step_has_the_terms_of_equation_5(swaps, preset):
    recipe = tiny(swaps, preset, **({} if preset == "paper" else {"singles": 2}))
    same, swapped = set(recipe.step(0)), set(recipe.step(1))
    ours = {"structure", "shape", "keep"}
    assert same - ours == {"D", "L_L1", "L_Id", "L_Sync", "L_wFM", "L_Adv"}
    assert ours & same == (ours if preset == "default" else set())
    assert swapped == (same - {"L_L1"} if preset == "paper" else same)
    batch = recipe.draw(5)
    if preset == "paper":
        assert bool(batch.swapped.all())  # odd steps swap
    else:
        assert batch.swapped.float().mean() == 0.5
        rows = ~batch.swapped
        assert torch.equal(batch.true[rows], batch.target[rows])
        assert not torch.equal(batch.true[~rows], batch.target[~rows])
        assert not any(torch.equal(a, b) for a, b in zip(batch.target, batch.reference, strict=True))


def test_a_step_goes_down_the_weighted_sum_of_equation_5(swaps, monkeypatch):
    lambdas = {"pixel": 7.0, "structure": 0.8, "keep": 1.5, "shape": 2.5, "adversarial": 0.2, "feature": 0.9,
               "identity": 0.6, "sync": 0.4}  # fmt: skip
    recipe = tiny(swaps, "default", singles=2, images=1000, warm=0.35, adversary_from=0.4, **lambdas)
    monkeypatch.setattr(type(recipe), "progress", property(lambda _: 0.425))  # ¾ of the experts, ½ of the adversary
    descended = []
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: (descended.append(float(loss.detach())), backward(loss)))
    losses = {name: float(loss.detach()) for name, loss in recipe.step(0).items()}
    of_name = {"L_L1": 7.0, "structure": 0.8, "keep": 1.5, "shape": 2.5, "L_Adv": 0.5 * 0.2, "L_wFM": 0.5 * 0.9,
               "L_Id": 0.75 * 0.6, "L_Sync": 0.75 * 0.4}  # fmt: skip
    assert losses.keys() == of_name.keys() | {"D"}
    assert descended == pytest.approx([losses["D"], sum(of_name[name] * losses[name] for name in of_name)], rel=1e-5)
    assert recipe.lambdas(0.425, 0.75) == pytest.approx(of_name)
    assert swap_losses.weighted_sum({"D": torch.ones(())}, of_name).item() == 0


@pytest.mark.parametrize("family", BASELINES)
def test_the_baselines_have_their_own_losses(swaps, family):
    losses = {"wav2lip": {"D", "L_L1", "L_Sync", "L_Adv", "L_wFM"}, "simswap": {"D", "L_L1", "L_Id", "L_Adv", "L_wFM"}}
    recipe = tiny(swaps, family, singles=4)
    assert set(recipe.step(0)) == losses[family]
    batch = recipe.draw(1)
    assert bool(batch.swapped.any()) == (family == "simswap")
    made = recipe.make(recipe.averaged(), batch).frames
    assert made.shape == batch.true.shape


def test_a_warm_up_sees_single_frames_and_their_pixels_alone(swaps):
    recipe = tiny(swaps, "default", singles=4, warm=0.5, adversary_from=0.6)
    assert set(recipe.step(0)) == {"L_L1", "structure", "shape", "keep"} and len(recipe.draw(0).target) == 4
    recipe.clock[1] = 30  # of 36 pictures
    pixels = {"L_L1", "structure", "shape", "keep"}
    assert set(recipe.step(1)) == pixels | {"D", "L_Adv", "L_wFM", "L_Id", "L_Sync"}
    assert len(recipe.draw(1).target) == 4 + 2 * syncnet.FRAMES
    alternate = tiny(swaps, "paper", warm=0.5)
    assert not alternate.draw(1).swapped.any() and set(alternate.step(1)) >= {"L_L1"}  # a swap would have no loss


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"far": 30}, "far: got 30, expected 0 to 25, half of a clip's 50 frames at most; change --far"),
        ({"images": 0}, "images: got 0, expected 1 or more; change --images"),
        ({"feature_start": 6}, "feature_start: got 6, expected 1 to 4, a layer of the discriminator; "
                               "change --feature-start"),
        ({"feature_start": 0}, "feature_start: got 0, expected 1 to 4"),
        ({"singles": 0, "clips": 0}, "singles and clips: got 0 and 0, expected two pictures in every step"),
        ({"singles": 1}, "singles and clips: got 1 and 20"),  # the warm-up has no clips
        ({"singles": -1}, "singles: got -1, expected 0 or more"),
        ({"warm": math.nan}, "warm: got nan, expected 0 to 1"),
        ({"sync": -0.1}, "sync: got -0.1, expected 0 or more"),
        ({"width": 0.0}, "width: got 0.0, expected more than 0; change --width"),
        ({"seed": -1}, "seed: got -1, expected 0 to 4294967295; change --seed"),
    ],
)  # fmt: skip
def test_schedules_that_cannot_be_are_refused_before_any_file_is_read(tmp_path, changed, told):
    with pytest.raises(InputError, match=f"^{re.escape(told)}"):
        swap_schedule.checked(replace(swap_schedule.PRESETS["default"], **changed))
    options = [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    missing = ["--data", str(tmp_path), "--speech", str(tmp_path / "none.npz"), "--experts", str(tmp_path)]
    with pytest.raises(InputError, match=f"^{re.escape(told)}"):
        whole_command.main([*missing, *options, "-o", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "'skips'"),
        ("[]", "list indices"),
        ("no JSON", "Expecting value"),
        ('{"skips": [], "hidden": [], "lr": "fast"}', "lr is no float"),
        ('{"skips": [], "hidden": [], "clips": 2.5}', "clips is no int"),
        ('{"skips": ["a"], "hidden": []}', "invalid literal"),
        ('{"skips": [], "hidden": [], "rate": 1}', "unexpected keyword argument 'rate'"),
    ],
)
def test_settings_that_are_no_schedule_are_refused(tmp_path, text, told):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"config.json holds no schedule \(.*{told}.*\), expected JSON of its fields"):
        whole_command.main(["--settings", str(path), "--data", "none", "--experts", "none", "-o", str(tmp_path)])
    assert list(tmp_path.iterdir()) == [path]


def test_settings_are_the_schedule_that_was_written(tmp_path):
    for preset in swap_schedule.PRESETS.values():
        (tmp_path / "config.json").write_text(json.dumps(asdict(preset)))
        assert swap_schedule.read_schedule(tmp_path / "config.json") == preset


@pytest.mark.parametrize("told", ["nan", "inf", "-1.0"])
def test_a_time_to_end_at_that_never_comes_is_refused(tmp_path, told):
    missing = ["--data", str(tmp_path / "none"), "--experts", str(tmp_path / "none"), "-o", str(tmp_path / "run")]
    with pytest.raises(InputError, match=f"^until: got {told}, expected more than 0; change --until$"):
        whole_command.main([*missing, "--until", told])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", [*swap_schedule.PRESETS.values(), wav2lip_recipe.PRESET, simswap_recipe.PRESET])
def test_every_preset_can_be(preset):
    assert swap_schedule.checked(preset) == preset


def test_the_bounds_can_be(swaps):
    recipe = tiny(swaps, "default", singles=2, clips=0, far=25, feature_start=4)
    assert "L_wFM" in recipe.step(0)


@pytest.mark.parametrize("program", ["swap", "experts", "swap.wavsyncswap"])
def test_programs_tell_what_is_wrong_in_one_line(program, tmp_path, monkeypatch, capsys):
    """As python -m runs them, but in this process, which has imported PyTorch already."""
    (tmp_path / "speech.npz").write_bytes(b"PK no speech")
    words = {"swap": ["draw"], "experts": ["sync", "--seconds", "1"], "swap.wavsyncswap": ["--experts", str(tmp_path)]}
    data = [] if program == "swap" else ["--data", str(tmp_path)]
    files = ["--speech", str(tmp_path / "speech.npz"), "-o", str(tmp_path / "out.safetensors")]
    monkeypatch.setattr(sys, "argv", [program, *words[program], *data, *files])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("ignore")  # of a module that was imported before
        runpy.run_module(f"edgetalk.train.{program}", run_name="__main__", alter_sys=True)
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith(f"python -m edgetalk.train.{program}: {tmp_path}/speech.npz is no speech for swaps")


def killed(recipe, after):
    """Let the recipe be interrupted in the midst of step number `after` − 1, which it ends."""
    step = recipe.step

    def interrupted(number):
        if number == after - 1:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        return step(number)

    recipe.step = interrupted
    return recipe


def test_a_killed_run_goes_on_as_if_it_had_not_been(swaps, tmp_path):
    straight = tiny(swaps, "default", singles=2)
    loop.train(straight, tmp_path / "straight", show=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        loop.train(killed(tiny(swaps, "default", singles=2), 1), tmp_path / "halves", show=lambda _: None)
    assert store.load(tmp_path / "halves" / "wavsyncswap.safetensors", "wavsyncswap")[1]["images"] == 12
    assert not list((tmp_path / "halves" / "sheets").iterdir())
    again = tiny(swaps, "default", singles=2)
    assert loop.train(again, tmp_path / "halves", show=lambda _: None) == straight.steps == 3
    for name, tensor in straight.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[name], tensor, msg=name)
    network, record = store.load(tmp_path / "straight" / "wavsyncswap.safetensors", "wavsyncswap")
    assert record["images"] == 36 and network.config == straight.network_config
    assert "step 3: target, reference, truth, generated" in (tmp_path / "straight" / "index.html").read_text()
    longer = tiny(swaps, "default", singles=2, images=48)
    assert loop.train(longer, tmp_path / "halves", show=lambda _: None) == 4
    over = tiny(swaps, "default", singles=2, images=longer.settings.images)
    assert loop.train(over, tmp_path / "halves", show=lambda _: None) == 4  # the same command again does nothing more
    with pytest.raises(ModelError, match="expected 'arcface'"):
        store.load(tmp_path / "straight" / "wavsyncswap.safetensors", "arcface")


@pytest.mark.parametrize("made", [True, False])
def test_a_part_that_hears_nothing_is_killed_and_counts_by_what_it_made(tmp_path, monkeypatch, made):
    monkeypatch.setattr(whole_command, "GRACE", 0.2)
    ready = tmp_path / "ready"
    deaf = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(60)"
    checkpoint = ready if made else tmp_path / "checkpoint"
    part = whole_command.Part("generator", tmp_path, "timeit", "-n1", "-r1", deaf, made=checkpoint)
    while not ready.exists():
        time.sleep(0.05)
    assert part.wait(time.monotonic()) == made and part.process.returncode == -9


def test_a_part_that_runs_tells_the_last_line_of_its_log(tmp_path, monkeypatch, capsys):
    """Once each, and of a progress bar what it shows: carriage returns begin it anew."""
    monkeypatch.setattr(whole_command, "LOOK", 0.05)
    bar = r"import time; print('begun\n 1 %\r 50 %\r\n', end='', flush=True); time.sleep(1)"
    part = whole_command.Part("draw", tmp_path, "timeit", "-n1", "-r1", bar)
    assert part.wait(time.monotonic() + 60)
    *told, last = (line for line in capsys.readouterr().out.splitlines() if "per loop" not in line)  # timeit's end
    assert told == ["draw: 50 %"] and last.startswith("draw: status 0 after ")


def test_what_ends_the_command_ends_its_parts(tmp_path):
    part = whole_command.Part("draw", tmp_path, "timeit", "-n1", "-r1", "import time; time.sleep(60)")
    assert os.getpgid(part.process.pid) != os.getpgid(0), "a terminal's Ctrl-C would be a second signal"
    part.close()
    part.close()
    assert part.process.returncode == -signal.SIGTERM


def test_a_part_that_fails_of_itself_has_failed(tmp_path):
    part = whole_command.Part("draw", tmp_path, "timeit", "-n1", "-r1", "1/0", made=tmp_path)
    assert not part.wait(time.monotonic() + 60) and "ZeroDivisionError" in part.path.read_text()


@pytest.mark.parametrize("failing", [(), ("sync-b",), ("generator", "identity-b")])
def test_the_whole_command_names_the_logs_of_what_failed(swaps, tmp_path, monkeypatch, capsys, failing):
    started = []

    class Part:
        def __init__(self, name, logs, *arguments, made=None):
            self.name, self.path = name, logs / f"{name}.log"
            started.append(name)
            if name == "generator" and name not in failing:
                made.touch()

        def wait(self, until):
            return self.name not in failing

        def stop(self):
            started.append(f"stop of {self.name}")

        def close(self):
            started.append(f"end of {self.name}")

    monkeypatch.setattr(whole_command, "Part", Part)
    parser = argparse.ArgumentParser()
    whole_command.configure(parser)
    args = parser.parse_args(["--speech", str(swaps / "speech.npz"), "-o", str(tmp_path), "--minutes", "1"])
    (tmp_path / "config.json").write_text("of a run before")
    os.link(tmp_path / "config.json", tmp_path / "before")
    if failing:
        with pytest.raises(BackendError, match=f"{', '.join(failing)} failed.*{failing[-1]}.log"):
            whole_command.run(args)
        assert "wavsyncswap.json" not in capsys.readouterr().out
    else:
        whole_command.run(args)
    assert ("score" in started) == ("generator" not in failing)
    assert (tmp_path / "before").read_text() == "of a run before", "replaced when it is whole, not written into"
    assert swap_schedule.read_schedule(tmp_path / "config.json") == swap_schedule.PRESETS[args.preset]
    names = [name for name in started if " " not in name]
    first = [word for word in started if word.startswith("end")][0]
    assert {f"end of {name}" for name in names} <= set(started)
    told = started[: started.index(first)]
    assert {f"stop of {name}" for name in names} <= set(told), "all are told before one is waited for"
    with pytest.raises(SystemExit):
        parser.parse_args(["--speech", "s.npz", "-o", "run", "--images", "9"])  # the clock ends this one
    args.speech = tmp_path / "none.npz"
    with pytest.raises(FileNotFoundError):
        whole_command.run(args)


@pytest.mark.parametrize(("against", "told"), [(["L_Id"], ["L_Sync"]), ([], ["L_Id", "L_Sync"]), (None, []),
                                               (["L_Id", "L_Sync"], [])])  # fmt: skip
def test_the_whole_command_says_without_which_expert_it_was_trained(swaps, tmp_path, monkeypatch, against, told):
    network = WavSyncSwap(config := Config(width=0.125))

    class Part:
        def __init__(self, name, logs, *arguments, made=None):
            if name == "generator":
                store.save(made, "wavsyncswap", network, config, **({} if against is None else {"against": against}))

        def wait(self, until):
            return True

        def stop(self):
            pass

        close = stop

    monkeypatch.setattr(whole_command, "Part", Part)
    parser = argparse.ArgumentParser()
    whole_command.configure(parser)
    args = parser.parse_args(["--speech", str(swaps / "speech.npz"), "-o", str(tmp_path), "--minutes", "1"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole_command.run(args)
    words = [str(one.message) for one in caught]
    assert len(words) == len(told)
    for loss, line in zip(told, words, strict=True):
        expert = {"L_Id": "identity-a", "L_Sync": "sync-a"}[loss]
        assert f"was trained without {loss}, since {tmp_path}/experts/{expert}.safetensors was missing or below" in line


@pytest.mark.parametrize(
    ("option", "got", "told"),
    [
        ("--minutes", "nan", "minutes: got nan, expected more than 0"),
        ("--minutes", "0", "minutes: got 0.0, expected more than 0"),
        ("--draw", "1.5", "draw: got 1.5, expected 0 to 1"),
        ("--experts", "-0.1", "experts: got -0.1, expected 0 to 1"),
        ("--score", "nan", "score: got nan, expected 0 to 1"),
        ("--people", "1", "people: got 1, expected 2 or more"),
        ("--test-clips", "0", "test_clips: got 0, expected 1 or more"),
        ("--workers", "0", "workers: got 0, expected 1 or more"),
    ],
)
def test_the_whole_command_refuses_what_its_parts_could_not_do(tmp_path, option, got, told):
    parser = argparse.ArgumentParser()
    whole_command.configure(parser)
    args = parser.parse_args(["--speech", str(tmp_path / "none.npz"), "-o", str(tmp_path / "run"), option, got])
    with pytest.raises(InputError, match=f"^{told}; change {option}$"):
        whole_command.run(args)
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused(swaps, monkeypatch):
    monkeypatch.setattr(torchrun, "worker", lambda: (1, 2))
    with pytest.raises(InputError, match="torchrun: got 2 processes, expected one"):
        tiny(swaps, "default")


def test_experts_below_their_floor_give_no_loss_and_nothing_is_learnt_from_whom_they_saw(
    swaps, tmp_path, monkeypatch, capsys
):
    import shutil

    for path in swaps.iterdir():
        shutil.copy(path, tmp_path)
    network, _ = store.load(swaps / "sync-a.safetensors", "syncnet")
    terms = {"consent": "ada", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    weak = {"window_accuracy": 0.79, "offset_within_1": 1.0}
    record = {"scores": weak, "terms": terms}
    store.save(tmp_path / "sync-a.safetensors", "syncnet", network, {"width": 0.125}, **record)
    recipe = tiny(tmp_path, "default", singles=2)
    assert "L_Sync" not in recipe.step(0) and recipe.terms == {}
    recipe.checkpoint(tmp_path, 1)
    assert store.load(tmp_path / "wavsyncswap.safetensors", "wavsyncswap")[1]["against"] == ["L_Id"]
    capsys.readouterr()
    read, opened = [], store.load
    monkeypatch.setattr(store, "load", lambda path, family: read.append(path.name) or opened(path, family))
    for _ in range(2):
        assert recipe._expert("sync", "syncnet") is None  # as it is asked now and then
    assert read == [] and capsys.readouterr().out == ""
    weak["window_accuracy"] = 0.8
    store.save(tmp_path / "sync-a.safetensors", "syncnet", network, {"width": 0.125}, **record)
    os.utime(tmp_path / "sync-a.safetensors", ns=(1, 1))
    assert recipe._expert("sync", "syncnet") is not None and read == ["sync-a.safetensors"]
    recipe = tiny(tmp_path, "default", singles=2)
    assert recipe.terms == terms and recipe.against == ["L_Id", "L_Sync"]  # of whom it is trained against
    assert tiny(tmp_path, "default", singles=2, sync=0.0).against == ["L_Id"]
    (tmp_path / "identity-a.safetensors").unlink()
    with pytest.raises(InputError, match="identity-a"):
        tiny(tmp_path, "default", singles=2)
    assert judging.good_enough("identity", {"auc": 0.971}) and not judging.good_enough("identity", {})
