"""Avatars of films, and sessions that walk them, on real graphs of WavSyncSwap with random weights."""

import dataclasses
import re
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest

import edgetalk
import edgetalk.film_avatar
import edgetalk.portrait
from edgetalk import Session, bundled
from edgetalk import avatar as avatars
from edgetalk import planes as codec
from edgetalk.backends import open_engine
from edgetalk.backends.openvino import widen
from edgetalk.cli import main
from edgetalk.errors import BackendError, InputError, ModelError
from edgetalk.face import Face, write_track
from edgetalk.files import sha256
from edgetalk.film_avatar import make_film_avatar
from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.picture import read_picture
from edgetalk.postprocess import change, feather
from edgetalk.preprocess import TEMPLATES, align, crop_matrix
from edgetalk.reader import Reader
from edgetalk.writer import Writer

from .conftest import save_unchecked
from .face.doubles import frame as squares

WIDTH, HEIGHT, FRAMES = 160, 120, 12
SPEC = AudioSpec(window=16, offset=-6.4)


def points(i):
    """Of the drawn face in picture i: it wanders, turns and comes nearer."""
    turn, size = 0.02 * i, 50 + i
    matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return ((TEMPLATES["wavsyncswap"] - 0.5) @ matrix.T + (70 + 1.5 * i, 60)).astype(np.float32)


def picture(i, seed=4):
    """A soft background with five dots for a face, uint8 (HEIGHT, WIDTH, 3)."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3)), (0, 0), 6)
    frame = np.clip(noise / noise.std() * 40 + 128, 0, 255).astype(np.uint8)
    for k, point in enumerate(points(i)):
        cv2.circle(frame, [int(round(float(v))) for v in point], 5, [(250, 30, 40 * k), (30, 200, 40 * k)][k % 2], -1)
    return frame


def face(i):
    at = points(i)
    box = np.array([*(at.min(0) - 10), *(at.max(0) + 10)], np.float32)
    return Face(box, at, 1.0, None, np.zeros(3, np.float32), np.zeros(2, np.float32))


def write_film(path, frames=FRAMES, fps=Fraction(25), unseen=()):
    with Writer(path, (WIDTH, HEIGHT), fps, crf=1) as writer:
        for i in range(frames):
            writer.write(picture(i))
    faces = [None if i in unseen else face(i) for i in range(frames)]
    write_track(path.with_name(f"{path.stem}.track.npz"), faces, fps, (WIDTH, HEIGHT))
    return path


@pytest.fixture(scope="module")
def given(swaps, tmp_path_factory):
    """Folder with the engines (.onnx, and .xml in int8 by their own build), a film and a portrait with their tracks."""
    from edgetalk.engines import build, gate
    from edgetalk.export import to_onnx

    folder = tmp_path_factory.mktemp("film")
    swaps.write(folder)
    to_onnx(folder / "wavsyncswap.safetensors", folder / "wavsyncswap.onnx", family="wavsyncswap")
    to_onnx(folder / "wavsyncswap.safetensors", folder / "whole.onnx", family="wavsyncswap", whole=True)
    build(folder / "wavsyncswap.onnx", folder / "wavsyncswap.xml")
    assert gate.FLOORS["f32"]["ssim"] > 0.99
    write_film(folder / "target.mp4")
    cv2.imwrite(str(folder / "portrait.png"), picture(7, seed=9)[..., ::-1])
    write_track(folder / "portrait.track.npz", [face(7)], Fraction(25))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETALK_CACHE", str(tmp_path_factory.mktemp("cache")))  # a network and its copies compile once
        yield folder


@pytest.fixture(scope="module")
def shown(given):
    """An avatar with the film's pictures."""
    told = {"licence": "CC0-1.0", "consent": "drawn by us", "name": "nobody"}
    return make_film_avatar(given / "wavsyncswap.onnx", given / "target.mp4", given / "portrait.png", **told)


@pytest.fixture(scope="module")
def avatar(shown):
    """The same with its crops alone."""
    return dataclasses.replace(shown, film=dataclasses.replace(shown.film, pictures=None))


