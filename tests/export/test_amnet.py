"""Exported AMNet against torch, and every way in which an export may fail."""

import hashlib
import json
import shutil
import warnings

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from edgetalk import Session, avatar, make_avatar
from edgetalk.cli import main
from edgetalk.engines.onnx_file import read as engine_read
from edgetalk.errors import InputError, ModelError
from edgetalk.export import exporter, onnx_file, to_onnx
from edgetalk.export.graph import Graph
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.train.networks.checkpoint import load_checkpoint

from .conftest import SIZE, metadata_of, onnx_run, spoil, write_checkpoint


def in_torch(checkpoint, feeds):
    """Frames and landmarks computed by torch from uint8 pictures, normalised here anew."""
    network = load_checkpoint(checkpoint).network
    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    picture = tensors.pop("source").permute(0, 3, 1, 2).float() * (2 / 255) - 1
    with torch.no_grad():
        image, landmarks = network(picture, **tensors)
    frame = np.rint(np.clip((image.numpy() + 1) / 2, 0, 1) * 255).transpose(0, 2, 3, 1)
    return frame.astype(np.uint8), landmarks.numpy()


def one(feeds):
    return {name: value[:1] for name, value in feeds.items()}


def assert_same(results, wanted):
    frame, landmarks = wanted
    assert results["frame"].dtype == np.uint8
    assert results["frame"].shape == frame.shape
    assert np.abs(results["frame"].astype(int) - frame).max() <= 1
    assert results["frame"].std() > 5  # a picture, not a plain
    np.testing.assert_allclose(results["landmarks"], landmarks, atol=1e-4)


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    to_onnx(checkpoint, folder / "amnet.onnx", licence="CC0-1.0")
    return folder


