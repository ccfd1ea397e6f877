"""Films of drawn announcers become the set that WavSyncSwap is trained on: clips, division, crops, sound and steps."""

import argparse
import json
import os
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgetalk import cli
from edgetalk.errors import InputError, ModelError
from edgetalk.face import Face, write_track
from edgetalk.mel import log_mel, windows
from edgetalk.train import state
from edgetalk.train.amnet import dataset
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.camera import FACE
from edgetalk.train.announcers.speech import levelled
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.experts import command as experts
from edgetalk.train.filmed.films import Frame
from edgetalk.train.networks import arcface, store, syncnet, wavsyncswap
from edgetalk.train.swap import command as swap_command
from edgetalk.train.swap import data as swap_data
from edgetalk.train.swap import films as swap_films
from edgetalk.train.swap import recipe as swap_recipe
from edgetalk.train.swap import schedule as swap_schedule
from edgetalk.train.swap import scores as swap_scores
from edgetalk.train.swap import simswap as simswap_recipe
from edgetalk.train.swap import split as swap_split
from edgetalk.train.swap import wav2lip as wav2lip_recipe
from edgetalk.train.swap import wavsyncswap as whole_command
from edgetalk.train.swap.crops import tracked
from edgetalk.train.swap.data import CLIP_FRAMES, FPS, Swaps
from edgetalk.train.swap.scene import exact
from edgetalk.train.terms import Terms
from edgetalk.writer import Writer

SIDE = 256
LENGTHS = {"ada": 115, "dan": 3 * CLIP_FRAMES, "finn": 2 * CLIP_FRAMES + 10}
"""Frames of each film; the first of them has nobody in its frames 3 to 9, the last is in a folder of its own."""
TERMS = ["--consent", "drawn, nobody", "--use", "non-commercial"]
POSES = [Controls(SHAPES[name], np.array([yaw, 0.03, 0.02]))
         for name, yaw in (("aa", -0.1), ("mbp", 0.0), ("ow", 0.1), ("iy", 0.15))]  # fmt: skip