def mels(count, seed=0):
    return np.random.default_rng(seed).uniform(-4, 4, (count, 16, 80)).astype(np.float32)


def ping_pong(count, frames):
    """0 … frames - 1 … 0, written out."""
    there = list(range(frames))
    return (there + there[-2:0:-1]) * count


# --- what an avatar holds


def test_every_frame_is_cropped_as_its_track_says_and_put_through_the_source_engine(given, avatar):
    film = avatar.film
    source, identity = (open_engine(given / f"wavsyncswap-{role}.onnx") for role in ("source", "identity"))
    portrait = read_picture(given / "portrait.png")
    wanted = align(portrait, crop_matrix("wavsyncswap", points(7), 96), 96)
    assert np.array_equal(avatar.source, wanted)
    vector = identity.run({"portrait": wanted[None]})["identity"].copy()
    assert np.array_equal(film.identity, vector)
    crops = []
    for i, frame in enumerate(Reader(given / "target.mp4").planes()):
        matrix = crop_matrix("wavsyncswap", points(i), 96)
        np.testing.assert_allclose(film.matrices[i], matrix, rtol=1e-6)
        crops.append(codec.crop(frame, matrix, 96))
    assert len(film.target) == FRAMES and np.array_equal(film.target, crops), "as dubbing has it"
    assert film.at.tolist() == list(range(FRAMES))
    for i, other in ((0, 8), (7, 8), (8, 0), (11, 0)):  # eight frames away: as in training
        assert np.array_equal(film.reference[i], film.target[other])
        feeds = {"target": film.target[i][None], "reference": film.target[other][None], "identity": vector}
        for name, value in source.run(feeds).items():
            assert np.array_equal(avatar.features[name][i], value[0].astype(np.float16)), name
    np.testing.assert_allclose(avatar.boxes[3], face(3).box)
    assert (film.size, film.fps) == ((WIDTH, HEIGHT), 25)


def test_a_saved_film_is_loaded_and_its_features_stay_in_the_file(avatar, tmp_path):
    path = tmp_path / "x.avatar"
    avatars.save_avatar(dataclasses.replace(avatar, use="non-commercial"), path)
    loaded = avatars.load_avatar(path)
    for field in ("family", "weights", "licence", "consent", "name"):
        assert getattr(loaded, field) == getattr(avatar, field)
    assert loaded.use == "non-commercial" and loaded.name == "nobody"
    assert loaded.film is not None and (loaded.film.size, loaded.film.fps) == (avatar.film.size, avatar.film.fps)
    for name in avatars.FILM:
        assert np.array_equal(getattr(loaded.film, name), getattr(avatar.film, name))
    assert loaded.film.pictures is None and np.isnan(loaded.film.jaws).all(), "its track is of before there were jaws"
    for name, values in avatar.features.items():
        assert np.array_equal(loaded.features[name], values)
        base = loaded.features[name]
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)


def test_a_film_of_another_rate_is_shown_at_the_networks(given, tmp_path):
    """30 pictures per second, 25 frames: each frame shows the picture at the middle of its time."""
    write_film(tmp_path / "film.mp4", fps=Fraction(30))
    made = make_film_avatar(given / "wavsyncswap.onnx", tmp_path / "film.mp4", given / "portrait.png")
    assert made.film.at.tolist() == [0, 1, 3, 4, 5, 6, 7, 9, 10, 11]  # (i + 1/2) * 30 / 25, whole part
    assert made.film.fps == 30


def test_the_longest_stretch_with_a_face_is_kept(given, tmp_path):
    write_film(tmp_path / "film.mp4", unseen=(0, 3, 4, 10))
    made = make_film_avatar(given / "wavsyncswap.onnx", tmp_path / "film.mp4", given / "portrait.png")
    assert made.film.at.tolist() == [5, 6, 7, 8, 9]
    made = make_film_avatar(given / "wavsyncswap.onnx", tmp_path / "film.mp4", given / "portrait.png", seconds=0.2)
    assert made.film.at.tolist() == [1, 2]


