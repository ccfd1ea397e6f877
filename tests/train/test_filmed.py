"""Data sets of films: drawn people are filmed, so that what the labels ought to be is known exactly.

A double of the tracker says where the drawn face is, so that cutting, cropping, sound and division are tested without
a download; the real networks, where they were fetched, are held against the drawn truth as well.
"""

import dataclasses
import errno
import os
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

import edgetalk.targets
from edgetalk.cli import main
from edgetalk.errors import InputError
from edgetalk.face import Face, write_track
from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec
from edgetalk.reader import Reader
from edgetalk.train.amnet import dataset
from edgetalk.train.amnet.data import Footage
from edgetalk.train.amnet.dataset import TEST, TRAIN, describe, load
from edgetalk.train.amnet.recipe import AMNetRecipe, Config
from edgetalk.train.announcers import CAST, Announcer, motion
from edgetalk.train.announcers import dataset as announcers
from edgetalk.train.announcers.features import Controls
from edgetalk.train.announcers.plan import Plan, write_speech
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.filmed import dataset as filmed
from edgetalk.train.filmed import mesh
from edgetalk.train.filmed.films import sound
from edgetalk.train.networks.checkpoint import load_checkpoint
from edgetalk.train.networks.landmarks import inner_opening
from edgetalk.train.terms import Terms, joined
from edgetalk.writer import Writer

DRAWN, LEFT, TOP, WIDTH, HEIGHT = 160, 30, 10, 224, 176  # where the drawn picture lies in the film
SIZE = 96
RATE = 16_000
FIVE = [74, 84, 54, 86, 92]
SEEN = np.setdiff1d(np.arange(51, 106), [74, 75, 84, 85])  # what a mesh has, but brows and outline: no pupils


def inside(landmarks):
    """Landmarks in pixels of the film, the centre of the first at (0, 0)."""
    return (landmarks * DRAWN + (LEFT, TOP) - 0.5).astype(np.float32)


def mesh_of(points):
    """A mesh (468, 2) on which the landmarks `points` (106, 2) lie."""
    out = np.full((468, 2), np.nan)
    out[mesh.EARS, :] = points[[0, 32]]
    at = 33
    for line in mesh.LINES:  # ends first: they are landmarks of their own
        for k, part in enumerate(line.at):
            if part in (0, 1):
                out[line.points[int(-part)]] = points[at + k]
        at += len(line.at)
    at = 33
    for line in mesh.LINES:
        ends = [(0, out[line.points[0]]), (1, out[line.points[-1]])]
        knots = [(p, points[at + k]) for k, p in enumerate(line.at) if p not in (0, 1)]
        knots += [end for end in ends if np.isfinite(end[1]).all()]
        knots.sort(key=lambda knot: knot[0])
        for k, number in enumerate(line.points):
            if not np.isfinite(out[number]).all():
                share = k / (len(line.points) - 1)
                out[number] = [np.interp(share, [p for p, _ in knots], [c[d] for _, c in knots]) for d in (0, 1)]
        at += len(line.at)
    free = np.flatnonzero(np.isnan(out[:, 0]))
    out[free] = points[np.arange(len(free)) % 33]
    return out.astype(np.float32)


def exact(landmarks, controls):
    points = inside(landmarks)
    box = np.concatenate([points.min(0), points.max(0)])
    labels = np.asarray(controls.pose, np.float32), np.asarray(controls.blink, np.float32)
    return Face(box, points[FIVE], 1.0, mesh_of(points), *labels)