def pcm(name):
    """Noise whose level changes all the time, so that any two moments differ."""
    rng = np.random.default_rng(len(name))
    level = np.repeat(rng.uniform(0.05, 0.4, LENGTHS[name]), 640)
    return (level * rng.normal(0, 0.3, len(level))).astype(np.float32)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Films with exact tracks beside them, and the set that is made of them."""
    folder = tmp_path_factory.mktemp("filmed")
    for name, count in LENGTHS.items():
        path = folder / "films" / name / "one.mp4" if name == "finn" else folder / "films" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        announcer = Announcer(CAST[name], SIDE)
        drawn = [announcer.draw(pose) for pose in POSES]
        seen = [exact(announcer.landmarks(pose), pose.pose, pose.blink, SIDE) for pose in POSES]
        with Writer(path, (SIDE, SIDE), Fraction(25), pcm(name), crf=8) as writer:
            for i in range(count):
                writer.write(drawn[i % len(POSES)])
        faces = [None if name == "ada" and 3 <= i < 10 else seen[i % len(POSES)] for i in range(count)]
        write_track(path.with_name(f"{path.stem}.track.npz"), faces, Fraction(25))
    swap_command.main(["filmed", str(folder / "films"), "-o", str(folder / "set"), "--workers", "1", *TERMS])
    return folder


def frame(at=0.0, scene=0, side=100.0, there=True):
    points = np.array([(0.35, 0.34), (0.65, 0.34), (0.5, 0.49), (0.4, 0.63), (0.6, 0.63)]) * side + at
    face = Face(np.array([at, at, at + side, at + side]), points, 1.0, None, np.zeros(3), np.zeros(2))
    return Frame(None, face if there else None, scene)


def test_a_clip_is_one_face_without_a_gap_a_cut_or_a_jump_while_there_is_sound():
    film = [frame()] * 30 + [frame(there=False)] + [frame()] * (CLIP_FRAMES + 5)  # 31 …
    film += [frame(scene=1)] * (2 * CLIP_FRAMES + 1)  # 86 …, 136 …
    film += [frame(at=60, scene=1)] * CLIP_FRAMES  # 187 …
    film += [frame(side=40, scene=2)] * CLIP_FRAMES  # too small
    film += [frame(scene=3)] * CLIP_FRAMES  # 287 …
    assert swap_films.clips(iter(film), 1000) == [31, 86, 136, 187, 287]
    assert swap_films.clips(iter(film), 336) == [31, 86, 136, 187]
    drift = [frame(at=0.25 * 100 * i) for i in range(CLIP_FRAMES)]
    assert swap_films.clips(iter(drift), 1000) == [0]  # fast, and no jump


@pytest.mark.parametrize("seed", range(6))
def test_division_is_that_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 40, 120).tolist()
    use = swap_split.divided(counts, seed)
    assert [len(one) for one in use] == counts
    total = {split: sum(one.count(split) for one in use) for split in ("train", "valid", "test")}
    assert total["train"] / total["test"] == pytest.approx(9, rel=0.02)  # 9:1
    unseen = [one for one in use if "train" not in one]
    assert sum(one.count("test") for one in unseen) == total["test"] / 2
    assert total["valid"] and all("valid" not in one for one in use if "train" in one)
    tested = [one for one in use if "test" in one]
    assert 0.3 < sum("train" not in one for one in tested) / len(tested) < 0.7  # of the persons about half, too
    assert all(one == sorted(one, key=("train", "test", "valid").index) for one in use)  # no test between two others
    assert use == swap_split.divided(counts, seed) != swap_split.divided(counts, seed + 1)


@pytest.mark.parametrize("counts", [[2, 2, 1], [1, 30, 2], [3, 3, 3, 3], [1, 1, 1, 1, 2], [500, 2, 2], [1, 2, 500]])
def test_small_sets_have_all_that_is_needed(counts):
    for seed in range(8):
        use = swap_split.divided(counts, seed)
        known = [one for one in use if "train" in one]
        assert len(known) >= 2 and any("test" in one for one in known)
        assert any("test" in one and "train" not in one for one in use) and any("valid" in one for one in use)


@pytest.mark.parametrize(("counts", "told"), [([9, 9], "got 2 persons, expected 3"), ([], "got 0 persons"),
                                              ([1, 1, 1, 1], "got 4 clips of 4 persons, expected two"),
                                              ([2, 1, 1], "got 4 clips of 3 persons, expected two")])  # fmt: skip
def test_too_few_are_refused(counts, told):
    with pytest.raises(InputError, match=told):
        swap_split.divided(counts, 0)


@pytest.mark.parametrize("persons", [[0, 1], [4, 4, 4, 0, 1, 2], [0, 0, 1, 1], [0, 1, 2, 0, 1, 3, 0, 2]])
def test_pairs_are_of_two_persons_and_use_each_source_once(persons):
    for seed in range(10):
        pairs = swap_split.pairs(persons, seed)
        assert sorted(source for source, _ in pairs) == list(range(len(persons)))
        assert all(persons[source] != persons[clip] for clip, (source, _) in enumerate(pairs))
        assert all(other != clip for clip, (_, other) in enumerate(pairs))
    assert len(persons) < 4 or len({tuple(swap_split.pairs(persons, seed)) for seed in range(10)}) > 1


def test_the_numbers_of_a_plan_are_those_of_the_clips_that_are_meant():
    starts = [[(film, 80 * n) for film in range(2) for n in range(3 + p)] for p in range(12)]  # 1.2 s apart
    for seed in range(3):
        planned = swap_films._planned(starts, seed)
        assert [[(clip.film, clip.start) for clip in own] for own in planned] == starts
        every = [clip for own in planned for clip in own]
        for split in swap_films.SPLITS:
            numbers = sorted(clip.number for clip in every if clip.split == split)
            assert numbers == list(range(len(numbers)))
        trained = {own[0].meta[0] for own in planned if "train" in {clip.split for clip in own}}
        assert trained == set(range(len(trained)))
        test = {clip.number: clip for clip in every if clip.split == "test"}
        for number, own in enumerate(planned):
            for clip in own:
                who, face, source, start, other = clip.meta
                assert (who, start) == (own[0].meta[0], clip.start)
                if clip.split == "test":
                    assert face == test[source].meta[0] != who and other in test and other != clip.number, number
                else:
                    assert {face, source, other} == {swap_films.NOBODY}
        assert any(test[clip.meta[4]].meta[0] != clip.meta[1] for clip in test.values()), "face and sound of two"


@pytest.mark.parametrize("every", [CLIP_FRAMES, CLIP_FRAMES + 24])
def test_a_clip_is_left_out_between_training_and_tests(every):
    """Frames that follow each other look alike: a second at least lies between, wherever clips are enough for it."""
    rng = np.random.default_rng(every)
    counts = rng.integers(2, 40, 60).tolist()
    starts = [[(0, every * n) for n in range(count)] for count in counts]
    planned = swap_films._planned(starts, 0)
    kinds = [[clip.split for clip in own] for own in planned]
    both = [number for number, own in enumerate(kinds) if {"train", "test"} <= set(own)]
    assert both and sum(map(len, starts)) - sum(map(len, planned)) <= len(both)
    for number, own in enumerate(planned):
        trained = [clip.start + CLIP_FRAMES for clip in own if clip.split == "train"]
        tested = [clip.start for clip in own if clip.split == "test"]
        gone = counts[number] - len(own)
        assert gone == (number in both and not (len(trained) == 1 and tested[0] == every)), counts[number]
        assert number not in both or gone == 0 or min(tested) - max(trained) >= 25
    total = {split: sum(own.count(split) for own in kinds) for split in ("train", "test")}
    assert total["train"] / total["test"] == pytest.approx(9, rel=0.02)


def test_nothing_is_left_out_where_a_film_ends_or_nothing_else_is_to_train_on():
    told = swap_split.kept_apart
    assert told(["train", "train", "test"], [(0, 0), (0, 50), (0, 100)]) == ["train", "left out", "test"]
    assert told(["train", "train", "test"], [(0, 0), (0, 50), (1, 100)]) == ["train", "train", "test"]
    assert told(["train", "train", "test"], [(0, 0), (0, 50), (0, 125)]) == ["train", "train", "test"]
    assert told(["train", "test", "test"], [(0, 0), (0, 50), (0, 100)]) == ["train", "test", "test"]
    assert told(["test", "test", "valid"], [(0, 0), (0, 50), (0, 100)]) == ["test", "test", "valid"]
    assert told(["train", "train"], [(0, 0), (0, 50)]) == ["train", "train"]


def clip_of(folder, name, split, row=0):
    """The clip of that row of a person's in a split, and who he is."""
    record = json.loads((folder / "films.json").read_text())
    number = record["people"][name]["number"]
    data = Swaps(folder, None, "cpu", split)
    rows = np.flatnonzero(data["clip_meta"][:, 0].numpy() == number)
    rows = rows[np.argsort(data["clip_meta"][rows, 3].numpy())]
    return {field: data[f"clip_{field}"][rows[row]] for field in ("own", "mel", "sync", "meta")}