def test_a_face_beside_the_picture_is_none(given, tmp_path):
    path = write_film(tmp_path / "film.mp4")
    faces = [face(i) for i in range(FRAMES)]
    faces[4:] = [dataclasses.replace(each, points=each.points + 900) for each in faces[4:]]
    write_track(tmp_path / "film.track.npz", faces, Fraction(25), (WIDTH, HEIGHT))
    assert make_film_avatar(given / "wavsyncswap.onnx", path, given / "portrait.png").frames == 4


def test_what_is_tracked_is_told_before_what_is_prepared(given, tmp_path):
    path, told = write_film(tmp_path / "film.mp4", fps=Fraction(30)), []
    make_film_avatar(
        given / "wavsyncswap.onnx",
        path,
        given / "portrait.png",
        tracking=lambda *done: told.append(("track", *done)),
        progress=lambda *done: told.append(("avatar", *done)),
    )
    assert told == [(what, i + 1, 10) for what in ("track", "avatar") for i in range(10)]


def test_a_stretch_ends_at_a_cut(given, tmp_path):
    with Writer(tmp_path / "film.mp4", (WIDTH, HEIGHT), Fraction(25), crf=1) as writer:
        for i in range(FRAMES):
            writer.write(picture(i) if i < 5 else 255 - picture(i))
    for unseen, kept in (((), range(5, 12)), ((9,), range(5)), ((4, 5), range(6, 12))):
        faces = [None if i in unseen else face(i) for i in range(FRAMES)]
        write_track(tmp_path / "film.track.npz", faces, Fraction(25))
        made = make_film_avatar(given / "wavsyncswap.onnx", tmp_path / "film.mp4", given / "portrait.png")
        assert made.film.at.tolist() == list(kept)


# --- sessions


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_steps_walk_the_film_to_and_fro(given, avatar, suffix):
    backend = open_engine(given / f"wavsyncswap{suffix}")
    with Session(given / f"wavsyncswap{suffix}", avatar=avatar) as session:
        assert session.inputs == {"mel": (16, 80)} and session.size == (96, 96)
        heard = mels(2 * FRAMES + 3)
        for step, k in enumerate(ping_pong(2, FRAMES)[: len(heard)]):
            features = {name: values[k : k + 1].astype(np.float32) for name, values in avatar.features.items()}
            wanted = backend.run({**features, "mel": heard[step : step + 1]})["frame"][0]
            assert np.array_equal(session.step(heard[step]), wanted)
            assert session.shown == k


def test_engine_and_onnx_make_the_same_frames(given, avatar):
    with (
        Session(given / "wavsyncswap.xml", avatar=avatar) as one,
        Session(given / "wavsyncswap.onnx", avatar=avatar) as b,
    ):
        for mel in mels(3):
            assert np.abs(one.step(mel).astype(int) - b.step(mel)).max() <= 1


def test_a_whole_graph_takes_the_films_pictures(given, avatar):
    with (
        Session(given / "whole.onnx", avatar=avatar) as whole,
        Session(given / "wavsyncswap.onnx", avatar=avatar) as split,
    ):
        for mel in mels(14):  # beyond the turning point
            assert np.abs(whole.step(mel).astype(int) - split.step(mel)).max() <= 2  # features are halves


def test_talk_and_stream_hear_the_windows_of_the_sound(given, avatar):
    pcm = np.random.default_rng(3).normal(0, 0.1, 16000).astype(np.float32)
    cut = windows(log_mel(pcm, SPEC), 25, SPEC, Fraction(25))
    with Session(given / "wavsyncswap.xml", avatar=avatar) as session:
        wanted = [session.step(window) for window in cut]
        session.step(cut[0])  # talk begins with the avatar's first frame, whatever was before
        talked = list(session.talk(pcm))
        streamed = list(session.stream(np.array_split(pcm, 7)))
    assert len(talked) == len(streamed) == 25
    for made in (talked, streamed):
        assert np.abs(np.stack(made).astype(int) - np.stack(wanted)).max() <= 1


