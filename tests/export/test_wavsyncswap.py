"""WavSyncSwap through export, against the networks of its checkpoints called plainly."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest
import torch

from edgetalk.cli import main
from edgetalk.errors import InputError
from edgetalk.export import to_onnx
from edgetalk.metadata import AudioSpec
from edgetalk.train.networks import arcface, store
from edgetalk.train.swap.data import pictures
from edgetalk.train.swap.judging import aligned

from .conftest import metadata_of, onnx_run, spoil

KINDS = [("default", 96), ("paper", 96), ("default", 192), ("paper", 192)]
FILES = ["wavsyncswap-identity.onnx", "wavsyncswap-source.onnx", "wavsyncswap.onnx"]
VECTOR = 32  # values of an identity


def feeds(size=96, batch=1):
    """Seeded inputs of all three graphs."""
    random = np.random.default_rng(5)
    vectors = random.normal(size=(batch, VECTOR)).astype(np.float32)
    return {
        "target": random.integers(0, 256, (batch, size, size, 3), np.uint8),
        "reference": random.integers(0, 256, (batch, size, size, 3), np.uint8),
        "portrait": random.integers(0, 256, (batch, 96, 96, 3), np.uint8),
        "identity": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "mel": random.uniform(-4, 4, (batch, 16, 80)).astype(np.float32),
    }


@torch.no_grad()
def by_torch(network, given):
    """The frames of the network as it was trained."""
    pictures = (torch.from_numpy(given[name]).permute(0, 3, 1, 2) / 255 for name in ("target", "reference"))
    made = network(*pictures, torch.from_numpy(given["identity"]), torch.from_numpy(given["mel"]))
    return (made.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def split(folder, given):
    return onnx_run(folder / "wavsyncswap.onnx", given | onnx_run(folder / "wavsyncswap-source.onnx", given))["frame"]


def assert_same(frame, wanted):
    assert frame.dtype == np.uint8 and frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).max() <= 1
    assert wanted.std() > 5 and ((wanted > 2) & (wanted < 253)).mean() > 0.9  # pictures in which an error would show


@pytest.fixture(scope="module")
def trained(swaps, tmp_path_factory):
    """Folder with the checkpoints of preset default at 96, its exports, and the networks."""
    folder = tmp_path_factory.mktemp("wavsyncswap")
    networks = swaps.write(folder)
    written = to_onnx(folder / "wavsyncswap.safetensors", folder / "wavsyncswap.onnx", family="wavsyncswap")
    assert [path.name for path in written] == FILES
    return folder, *networks


@pytest.mark.parametrize(("preset", "size"), KINDS)
def test_split_whole_and_torch_are_one(swaps, preset, size, tmp_path):
    network, _ = swaps.write(tmp_path, preset, size)
    given = feeds(size)
    wanted = by_torch(network, given)
    for name in ("target", "reference", "identity", "mel"):  # everything that comes in shows
        assert np.abs(by_torch(network, given | {name: 0 * given[name]}).astype(int) - wanted).mean() > 1
    for whole in (False, True):
        to_onnx(tmp_path / "wavsyncswap.safetensors", tmp_path / "wavsyncswap.onnx", family="wavsyncswap", whole=whole)
        made = onnx_run(tmp_path / "wavsyncswap.onnx", given)["frame"] if whole else split(tmp_path, given)
        assert_same(made, wanted)
    assert metadata_of(tmp_path / "wavsyncswap.onnx").variant == preset


def test_any_batch(trained, tmp_path):
    folder, network, extractor = trained
    checkpoint = folder / "wavsyncswap.safetensors"
    to_onnx(checkpoint, tmp_path / "wavsyncswap.onnx", family="wavsyncswap", batch=0)
    given = feeds(batch=3)
    assert_same(split(tmp_path, given), by_torch(network, given))
    vectors = onnx_run(tmp_path / "wavsyncswap-identity.onnx", given)["identity"]
    assert vectors.shape == (3, VECTOR)


@pytest.mark.parametrize("crop", [None, (0.7, 0.05)])
def test_identity_is_that_of_the_extractors_training(trained, tmp_path, monkeypatch, crop):
    """The cut in the graph is two matrices; training cuts by a sampling grid."""
    folder, _, extractor = trained
    if crop is not None:
        monkeypatch.setattr(arcface, "CROP", crop)
        shutil.copy(folder / "wavsyncswap.safetensors", tmp_path)
        store.save(tmp_path / "identity.safetensors", "arcface", extractor, extractor.config, crop=crop)
        folder = tmp_path
        to_onnx(folder / "wavsyncswap.safetensors", folder / "wavsyncswap.onnx", family="wavsyncswap")
    given = feeds()
    with torch.no_grad():
        face = aligned(pictures(torch.from_numpy(given["portrait"])), 112)
        wanted = extractor(face).numpy()
    made = onnx_run(folder / "wavsyncswap-identity.onnx", given)["identity"]
    np.testing.assert_allclose(made, wanted, atol=1e-4)
    assert np.linalg.norm(made) == pytest.approx(1, abs=1e-5)


def test_what_can_be_prepared_is_not_in_the_step(trained):
    """No batch norm is left, the source has all of the face's convolutions, and the step no share of them."""
    folder, network, _ = trained
    graphs = {name: onnx.load(folder / name).graph for name in FILES}
    for name in FILES[1:]:
        assert not any(node.op_type == "BatchNormalization" for node in graphs[name].node)
    weights = {w.name: w.dims for w in graphs["wavsyncswap.onnx"].initializer}
    first = network.decoder[0].conv_block[0]  # of face and sound
    sizes = [tuple(dims) for dims in weights.values() if len(dims) == 4]
    sound = network.audio_map[-1].conv_block[0].out_channels
    assert (first.out_channels, sound, 3, 3) in sizes and first.in_channels > sound
    assert not any(dims[:2] == (first.out_channels, first.in_channels) for dims in sizes)