def test_a_set_is_divided_numbered_and_whole(filmed):
    folder = filmed / "set"
    record = json.loads((folder / "films.json").read_text())
    people = record["people"]
    assert sorted(people) == ["ada", "dan", "finn"] and not list(folder.glob(".edgetalk*"))
    assert sorted(one["number"] for one in people.values()) == [0, 1, 2]
    [unseen] = [name for name, one in people.items() if not one["train"]]
    assert people[unseen]["number"] == 2 and people[unseen]["test"] == 1 and people[unseen]["valid"]
    train, valid, test = (Swaps(folder, None, "cpu", split) for split in ("train", "valid", "test"))
    assert train.clips + valid.clips + test.clips == 2 + 3 + 2  # all that the films have
    assert set(train["clip_meta"][:, 0].tolist()) == {0, 1} and set(valid["clip_meta"][:, 0].tolist()) == {2}
    assert sorted(test["clip_meta"][:, 0].tolist())[1] == 2 and test.clips == 2
    known = next(n for n in test["clip_meta"][:, 0].tolist() if n != 2)
    last = train["clip_meta"][train["clip_meta"][:, 0] == known, 3].max()
    assert (test["clip_meta"][test["clip_meta"][:, 0] == known, 3] > last).all()  # what is tested comes later
    for data in (train, test):
        assert {len(rows) for rows in data.rows.values()} == {swap_data.LOOKS * swap_data.POSES}
        assert data["still_parameters"].shape == (len(data["still_frames"]), 0)
        for person, rows in data.rows.items():  # a still is a frame of one of the person's clips, each another
            own = data["clip_own"][data["clip_meta"][:, 0] == person].flatten(0, 1)
            stills = data["still_frames"][rows]
            assert all((own == still).flatten(1).all(1).any() for still in stills)
    source, other = test["clip_meta"][:, 2], test["clip_meta"][:, 4]
    assert torch.equal(test["clip_source"], test["clip_own"][source, 0])
    assert torch.equal(test["clip_meta"][source, 0], test["clip_meta"][:, 1])
    assert torch.equal(test["clip_other_mel"], test["clip_mel"][other]) and (other != torch.arange(2)).all()