def test_what_a_step_shows_goes_back_where_it_came_from(given, avatar):
    """The crop of the frame that was shown, pasted by its matrix, is the film's picture again; another's is not."""
    frames = list(Reader(given / "target.mp4").planes())
    with Session(given / "wavsyncswap.onnx", avatar=avatar) as session:
        for mel in mels(FRAMES + 2):
            session.step(mel)
        k = session.shown
    assert k == FRAMES - 3

    def pasted(i):
        planes, matrix = frames[int(avatar.film.at[k])].copy(), avatar.film.matrices[i].astype(np.float64)
        codec.blend(planes, *change(avatar.film.target[i], feather(96)), matrix)
        return codec.to_rgb(planes)

    shown = codec.to_rgb(frames[k])
    inside = [np.abs(pasted(i).astype(int) - shown)[30:90, 40:120].mean() for i in (k, k - 4)]
    assert inside[0] < 2 < 4 < inside[1]


def test_an_avatar_of_other_weights_is_prepared_again_from_its_crops(given, avatar, swaps, tmp_path):
    from edgetalk.export import to_onnx

    swaps.write(tmp_path, seed=6)
    to_onnx(tmp_path / "wavsyncswap.safetensors", tmp_path / "wavsyncswap.onnx", family="wavsyncswap")
    own = make_film_avatar(tmp_path / "wavsyncswap.onnx", given / "target.mp4", given / "portrait.png")
    assert own.weights != avatar.weights
    told = r"the avatar was prepared with other weights than those of wavsyncswap.onnx.*: edgetalk.save_avatar"
    with pytest.warns(UserWarning, match=told):
        session = Session(tmp_path / "wavsyncswap.onnx", avatar=avatar)
    for name, values in own.features.items():
        assert np.array_equal(session.avatar.features[name], values)
    assert session.avatar.licence == "CC0-1.0"
    (tmp_path / "wavsyncswap-identity.onnx").unlink()
    with pytest.raises(ModelError, match="there is neither wavsyncswap-identity.onnx nor arcface.onnx beside it"):
        Session(tmp_path / "wavsyncswap.onnx", avatar=avatar)
    (tmp_path / "wavsyncswap-source.onnx").unlink()
    with pytest.raises(ModelError, match="other weights than .*, and there is no wavsyncswap-source.onnx"):
        Session(tmp_path / "wavsyncswap.onnx", avatar=avatar)


def test_a_face_may_forbid_commercial_use(given, avatar):
    mine = dataclasses.replace(avatar, use="non-commercial", licence="CC BY-NC 4.0")
    Session(given / "wavsyncswap.xml", avatar=mine).close()
    Session(given / "wavsyncswap.xml", avatar=avatar, use="commercial").close()
    with pytest.raises(ModelError, match=r"the avatar is for non-commercial use \(licence: CC BY-NC 4.0\), and comm"):
        Session(given / "wavsyncswap.xml", avatar=mine, use="commercial")


def limit(folder, role):
    """Have the network of that role say that it is limited, and the others name it as it is then."""
    import onnx
    from onnx.helper import set_model_props

    told = {}
    for part in ("identity", "source", "step"):
        path = folder / f"wavsyncswap{'' if part == 'step' else f'-{part}'}.onnx"
        model = onnx.load(path)
        metadata = Metadata.from_json({prop.key: prop.value for prop in model.metadata_props}["edgetalk"], path.name)
        terms = {"use": "non-commercial", "licence": "for research"} if part == role else {}
        set_model_props(model, {"edgetalk": dataclasses.replace(metadata, **told, **terms).to_json()})
        onnx.save(model, path)
        told[part] = sha256(path)


