"""Data sets of announcers: what is promised holds in the files, and interruptions do no harm."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from edgetalk.errors import EdgetalkError, InputError
from edgetalk.train.amnet.dataset import TEST, TRAIN, Script, describe, load
from edgetalk.train.announcers import CAST, Announcer, Controls, dataset, sentences, speech
from edgetalk.train.announcers.parallel import spread
from edgetalk.train.announcers.plan import SETS, VOICE_NAMES, Plan, write_speech
from edgetalk.train.networks.landmarks import inner_opening

FRAMES, SIZE = 48, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("announcers")
    dataset.write(path, "announcers-6", FRAMES, 3, SIZE, "raw", workers=2)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_are_whole_and_nothing_is_left_over(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["frames.npy", "labels.npz", "speech.npz"]
    assert describe(folder).startswith("announcers-6: 40 training frames, 8 test frames")


def test_labels_belong_to_the_frames(folder):
    data = load(folder)
    assert data.frames.shape == (FRAMES, SIZE, SIZE, 3) and data.frames.dtype == np.uint8
    assert isinstance(data.frames, np.memmap) and data.size == SIZE and data.name == "announcers-6"
    assert data.landmarks.shape == (FRAMES, 106, 2) and data.landmarks.dtype == np.float32
    assert data.pose.shape == (FRAMES, 3) and data.blink.shape == (FRAMES, 2) and data.viseme.shape == (FRAMES, 7)
    for i in (0, 16, 32, FRAMES - 1):
        announcer = Announcer(CAST[data.persons[data.person[i]]], SIZE)
        controls = Controls(data.viseme[i].astype(float), data.pose[i].astype(float), data.blink[i].astype(float))
        assert np.abs(announcer.landmarks(controls) - data.landmarks[i]).max() < 5e-5
        assert np.abs(announcer.draw(controls).astype(int) - data.frames[i]).max() <= 2


def test_without_pictures_the_same_is_said_and_labelled(folder, tmp_path):
    dataset.write(tmp_path, "announcers-6", FRAMES, 3, SIZE, "none", workers=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.npz", "speech.npz"]
    whole, heard = load(folder), load(tmp_path, pictures=False)
    assert heard.frames.shape == (FRAMES, 0, 0, 3)
    for name in ("landmarks", "pose", "blink", "viseme", "person", "clip", "frame", "split", "voice"):
        assert np.array_equal(getattr(heard, name), getattr(whole, name)), name
    with pytest.raises(InputError, match="without pictures, which --heard takes"):
        load(tmp_path)


def test_a_full_disk_is_told_before_anything_is_drawn(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "speech.npz").write_bytes((folder / "speech.npz").read_bytes())
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"No space left on device: '.*frames.npy'"):
        dataset.write(tmp_path, size=SIZE, codec="raw")
    assert not list(tmp_path.glob("frames*"))


def test_portraits_are_of_those_asked_for(folder):
    pictures = dataset.portraits(folder, SIZE, {"dan", "nobody"})
    assert list(pictures) == ["dan"]
    assert np.array_equal(pictures["dan"], Announcer(CAST["dan"], SIZE).draw(Controls()))


def test_clips_and_sound_fit(folder):
    data = load(folder)
    assert sum(clip.frames for clip in data.clips) == FRAMES
    for i, clip in enumerate(data.clips):
        own = slice(clip.start, clip.start + clip.frames)
        assert len(clip.pcm) == clip.frames * 640 and clip.pcm.dtype == np.float32 and np.abs(clip.pcm).max() <= 1
        assert (data.clip[own] == i).all() and np.array_equal(data.frame[own], np.arange(clip.frames))
        assert (data.person[own] == clip.person).all() and (data.split[own] == clip.split).all()
        assert (data.voice[own] == clip.voice).all()
    loud = [np.sqrt(np.mean(clip.pcm[: clip.frames * 640].reshape(-1, 640) ** 2, 1)) for clip in data.clips]
    gap = inner_opening(data.landmarks)
    quiet = np.concatenate(loud) < 1e-4
    assert np.median(gap[quiet]) < 0.3 * np.median(gap[~quiet])


def test_splits_share_no_sentence_and_the_held_out_voice_is_only_in_the_test(tmp_path):
    plan = Plan("announcers-6", 3000, 1)
    write_speech(tmp_path, plan, 2)
    with np.load(tmp_path / "speech.npz") as file:
        split, sentence, voice, samples = (file[name] for name in ("split", "sentence", "voice", "samples_bounds"))
    lines = sentences.sentences()
    said = [{lines[i] for i in sentence[split == part] if i >= 0} for part in (TRAIN, TEST)]
    assert said[0] <= set(sentences.training()) and said[1] <= set(sentences.held_out())
    names = np.array(VOICE_NAMES)
    assert set(names[voice[split == TRAIN]]) == {*speech.TRAINING_VOICES, "silence"}
    heard = set(names[voice[split == TEST]])
    assert set(speech.HELD_OUT_VOICES) < heard and "silence" not in heard
    assert samples[-1] == 3000 * 640


def test_a_set_that_is_for_hearing_has_other_voices_and_words_to_train_on_and_the_same_to_test(tmp_path):
    write_speech(tmp_path, Plan("heard", 4500, 1), 2)
    with np.load(tmp_path / "speech.npz") as file:
        split, sentence, voice, samples = (file[name] for name in ("split", "sentence", "voice", "samples_bounds"))
    names = np.array(VOICE_NAMES)
    trained, tested = ({str(name) for name in names[voice[split == part]]} for part in (TRAIN, TEST))
    assert trained <= {"random", "silence"} and "random" in trained and tested <= set(speech.VOICES)
    of_clips = sentence[(split == TRAIN) & (names[voice] == "random")]
    assert 0.2 < np.mean(of_clips < 0) < 0.8, "half of what is said are no sentences"
    of_test = samples[1:][split == TEST] - samples[:-1][split == TEST]
    unheard = of_test[np.isin(names[voice[split == TEST]], speech.HELD_OUT_VOICES)].sum() // 640
    assert 0 < unheard < of_test.sum() // 640
    assert f"{of_test.sum() // 640} test frames ({unheard} with a held-out voice)" in describe(tmp_path)
    lines = sentences.sentences()
    assert {lines[i] for i in of_clips if i >= 0} <= set(sentences.training())
    assert {lines[i] for i in sentence[split == TEST] if i >= 0} <= set(sentences.held_out())


def test_a_set_that_is_for_hearing_has_no_pictures_unless_they_are_asked_for(tmp_path):
    dataset.write(tmp_path / "a", "heard", 60, 5, 32, workers=1)
    with np.load(tmp_path / "a" / "labels.npz") as labels:
        assert str(labels["codec"]) == "none" and len(labels["landmarks"]) == 60
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"labels.npz", "speech.npz"}
    dataset.write(tmp_path / "b", "heard", 60, 5, 32, "raw", workers=1)
    assert np.load(tmp_path / "b" / "frames.npy", mmap_mode="r").shape == (60, 32, 32, 3)


def test_sets_have_the_sizes_that_were_asked_for():
    lanes = Plan("announcers-6", SETS["announcers-6"].frames, 0).lanes()
    frames = [sum(lane.frames for lane in lanes if lane.split == part) for part in (TRAIN, TEST)]
    assert frames == [20_000, 3_790] and {lane.person for lane in lanes} == set(range(6))
    for name in ("any", "wild"):
        plan = Plan(name, SETS[name].frames, 0)
        assert sum(lane.frames for lane in plan.lanes()) == SETS[name].frames
        assert len({person.identity for person in plan.persons()}) == len(plan.persons())


def test_strangers_are_tested_beside_as_many_persons_of_the_training():
    lanes = Plan("any", SETS["any"].frames, 0).lanes()
    trained, tested = ({lane.person for lane in lanes if lane.split == part} for part in (TRAIN, TEST))
    assert len(trained) == 546 and len(trained | tested) == 600
    assert len(tested - trained) == 54 and len(tested & trained) == 55
    assert all(39 <= lane.frames <= 41 for lane in lanes)


def test_another_seed_says_something_else(folder, tmp_path):
    write_speech(tmp_path, Plan("announcers-6", FRAMES, 4), 1)
    with np.load(tmp_path / "speech.npz") as other, np.load(folder / "speech.npz") as file:
        assert other["pcm"].shape == file["pcm"].shape and not np.array_equal(other["pcm"], file["pcm"])


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(folder, tmp_path):
    """Those of the same seed, by another number of workers."""
    script = (
        "import sys; from pathlib import Path; from edgetalk.train.announcers import dataset; "
        f"dataset.write(Path(sys.argv[1]), 'announcers-6', {FRAMES}, 3, {SIZE}, 'raw', 1)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    parts = tmp_path / f"draw-{SIZE}-raw.parts"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(parts.glob("*.npy")) if parts.exists() else []) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.npy")}
    assert done and not (tmp_path / "labels.npz").exists() and not (tmp_path / "frames.npy").exists()
    with pytest.raises(FileNotFoundError, match="no complete data set"):
        load(tmp_path)
    dataset.write(tmp_path, size=SIZE, codec="raw", workers=1)  # the rest stands in speech.npz
    for name in ("speech.npz", "labels.npz", "frames.npy"):
        assert digest(tmp_path / name) == digest(folder / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.npy", "labels.npz", "speech.npz"]


def test_h264_keeps_the_pictures(folder, tmp_path):
    for codec in ("raw", "h264"):
        (tmp_path / codec).mkdir()
        (tmp_path / codec / "speech.npz").write_bytes((folder / "speech.npz").read_bytes())
        dataset.write(tmp_path / codec, size=2 * SIZE, codec=codec, workers=1)
    raw, small = load(tmp_path / "raw"), load(tmp_path / "h264")
    assert sum(path.stat().st_size for path in (tmp_path / "h264" / "clips").iterdir()) < raw.frames.nbytes / 3
    error = np.mean((small.frames.astype(float) - raw.frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 32
    assert np.array_equal(small.landmarks, raw.landmarks)


def test_sets_from_before_their_plan_named_persons_are_read(folder, tmp_path):
    with np.load(folder / "speech.npz") as file:
        tables = dict(file)
    plan = json.loads(str(tables.pop("plan")))
    assert plan.pop("persons") == list(CAST)
    np.savez(tmp_path / "speech.npz", plan=json.dumps(plan), **tables)
    assert Script.read(tmp_path / "speech.npz").persons == tuple(CAST)


@pytest.mark.parametrize("name", ["speech.npz", "labels.npz", "frames.npy"])
def test_a_file_that_was_cut_is_told(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / name).read_bytes()
    for size in (len(whole) // 2, 0):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(InputError, match=f"{name} is damaged; copy the set again or make it anew"):
            load(tmp_path)


def test_pictures_of_another_set_are_not_taken_for_its_own(folder, tmp_path):
    for name in ("speech.npz", "labels.npz"):
        shutil.copy(folder / name, tmp_path)
    for shape in ((FRAMES, SIZE // 2, SIZE, 3), (FRAMES + 5, SIZE, SIZE, 3)):
        np.save(tmp_path / "frames.npy", np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match="frames.npy is damaged; copy the set again or make it anew"):
            load(tmp_path)
    np.save(tmp_path / "frames.npy", np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    assert load(tmp_path).frames.shape == (FRAMES, SIZE, SIZE, 3)


def test_what_was_begun_raw_is_not_taken_for_another_set(folder, tmp_path, monkeypatch):
    """Killed while it drew, or before its labels: then it is asked for in another codec, or another size."""
    (tmp_path / "speech.npz").write_bytes((folder / "speech.npz").read_bytes())
    for left in ("frames.npy.part", "frames.npy"):
        for size, codec in ((SIZE, "h264"), (2 * SIZE, "raw")):
            np.save(tmp_path / "old.npy", np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
            (tmp_path / "old.npy").rename(tmp_path / left)
            dataset.write(tmp_path, size=size, codec=codec, workers=1)
            frames = load(tmp_path).frames
            assert frames.shape == (FRAMES, size, size, 3) and frames[0].std() > 5
            for path in tmp_path.iterdir():
                if path.name != "speech.npz":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("codec", ["raw", "h264", "none"])
def test_clips_of_two_sizes_are_not_mixed(folder, tmp_path, monkeypatch, codec):
    """Stopped after a clip, then asked for otherwise: going on with the first again would take the second's clips."""
    (tmp_path / "speech.npz").write_bytes((folder / "speech.npz").read_bytes())

    def stopped(draw, tasks, *_):
        draw(tasks[0])
        raise ZeroDivisionError

    monkeypatch.setattr(dataset, "spread", stopped)
    with pytest.raises(ZeroDivisionError):
        dataset.write(tmp_path, size=SIZE, codec=codec, workers=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for size, other in ((2 * SIZE, codec), (SIZE, {"raw": "h264", "h264": "none", "none": "raw"}[codec])):
        told = f"got --size {size} --codec {other}, but its pictures were begun with --size {SIZE} --codec {codec}; "
        with pytest.raises(InputError, match=f"{told}go on with these or choose another folder$"):
            dataset.write(tmp_path, size=size, codec=other, workers=1)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(dataset, "spread", spread)
    dataset.write(tmp_path, size=SIZE, codec=codec, workers=1)
    assert len(load(tmp_path, pictures=codec != "none").landmarks) == FRAMES


def test_a_set_that_was_stopped_before_its_labels_goes_on(folder, tmp_path, monkeypatch):
    """Whatever is there under its own name is whole: labels.npz says that pictures are there, and comes last."""
    (tmp_path / "speech.npz").write_bytes((folder / "speech.npz").read_bytes())
    savez = np.savez_compressed
    monkeypatch.setattr(np, "savez_compressed", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dataset.write(tmp_path, size=SIZE, codec="raw", workers=1)
    assert (tmp_path / "frames.npy").exists() and not (tmp_path / "labels.npz").exists()
    monkeypatch.setattr(np, "savez_compressed", savez)
    dataset.write(tmp_path, size=SIZE, codec="raw", workers=1)
    assert digest(tmp_path / "frames.npy") == digest(folder / "frames.npy")
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}


def test_another_plan_or_size_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="choose another folder"):
        dataset.write(folder, "announcers-6", FRAMES, 4, SIZE, "raw")
    with pytest.raises(InputError, match="choose another folder"):
        dataset.write(folder, "announcers-6", FRAMES, 3, 2 * SIZE, "raw")
    with pytest.raises(InputError, match="expected one of announcers-6, any, wild, calm"):
        dataset.write(folder, "announcers-7")
    with pytest.raises(InputError, match="^workers: got 0, expected 1 or more; change --workers$"):
        dataset.write(tmp_path / "new", "announcers-6", FRAMES, 3, SIZE, "raw", workers=0)
    for name, least in (("frames", 1), ("seed", 0), ("size", 16)):
        with pytest.raises(InputError, match=f"^{name}: got {least - 1}, expected {least} or more; change --{name}$"):
            dataset.write(tmp_path / "new", **{name: least - 1})
    assert not (tmp_path / "new").exists()


def test_drawing_needs_neither_pyav_nor_soxr_nor_flite(folder, tmp_path):
    (tmp_path / "speech.npz").write_bytes((folder / "speech.npz").read_bytes())
    blocked = "import sys; sys.modules.update(dict.fromkeys(['av', 'soundfile', 'soxr', 'torch', 'librosa']))"
    script = (
        f"{blocked}; from pathlib import Path; from edgetalk.train.announcers import dataset; "
        f"dataset.write(Path(sys.argv[1]), size={SIZE}, codec='raw', workers=2)"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=True,
        env={**os.environ, "PATH": ""},
        stderr=subprocess.DEVNULL,
    )
    assert digest(tmp_path / "frames.npy") == digest(folder / "frames.npy")


def test_a_failing_and_a_dying_worker_end_the_work():
    def fail(task):
        if task == 1:
            raise ValueError("no such task")
        return 1

    with pytest.raises(EdgetalkError, match="^ValueError in a worker: no such task$"):
        spread(fail, [0, 1, 2, 3], 2, "work", "task", 4)
    with pytest.raises(EdgetalkError, match="died with exit code -9"):
        spread(lambda task: os.kill(os.getpid(), signal.SIGKILL), [0, 1], 2, "work", "task", 2)