def test_crops_are_what_drawing_gives_for_the_same_frames(filmed):
    start = {"ada": 10, "dan": 0, "finn": 0}
    for name, begins in start.items():
        record = json.loads((filmed / "set" / "films.json").read_text())["people"][name]
        split = "train" if record["train"] else "test"
        clip = clip_of(filmed / "set", name, split)
        assert int(clip["meta"][3]) == begins  # without the frames in which nobody is seen
        announcer = Announcer(CAST[name], 96, FACE, finer=2)
        for i in range(len(POSES)):
            shown = POSES[(begins + i) % len(POSES)]
            view = tracked(announcer.landmarks(shown)[None], np.random.default_rng(0), noise=0.0)[0]
            drawn = announcer.draw(shown, view).astype(float)
            far = lambda picture, drawn=drawn: np.abs(picture[8:88, 8:88] - drawn[8:88, 8:88]).mean()  # noqa: E731
            crop = clip["own"][i].numpy().astype(float)
            assert far(crop) < 8
            assert all(far(np.roll(crop, by, axis)) > 1.2 * far(crop) for by in (-2, 2) for axis in (0, 1))


def test_a_clip_hears_its_own_moment(filmed):
    record = json.loads((filmed / "set" / "films.json").read_text())["people"]
    name = next(name for name, one in record.items() if one["train"] > 1 or (one["train"] and one["test"]))
    split, row = ("train", 1) if record[name]["train"] > 1 else ("test", 0)
    clip = clip_of(filmed / "set", name, split, row)
    start = int(clip["meta"][3])
    assert start >= CLIP_FRAMES
    mels = log_mel(levelled(pcm(name)), swap_data.SPEC)
    for field, spec in (("mel", swap_data.SPEC), ("sync", swap_data.SYNC_SPEC)):
        whole = windows(mels, start + CLIP_FRAMES + 3, spec, FPS)
        far = [float(np.abs(whole[start + by : start + by + CLIP_FRAMES] - clip[field].float().numpy()).mean())
               for by in range(-3, 4)]  # fmt: skip
        assert far[3] < 0.08 and min(far[:3] + far[4:]) > 0.3


def test_a_set_of_one_person_is_told_as_such(monkeypatch):
    record = {"people": {"ada": {"number": 0, "train": 3, "valid": 1, "test": 1}}}
    assert swap_films.told(record).startswith("1 person, clips of 2") and "of 1 person, 0 of" in swap_films.told(record)
    tables = {"split": np.zeros(1, np.int8), "voice": np.zeros(1, np.int8), "person": np.zeros(1, np.int8)}
    script = SimpleNamespace(start=np.array([0, 9]), tables=tables, plan={"voices": ["v"], "name": "filmed"})
    monkeypatch.setattr(dataset.Script, "read", lambda path: script)
    assert dataset.describe(Path("a")).endswith(", 1 clip, 1 person")