def test_split_graphs_are_the_network(checkpoint, exported, drive):
    feeds = one(drive)
    appearance = onnx_run(exported / "amnet-source.onnx", feeds)
    assert appearance["appearance"].shape == (1, SIZE // 4, SIZE // 4, 152)
    assert_same(onnx_run(exported / "amnet.onnx", feeds | appearance), in_torch(checkpoint, feeds))


def test_whole_graph_is_the_network(checkpoint, drive, tmp_path):
    written = to_onnx(checkpoint, tmp_path / "amnet.onnx", whole=True)
    assert [p.name for p in written] == ["amnet.avatar", "amnet.onnx"]
    assert metadata_of(tmp_path / "amnet.onnx").role == "whole"
    assert_same(onnx_run(tmp_path / "amnet.onnx", one(drive)), in_torch(checkpoint, one(drive)))


def test_k3_in_both_forms_is_the_network(checkpoint_k3, drive, tmp_path):
    to_onnx(checkpoint_k3, tmp_path / "conv.onnx", dynamic_conv="conv", whole=True, batch=3)
    to_onnx(checkpoint_k3, tmp_path / "shift.onnx", dynamic_conv="shift")
    wanted = in_torch(checkpoint_k3, drive)
    assert_same(onnx_run(tmp_path / "conv.onnx", drive), wanted)
    for feeds, count in ((drive, 3), (one(drive), 1)):
        appearance = onnx_run(tmp_path / "shift-source.onnx", feeds)
        assert_same(onnx_run(tmp_path / "shift.onnx", feeds | appearance), tuple(w[:count] for w in wanted))


def test_another_size(tmp_path):
    path = write_checkpoint(tmp_path / "c.safetensors", "amnet", 128)
    to_onnx(path, tmp_path / "trained.onnx")
    to_onnx(path, tmp_path / "small.onnx", size=64, avatar="dan")
    for name, side in (("trained", 128), ("small", 64)):
        made = avatar.load_avatar(tmp_path / f"{name}.avatar")
        assert made.source.shape == (side, side, 3)
        feeds = {
            "mel": np.zeros((1, 32, 80), np.float32),
            "pose": np.zeros((1, 3), np.float32),
            "blink": np.zeros((1, 2), np.float32),
            "appearance": made.features["appearance"].astype(np.float32),
        }
        assert onnx_run(tmp_path / f"{name}.onnx", feeds)["frame"].shape == (1, side, side, 3)


def test_metadata_says_what_the_graph_cannot(checkpoint, exported):
    step, source = metadata_of(exported / "amnet.onnx"), metadata_of(exported / "amnet-source.onnx")
    assert (step.family, step.variant, step.role, source.role) == ("amnet", "amnet", "step", "source")
    assert step.audio == AudioSpec()
    assert step.persons == ("ada", "dan") and step.limits == {"pose": [0.4, 0.2, 0.1]}
    assert (step.licence, step.use, step.precision) == ("CC0-1.0", "any", "f32")
    assert step.checkpoint == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert step.source == hashlib.sha256((exported / "amnet-source.onnx").read_bytes()).hexdigest()


def test_a_network_of_more_people_than_it_keeps_takes_any_face(tmp_path):
    to_onnx(write_checkpoint(tmp_path / "any.safetensors", "amnet", people=500), tmp_path / "any.onnx")
    assert metadata_of(tmp_path / "any.onnx").persons == ()


def test_who_gives_a_picture_to_a_network_of_any_drawn_face_hears_of_it(checkpoint, tmp_path):
    """One that knows its persons says so of every other face, in a session."""
    picture = np.zeros((64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), picture)
    people, any_onnx = write_checkpoint(tmp_path / "any.safetensors", "amnet", people=500), tmp_path / "any.onnx"
    told = "has learnt from drawn faces alone: if this picture is a photo"
    with pytest.warns(UserWarning, match=f"^any.safetensors {told}"):
        to_onnx(people, any_onnx, source=tmp_path / "face.png")
    with pytest.warns(UserWarning, match=f"^any {told}"):
        make_avatar(any_onnx, picture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Session(any_onnx).close()  # the avatar beside it was prepared before
        to_onnx(checkpoint, tmp_path / "amnet.onnx", source=tmp_path / "face.png")
        make_avatar(tmp_path / "amnet.onnx", picture)
    to_onnx(people, tmp_path / "whole.onnx", whole=True)
    with pytest.warns(UserWarning, match=f"^whole.onnx {told}"):
        Session(tmp_path / "whole.onnx", source=picture).close()


def test_casts_come_first_and_last(exported):
    source, step = onnx.load(exported / "amnet-source.onnx"), onnx.load(exported / "amnet.onnx")
    readers = [n.op_type for n in source.graph.node if "source" in n.input]
    writers = [n.op_type for n in step.graph.node if "frame" in n.output]
    assert (readers, writers) == (["Cast"], ["Cast"])
    # ... and the frame is rounded, not truncated, before its Cast
    assert {"Round", "Clip"} <= {n.op_type for n in step.graph.node}


def test_avatar_holds_the_first_persons_features(exported, checkpoint):
    made = avatar.load_avatar(exported / "amnet.avatar")
    picture = load_file(checkpoint)["source.ada"].numpy()
    wanted = onnx_run(exported / "amnet-source.onnx", {"source": picture[None]})["appearance"]
    assert (made.name, made.family, made.licence) == ("ada", "amnet", "CC0-1.0")
    np.testing.assert_array_equal(made.source, picture)
    np.testing.assert_array_equal(made.features["appearance"], wanted.astype(np.float16))
    assert made.weights == metadata_of(exported / "amnet.onnx").source


def test_every_avatar_shows_its_own_person(checkpoint, tmp_path):
    from edgetalk.export import to_onnx

    written = to_onnx(checkpoint, tmp_path / "amnet.onnx", every_avatar=True)
    pictures = {n.removeprefix("source."): p for n, p in load_file(checkpoint).items() if n.startswith("source.")}
    assert {path.name for path in written} >= {f"{name}.avatar" for name in pictures}
    for name, picture in pictures.items():
        made = avatar.load_avatar(tmp_path / f"{name}.avatar")
        assert made.name == name
        np.testing.assert_array_equal(made.source, picture)


def test_terms_of_filmed_people_go_with_weights_and_faces(checkpoint, tmp_path):
    terms = {"consent": "ada and dan, on paper", "licence": "", "use": "non-commercial"}
    spoil(checkpoint, tmp_path / "filmed.safetensors", lambda t, h: h.update(training=json.dumps({"terms": terms})))
    to_onnx(tmp_path / "filmed.safetensors", tmp_path / "amnet.onnx", every_avatar=True)
    step = metadata_of(tmp_path / "amnet.onnx")
    assert (step.licence, step.use) == ("as agreed with the filmed people", "non-commercial")
    to_onnx(checkpoint, tmp_path / "of_drawn.onnx")
    assert (step.faces, metadata_of(tmp_path / "of_drawn.onnx").faces) == ("", "drawn")
    for name in ("amnet", "dan"):
        made = avatar.load_avatar(tmp_path / f"{name}.avatar")
        assert (made.consent, made.use) == (terms["consent"], "non-commercial")
    with pytest.raises(InputError, match="is for non-commercial use"):
        to_onnx(tmp_path / "filmed.safetensors", tmp_path / "amnet.onnx", use="any")
    to_onnx(tmp_path / "filmed.safetensors", tmp_path / "amnet.onnx", source=np.zeros((SIZE, SIZE, 3), np.uint8))
    assert avatar.load_avatar(tmp_path / "amnet.avatar").consent == ""  # somebody else's picture
    with pytest.raises(InputError, match="knows a person dan, whose avatar would have the model's name"):
        to_onnx(tmp_path / "filmed.safetensors", tmp_path / "dan.onnx", every_avatar=True)


def test_same_checkpoint_same_bytes(checkpoint, exported, tmp_path):
    to_onnx(checkpoint, tmp_path / "amnet.onnx", licence="CC0-1.0")
    for file in sorted(exported.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_nothing_is_written_when_onnx_is_not_torch(checkpoint, tmp_path, monkeypatch):
    real, seen = onnx_file.trace, []

    def spoiled(module, *args, **kwargs):
        """The step graph, second of two, with one convolution's weights a little off."""
        model = real(module, *args, **kwargs)
        seen.append(model)
        if len(seen) == 2:
            name = next(n.input[1] for n in model.graph.node if n.op_type == "ConvTranspose")
            weight = next(w for w in model.graph.initializer if w.name == name)
            values = onnx.numpy_helper.to_array(weight).copy()
            values[0] += 0.2
            weight.CopyFrom(onnx.numpy_helper.from_array(values, name))
        return model

    monkeypatch.setattr(exporter, "trace", spoiled)
    with pytest.raises(ModelError, match=r"step: frame differs by \d+ between ONNX and torch, at most 1"):
        to_onnx(checkpoint, tmp_path / "amnet.onnx")
    assert len(seen) == 2
    assert list(tmp_path.iterdir()) == []


def test_features_that_no_avatar_can_hold_are_refused():
    pixels = onnx.helper.make_tensor_value_info("source", onnx.TensorProto.UINT8, [1, 64, 64, 3])
    made = onnx.helper.make_tensor_value_info("appearance", onnx.TensorProto.FLOAT, [1, 64, 64, 3])
    nodes = [
        onnx.helper.make_node("Cast", ["source"], ["float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", ["float", "much"], ["appearance"]),
    ]
    much = onnx.numpy_helper.from_array(np.array(1000, np.float32), "much")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "source", [pixels], [made], [much]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    graph = Graph("source", torch.nn.Identity(), {"source": torch.zeros(1, 64, 64, 3)}, ["appearance"])
    data, metadata = model.SerializeToString(), Metadata(family="amnet")
    pale = np.full((64, 64, 3), 255, np.uint8)
    assert exporter._avatar(graph, data, metadata, "ada", pale // 4, "").features["appearance"].max() == 63000
    with pytest.raises(ModelError, match="the source graph made appearance too large for fp16"):
        exporter._avatar(graph, data, metadata, "ada", pale, "")


def test_old_files_stay_when_the_export_fails(checkpoint, tmp_path):
    (tmp_path / "amnet-source.onnx").write_bytes(b"old")
    (tmp_path / "amnet.onnx").mkdir()
    with pytest.raises(IsADirectoryError):
        to_onnx(checkpoint, tmp_path / "amnet.onnx")
    assert (tmp_path / "amnet-source.onnx").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["amnet-source.onnx", "amnet.onnx"]


BAD = {
    "no such file": (None, "no checkpoint"),
    "text": (lambda path, good: path.write_text("hello"), "is not a checkpoint of AMNet"),
    "truncated": (lambda path, good: path.write_bytes(good.read_bytes()[:9999]), "is not a checkpoint of AMNet"),
    "empty": (lambda path, good: path.write_bytes(b""), "is not a checkpoint of AMNet"),
    "no header": (lambda path, good: spoil(good, path, lambda t, h: h.clear()), "is not a checkpoint of AMNet"),
    "newer": (lambda path, good: spoil(good, path, lambda t, h: h.update(format="2")), "is not a checkpoint"),
    "tensor missing": (
        lambda path, good: spoil(good, path, lambda t, h: t.pop("landmark_layer.bias")),
        "1 tensors do not fit AMNet (landmark_layer.bias)",
    ),
    "tensor misshapen": (
        lambda path, good: spoil(good, path, lambda t, h: t.update({"landmark_layer.bias": torch.zeros(3)})),
        "1 tensors do not fit AMNet (landmark_layer.bias)",
    ),
    "not finite": (
        lambda path, good: spoil(good, path, lambda t, h: t["landmark_layer.bias"].fill_(torch.nan)),
        "landmark_layer.bias has NaN or infinite numbers",
    ),
    "a person elsewhere": (
        lambda path, good: spoil(good, path, lambda t, h: t.update({"source.../../eve": t["source.ada"].clone()})),
        "calls a person '../../eve', which cannot be a file's name",
    ),
    "a person without a name": (
        lambda path, good: spoil(good, path, lambda t, h: t.update({"source.": t["source.ada"].clone()})),
        "calls a person ''",
    ),
    "grey picture": (
        lambda path, good: spoil(good, path, lambda t, h: t.update({"source.ada": t["source.ada"][..., 0].clone()})),
        "as the picture of ada, expected uint8 (H, W, 3)",
    ),
    "window no number": (
        lambda path, good: spoil(good, path, lambda t, h: h.update(audio=h["audio"].replace("32", '"32"'))),
        "is not a checkpoint of AMNet",
    ),
    "endless": (lambda path, good: spoil(good, path, lambda t, h: h.update(size="Infinity")), "is not a checkpoint"),
    "terms a list": (
        lambda path, good: spoil(good, path, lambda t, h: h.update(training='{"terms": []}')),
        "is not a checkpoint of AMNet",
    ),
    "other variant": (
        lambda path, good: spoil(good, path, lambda t, h: h.update(variant='"amnet-k3"')),
        "do not fit AMNet",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_checkpoints_are_one_line(kind, checkpoint, tmp_path, capfd):
    make, message = BAD[kind]
    path = tmp_path / "bad.safetensors"
    if make:
        make(path, checkpoint)
    out = tmp_path / "out"
    out.mkdir()
    assert main(["export", "amnet", "--checkpoint", str(path), "-o", str(out / "amnet.onnx")]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert list(out.iterdir()) == []


def test_what_is_read_is_not_written_over(checkpoint, tmp_path, capfd):
    """An ONNX may be the checkpoint, of ArcFace; a link may lead to it."""
    shutil.copy(checkpoint, tmp_path / "a.safetensors")
    (tmp_path / "a.onnx").symlink_to("a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    arguments = ["--checkpoint", str(tmp_path / "a.safetensors"), "-o", str(tmp_path / "a.onnx")]
    assert main(["export", "amnet", *arguments]) == 1
    assert "a.onnx is read and would be written over; give the result another name" in capfd.readouterr().err
    assert (tmp_path / "a.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "amnet.pt"], "expected a name that ends in .onnx"),
        (["-o", "nowhere/amnet.onnx"], "No such folder"),
        (["-o", "amnet.onnx", "--size", "66"], "expected a multiple of 4"),
        (["-o", "amnet.onnx", "--size", "100000"], "expected a multiple of 4 from 32 to 2048"),
        (["-o", "amnet-source.onnx"], "'amnet-source.onnx', which is what the source graph of a model is called"),
        (["-o", "amnet.onnx", "--batch", "dynamic"], "for any batch use"),
        (["-o", "amnet.onnx", "--batch", "-2"], "expected at least 1"),
        (["-o", "amnet.onnx", "--avatar", "zoe"], "no picture of 'zoe', it has ada, dan"),
        (["-o", "amnet.onnx", "--source", "amnet.txt"], "amnet.txt"),
    ],
)
def test_bad_options_are_one_line(options, message, checkpoint, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "amnet", "--checkpoint", str(checkpoint), *options]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_number_of_samples_that_is_none_is_told(checkpoint, tmp_path, capsys):
    words = ["--checkpoint", str(checkpoint), "-o", str(tmp_path / "amnet.onnx"), "--batch", "many"]
    assert main(["export", "amnet", *words]) == 2
    told = """argument --batch: got 'many', expected a number of samples, or "dynamic" for any"""
    assert capsys.readouterr().err.splitlines()[-1].endswith(told)


def test_unknown_names_are_refused(checkpoint, tmp_path):
    for name in ("family", "dynamic_conv", "use"):
        with pytest.raises(InputError, match=f"{name}: got 'nonesuch', expected one of"):
            to_onnx(checkpoint, tmp_path / "amnet.onnx", **{name: "nonesuch"})


@pytest.mark.parametrize(
    "family, options, told",
    [
        ("amnet", {"batch": 0}, r'batch: got 0, expected at least 1; for any batch use dynamic_conv="shift"'),
        (
            "arcface",
            {"dynamic_conv": "shift"},
            "dynamic_conv: got shift, arcface predicts no convolution; leave it out",
        ),
        ("arcface", {"batch": -1}, "batch: got -1, expected at least 1, or 0 for any number"),
    ],
)
def test_any_batch_is_asked_for_as_the_family_allows(tmp_path, family, options, told):
    with pytest.raises(InputError, match=told):
        to_onnx(tmp_path / "none", tmp_path / "a.onnx", family=family, **options)


def test_command_writes_all_files(checkpoint, tmp_path, capsys):
    assert (
        main(
            [
                "export",
                "amnet",
                "--checkpoint",
                str(checkpoint),
                "-o",
                str(tmp_path / "a.onnx"),
                "--dynamic-conv",
                "shift",
                "--avatar",
                "dan",
                "--use",
                "non-commercial",
            ]
        )
        == 0
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-source.onnx", "a.avatar", "a.onnx"]
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert metadata_of(tmp_path / "a.onnx").use == "non-commercial"
    assert avatar.load_avatar(tmp_path / "a.avatar").name == "dan"


def test_weights_that_half_precision_holds_are_stored_in_it(exported, drive, tmp_path):
    """The same graph, with and without; numbers that half precision does not hold stay as they are."""
    wide = onnx.load(exported / "amnet.onnx")
    for tensor in wide.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
    odd = onnx.numpy_helper.from_array(np.full(4096, 1 / 3, np.float32), "odd")
    wide.graph.initializer.append(odd)
    half = onnx.ModelProto()
    half.CopyFrom(wide)
    onnx_file.halve_weights(half)
    assert half.graph.initializer[-1] == odd
    onnx.save(wide, tmp_path / "wide.onnx")
    onnx.save(half, tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "wide.onnx").stat().st_size
    feeds = one(drive) | onnx_run(exported / "amnet-source.onnx", one(drive))
    expected = onnx_run(tmp_path / "wide.onnx", feeds)
    for name, value in onnx_run(tmp_path / "half.onnx", feeds).items():
        assert np.array_equal(value, expected[name])
    again = engine_read(tmp_path / "half.onnx")[0]
    named = {w.name: onnx.numpy_helper.to_array(w) for w in again.graph.initializer}
    for tensor in wide.graph.initializer:
        assert np.array_equal(named[tensor.name], onnx.numpy_helper.to_array(tensor))
    assert [n.name for n in again.graph.node] == [n.name for n in wide.graph.node]