class Drawn:
    """Some frames of an announcer, back and forth, in a film."""

    def __init__(self, name, seed, kinds=24):
        rng = np.random.default_rng(seed)
        announcer = Announcer(CAST[name], DRAWN)
        shapes = list(SHAPES.values())
        poses, lids = motion.head_motion(kinds, 25, rng), rng.random((kinds, 2))
        self.controls = [Controls(shapes[rng.integers(len(shapes))], poses[i], lids[i]) for i in range(kinds)]
        self.landmarks = np.array([announcer.landmarks(c) for c in self.controls])
        self.pictures = []
        for controls in self.controls:
            picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            picture[TOP:, LEFT : LEFT + DRAWN][:DRAWN] = announcer.draw(controls)
            self.pictures.append(picture)
        self.faces = [exact(self.landmarks[i], c) for i, c in enumerate(self.controls)]

    def at(self, i):
        """Which of the frames is shown as number `i`."""
        turn = i % (2 * len(self.pictures) - 2)
        return min(turn, 2 * len(self.pictures) - 2 - turn)

    def film(self, path, count, unseen=()):
        """Write a film of `count` frames; return what a faultless tracker says of them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with Writer(path, (WIDTH, HEIGHT), Fraction(25), voice(count), crf=12) as writer:
            for i in range(count):
                writer.write(self.pictures[self.at(i)])
        return [None if i in unseen else self.faces[self.at(i)] for i in range(count)]


def voice(count):
    """A hum whose pitch tells the time."""
    time = np.arange(count * 640) / RATE
    return (0.2 * np.sin(2 * np.pi * (200 * time + 15 * time**2))).astype(np.float32)


class Tracker:
    """The double: says of the films, in their order, what it was told."""

    waiting: list = []
    scene = 0

    def __init__(self, rate, face_models=None, face="largest"):
        assert rate == 25
        self._faces = iter(Tracker.waiting.pop(0))

    def update(self, picture):
        assert picture.shape == (HEIGHT, WIDTH, 3)
        return next(self._faces)

    def close(self):
        pass


@pytest.fixture(scope="module")
def people():
    return {"ada": Drawn("ada", 1), "dan": Drawn("dan", 2)}


@pytest.fixture(scope="module")
def films(people, tmp_path_factory):
    """ada.mp4, and dan's two films in a folder of his; what a tracker sees in them, in that order."""
    folder = tmp_path_factory.mktemp("films")
    seen = [
        people["ada"].film(folder / "ada.mp4", 220),
        people["dan"].film(folder / "dan" / "a.mp4", 150, unseen=(*range(60, 70), 90)),
        people["dan"].film(folder / "dan" / "b.mp4", 80),
    ]
    return folder, seen


TERMS = Terms("ada and dan, on paper, 2026-11-01", "CC BY-NC 4.0", "non-commercial")


def make(films, folder, codec="raw", **options):
    """Write the set of a film or folder and what is seen in films[1]; return what was said."""
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edgetalk.targets, "Tracker", Tracker)
        Tracker.waiting = [list(faces) for faces in films[1]]
        settings = filmed.Settings(SIZE, codec, **options)
        filmed.write([films[0]], folder, TERMS, settings, say=said.append)
    return said