def test_casts_come_first_and_last(trained):
    source, step = (onnx.load(trained[0] / name) for name in FILES[1:])
    for name in ("target", "reference"):
        assert [node.op_type for node in source.graph.node if name in node.input] == ["Cast"]
    assert [node.op_type for node in step.graph.node if "frame" in node.output] == ["Cast"]


def test_metadata(trained):
    folder = trained[0]
    identity, source, step = (metadata_of(folder / name) for name in FILES)
    assert [m.role for m in (identity, source, step)] == ["identity", "source", "step"]
    assert {m.family for m in (identity, source, step)} == {"wavsyncswap"}
    assert step.audio == AudioSpec(window=16, offset=-6.4) and step.fps == "25" and step.variant == "default"

    def sha256(name):
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()

    assert step.checkpoint == sha256("wavsyncswap.safetensors")
    assert step.source == sha256(FILES[1]) and source.source == ""
    assert source.identity == step.identity == sha256(FILES[0]) and identity.identity == ""
    assert (step.licence, step.use) == ("", "any")


def test_licence_and_use_go_into_every_graph(trained, tmp_path):
    checkpoint = trained[0] / "wavsyncswap.safetensors"
    to_onnx(checkpoint, tmp_path / "w.onnx", family="wavsyncswap", licence="Apache-2.0", use="non-commercial")
    for name in ("w-identity.onnx", "w-source.onnx", "w.onnx"):
        told = metadata_of(tmp_path / name)
        assert (told.licence, told.use) == ("Apache-2.0", "non-commercial")


def test_the_extractor_is_found_in_the_folder_of_a_training(trained, tmp_path):
    folder = trained[0]
    (tmp_path / "experts").mkdir()
    shutil.copy(folder / "identity.safetensors", tmp_path / "experts/identity-a.safetensors")
    shutil.copy(folder / "wavsyncswap.safetensors", tmp_path)
    to_onnx(tmp_path / "wavsyncswap.safetensors", tmp_path / "wavsyncswap.onnx", family="wavsyncswap")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_terms_of_filmed_people_go_with_the_weights(trained, tmp_path):
    folder, *_ = trained
    shutil.copy(folder / "identity.safetensors", tmp_path)
    terms = json.dumps({"consent": "on paper", "licence": "", "use": "non-commercial"})
    spoil(folder / "wavsyncswap.safetensors", tmp_path / "filmed.safetensors", lambda t, h: h.update(terms=terms))
    for path in to_onnx(tmp_path / "filmed.safetensors", tmp_path / "w.onnx", family="wavsyncswap"):
        made = metadata_of(path)
        assert (made.licence, made.use) == ("as agreed with the filmed people", "non-commercial")
        assert (made.faces, metadata_of(folder / path.name.replace("w", "wavsyncswap", 1)).faces) == ("", "drawn")
    with pytest.raises(InputError, match="is for non-commercial use"):
        to_onnx(tmp_path / "filmed.safetensors", tmp_path / "w.onnx", family="wavsyncswap", use="any")


