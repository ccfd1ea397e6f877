"""Avatar files: what is written, how it is read, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import struct
from fractions import Fraction

import cv2
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from edgetalk import InputError, ModelError, Session, bundled
from edgetalk import avatar as avatars
from edgetalk.backends import beside
from edgetalk.cli import main
from edgetalk.files import sha256
from edgetalk.film_avatar import make_film_avatar

from .conftest import save_unchecked


@pytest.fixture
def avatar() -> avatars.Avatar:
    rng = np.random.default_rng(1)
    return avatars.Avatar(
        source=rng.integers(0, 256, (32, 32, 3)).astype(np.uint8),
        features={"appearance": rng.normal(size=(1, 8, 8, 8)).astype(np.float16)},
        boxes=np.array([[3, 4, 67, 68]], np.float32),
        family="amnet",
        weights="ab" * 32,
        licence="CC0-1.0",
        consent="drawn by us; nobody is shown — 2026",
        name="ada",
    )


def test_what_is_saved_is_loaded(avatar, tmp_path):
    avatars.save_avatar(avatar, tmp_path / "ada.avatar")
    loaded = avatars.load_avatar(tmp_path / "ada.avatar")
    for field in ("family", "weights", "licence", "consent", "name"):
        assert getattr(loaded, field) == getattr(avatar, field)
    np.testing.assert_array_equal(loaded.source, avatar.source)
    np.testing.assert_array_equal(loaded.boxes, avatar.boxes)
    np.testing.assert_array_equal(loaded.features["appearance"], avatar.features["appearance"])
    assert [file.name for file in tmp_path.iterdir()] == ["ada.avatar"]
    assert loaded in [avatars.load_avatar(tmp_path / "ada.avatar"), loaded] and {loaded}  # arrays are not compared


def test_a_bare_name_means_a_bundled_face(avatar, tmp_path, monkeypatch):
    """As for a Session; what is called so in the current folder does not hide it."""
    monkeypatch.chdir(tmp_path)
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    monkeypatch.setattr("edgetalk.bundled.MODELS", bundled)
    avatars.save_avatar(avatar, bundled / "ada.avatar")
    avatars.save_avatar(dataclasses.replace(avatar, name="another"), tmp_path / "ada")
    assert avatars.load_avatar("ada").name == "ada" and avatars.load_avatar("./ada").name == "another"
    with pytest.raises(FileNotFoundError, match="no bundled avatar is called none; bundled here: ada"):
        avatars.load_avatar("none")
    with pytest.raises(FileNotFoundError, match="the bundled face is called by its bare name, ada"):
        avatars.load_avatar("ada.avatar")
    with pytest.raises(InputError, match="avatar: got NoneType, expected the path of an .avatar file, or a bundled"):
        avatars.load_avatar(None)


@pytest.mark.parametrize("count", [1, 5])
def test_frames_are_counted_by_their_boxes(avatar, count):
    assert dataclasses.replace(avatar, boxes=np.zeros((count, 4), np.float32)).frames == count


def test_features_stay_in_the_file(avatar, tmp_path):
    avatars.save_avatar(avatar, tmp_path / "ada.avatar")
    base = avatars.load_avatar(tmp_path / "ada.avatar").features["appearance"]
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_the_format_is_plain_safetensors(avatar, tmp_path):
    """The bytes, read without our code: a change of the format shows here."""
    avatars.save_avatar(avatar, tmp_path / "ada.avatar")
    data = (tmp_path / "ada.avatar").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    assert header["__metadata__"] == {
        "format": "1",
        "family": "amnet",
        "weights": "ab" * 32,
        "licence": "CC0-1.0",
        "consent": "drawn by us; nobody is shown — 2026",
        "name": "ada",
    }
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"} == {
        "source": ("U8", [32, 32, 3]),
        "appearance": ("F16", [1, 8, 8, 8]),
        "boxes": ("F32", [1, 4]),
    }
    assert set(safetensors.numpy.load(data)) == {"source", "appearance", "boxes"}


def _format(text):
    return lambda path: path.write_bytes(safetensors.numpy.save({"source": np.zeros(3, np.uint8)}, {"format": text}))


def _with(**changes):
    def damage(path):
        save_unchecked(dataclasses.replace(avatars.load_avatar(path), **changes), path)

    return damage


def _features(shape):
    return _with(features={"appearance": np.zeros(shape, np.float16)})


def _boxes(*shape):
    return _with(boxes=np.zeros(shape, np.float32))


def _other(path):
    path.write_bytes(safetensors.numpy.save({"weight": np.zeros(3, np.float32)}))


def _double(path):
    loaded = avatars.load_avatar(path)
    told = {key: getattr(loaded, key) for key in ("family", "weights", "licence", "consent", "name")}
    tensors = {"source": loaded.source, "boxes": loaded.boxes, "appearance": np.zeros((1, 8))}
    path.write_bytes(safetensors.numpy.save({key: np.array(value) for key, value in tensors.items()}, told))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "truncated or no avatar"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "truncated or no avatar"),
        (lambda path: path.write_bytes(b""), "truncated or no avatar"),
        (lambda path: path.write_text("a text, not an avatar at all"), "truncated or no avatar"),
        (_with(source=np.zeros((32, 30, 3), np.uint8)), r"is no avatar: its picture is uint8 \(32, 30, 3\)"),
        (_features(()), r"is no avatar: its appearance has shape \(\)"),
        (_features((0, 8)), "is no avatar: it has no frames"),
        (_boxes(), r"is no avatar: its boxes have shape \(\)"),
        (_boxes(1, 3), r"is no avatar: its boxes have shape \(1, 3\)"),
        (_boxes(2, 4), "is no avatar: it has 1 and 2 frames"),
        (_other, "is no avatar: it lacks 'family'"),
        (_double, "is no avatar: its appearance is F64, expected U8, F16, F32; prepare it again"),
        (
            lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
            "is a picture and no avatar; pass it as source=",
        ),
        (_format("2"), "is an avatar of format 2, this edgetalk reads up to 1; upgrade it"),
        (_format("9" * 5000), "is an avatar of format 999999999, this edgetalk reads up to 1; upgrade it"),
    ],
)
def test_files_that_are_no_avatar_are_refused(avatar, tmp_path, damage, message):
    path = tmp_path / "ada.avatar"
    avatars.save_avatar(avatar, path)
    damage(path)
    with pytest.raises(ModelError, match=f"^ada.avatar .*{message}") as caught:
        avatars.load_avatar(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        avatars.load_avatar(tmp_path / "bea.avatar")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_that_is_taken_for_an_avatar_is_told_what_to_do_with_it(tmp_path, suffix):
    path = tmp_path / f"my face.{suffix}"
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ModelError) as caught:
        avatars.load_avatar(path)
    assert str(caught.value) == (
        f"{path.name} is a picture and no avatar; pass it as source= or --source, or prepare it: "
        f"edgetalk avatar ENGINE '{path.name}' -o 'my face.avatar'"
    )


def test_a_failed_save_leaves_the_old_file(avatar, tmp_path):
    path = tmp_path / "ada.avatar"
    avatars.save_avatar(avatar, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="boxes: got <U4, an avatar holds uint8, float16, float32"):
        avatars.save_avatar(dataclasses.replace(avatar, boxes=np.array(["left"])), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "folder.avatar").mkdir()
    with pytest.raises(OSError):
        avatars.save_avatar(avatar, tmp_path / "folder.avatar")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ada.avatar", "folder.avatar"]


def test_features_that_would_be_drawn_as_noise_are_not_saved(avatar, tmp_path):
    for wrong in (np.nan, np.inf):
        features = {"appearance": avatar.features["appearance"].copy()}
        features["appearance"][0, 3, 3, 1] = wrong
        with pytest.raises(InputError, match="^appearance: got NaN or infinite numbers"):
            avatars.save_avatar(dataclasses.replace(avatar, features=features), tmp_path / "x.avatar")
    assert not list(tmp_path.iterdir())


def test_an_avatar_has_a_picture_of_its_own(zoo, tmp_path):
    whole = zoo.write("step", tmp_path / "whole.onnx", dataclasses.replace(zoo.metadata, source=""), whole=True)
    picture = zoo.face(32).copy()
    for made in (
        avatars.make_avatar(zoo.root / "onnx/amnet.onnx", picture),
        Session(whole, source=picture).avatar,
    ):
        before = made.source.copy()
        picture[:] = 255 - picture
        assert np.array_equal(made.source, before)


def test_an_avatar_is_prepared_for_another_engine(zoo, tmp_path, monkeypatch, capsys):
    engine = zoo.set("f32", tmp_path)
    own = avatars.load_avatar(tmp_path / "amnet.avatar")
    given = dataclasses.replace(
        own, features={"appearance": own.features["appearance"] + 1}, weights="x", licence="CC0-1.0", name="ada"
    )
    assert repr(given) == "<Avatar of ada, a picture, for amnet, any use>"
    avatars.save_avatar(given, tmp_path / "given.avatar")
    monkeypatch.chdir(tmp_path)
    assert main(["avatar", str(engine), "given.avatar", "-o", "new.avatar"]) == 0
    made = avatars.load_avatar(tmp_path / "new.avatar")
    assert (made.weights, made.licence, made.name) == (own.weights, "CC0-1.0", "ada")
    assert np.array_equal(made.source, own.source)
    np.testing.assert_allclose(made.features["appearance"], own.features["appearance"], atol=2e-3)
    capsys.readouterr()
    for extra, told in (
        (["--licence", "mine"], "licence: given.avatar has its own, which it keeps; leave it out"),
        (["--crop"], "crop: is of films and photos, given.avatar is prepared; leave it out"),
        (["--face", "0"], "face: is of films and photos"),
        (["-o", "given.avatar"], "given.avatar"),
    ):
        assert main(["avatar", str(engine), "given.avatar", "-o", "other.avatar", *extra]) == 1
        assert told in capsys.readouterr().err
    assert main(["avatar", str(engine), "zoe.avatar", "-o", "other.avatar"]) == 1
    assert "zoe.avatar: No such file" in capsys.readouterr().err and not (tmp_path / "other.avatar").exists()


def test_a_bundled_face_is_prepared_for_another_bundled_model(tmp_path, capsys):
    if not (bundled.MODELS / "amnet-lite-source.xml").is_file():
        pytest.skip("this copy carries no bundled model edgetalk/models/amnet-lite")
    out = tmp_path / "finn.avatar"
    assert main(["avatar", "amnet-lite", "finn", "-o", str(out)]) == 0
    finn, lite = avatars.load_avatar("finn"), avatars.load_avatar(out)
    assert (lite.name, lite.licence) == (finn.name, finn.licence) and lite.weights != finn.weights


@pytest.mark.parametrize("name", ["onnx", "f32"])
def test_make_runs_the_source_engine(zoo, name, tmp_path):
    engine = zoo.set(name, tmp_path)
    made = avatars.make_avatar(engine, zoo.face(64), licence="CC0-1.0", consent="me", name="ada")
    features = zoo.reference.appearance(made.source)
    np.testing.assert_allclose(made.features["appearance"], features, atol=2e-3 * np.abs(features).max())
    assert made.features["appearance"].dtype == np.float16
    assert made.weights == zoo.metadata.source  # whatever it was built into
    assert (made.licence, made.consent, made.name, made.family) == ("CC0-1.0", "me", "ada", "amnet")
    np.testing.assert_array_equal(made.boxes, [[0, 0, 64, 64]])


@pytest.fixture
def limited(zoo, tmp_path):
    """A model whose source engine alone says that it is limited."""
    engine = zoo.set("onnx", tmp_path)
    terms = {"use": "non-commercial", "licence": "CC BY-NC 4.0"}
    source = zoo.write("source", tmp_path / "amnet-source.onnx", dataclasses.replace(zoo.metadata, source="", **terms))
    zoo.write("step", engine, dataclasses.replace(zoo.metadata, source=sha256(source)))
    return engine


def test_a_face_keeps_the_terms_of_what_prepared_it(zoo, limited):
    made = avatars.make_avatar(limited, zoo.face(64))
    assert (made.use, made.licence) == ("non-commercial", "CC BY-NC 4.0")
    for use in (None, "non-commercial"):
        made = avatars.make_avatar(limited, zoo.face(64), licence="mine", use=use)
        assert (made.use, made.licence) == ("non-commercial", "mine")
    with pytest.raises(InputError, match="^use: got any, and amnet-source, which prepares the face, is for n"):
        avatars.make_avatar(limited, zoo.face(64), use="any")
    for use, expected in ((None, "any"), ("any", "any"), ("non-commercial", "non-commercial")):
        made = avatars.make_avatar(zoo.root / "onnx/amnet.onnx", zoo.face(64), use=use)
        assert (made.use, made.licence) == (expected, "")


def test_no_session_of_commercial_use_prepares_a_face_by_what_is_limited(zoo, limited):
    refused = r"^what prepares faces for amnet.onnx is for non-commercial use \(licence: CC BY-NC 4.0\), and commercial"
    older = avatars.load_avatar(limited.with_suffix(".avatar"))  # of other weights
    with pytest.warns(UserWarning, match="has been prepared again"):
        prepared = Session(limited, avatar=older).avatar
    assert (older.use, prepared.use, prepared.licence) == ("any", "non-commercial", "CC BY-NC 4.0")
    for face in ({"source": zoo.face(64)}, {"avatar": older}):
        with pytest.raises(ModelError, match=refused):
            Session(limited, use="commercial", **face)
    Session(limited, source=zoo.face(64)).close()


def test_a_bare_name_means_a_bundled_model(zoo, tmp_path, monkeypatch):
    zoo.set("f32", tmp_path)
    monkeypatch.setattr(bundled, "MODELS", tmp_path)
    assert avatars.make_avatar("amnet", zoo.face(64)).weights == zoo.metadata.source
    with pytest.raises(FileNotFoundError, match="no bundled model is called anna; bundled here: amnet;"):
        avatars.make_avatar("anna", zoo.face(64))


@pytest.mark.parametrize(
    ("shown", "frames", "expected"),
    [
        ([5], [5], [0]),
        ([0, 1], [0, 1], [1, 0]),
        (range(8), range(8), [7] * 7 + [0]),
        (range(9), range(9), [8] * 8 + [0]),
        (range(12), range(12), [8] * 8 + [0] * 4),
        ([2, 3, 20, 30], range(2, 31), [2] * 8 + [0] * 21),
        ([9, 8, 5], [9, 8, 7, 6, 5], [2, 2, 2, 2, 0]),  # backwards
    ],
)
def test_the_reference_is_another_frame_and_far_from_it_where_it_can_be(shown, frames, expected):
    assert avatars.references(shown, frames) == expected


@pytest.mark.parametrize("count", range(1, 12))
def test_no_frame_of_a_film_is_its_own_reference(count):
    target = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    nothing = np.zeros(0, np.float32)
    film = avatars.Film(target, nothing, nothing, nothing, (1, 1), Fraction(25))
    assert film.reference.ravel().tolist() == avatars.references(range(count), range(count))
    assert count == 1 or (film.reference != target).all()


@pytest.mark.parametrize("use", ["commercial", "noncommercial", ""])
def test_what_no_face_may_be_used_for_is_refused(avatar, zoo, tmp_path, use):
    words = f'use: got {use!r}, expected "any" or "non-commercial"'
    with pytest.raises(InputError, match=words):
        avatars.make_avatar("none.xml", "none.png", use=use)
    with pytest.raises(InputError, match=words):
        avatars.save_avatar(dataclasses.replace(avatar, use=use), tmp_path / "ada.avatar")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["licence", "consent", "name"])
def test_what_is_told_of_a_face_is_utf_8_and_that_is_said_before_the_work(avatar, tmp_path, key):
    words = f"^{key}: got 'caf.udce9', expected UTF-8; write it in that encoding$"
    with pytest.raises(InputError, match=words):
        avatars.make_avatar("none.xml", "none.png", **{key: "caf\udce9"})
    with pytest.raises(InputError, match=words):
        make_film_avatar("none.xml", "none.mp4", "none.png", **{key: "caf\udce9"})
    with pytest.raises(InputError, match=words):
        avatars.save_avatar(dataclasses.replace(avatar, **{key: "caf\udce9"}), tmp_path / "ada.avatar")
    assert not list(tmp_path.iterdir())


def test_the_source_engine_is_looked_for_in_order(zoo, tmp_path):
    zoo.set("onnx", tmp_path)
    engine = zoo.set("f32", tmp_path)
    stem = "amnet-source"
    assert beside(engine, stem).name == "amnet-source.xml"
    assert beside(engine.with_suffix(".onnx"), stem).name == "amnet-source.onnx"
    assert beside(engine.with_suffix(".plan"), stem).name == "amnet-source.xml"
    assert beside(engine, "bmnet-source") is None and beside(engine, "bmnet-source", stem).name == "amnet-source.xml"


def test_a_plan_that_stands_alone_prepares_nothing_for_another_kind(zoo, tmp_path):
    engine = zoo.set("f32", tmp_path)
    (tmp_path / "amnet-source.xml").rename(tmp_path / "amnet-source.plan")
    with pytest.raises(ModelError, match=r"amnet.xml has no amnet-source.xml beside it"):
        avatars.make_avatar(engine, zoo.face(64))


@pytest.mark.parametrize("side, reason", [((64, 65), "expected a square crop"), ((40, 40), "at least 64x64")])
def test_pictures_that_cannot_be_used_are_refused(zoo, side, reason):
    with pytest.raises(InputError, match=reason):
        avatars.make_avatar(zoo.root / "f32/amnet.xml", np.zeros((*side, 3), np.uint8))
