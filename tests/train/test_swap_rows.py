"""What a step of the swap family is given: in numbered clips each picture, sound and mouth tells its clip and frame."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgetalk.errors import InputError
from edgetalk.train import state
from edgetalk.train.networks import arcface, store, syncnet
from edgetalk.train.swap import recipe as swap_recipe
from edgetalk.train.swap import schedule as swap_schedule
from edgetalk.train.swap import simswap, wav2lip
from edgetalk.train.swap.data import CLIP_FRAMES, SIZE, Swaps

CLIPS = 3
SHOWN, SOURCE = (0, 1, 2), (1, 2, 0)
"""Of each clip the person, and whose face replaces him."""
STILLS = 12
"""Of each person."""
OWN, SWAP = 0, 1
HEARD = 500
"""What the sync expert hears is numbered from here on."""


def numbered(kind):
    """Flat pictures of clip, frame and kind as red, green and blue, (CLIPS, CLIP_FRAMES, SIZE, SIZE, 3)."""
    colours = np.array([[(clip, frame, kind) for frame in range(CLIP_FRAMES)] for clip in range(CLIPS)], np.uint8)
    return np.broadcast_to(colours[:, :, None, None], (CLIPS, CLIP_FRAMES, SIZE, SIZE, 3))


def told(picture):
    """Clip, frame and kind of a numbered picture (3, SIZE, SIZE)."""
    assert (picture == picture[:, :1, :1]).all()
    return tuple((255 * picture[:, 0, 0]).round().int().tolist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The clips as files, and experts that have seen nothing and say that they are good."""
    folder = tmp_path_factory.mktemp("numbered")
    np.savez(folder / "speech.npz", mel=np.zeros((200, 80), np.uint8), mel_counts=[200], phone_counts=[1],
             phones=np.array([(0.0, 1.0, "aa")], "f4,f4,U4"), samples=[39800], split=["train"])  # fmt: skip
    people = np.arange(CLIPS * STILLS) // STILLS
    np.savez(folder / "train-still-00000.npz", frames=np.zeros((len(people), SIZE, SIZE, 3), np.uint8), person=people,
             parameters=np.zeros((len(people), 22), np.float32))  # fmt: skip
    own, swap = numbered(OWN), numbered(SWAP)
    for n in range(CLIPS):
        mouth = np.repeat(CLIP_FRAMES * n + np.arange(CLIP_FRAMES, dtype=np.float32)[:, None], 7, 1)
        np.savez(folder / f"train-clip-{n:05d}.npz", own=own[n], swap=swap[n], mouth=mouth,
                 meta=np.array([SHOWN[n], SOURCE[n], 0, 0, 0]))  # fmt: skip
    extractor = arcface.ArcFace(arcface.Config(0.0625, (1, 1, 1, 1)))
    store.save(folder / "identity-a.safetensors", "arcface", extractor, extractor.config, scores={"auc": 0.98})
    good = {"window_accuracy": 0.9, "offset_within_1": 1.0}
    store.save(folder / "sync-a.safetensors", "syncnet", syncnet.SyncNet(0.0625), {"width": 0.0625}, scores=good)
    return folder