@pytest.fixture(scope="module")
def made(films, tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return folder, make(films, folder)


def test_takes_are_divided_and_what_is_left_out_is_told(made):
    folder, said = made
    data = load(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["frames.npy", "labels.npz", "sheet.jpg", "speech.npz"]
    # dan: takes of 60, 59 and 80 frames, 32 of them for tests, and before these 25 for nothing
    wanted = [(0, 160, TRAIN), (0, 35, TEST), (1, 60, TRAIN), (1, 59, TRAIN), (1, 32, TEST)]
    assert [(c.person, c.frames, c.split) for c in data.clips] == wanted
    assert data.persons == data.voices == ("ada", "dan") and data.name == "filmed" and data.viseme is None
    assert said == [
        "ada, ada.mp4: 8.8 of 8.8 s, takes: 1",
        "dan, a.mp4: 4.8 of 6.0 s, takes: 2; 0.4 s without a face; 0.8 s in takes under 1 s",
        "dan, b.mp4: 3.2 of 3.2 s, takes: 1",
    ]
    assert describe(folder) == "filmed: 279 training frames, 67 test frames, 5 clips, 2 persons"
    assert data.terms == dataclasses.asdict(TERMS)
    assert np.isin(data.voice, data.voice[data.train]).all()  # a voice is its person's


SHOWN = [("ada", 0, 0), ("ada", 0, 185), ("dan", 1, 0), ("dan", 1, 91), ("dan", 2, 48)]  # who, film, first frame


def test_labels_are_those_of_the_drawing_in_one_upright_crop(made, people):
    data = load(made[0])
    for number, (clip, (name, _, first)) in enumerate(zip(data.clips, SHOWN, strict=True)):
        own = slice(clip.start, clip.start + clip.frames)
        drawn = [people[name].at(first + i) for i in range(clip.frames)]
        assert (data.clip[own] == number).all() and np.array_equal(data.frame[own], np.arange(clip.frames))
        assert (data.person[own] == clip.person).all() and (data.voice[own] == clip.person).all()
        assert np.array_equal(data.pose[own], [np.float32(people[name].controls[i].pose) for i in drawn])
        assert np.array_equal(data.blink[own], [np.float32(people[name].controls[i].blink) for i in drawn])
        truth = people[name].landmarks[drawn]
        found = data.landmarks[own]
        # one scale and one shift for all frames of a take, and no turn
        scale, *shift = fit(truth[:, SEEN], found[:, SEEN])
        assert 0.8 < scale < 1.25 and np.abs(np.array(shift) - (1 - scale) / 2).max() < 0.15
        off = np.linalg.norm(found - (truth * scale + shift), axis=-1) * 256
        assert off[:, SEEN].max() < 4 and off[:, SEEN].mean() < 0.6  # lids and lips are bent between landmarks
        assert off[:, 33:51].mean() < 1.5
        assert off[:, :33].mean() < 8  # along the outline in other steps


def fit(truth, found):
    """Scale and shift, least squares."""
    a, b = truth.reshape(-1, 2), found.reshape(-1, 2)
    scale = ((a - a.mean(0)) * (b - b.mean(0))).sum() / ((a - a.mean(0)) ** 2).sum()
    return (scale, *(b.mean(0) - scale * a.mean(0)))


def test_pictures_are_where_their_landmarks_are(made, people):
    data = load(made[0])
    for clip, (name, _, first) in zip(data.clips, SHOWN, strict=True):
        scale, *shift = fit(
            people[name].landmarks[[people[name].at(first + i) for i in range(clip.frames)]][:, SEEN],
            data.landmarks[clip.start : clip.start + clip.frames, SEEN],
        )
        for i in (0, clip.frames - 1):
            shot = people[name].pictures[people[name].at(first + i)].astype(float)
            at = (np.arange(SIZE) + 0.5) / SIZE
            rows, columns = (((at - s) / scale * DRAWN + edge - 0.5) for s, edge in ((shift[1], TOP), (shift[0], LEFT)))
            grid = np.meshgrid(rows, columns, indexing="ij")
            wanted = np.stack([map_coordinates(shot[..., c], grid, order=1, mode="nearest") for c in range(3)], -1)
            error = np.mean((wanted - data.frames[clip.start + i]) ** 2)
            assert 10 * np.log10(255**2 / error) > 26


def test_sound_is_that_of_the_frames(made):
    data = load(made[0])
    for clip, (_, film, first) in zip(data.clips, SHOWN, strict=True):
        assert len(clip.pcm) == 640 * clip.frames
        whole = voice((220, 150, 80)[film])
        truth = whole[640 * first :][: len(clip.pcm)]
        heard = clip.pcm[2000:-2000]
        alike = np.corrcoef(heard, truth[2000:-2000])[0, 1]
        assert alike > 0.97
        assert abs(np.sqrt(np.mean(heard**2)) - 0.08) < 0.01


def test_all_that_the_film_lets_hear_around_a_frame_is_heard(films, made):
    """Also at the ends of a take, where the person speaks on."""
    spec = AudioSpec()
    footage = Footage.load(made[0], size=32, versions=1, device="cpu")
    data = load(made[0])
    for number, (clip, (_, film, first)) in enumerate(zip(data.clips, SHOWN, strict=True)):
        pcm = sound(Reader(films[0] / ("ada.mp4", "dan/a.mp4", "dan/b.mp4")[film]))
        assert len(pcm) == 640 * (220, 150, 80)[film]
        quiet = np.zeros(20 * 640, np.float32)  # before the film and behind it
        whole = np.concatenate([quiet, np.round(pcm * 32767) / np.float32(32767), quiet])
        mel = log_mel(whole[640 * first : 640 * (first + clip.frames + 40)], spec)
        wanted = windows(mel, clip.frames, spec, Fraction(25), 20)
        heard = footage.windows(torch.from_numpy(np.flatnonzero(data.clip == number)))
        assert np.abs(heard.numpy() - wanted).max() < 0.01


def test_pictures_that_must_be_enlarged_are_told(made):
    with pytest.warns(UserWarning, match=f"has pictures of {SIZE} pixels, enlarged to 128, .*; give --size {SIZE}"):
        footage = Footage.load(made[0], size=128, versions=1, device="cpu")
    assert footage.frames.shape[1:] == (128, 128, 3)


def test_sets_from_before_they_held_the_sound_around_are_read(made, tmp_path):
    for path in made[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with np.load(made[0] / "speech.npz") as file:
        np.savez(tmp_path / "speech.npz", **{name: file[name] for name in file.files if name != "around"})
    old, new = (Footage.load(folder, size=32, versions=1, device="cpu") for folder in (tmp_path, made[0]))
    assert old.digest == new.digest
    index = torch.arange(60, 100)  # far from the ends
    torch.testing.assert_close(old.windows(index), new.windows(index))


def test_an_interrupted_command_goes_on_also_with_other_films(films, made, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filmed, "_describe", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make((films[0] / "ada.mp4", films[1]), tmp_path, "h264")
    assert not (tmp_path / "labels.npz").exists() and len(list((tmp_path / "clips").iterdir())) == 2
    make((films[0], films[1][1:]), tmp_path, "h264")  # ada is not tracked again
    raw, small = load(made[0]), load(tmp_path)
    for name in ("landmarks", "pose", "blink", "clip", "split"):
        assert np.array_equal(getattr(raw, name), getattr(small, name))
    assert np.mean((raw.frames.astype(float) - small.frames) ** 2) < 255**2 / 10**3.2
    assert not (tmp_path / "filmed.parts").exists()


def test_pictures_of_what_was_begun_are_not_taken_for_those_of_other_films(tmp_path):
    note, left = tmp_path / "asked.json", [tmp_path / n for n in ("frames.npy", "speech.npz", "clips/00000.mp4")]
    filmed._begin(tmp_path, note, {"films": "ada"})
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "ada.mp4").write_bytes(b"a film that somebody has put there")
    for asked, stays in (({"films": "ada"}, True), ({"films": "dan"}, False)):
        for path in left:
            path.write_bytes(b"of ada")
        filmed._begin(tmp_path, note, asked)
        assert [path.exists() for path in left] == [stays] * 3 and (tmp_path / "clips" / "ada.mp4").exists()


@pytest.mark.parametrize("name", ["clips/00000.mp4", "clips/ada.mp4", "frames.npy"])
def test_files_that_no_set_has_begun_are_never_touched(films, tmp_path, name):
    """As where somebody's own films lie in a folder `clips` and the set is asked for beside it."""
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_bytes((films[0] / "ada.mp4").read_bytes())
    message = f"{re.escape(str(tmp_path))}: has {name.split('/')[0]}, which was not begun here; choose another folder$"
    for codec in ("h264", "raw"):
        with pytest.raises(InputError, match=message):
            make((own if own.suffix == ".mp4" else films[0] / "ada.mp4", films[1]), tmp_path, codec)
        with pytest.raises(InputError, match=message):
            announcers.write(tmp_path, "announcers-6", 12, 0, 32, codec, workers=1)
    assert own.read_bytes() == (films[0] / "ada.mp4").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [name.split("/")[0]]


def test_a_set_that_is_there_stays_and_another_is_refused(films, made, tmp_path):
    before = (made[0] / "labels.npz").stat().st_mtime_ns
    (made[0] / "filmed.parts").mkdir()  # of a command that was killed when all but this was done
    make((films[0], []), made[0])
    assert (made[0] / "labels.npz").stat().st_mtime_ns == before and not (made[0] / "filmed.parts").exists()
    for options in ({"face": "0"}, {"codec": "h264"}):
        with pytest.raises(InputError, match="choose another folder"):
            make((films[0], []), made[0], **options)
    write_speech(tmp_path, Plan("announcers-6", 60, 0), 1)
    with pytest.raises(InputError, match="or of announcers; choose another folder"):
        make((films[0], []), tmp_path)
    with pytest.raises(InputError, match="'filmed', expected announcers; choose another folder"):
        announcers.write(made[0])


def test_it_is_trained_on_and_the_consent_goes_along(made, tmp_path):
    footage = Footage.load(made[0], size=32, versions=1, device="cpu")
    assert footage.terms["consent"] == TERMS.consent and footage.persons == ("ada", "dan")
    assert len(footage.train) == 279 and len(footage.test) == 67
    assert footage.windows(footage.train[:3]).std() > 0.1
    recipe = AMNetRecipe(Config(size=32, width=0.1, batch=2, images=2), footage)
    assert all(bool(loss.isfinite()) for loss in recipe.step(0).values())
    recipe.save_checkpoint(tmp_path / "amnet.safetensors")
    read = load_checkpoint(tmp_path / "amnet.safetensors")
    assert read.training["terms"] == dataclasses.asdict(TERMS)
    assert read.persons == ("ada", "dan") and read.sources["ada"].shape == (32, 32, 3)
    drawn = dataclasses.replace(footage, terms={})
    start = str(tmp_path / "amnet.safetensors")
    went_on = AMNetRecipe(Config(size=32, width=0.1, batch=2, images=2, start=start), drawn)
    assert went_on.terms == dataclasses.asdict(TERMS)  # what was learnt from them is still in it


def test_terms_of_several_sets_are_the_narrowest():
    a = {"consent": "ada", "licence": "", "use": "any"}
    b = {"consent": "dan", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    assert joined([a, {}, b, a]) == {"consent": "ada; dan", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    assert joined([{}, a]) == a and joined([{}]) == {}


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([None] * 40, "film.mp4 shows no face in 40 frames"),
        ("a track beside it", "film.mp4 has a track file beside it, which tells no landmarks"),
        ("all", "film: got 1.6 s of face and voice .* too little for training and tests"),
    ],
)
def test_films_that_cannot_be_used_are_told_in_one_line(people, faces, message, tmp_path, monkeypatch, capfd):
    seen = people["ada"].film(tmp_path / "film.mp4", 40)
    if faces == "a track beside it":
        write_track(tmp_path / "film.track.npz", seen, Fraction(25))
    monkeypatch.setattr(edgetalk.targets, "Tracker", Tracker)
    Tracker.waiting = [seen if isinstance(faces, str) else faces]
    refused(["filmed", str(tmp_path / "film.mp4"), "--consent", "x", "-o", str(tmp_path / "set")], message, capfd)
    assert not (tmp_path / "set" / "labels.npz").exists()


def test_all_films_are_opened_before_one_is_tracked(people, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "films"
    people["ada"].film(folder / "ada.mp4", 40)
    (folder / "dan.mp4").write_bytes((folder / "ada.mp4").read_bytes()[:9000])
    (folder / "eli.mov").touch()
    monkeypatch.setattr(edgetalk.targets, "Tracker", Tracker)
    Tracker.waiting = []  # who tracks is told nothing, which raises
    message = r"dan.mp4 is .*, and 1 other film cannot be used either; put that right or take it away"
    refused(["filmed", str(folder), "--consent", "x", "-o", str(tmp_path / "set")], message, capfd)


def test_a_full_disk_and_a_damaged_clip_are_told_and_leave_nothing(tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    dataset.encode(tmp_path / "clips" / "00000.mp4", pictures, 32)
    for count in (2, 4):
        with pytest.raises(InputError, match=f"00000.mp4 is damaged: got 3 frames, expected {count}"):
            dataset._decode(tmp_path, np.array([0, count]), 32)
    with dataset.new_frames(tmp_path, 300, 32):
        part = (tmp_path / "frames.npy.part").stat()
        assert not hasattr(os, "posix_fallocate") or part.st_blocks * 512 >= 300 * 32 * 32 * 3  # else a signal tells
    (tmp_path / "frames.npy").unlink()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"No space left on device: '.*frames.npy'"):
        dataset._decode(tmp_path, np.array([0, 3]), 32)
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def refused(arguments, message, capfd):
    assert main(["data", *arguments]) == 1
    lines = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("edgetalk")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]


def test_wrong_arguments_are_told_in_one_line(films, tmp_path, capfd):
    ada, out = str(films[0] / "ada.mp4"), ["-o", str(tmp_path / "set")]
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "more.mp4").write_bytes((films[0] / "ada.mp4").read_bytes())
    refused(["filmed", ada, str(tmp_path), "--consent", "x", *out], "two persons called 'ada'", capfd)
    refused(["filmed", ada, "--consent", " ", *out], "who agreed to it", capfd)
    refused(["filmed", "nowhere.mp4", "--consent", "x", *out], "nowhere.mp4", capfd)
    refused(["filmed", ada, "--consent", "x", "--face-models", str(tmp_path), *out], "No such face model", capfd)
    (tmp_path / "empty").mkdir()
    refused(["filmed", str(tmp_path / "empty"), "--consent", "x", *out], "a folder without a film", capfd)
    assert main(["data", "filmed", ada, *out]) == 2
    assert "--consent" in capfd.readouterr().err


# --- the real networks, on announcers -----------------------------------------------------------------------------


@pytest.mark.usefixtures("tracking_networks")
@pytest.mark.parametrize("name", ["ada", "dan"])
def test_the_tracker_sees_what_was_drawn(name, tmp_path):
    rng = np.random.default_rng(5)
    count, announcer = 50, Announcer(CAST[name], DRAWN)
    poses = 0.5 * motion.head_motion(count, 25, rng)
    mouths = np.array([0.5 + 0.5 * np.sin(i / 2) for i in range(count)])[:, None] * SHAPES["aa"]
    controls = [Controls(mouth, pose, np.zeros(2)) for mouth, pose in zip(mouths, poses, strict=True)]
    with Writer(tmp_path / "film.mp4", (WIDTH, HEIGHT), Fraction(25), voice(count), crf=12) as writer:
        for one in controls:
            picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            picture[TOP : TOP + DRAWN, LEFT : LEFT + DRAWN] = announcer.draw(one)
            writer.write(picture)
    track = filmed.look(Reader(tmp_path / "film.mp4"))
    assert track.seen.all()
    truth = np.array([announcer.landmarks(one) for one in controls])
    off = np.linalg.norm(track.landmarks - inside(truth), axis=-1) / DRAWN * 256
    outline, *others = (part.mean() for part in np.split(off, [33, 51, 66, 86], axis=1))
    assert outline < 10 and max(others) < 6, (outline, others)  # brows, nose, eyes, mouth; pixels of 256
    assert np.degrees(np.abs(track.pose - poses)).mean() < 4
    assert np.corrcoef(inner_opening(track.landmarks), inner_opening(truth))[0, 1] > 0.85
