"""The landmark judge: its degradations move labels with the picture, and it learns to measure drawn faces."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgetalk.errors import InputError, ModelError
from edgetalk.train import loop
from edgetalk.train.amnet import dataset
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.experts import landmarks
from edgetalk.train.networks.amnet import from_bytes
from edgetalk.train.networks.landmarks import LandmarkNet, load, resized
from edgetalk.train.stretch import Stretch


def drawn(count, seed):
    """Frames of one announcer that talks at random, with exact labels."""
    rng = np.random.default_rng(seed)
    announcer = Announcer(CAST["ada"], size=64)
    shapes = np.stack(list(SHAPES.values()))
    controls = [
        Controls(
            shapes[rng.integers(len(shapes))] * rng.uniform(0.3, 1),
            rng.normal(0, 0.1, 3),
            rng.random(2) * (rng.random() < 0.5),
        )
        for _ in range(count)
    ]
    frames = torch.from_numpy(np.stack([announcer.draw(c) for c in controls])).permute(0, 3, 1, 2)
    labels = [
        np.stack([announcer.landmarks(c) for c in controls]),
        np.stack([c.pose for c in controls]),
        np.stack([c.blink for c in controls]),
    ]
    images = resized(frames.float(), 128).round().byte()
    return landmarks.Faces(images, *(torch.from_numpy(label).float() for label in labels))


def dice(seed):
    return landmarks.Dice(torch.device("cpu"), seed)


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch):
    monkeypatch.setitem(landmarks.BATCH, "cpu", 10)


@pytest.fixture(scope="module")
def faces():
    torch.set_num_threads(1)
    return drawn(96, 0), drawn(24, 1)


def test_labels_move_with_the_picture():
    """A dark dot stays where its landmark says it is."""
    images = torch.ones(6, 3, 128, 128)
    images[:, :, 38:41, 78:81] = 0
    points = torch.full((6, 106, 2), 0.5)
    points[:, 0] = torch.tensor([79.5 / 128, 39.5 / 128])
    pose = torch.zeros(6, 3)
    moved, found, turned = landmarks.moved(images, points, pose, dice(2))
    weight = 1 - moved[:, 0]
    axis = (torch.arange(128) + 0.5) / 128
    centre = torch.stack([(weight * axis).sum((1, 2)), (weight * axis[:, None]).sum((1, 2))], 1)
    centre = centre / weight.sum((1, 2))[:, None]
    assert torch.allclose(centre, found[:, 0], atol=0.3 / 128)
    assert turned[:, 2].abs().max() > 0.01 and turned[:, :2].abs().max() == 0


def test_turning_clockwise_is_positive_roll():
    points = torch.full((64, 106, 2), 0.5)
    points[:, 0, 0] = 0.9  # to the right of the middle: a clockwise turn carries it down
    _, found, pose = landmarks.moved(torch.ones(64, 3, 16, 16), points, torch.zeros(64, 3), dice(0))
    angle = torch.atan2(*(found[:, 0] - found[:, 1]).flip(1).unbind(1))
    assert torch.allclose(angle, pose[:, 2], atol=1e-5)


def test_compression_is_that_of_a_quantised_cosine_transform():
    """One 8×8 block against scipy's DCT."""
    from scipy.fft import dctn, idctn

    block = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    for seed in range(20):  # until one is chosen: half of the pictures are left as they are
        out = landmarks.compressed(torch.from_numpy(block).expand(1, 3, 8, 8), dice(seed))[0, 0].numpy()
        if not np.array_equal(out, block):
            break
    quality = float(dice(seed).uniform((1,), 25, 90))
    table = landmarks.QUANTISER.numpy() * (50 / quality if quality < 50 else 2 - quality / 50)
    expected = idctn(np.round(dctn(block, norm="ortho") / table) * table, norm="ortho")
    assert np.allclose(out, expected, atol=1e-5)