@pytest.mark.parametrize("role", ["identity", "source"])
def test_a_film_keeps_the_terms_of_what_prepared_it(copied, avatar, capsys, role):
    limit(copied, role)
    engine, out = copied / "wavsyncswap.onnx", copied / "x.avatar"
    command = ["avatar", str(engine), "--video", str(copied / "target.mp4"), "--portrait", str(copied / "portrait.png")]
    command += ["--seconds", "0.1", "-o", str(out)]
    assert main([*command, "--use", "any"]) == 1 and not out.exists()
    told = f"use: got any, and wavsyncswap-{role}(.onnx)?, which prepares the face, is for non-commercial use"
    assert re.search(told, capsys.readouterr().err)
    assert main(command) == 0 and capsys.readouterr().out.endswith("MB, for non-commercial use\n")
    assert main(["doctor", str(out)]) == 0 and "non-commercial use, for research" in capsys.readouterr().out
    with pytest.raises(ModelError, match="x.avatar is for non-commercial use"):
        Session(engine, avatar=out, use="commercial")
    limited = "wavsyncswap-source.onnx" if role == "source" else "x.avatar"
    with pytest.raises(ModelError, match=f"{limited} is for non-commercial use"):
        edgetalk.dub(engine, copied / "target.mp4", mels(1).ravel(), copied / "o.mp4", out, use="commercial")
    with pytest.raises(ModelError, match="what prepares faces for wavsyncswap.onnx is for non-commercial use"):
        Session(engine, avatar=avatar, use="commercial")  # of other weights
    with pytest.warns(UserWarning, match="has been prepared again"):
        prepared = Session(engine, avatar=avatar).avatar
    assert (avatar.use, prepared.use, prepared.licence) == ("any", "non-commercial", "CC0-1.0")


# --- what is refused


def test_avatars_of_other_families_are_refused(given, avatar, zoo):
    with pytest.raises(ModelError, match="amnet.avatar is of .*edgetalk avatar .* --video FILM --portrait PICTURE$"):
        Session(given / "wavsyncswap.xml", avatar=zoo.root / "onnx/amnet.avatar")
    with pytest.raises(ModelError, match="^the avatar is of wavsyncswap and amnet.onnx is amnet; prepare one for it"):
        Session(zoo.root / "onnx/amnet.onnx", avatar=avatar)
    with pytest.raises(ModelError, match="wavsyncswap.xml has no wavsyncswap.avatar beside it; .* --video FILM"):
        Session(given / "wavsyncswap.xml")
    with pytest.raises(
        ModelError, match="expected source; this model.s avatars are made by: edgetalk avatar ENGINE --vi"
    ):
        Session(given / "wavsyncswap.xml", source=zoo.face(96))


def test_what_prepares_a_film_gets_the_device_and_threads(given, monkeypatch):
    opened = []

    def spy(path, **options):
        opened.append((path.name, options["device"], options["threads"]))
        return open_engine(path, **options)

    monkeypatch.setattr("edgetalk.model.open_engine", spy)
    asked = {"device": "CPU", "threads": 1}
    made = make_film_avatar(
        given / "wavsyncswap.onnx", given / "target.mp4", given / "portrait.png", seconds=0.1, **asked
    )
    edgetalk.film_avatar.recompute(made, given / "wavsyncswap.onnx", **asked)
    assert opened == [(f"wavsyncswap-{role}.onnx", "CPU", 1) for role in ("source", "identity")] * 2


@pytest.fixture
def copied(given, tmp_path):
    for file in given.iterdir():
        if file.suffix in (".onnx", ".mp4", ".png", ".npz"):
            shutil.copy(file, tmp_path)
    return tmp_path


def lose(name):
    return lambda folder: (folder / name).unlink()


def other_extractor(folder):
    shutil.copy(folder / "whole.onnx", folder / "wavsyncswap-identity.onnx")