def test_bad_checkpoints_are_one_line(trained, tmp_path, capsys):
    folder, _, extractor = trained
    shutil.copy(folder / "wavsyncswap.safetensors", tmp_path)
    shutil.copy(folder / "identity.safetensors", tmp_path / "extractor.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((folder / "wavsyncswap.safetensors").read_bytes()[:-100])
    other = tmp_path / "other.safetensors"
    wide = arcface.Config(width=0.0625, blocks=(1, 1, 1, 1), size=32, identity=64)
    store.save(other, "arcface", arcface.ArcFace(wide), wide)
    for name, change in (
        ("broken", lambda t, h: h.update(config="{")),
        ("listed", lambda t, h: h.update(config="[]")),
        ("strayed", lambda t, h: next(x for x in t.values() if x.is_floating_point()).fill_(torch.nan)),
    ):
        spoil(folder / "wavsyncswap.safetensors", tmp_path / f"{name}.safetensors", change)
    for arguments, message in (
        (["--checkpoint", "nowhere.safetensors"], "no checkpoint at"),
        (["--checkpoint", "broken.safetensors"], "holds a wavsyncswap arranged as no longer built"),
        (["--checkpoint", "listed.safetensors"], "holds a wavsyncswap arranged as no longer built"),
        (["--checkpoint", "strayed.safetensors"], "has NaN or infinite numbers, as of a training that diverged"),
        (["--checkpoint", "cut.safetensors"], "is no whole safetensors file"),
        (["--checkpoint", "other.safetensors"], "holds 'arcface' of format 1, expected 'wavsyncswap'"),
        (["--checkpoint", "wavsyncswap.safetensors"], "has no identity.safetensors beside it"),
        (["--checkpoint", "wavsyncswap.safetensors", "--identity", "nowhere.safetensors"], "no identity extractor at"),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--identity", "wavsyncswap.safetensors"],
            "holds 'wavsyncswap' of format 1, expected 'arcface'",
        ),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--identity", "other.safetensors"],
            "makes vectors of 64 values, wavsyncswap.safetensors takes 32",
        ),
        (["--checkpoint", "wavsyncswap.safetensors", "--size", "128"], "was trained at 96 alone"),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--whole", "--identity", "extractor.safetensors"],
            "a whole graph takes the vector and brings no extractor; leave it out",
        ),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--whole", "--every-avatar"],
            "every_avatar: wavsyncswap.safetensors has no pictures of persons; leave it out",
        ),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--identity", "extractor.safetensors", "--source", "face.png"],
            "source: got face.png, wavsyncswap animates no picture",
        ),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--identity", "extractor.safetensors", "--avatar", "ada"],
            "avatar: got ada, wavsyncswap animates no picture; leave it out",
        ),
        (
            ["--checkpoint", "wavsyncswap.safetensors", "--identity", "extractor.safetensors", "--source", "face.png"]
            + ["--avatar", "ada"],
            "avatar and source: got ada and face.png, wavsyncswap animates no picture; leave them out",
        ),
    ):
        paths = [str(tmp_path / a) if a.endswith(".safetensors") else a for a in arguments]
        assert main(["export", "wavsyncswap", *paths, "-o", str(out / "w.onnx")]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and message in lines[0], lines
    assert list(out.iterdir()) == []


def test_other_families_have_no_extractor(checkpoint, tmp_path):
    with pytest.raises(InputError, match="identity: got x.safetensors, amnet has no identity extractor"):
        to_onnx(checkpoint, tmp_path / "amnet.onnx", identity="x.safetensors")