@pytest.mark.parametrize("name", ["train-clip-00000.npz", "train-still-00000.npz"])
def test_a_damaged_file_of_a_set_is_told_in_one_line(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    whole = (folder / name).read_bytes()
    for text in (b"PK", whole[: len(whole) // 2], b""):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(InputError, match=f"{name} is damaged; remove it and draw it again, or make"):
            Swaps(tmp_path, tmp_path / "speech.npz", "cpu")


def test_the_digest_of_a_drawn_set_is_that_of_its_sentences(folder):
    sha = hashlib.sha256((folder / "speech.npz").read_bytes()).hexdigest()
    assert Swaps(folder, folder / "speech.npz", "cpu").digest == sha[:16]


def test_a_run_goes_on_with_its_clips_in_the_order_in_which_they_came(folder, tmp_path):
    torch.set_num_threads(1)
    shutil.copytree(folder, tmp_path / "set")
    path = lambda number: tmp_path / "set" / f"train-clip-{number:05d}.npz"  # noqa: E731
    config = replace(swap_schedule.PRESETS["default"], width=0.0625, clips=2, singles=4, warm=0.0)

    def begun():
        data = swap_recipe.open_swaps(tmp_path / "set", folder / "speech.npz", config.clips, tmp_path)
        return swap_recipe.SwapRecipe(config, data, folder)

    path(0).rename(tmp_path / "late")
    shutil.copy(path(1), path(3))
    shutil.copy(path(1), path(4))
    recipe = begun()
    (tmp_path / "late").rename(path(0))
    assert recipe.data.refresh() == 1
    shutil.copy(path(2), path(5))  # comes after the state was saved
    state.save(recipe, tmp_path, 1)
    again = begun()
    assert state.resume(again, tmp_path) == 1 and again.data.clips == 5
    batches = [(torch.manual_seed(0), goes_on.draw(1))[1] for goes_on in (recipe, again)]
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))
    assert [told(clip[0].permute(2, 0, 1) / 255)[0] for clip in again.data["clip_own"]] == [1, 2, 1, 1, 0]
    assert again.data.refresh() == 1
    path(5).unlink()
    path(0).unlink()
    with pytest.raises(InputError, match=f"got no {path(0).name}, expected all 6 files of the run in {tmp_path}; give"):
        begun()
    recipe.data.ordered = False  # a run from before they were kept
    state.save(recipe, tmp_path, 2)
    shutil.copy(path(2), path(0))
    assert state.resume(again := begun(), tmp_path) == 2 and list(again.data.seen)[1] == path(0).name


@pytest.fixture
def tiny(folder, monkeypatch):
    """Make a recipe whose sounds and identity vectors are numbers, too."""
    torch.set_num_threads(1)
    monkeypatch.setattr(swap_recipe, "louder", lambda mel: mel)

    def make(preset="default", **changed):
        config = swap_schedule.PRESETS[preset]
        start = {"width": 0.0625, "clips": 2, "singles": min(config.singles, 6), "warm": 0.0, "adversary_from": 0.0}
        data = Swaps(folder, folder / "speech.npz", "cpu")
        number = torch.arange(CLIPS * CLIP_FRAMES).view(CLIPS, CLIP_FRAMES, 1, 1).half().expand(-1, -1, 16, 80)
        data.arrays |= {"clip_mel": [number], "clip_sync": [HEARD + number]}
        recipe = swap_recipe.SwapRecipe(replace(config, **start | changed), data, folder)
        recipe.vectors = torch.arange(float(CLIPS * STILLS))[:, None].expand(-1, 512)
        return recipe

    return make


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_row_is_one_moment_of_one_clip(tiny, preset):
    recipe = tiny(preset)
    singles, five, seen = recipe.settings.singles, syncnet.FRAMES, set()
    for number in range(4):
        batch = recipe.draw(number)
        assert len(batch.target) == singles + 2 * five and len(batch.sync) == 2
        moments = []
        for row, swapped in enumerate(batch.swapped.tolist()):
            clip, frame, kind = told(batch.target[row])
            moment = CLIP_FRAMES * clip + frame
            moments.append((clip, frame))
            assert kind == OWN and told(batch.true[row]) == (clip, frame, SWAP if swapped else OWN)
            assert batch.mel[row].unique().tolist() == batch.mouth[row].unique().tolist() == [moment]
            clip_of, at, kind = told(batch.reference[row])
            assert (clip_of, kind) == (clip, OWN)
            assert recipe.settings.far <= (at - frame) % CLIP_FRAMES <= CLIP_FRAMES - recipe.settings.far
            [still] = batch.identity[row].unique().tolist()
            assert still // STILLS == (SOURCE if swapped else SHOWN)[clip]
            seen.add(swapped)
        for row, heard in zip(range(singles, len(moments), five), batch.sync, strict=True):
            clip, first = moments[row]
            assert moments[row : row + five] == [(clip, first + k) for k in range(five)]
            assert heard.unique().tolist() == [HEARD + CLIP_FRAMES * clip + first]
    assert seen == {False, True}


def test_the_sync_expert_judges_the_five_frames_with_their_sound(tiny):
    recipe, given = tiny(), []
    recipe.sync_expert = lambda *seen_and_heard: given.append(seen_and_heard) or torch.full((2,), 0.25)
    recipe.identity_expert, losses = None, {}
    batch = recipe.draw(3)
    recipe._consult(batch.true, batch, 1.0, losses)
    [(spoken, sounds)] = given
    for clip, sound in zip(spoken, sounds, strict=True):
        moments = [CLIP_FRAMES * told(picture)[0] + told(picture)[1] for picture in clip]
        assert moments == [int(sound.unique()) - HEARD + k for k in range(syncnet.FRAMES)]
    assert losses.keys() == {"L_Sync"} and float(losses["L_Sync"]) == 0.75


@pytest.mark.parametrize("truth", [True, False])
def test_the_discriminator_opposes_what_is_made_to_what_is_true(tiny, truth):
    class Critic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.given = torch.nn.Parameter(torch.ones(())), []

        def forward(self, pictures):
            self.given.append(pictures.detach())
            return [[self.weight * pictures] * 5]

    recipe = tiny(truth=truth)
    recipe.critic, losses = Critic(), {}
    batch = recipe.draw(1)
    made = batch.reference.clone().requires_grad_()
    recipe._oppose(made, batch, 0.5, losses)
    assert len(recipe.critic.given) == 4 and losses.keys() == {"D", "L_Adv", "L_wFM"}
    for pictures in recipe.critic.given[::2]:
        assert torch.equal(pictures, made)
    for pictures in recipe.critic.given[1::2]:
        for picture, target, swapped in zip(pictures, batch.target, batch.swapped.tolist(), strict=True):
            kind = SWAP if swapped and truth else OWN  # what nobody has drawn is opposed to any true face
            assert told(picture) == (*told(target)[:2], kind)
    assert batch.swapped.any() and not batch.swapped.all()
    assert made.grad is None, "the discriminator's own step is none of the generator's"


@pytest.mark.parametrize("truth", [True, False])
def test_of_a_target_that_keeps_its_face_what_is_seen_may_be_painted_over(tiny, truth):
    """Here the filled target is right in every pixel of the rows that keep their faces, and in none of the others."""
    recipe, losses = tiny(truth=truth), {}
    batch = recipe.draw(1)
    kept = torch.where(batch.swapped[:, None, None, None], 1 - batch.true, batch.target)
    recipe._compare(swap_recipe.Made(batch.true, None, torch.zeros(len(kept), 1, SIZE, SIZE), kept), batch, losses)
    hidden = float((recipe.network.seen == 0).float().mean())
    assert float(losses["keep"]) == pytest.approx(float((~batch.swapped).float().mean()) * hidden)
    if truth:  # and the other way round: a swap's truth is known everywhere
        kept = torch.where(batch.swapped[:, None, None, None], batch.true, 1 - batch.true)
        recipe._compare(swap_recipe.Made(batch.true, None, torch.zeros(len(kept), 1, SIZE, SIZE), kept), batch, losses)
        assert float(losses["keep"]) == pytest.approx(float(batch.swapped.float().mean()))


def test_generator_and_discriminator_have_rates_of_their_own(tiny):
    recipe = tiny(lr=4e-4, critic_lr=1e-4)
    for number, progress, share in ((49, 0.5, 0.5), (200, 0.3, 1.0), (200, 0.75, 0.51), (200, 1.0, 0.02)):
        recipe._set_rates(number, progress)
        rates = [adam.param_groups[0]["lr"] for adam in (recipe.adam, recipe.critic_adam)]
        assert rates == pytest.approx([share * 4e-4, share * 1e-4])


def test_each_network_is_given_its_inputs(tiny):
    recipe = tiny()
    batch = recipe.draw(1)
    network = recipe.network.eval()
    with torch.no_grad():
        whole = network(batch.target, batch.reference, batch.identity, batch.mel)
        assert torch.equal(recipe.make(network, batch).frames, whole)
    given = lambda *inputs: inputs  # noqa: E731
    assert simswap.SimSwapRecipe.make(None, given, batch).frames == (batch.target, batch.identity)
    assert wav2lip.Wav2LipRecipe.make(None, given, batch).frames == (batch.target, batch.reference, batch.mel)