@pytest.mark.usefixtures("small_judge")
def test_the_judge_learns_to_measure(faces):
    train, held_out = faces
    training = landmarks.LandmarkRecipe(train, Stretch(steps=75), seed=1)
    for step in range(75):
        training.step(step)
    error = landmarks.own_error(training.judge(), held_out, np.full(len(held_out.images), "ada"))
    mean_shape = landmarks.landmark_error(train.landmarks.mean(0).expand(24, -1, -1), held_out.landmarks).mean()
    assert error["landmarks_px"] < 0.75 * float(mean_shape)
    assert error["frames"] == 24


@pytest.mark.usefixtures("small_judge")
def test_the_file_keeps_the_judge_and_its_error(faces, tmp_path):
    path = tmp_path / "judge.safetensors"
    train, held_out = faces
    persons = np.full(len(held_out.images), "ada")
    assert landmarks.train(train, held_out, persons, Stretch(steps=1), path, minutes=0) == {} and not path.exists()
    terms = {"consent": "ada, on paper", "licence": "", "use": "non-commercial"}
    record = landmarks.train(train, held_out, persons, Stretch(steps=1), path, terms=terms)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["judge.run", "judge.safetensors"]
    page = (tmp_path / "judge.run" / "index.html").read_text()
    assert "landmarks: " in page and "data:image/jpeg" in page
    network, kept = load(path)
    assert kept == record and kept["terms"] == terms
    with torch.inference_mode():
        measured, features = network.measure(from_bytes(held_out.images))
    distance = landmarks.landmark_error(measured.landmarks, held_out.landmarks).mean()
    assert float(distance) == pytest.approx(record["error_on_true_frames"]["landmarks_px"], abs=1e-3)
    assert features.shape == (24, 192)


@pytest.mark.usefixtures("small_judge")
def test_a_stopped_training_goes_on_as_if_it_had_not_been(faces, tmp_path):
    def recipe():
        return landmarks.LandmarkRecipe(faces[0], Stretch(steps=4), seed=3)

    straight, stopped, again = recipe(), recipe(), recipe()
    loop.train(straight, tmp_path / "straight", show=lambda _: None)
    step = stopped.step

    def interrupted(number):
        if number == 1:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        return step(number)

    stopped.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        loop.train(stopped, tmp_path / "parts", show=lambda _: None)
    assert loop.train(again, tmp_path / "parts", show=lambda _: None) == 4
    for name, tensor in straight.tensors().items():  # the same pictures, changed in the same way
        if name != "spent":
            assert torch.equal(again.tensors()[name], tensor), name
    assert int(again.stretch.spent[1]) == 4


@pytest.mark.usefixtures("small_judge")
def test_a_training_goes_on_with_more_pictures_than_it_began_with(faces, tmp_path):
    begun = landmarks.LandmarkRecipe(faces[0].rows(torch.arange(32)), Stretch(steps=2), seed=3)
    loop.train(begun, tmp_path, show=lambda _: None)
    longer = landmarks.LandmarkRecipe(faces[0], Stretch(steps=3), seed=3)
    assert loop.train(longer, tmp_path, show=lambda _: None) == 3