def changed_extractor(folder):
    import onnx

    path = folder / "wavsyncswap-identity.onnx"
    model = onnx.load(path)
    model.producer_name = "another"
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("spoil", "extra", "message"),
    [
        (lose("wavsyncswap-source.onnx"), [], "has no wavsyncswap-source.onnx beside it, which prepares avatars"),
        (lose("wavsyncswap-identity.onnx"), [], "there is neither wavsyncswap-identity.onnx nor arcface.onnx"),
        (other_extractor, [], "takes target, reference, identity, mel, expected an extractor"),
        (changed_extractor, [], "is not the extractor that the network was exported with"),
        (lambda f: write_track(f / "target.track.npz", [None] * FRAMES, Fraction(25)), [], "shows no face in its fir"),
        (lambda f: write_track(f / "target.track.npz", [face(0)] * 3, Fraction(25)), [], "has 3 frames and target.mp4"),
        (lambda f: write_track(f / "target.track.npz", [face(0)] * 13, Fraction(25)), [], "has 13 frames and targ"),
        (lambda f: write_track(f / "target.track.npz", [face(0)] * 12, Fraction(25), (80, 60)), [], "pictures of 80×"),
        (lambda f: write_track(f / "target.track.npz", [face(0)], Fraction(30)), [], "is of a film of 30 frames per"),
        (lambda f: write_track(f / "portrait.track.npz", [None], Fraction(25)), [], "portrait.track.npz has no face"),
        (lambda f: (f / "portrait.png").write_bytes(b"no"), [], "portrait.png is no whole picture"),
        (lambda f: (f / "target.mp4").write_bytes(b"no"), [], "target.mp4"),
        (lose("target.mp4"), [], "No such file"),
        (lambda f: None, ["--track", "nowhere.npz"], "nowhere.npz"),
        (lambda f: None, ["--identity", "nowhere.xml"], "nowhere.xml"),
        (lambda f: None, ["--seconds", "0"], "seconds: got 0"),
        (lambda f: None, ["--seconds", "inf"], "seconds: got inf"),
        (lambda f: None, ["--device", "FPGA"], 'device "FPGA" is missing'),
        (lambda f: None, ["picture.png"], "expected one of them"),
    ],
)
def test_bad_films_are_one_line(copied, monkeypatch, capsys, spoil, extra, message):
    monkeypatch.chdir(copied)
    spoil(copied)
    given = ["avatar", "wavsyncswap.onnx", *extra, "--video", "target.mp4", "--portrait", "portrait.png"]
    assert main([*given, "-o", "x.avatar"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0], lines
    assert not list(copied.glob("*.avatar*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of them"),
        (["--video", "target.mp4"], "portrait: got none"),
        (["portrait.png", "--seconds", "3"], "seconds: is of films"),
        (["none/face.png"], "none/face.png: No such file or directory"),  # and no folder to make
        (["portrait.png", "--face-models", "."], "face-models: nothing is looked for in a square; add --crop"),
        (["portrait.png", "--face", "largest"], "face: nothing is looked for in a square; add --crop"),
    ],
)
def test_what_is_missing_is_told(given, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(given)
    assert main(["avatar", "wavsyncswap.onnx", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_what_no_face_may_be_used_for_is_refused_before_anything_is_opened():
    with pytest.raises(InputError, match='use: got \'commercial\', expected "any" or "non-commercial"'):
        make_film_avatar("none.xml", "none.mp4", "none.png", use="commercial")


def test_a_bare_name_means_a_bundled_model(given, avatar, monkeypatch):
    monkeypatch.setattr(bundled, "MODELS", given)
    made = make_film_avatar("wavsyncswap", given / "target.mp4", given / "portrait.png", seconds=0.1)
    assert made.weights == avatar.weights and len(made.boxes) == 2


def test_a_network_for_pictures_takes_no_film(given, zoo):
    with pytest.raises(ModelError, match="amnet-source.onnx takes source, expected identity, reference, target; this"):
        make_film_avatar(zoo.root / "onnx/amnet.onnx", given / "target.mp4", given / "portrait.png")


def test_a_portrait_without_a_track_is_looked_at(given, tmp_path, monkeypatch):
    """Where the tracker's networks were fetched it finds no face in dots; else that is said."""
    shutil.copy(given / "portrait.png", tmp_path)
    with pytest.raises((InputError, BackendError), match="shows no face|edgetalk fetch face"):
        make_film_avatar(given / "wavsyncswap.onnx", given / "target.mp4", tmp_path / "portrait.png")


def test_the_face_models_that_are_named_find_the_faces_of_film_and_portrait(given, tmp_path, face_models, elsewhere):
    with Writer(tmp_path / "film.mp4", (320, 240), Fraction(25), crf=2) as writer:
        for i in range(5):
            writer.write(squares((150 + i, 120, 90)))
    cv2.imwrite(str(tmp_path / "p.png"), squares((150, 110, 100))[..., ::-1])
    command = ["avatar", given / "wavsyncswap.onnx", "--video", tmp_path / "film.mp4", "--portrait", tmp_path / "p.png"]
    command += ["-o", tmp_path / "x.avatar", "--face-models", face_models]
    assert main([str(word) for word in command]) == 0
    boxes = avatars.load_avatar(tmp_path / "x.avatar").boxes
    np.testing.assert_allclose(boxes[-1], (154 - 45, 120 - 45, 154 + 45, 120 + 45), atol=2)


# --- the command, and the file


def test_command_line(given, tmp_path, capsys):
    out = tmp_path / "x.avatar"
    command = ["avatar", str(given / "wavsyncswap.xml"), "--video", str(given / "target.mp4")]
    command += ["--portrait", str(given / "portrait.png"), "--use", "non-commercial", "--licence", "mine"]
    assert main([*command, "-o", str(out)]) == 0
    assert f"{out}: 12 frames" in capsys.readouterr().out
    loaded = avatars.load_avatar(out)
    assert (loaded.use, loaded.licence, len(loaded.film.target)) == ("non-commercial", "mine", FRAMES)
    assert main([*command, "--crops", "-o", str(tmp_path / "y.avatar")]) == 0
    crops = avatars.load_avatar(tmp_path / "y.avatar")
    assert crops.film.pictures is None and crops.film.jaws.shape == (FRAMES, 17, 2)
    assert np.array_equal(crops.film.target, loaded.film.target)
    with pytest.raises(ModelError, match="x.avatar is for non-commercial use"):
        Session(given / "wavsyncswap.xml", avatar=out, use="commercial")
    for kept, shape in ((out, (HEIGHT, WIDTH, 3)), (crops, (96, 96, 3))):
        with Session(given / "wavsyncswap.xml", avatar=kept) as session:
            assert session.step(mels(1)[0]).shape == shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda film: {"film": dataclasses.replace(film, matrices=film.matrices[:3])}, "it has 3 and 12 frames"),
        (lambda film: {"features": {"face": np.zeros((2, 12, 12, 8), np.float16)}}, "it has 2 and 12 frames"),
        (
            lambda film: {"film": dataclasses.replace(film, target=film.target[0])},
            r"its target has shape \(96, 96, 3\)",
        ),
        (lambda film: {"film": dataclasses.replace(film, jaws=film.jaws[..., 0])}, r"its jaws has shape \(12, 17\)"),
        (
            lambda film: {"film": dataclasses.replace(film, pictures=np.zeros((11, 9), np.uint8))},
            "it has 11 and 12 frames",
        ),
    ],
)
def test_films_that_do_not_hold_together_are_refused(avatar, tmp_path, change, message):
    save_unchecked(dataclasses.replace(avatar, **change(avatar.film)), tmp_path / "x.avatar")
    with pytest.raises(ModelError, match=f"x.avatar is no avatar: {message}; prepare it again"):
        avatars.load_avatar(tmp_path / "x.avatar")


def test_widening_halves_is_exact():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]  # every one there is, subnormal ones and -0 among them
    out = np.full(len(halves), np.nan, np.float32)
    widen(halves, out)
    assert np.array_equal(out.view(np.uint32), halves.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(("pictures", "size"), [(True, (WIDTH, HEIGHT)), (False, (96, 96))])
def test_a_film_speaks_in_a_video(given, shown, avatar, tmp_path, pictures, size):
    """The commands of AMNet work with a film: edgetalk talk."""
    avatars.save_avatar(shown if pictures else avatar, given / "wavsyncswap.avatar")
    try:
        sound, out = bundled.MODELS / "demo.flac", tmp_path / "out.mp4"
        assert main(["talk", str(given / "wavsyncswap.xml"), "--audio", str(sound), "-o", str(out)]) == 0
        assert Reader(tmp_path / "out.mp4").size == size
    finally:
        (given / "wavsyncswap.avatar").unlink()