def test_the_same_command_leaves_a_set_and_another_one_is_refused(filmed, tmp_path, capsys):
    films, made = str(filmed / "films"), filmed / "set"
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    swap_command.main(["filmed", films, "-o", str(made), "--workers", "1", *TERMS])
    told = r"3 persons, clips of 2 s: \d to train on, \d to validate, 2 to test, of 2 persons, 1 of them unseen"
    assert re.search(told, capsys.readouterr().out)
    assert before == {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    for other in (["--seed", "1"], ["--clips", "2"], ["--use", "any"]):
        with pytest.raises(InputError, match="holds a set of other films, terms, --seed or --clips; take another"):
            swap_command.main(["filmed", films, "-o", str(made), *TERMS, *other])
    with pytest.raises(InputError, match="consent: got '  ', expected who agreed to it, and when; change --consent"):
        swap_command.main(["filmed", films, "-o", str(tmp_path / "set"), "--consent", "  "])
    for option, told in (("--seed", "-1, expected 0 or more"), ("--workers", "0, expected 1 or more")):
        name, got = option.strip("-"), told.split(",")[0]
        with pytest.raises(InputError, match=f"^{name}: got {told}; change {option}$"):
            swap_command.main(["filmed", films, "-o", str(tmp_path / "set"), *TERMS, option, got])
    (tmp_path / "train-clip-00000.npz").touch()
    with pytest.raises(InputError, match=r"has clips and no films\.json"):
        swap_command.main(["filmed", films, "-o", str(tmp_path), *TERMS])
    (tmp_path / "films.json").write_text("{")
    with pytest.raises(InputError, match="no record of filmed people, or it is damaged"):
        swap_command.main(["filmed", films, "-o", str(tmp_path), *TERMS])


def test_a_command_that_was_killed_while_its_clips_got_their_names_goes_on(tmp_path, monkeypatch):
    """As by a power cut: some clips are there, the others in a hidden folder, and no record tells which."""
    films = tmp_path / "films"
    films.mkdir()
    for name in "abc":
        (films / f"{name}.mp4").write_bytes(b"film")

    class Killed(BaseException):
        """What no block catches, and `together` has no time to tidy up."""

    def cut(work, jobs, workers, label):
        for _, _, clips, parts in jobs:
            for clip in clips:
                (parts / f"{clip.split}-clip-{clip.number:05d}.npz").write_bytes(b"clip")

    moved, move = [], os.replace

    def killed(file, name):
        move(file, name)
        moved.extend([name] if "-clip-" in str(name) else [])
        if len(moved) == 3:
            raise Killed

    monkeypatch.setattr(swap_films, "_look", lambda persons, *_: [[(0, 100 * i) for i in range(6)] for _ in persons])
    monkeypatch.setattr(swap_films, "_work", cut)
    folder, terms = tmp_path / "set", Terms("drawn, nobody")
    with monkeypatch.context() as patch:
        patch.setattr("edgetalk.files.os.replace", killed)
        patch.setattr("edgetalk.files.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            swap_films.write([films], folder, terms)
    assert len(list(folder.glob("*-clip-*.npz"))) == 3 and list(folder.glob(".edgetalk-*.part"))
    record = swap_films.write([films], folder, terms, most=3)  # fewer: none of the old ones may stay
    count = sum(one[split] for one in record["people"].values() for split in swap_films.SPLITS)
    assert len(list(folder.glob("*-clip-*.npz"))) == count
    assert {path.name for path in folder.iterdir() if "-clip-" not in path.name} == {"films.json"}


def test_films_that_cannot_be_used_are_named(filmed, tmp_path):
    with pytest.raises(InputError, match=r"got a folder without a film, expected \.3gp, \.avi"):
        swap_command.main(["filmed", str(tmp_path), "-o", str(tmp_path / "set"), *TERMS])
    with pytest.raises(FileNotFoundError):
        swap_command.main(["filmed", str(tmp_path / "none.mp4"), "-o", str(tmp_path / "set"), *TERMS])
    one = str(filmed / "films" / "ada.mp4")
    with pytest.raises(InputError, match="got two persons called 'ada'"):
        swap_command.main(["filmed", one, one, "-o", str(tmp_path / "set"), *TERMS])
    with pytest.raises(InputError, match="got 1 person, expected 3 at least"):
        swap_command.main(["filmed", one, "-o", str(tmp_path / "set"), *TERMS])
    films = tmp_path / "films"
    shutil.copytree(filmed / "films", films)
    with Writer(films / "mute.mp4", (SIDE, SIDE), Fraction(25)) as writer:
        writer.write(np.zeros((SIDE, SIDE, 3), np.uint8))
    write_track(films / "ada.track.npz", [None] * LENGTHS["ada"], Fraction(25))
    with pytest.raises(InputError, match="ada.mp4 shows no face of 64 pixels .*, and 1 other film .*or take it away"):
        swap_command.main(["filmed", str(films), "-o", str(tmp_path / "set"), "--workers", "1", *TERMS])
    assert not list((tmp_path / "set").iterdir())


def test_a_kept_track_is_taken_on_the_second_try(filmed, tmp_path, monkeypatch):
    """What a tracker has seen is not looked for again, and gives the same clips as a track beside the film."""
    shutil.copy(filmed / "films" / "ada.mp4", tmp_path / "ada.mp4")
    marks = swap_films.track_beside(filmed / "films" / "ada.mp4")
    seen = iter(swap_films.Faces(swap_films.Reader(tmp_path / "ada.mp4"), marks)._track)

    class Tracker:
        scene = 0

        def __init__(self, *args, **kwargs):
            pass

        def update(self, frame):
            return next(seen)

        def close(self):
            pass

    monkeypatch.setattr("edgetalk.targets.Tracker", Tracker)
    kept = tmp_path / "tracks" / "ada.track.npz"
    assert swap_films.look(tmp_path / "ada.mp4", kept) == [10, 60]
    assert next(seen, "none left") == "none left" and kept.exists()
    monkeypatch.setattr("edgetalk.targets.Tracker", None)
    assert (
        swap_films.look(tmp_path / "ada.mp4", kept) == [10, 60] == swap_films.look(filmed / "films" / "ada.mp4", None)
    )


def test_swaps_says_which_kind_a_folder_is(filmed, tmp_path):
    with pytest.raises(InputError, match="holds filmed people, whose sound is in their clips; leave --speech out"):
        Swaps(filmed / "set", tmp_path / "speech.npz", "cpu")
    with pytest.raises(InputError, match=r"has no films\.json, expected a whole set of filmed people"):
        Swaps(tmp_path, None, "cpu")
    data = Swaps(filmed / "set", None, "cpu")
    assert data.filmed and data.refresh() == 0
    with pytest.raises(InputError, match="got filmed people, expected some that have 'swap' in a clip of 'train'"):
        data["clip_swap"]


def test_a_digest_says_who_is_in_a_set_and_what_is_for_tests(filmed, tmp_path):
    record = json.loads((filmed / "set" / "films.json").read_text())

    def digest(**changed):
        (tmp_path / "films.json").write_text(json.dumps(record | changed))
        return Swaps(tmp_path, None, "cpu").digest

    own, asked, people = Swaps(filmed / "set", None, "cpu", "test").digest, record["asked"], record["people"]
    assert own == digest() == digest(asked=asked | {"terms": {"consent": "drawn, nobody, in writing"}}) != ""
    assert digest(asked=asked | {"seed": 1}) != own
    assert digest(people=people | {"ada": people["ada"] | {"test": 9}}) != own


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A folder of experts that have seen nothing and say that they are good."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("experts")
    extractor, expert = arcface.ArcFace(arcface.Config(0.125, (1, 1, 1, 1))), syncnet.SyncNet(0.125)
    store.save(folder / "identity-a.safetensors", "arcface", extractor, extractor.config, scores={"auc": 0.98})
    good = {"window_accuracy": 0.9, "offset_within_1": 1.0}
    store.save(folder / "sync-a.safetensors", "syncnet", expert, {"width": 0.125}, scores=good)
    return folder


def tiny(filmed, judged, kind=swap_recipe.SwapRecipe, preset=swap_schedule.PRESETS["default"], **changed):
    start = {"width": 0.125, "clips": min(preset.clips, 2), "singles": min(preset.singles, 4), "images": 99}
    config = replace(preset, **start | {"warm": 0.0, "adversary_from": 0.0} | changed)
    return kind(config, Swaps(filmed / "set", None, "cpu"), judged)


def test_preset_paper_is_trained_as_it_is(filmed, judged):
    recipe = tiny(filmed, judged, preset=swap_schedule.PRESETS["paper"])
    assert set(recipe.step(0)) == {"D", "L_L1", "L_Id", "L_Sync", "L_wFM", "L_Adv"}
    assert set(recipe.step(1)) == {"D", "L_Id", "L_Sync", "L_wFM", "L_Adv"}
    known = {person: recipe.vectors[rows] for person, rows in recipe.data.rows.items()}
    frames = recipe.data["clip_own"].float().div(255).permute(0, 1, 4, 2, 3)
    for number in (2, 3):  # whole batches of the own person, and of another
        batch = recipe.draw(number)
        assert batch.swapped.tolist() == [number == 3] * len(batch.target) and torch.equal(batch.true, batch.target)
        for target, identity in zip(batch.target, batch.identity, strict=True):
            clips = (frames == target).flatten(2).all(2).nonzero()[:, 0]
            [person] = set(recipe.data["clip_meta"][clips, 0].tolist())
            own = any(torch.equal(vector, identity) for vector in known[person])
            assert own == (number == 2)


def test_a_run_goes_on_with_the_identity_extractor_that_it_began_with(filmed, judged, tmp_path):
    """The conditioning vectors of another one, of the same file name, mean something else."""

    def begun():
        return tiny(filmed, tmp_path / "experts", preset=swap_schedule.PRESETS["paper"])

    shutil.copytree(judged, tmp_path / "experts")
    path = tmp_path / "experts" / "identity-a.safetensors"
    extractor, _ = store.load(path, "arcface")
    state.save(run := begun(), tmp_path, 1)
    store.save(path, "arcface", extractor, extractor.config, scores={"auc": 0.99})  # scored again
    assert state.resume(begun(), tmp_path) == 1
    other = arcface.ArcFace(extractor.config)
    store.save(path, "arcface", other, other.config, scores={"auc": 0.98})
    with pytest.raises(ModelError, match="another configuration .identity_weights [0-9a-f]{16} → [0-9a-f]{16}"):
        state.resume(begun(), tmp_path)
    del run.config["identity_weights"]  # a run from before it was noted
    state.save(run, tmp_path, 2)
    assert state.resume(begun(), tmp_path) == 2


def test_the_current_frame_is_its_own_reference_no_more_often_than_any_other(filmed, judged):
    recipe = tiny(filmed, judged, preset=swap_schedule.PRESETS["paper"], singles=5000)
    number = torch.arange(CLIP_FRAMES, dtype=torch.uint8)[:, None, None, None].expand(
        recipe.data.clips, CLIP_FRAMES, 1, 1, 3
    )
    recipe.data.arrays["clip_own"] = [number]  # in place of pictures
    batch = recipe.draw(0)
    away = (255 * (batch.reference - batch.target)[:5000, 0, 0, 0]).round().long() % CLIP_FRAMES
    counts = away.bincount(minlength=CLIP_FRAMES)
    assert 50 < counts.min() and counts.max() < 150


def test_preset_default_says_what_it_would_need(filmed, judged, tmp_path):
    told = (f"{filmed / 'set'}: holds filmed people, and the schedule's truth and shape would learn from drawings, "
            "which they do not have; give --no-truth --shape 0, or --preset paper to wavsyncswap")  # fmt: skip
    for start in (lambda: tiny(filmed, judged),
                  lambda: whole_command.main(["--data", str(filmed / "set"), "--experts", str(judged), "-o",
                                              str(tmp_path / "run")])):  # fmt: skip
        with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
            start()
    assert not (tmp_path / "run").exists()
    recipe = tiny(filmed, judged, truth=False, shape=0.0)
    assert set(recipe.step(0)) == {"D", "L_L1", "structure", "keep", "L_Id", "L_Sync", "L_wFM", "L_Adv"}
    batch = recipe.draw(1)
    made = recipe.make(recipe.network, batch)
    losses = {}
    recipe._compare(made, batch, losses)
    own = ~batch.swapped
    wanted = ((made.frames[own].float() - batch.target[own]).abs() * recipe.weight).mean()
    assert 0 < own.sum() < len(own)
    torch.testing.assert_close(losses["L_L1"], wanted, rtol=1e-4, atol=0)
    warm = tiny(filmed, judged, truth=False, shape=0.0, warm=0.5)
    assert not warm.draw(0).swapped.any() and set(warm.step(0)) == {"D", "L_L1", "structure", "keep", "L_wFM", "L_Adv"}


def test_the_baselines_are_trained_on_films_and_keep_their_terms(filmed, judged, tmp_path):
    recipe = tiny(filmed, judged, wav2lip_recipe.Wav2LipRecipe, wav2lip_recipe.PRESET)
    assert set(recipe.step(0)) == {"D", "L_L1", "L_Sync", "L_Adv", "L_wFM"}
    recipe.checkpoint(tmp_path, 1)
    agreed = store.load(tmp_path / "wav2lip.safetensors", "wav2lip")[1]["terms"]
    assert agreed == {"consent": "drawn, nobody", "licence": "", "use": "non-commercial"}
    with pytest.raises(InputError, match="schedule's truth would learn .*; give --no-truth, or"):
        tiny(filmed, judged, simswap_recipe.SimSwapRecipe, simswap_recipe.PRESET)
    recipe = tiny(filmed, judged, simswap_recipe.SimSwapRecipe, simswap_recipe.PRESET, truth=False)
    assert set(recipe.step(0)) == {"D", "L_L1", "L_Id", "L_Adv", "L_wFM"}


def test_experts_are_trained_on_films(filmed, tmp_path):
    torch.set_num_threads(1)
    common = ["--data", str(filmed / "set"), "--steps", "1", "--width", "0.125"]
    experts.main(["identity", *common, "--size", "32", "--batch", "8", "-o", str(tmp_path / "identity-a.safetensors")])
    network, record = store.load(tmp_path / "identity-a.safetensors", "arcface")
    assert record["terms"]["use"] == "non-commercial"
    assert network.parameters_head is None and record["scores"]["people"] == 2 and record["crop"] == [76 / 96, 3 / 96]
    experts.main(["sync", *common, "--batch", "4", "-o", str(tmp_path / "sync-a.safetensors")])
    scores = store.load(tmp_path / "sync-a.safetensors", "syncnet")[1]["scores"]
    valid = Swaps(filmed / "set", None, "cpu", "valid", stills=False)
    assert scores["clips"] == valid.clips > 0 and scores["test_clips"] == 2
    assert not any("unheard" in name for name in scores)  # half of the tests are later moments of who was trained on
    with pytest.raises(InputError, match="got filmed people, expected some that have 'labelled' in a clip of 'train'"):
        experts.main(["landmarks", *common[:-2], "-o", str(tmp_path / "landmarks.safetensors")])


def test_strangers_alone_verify_an_extractor(judged):
    network, _ = store.load(judged / "identity-a.safetensors", "arcface")
    stills = torch.randint(0, 255, (4 * 12, 96, 96, 3), dtype=torch.uint8)
    test = {"still_frames": stills, "still_person": torch.arange(4).repeat_interleave(12)}
    scores = {first: experts.score_identity(network, test, 3, 4, first) for first in (0, 2, 3)}
    assert [scores[first]["people"] for first in (0, 2, 3)] == [4, 2, 4]  # one alone cannot be told from others
    unseen = {"still_frames": stills[24:], "still_person": test["still_person"][24:]}
    assert scores[2] == experts.score_identity(network, unseen, 3, 4)


def test_the_whole_command_draws_nothing_for_films(filmed, tmp_path, monkeypatch):
    started = {}

    class Part:
        def __init__(self, name, logs, *arguments, made=None):
            started[name] = list(map(str, arguments))
            if name == "generator":
                made.touch()

        def wait(self, until):
            return True

        def stop(self):
            pass

        close = stop

    monkeypatch.setattr(whole_command, "Part", Part)
    parser = argparse.ArgumentParser()
    whole_command.configure(parser)
    common = ["--data", str(filmed / "set"), "-o", str(tmp_path / "run"), "--minutes", "1"]
    with pytest.raises(InputError, match="--preset paper"):
        whole_command.run(parser.parse_args(common))
    with pytest.raises(InputError, match=r"has no films\.json"):
        whole_command.run(parser.parse_args(common[2:]))
    assert not started and not (tmp_path / "run").exists()
    whole_command.run(parser.parse_args([*common, "--preset", "paper"]))
    assert set(started) == {"identity-a", "identity-b", "sync-a", "sync-b", "generator", "score"}
    assert not any("--speech" in arguments for arguments in started.values())


def test_scores_of_films_leave_out_what_needs_a_truth(filmed, judged, tmp_path, capsys, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("EDGETALK_CACHE", str(tmp_path))  # where no face models are
    shutil.copy(judged / "identity-a.safetensors", tmp_path / "identity-b.safetensors")
    shutil.copy(judged / "identity-a.safetensors", tmp_path / "identity-a.safetensors")
    shutil.copy(judged / "sync-a.safetensors", tmp_path / "sync-b.safetensors")
    config = wavsyncswap.Config(width=0.125)
    store.save(tmp_path / "generator.safetensors", "wavsyncswap", wavsyncswap.WavSyncSwap(config), config, images=1)
    done = cli.main(["score", "wavsyncswap", "--checkpoint", str(tmp_path / "generator.safetensors"), "--experts",
                     str(tmp_path), "--data", str(filmed / "set"), "-o", str(tmp_path / "out")])  # fmt: skip
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "wavsyncswap.json").read_text())
    assert done == 0 and report["clips"] == 2 and "verdict" not in report
    assert {name: set(rows) for name, rows in report["scores"].items()} == {
        "paper": {"target", "ours"}, "new": {"target", "ours", "shuffled"}}  # fmt: skip
    for rows in report["scores"].values():
        for row in rows.values():
            assert set(row) == {"cpbd", "retrieval_b", "frame_retrieval_b", "nearest_target_b", "cosine_b",
                                "offset_within_1_b", "confidence_b", "cosine_sync_b", "lse_d_b", "lse_c_b"}  # fmt: skip
    target = report["scores"]["paper"]["target"]
    assert target["nearest_target_b"] > target["frame_retrieval_b"]  # even an extractor that has seen nothing sees that
    assert {"psnr", "ssim", "lmd", "fid"} <= report["not_computed"].keys()
    assert "Table 1, protocol paper" in printed and "beyond the paper, protocol new" in printed and "LMD" not in printed
    assert "psnr, ssim, colour, sharp, gap_r, gap_ratio: not computed: filmed people have no" in printed
    assert "lmd, lmd_m: not computed: face tracking needs" in printed
    assert (tmp_path / "out" / "wavsyncswap.jpg").stat().st_size > 1000


def test_landmarks_are_compared_where_both_show_a_face():
    rng = np.random.default_rng(0)
    made, true = rng.random((2, 2, 3, 106, 2))
    made[0, 1], true[1, 2] = np.nan, np.nan
    there = [(0, 0), (0, 2), (1, 0), (1, 1)]
    far = {at: 256 * np.hypot(*(made[at] - true[at]).T) for at in there}
    got = swap_scores.moved(*(torch.from_numpy(marks) for marks in (made, true)))
    assert got["seen"] == pytest.approx(4 / 6)
    assert got["lmd"] == pytest.approx(np.mean([far[at].mean() for at in there]))
    assert got["lmd_m"] == pytest.approx(np.mean([far[at][86:].mean() for at in there]))  # lips, outer and inner
    assert swap_scores.moved(torch.full((1, 1, 106, 2), np.nan), torch.zeros(1, 1, 106, 2)) == {"seen": 0.0}