@pytest.mark.usefixtures("small_judge")
def test_the_command_trains_on_one_part_of_every_set_and_measures_on_the_other(tmp_path, monkeypatch, capsys):
    torch.set_num_threads(1)
    terms = {"consent": "dan", "licence": "", "use": "any"}

    def numbered(folder):
        """A set of flat pictures, whose labels tell the set and the frame: those from the sixth on are for tests."""
        first, count = (0, 7) if folder.name == "drawn" else (100, 9)
        number = np.arange(first, first + count, dtype=np.float32)
        spread = lambda *shape: np.broadcast_to(number.reshape(-1, *[1] * len(shape)), (count, *shape))  # noqa: E731
        return SimpleNamespace(
            frames=spread(64, 64, 3).astype(np.uint8), pose=spread(3), blink=spread(2),
            landmarks=spread(106, 2) / 200 * np.linspace(0, 1, 106)[:, None],
            split=(np.arange(count) >= 5).astype(np.uint8), person=np.arange(count) % 2,
            name=folder.name, persons=("ada", "dan"), terms=terms if folder.name == "filmed" else {},
            digest=f"digest of {folder.name}",
        )  # fmt: skip

    given, train = [], landmarks.train
    monkeypatch.setattr(dataset, "load", numbered)
    monkeypatch.setattr(landmarks, "train", lambda *told: given.append(told) or train(*told))
    out = tmp_path / "judge.safetensors"
    landmarks.main(["--data", "drawn", "filmed", "--seconds", "0.001", "--seed", "4", "-o", str(out)])
    [(faces, held_out, persons, *_)] = given
    assert given[0][-1] == "digest of drawn and digest of filmed"
    assert faces.pose[:, 0].tolist() == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]
    assert held_out.pose[:, 0].tolist() == [5, 6, 105, 106, 107, 108]
    assert persons.tolist() == [f"{data}/{name}" for data, name in (("drawn", "dan"), ("drawn", "ada"), *[
        ("filmed", "dan"), ("filmed", "ada")] * 2)]  # fmt: skip
    for part in (faces, held_out):  # every label, and the picture, is of the same frame
        for told in (part.images[:, 0, 0, 0], 200 * part.landmarks[:, -1, 0], part.blink[:, 0]):
            torch.testing.assert_close(told.float(), part.pose[:, 0])
    printed, (_, record) = capsys.readouterr().out, load(out)
    assert json.loads(printed[printed.index("{") :]) == {"judge": str(out), **record}
    assert record["images"] == 10 and record["error_on_true_frames"]["frames"] == 6 and record["terms"] == terms


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--seconds -3", "seconds: got -3.0, expected more than 0; change --seconds"),
        ("--seconds nan", "seconds: got nan, expected more than 0; change --seconds"),
        ("--seconds 0", "seconds: got 0.0, expected more than 0; change --seconds"),
        ("--seed -1", "seed: got -1, expected 0 to 4294967295; change --seed"),
        ("--minutes nan", "minutes: got nan, expected more than 0; change --minutes"),
    ],
)
def test_the_command_refuses_what_would_train_no_judge(tmp_path, options, told):
    (tmp_path / "judge.safetensors").write_bytes(b"of before")
    with pytest.raises(InputError, match=f"^{told}$"):
        landmarks.main(["--data", str(tmp_path / "none"), "-o", str(tmp_path / "judge.safetensors"), *options.split()])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of before"]


def test_a_set_without_held_out_frames_is_refused_before_the_training(faces, tmp_path):
    none = faces[1].rows(torch.arange(0))
    with pytest.raises(InputError, match="^data set: got no held-out frames, expected some to measure the judge on; "):
        landmarks.train(faces[0], none, np.empty(0, str), Stretch(steps=1), tmp_path / "judge.safetensors")
    assert not list(tmp_path.iterdir())


def test_every_picture_is_seen_once_per_round():
    rounds = [torch.cat([landmarks.batch_rows(3 * turn + i, 11, 3, 7) for i in range(3)]) for turn in range(2)]
    assert all(len(seen.unique()) == 9 for seen in rounds) and not torch.equal(*rounds)
    assert torch.equal(landmarks.batch_rows(1, 11, 3, 7), rounds[0][3:6])
    assert landmarks.batch_rows(5, 2, 4, 0).sort().values.tolist() == [0, 1]


def test_files_that_are_no_judge_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="python -m edgetalk.train.experts.landmarks"):
        load(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="is no landmark judge"):
        load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        load(path)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_pictures_of_any_size_are_measured(size):
    with torch.inference_mode():
        measured, _ = LandmarkNet().eval().measure(torch.zeros(2, 3, size, size))
    assert [tuple(t.shape) for t in measured] == [(2, 106, 2), (2, 3), (2, 2)]
