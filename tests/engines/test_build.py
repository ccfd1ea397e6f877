"""From exported files to engines: what they hold, that they run, and that nothing is left where a build fails."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from edgetalk import Session, avatar
from edgetalk.backends import open_engine, openvino
from edgetalk.backends.openvino import shared_core
from edgetalk.cli import main
from edgetalk.engines import build, builder, command, gate, typed
from edgetalk.engines.calibration import _row, load
from edgetalk.engines.onnx_file import Runner, read
from edgetalk.engines.precision import layers
from edgetalk.errors import InputError, ModelError
from edgetalk.metadata import Metadata

from .conftest import pictures, samples

FILES = ["amnet-source.bin", "amnet-source.xml", "amnet.avatar", "amnet.bin", "amnet.xml"]


@pytest.fixture(scope="module", autouse=True)
def floors_for_random_weights():
    """How well a network without training quantises says nothing; that the floors hold is tested in test_gate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gate.FLOORS, "int8", {"ssim": 0.9, "psnr": 25.0, "mouth_psnr": 25.0})
        yield


@pytest.fixture(scope="module")
def int8(exported, calibration, tmp_path_factory):
    """An int8 engine that the command has built: its folder, the metadata, what was printed, and the samples that it
    learnt from and that judged it."""
    made = SimpleNamespace(folder=tmp_path_factory.mktemp("int8"), learnt=[], judged=[])
    real_build, real_int8, real_judge = command.build, typed.to_int8, builder.Judge

    def to_int8(model, feeds, *given, **how):
        made.learnt.extend(feeds)
        return real_int8(model, feeds, *given, **how)

    def judge(graph, feeds, family):
        made.judged.extend(sample for sample in feeds if "mel" in sample)  # the source engine's own are made up
        return real_judge(graph, feeds, family)

    def build(*given, **how):
        made.metadata = real_build(*given, **how)
        return made.metadata

    given = ["-o", str(made.folder / "amnet.xml"), "--precision", "int8", "--calibration", str(calibration)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(command, "build", build)
        patch.setattr(typed, "to_int8", to_int8)
        patch.setattr(builder, "Judge", judge)
        assert main(["build", str(exported / "amnet.onnx"), *given]) == 0
    made.printed = printed.getvalue()
    return made


def feeds_of(folder, exported):
    """One sample in the form that the engine takes."""
    features = avatar.load_avatar(folder / "amnet.avatar").features["appearance"].astype(np.float32)
    arrays = samples()
    return {
        "appearance": features,
        "mel": arrays["mel"][:1].astype(np.float32),
        "pose": arrays["pose"][:1],
        "blink": arrays["blink"][:1].astype(np.float32),
    }


@pytest.mark.parametrize(("precision", "error"), [("f32", 0.01), ("bf16", 2.0), ("fp16", 2.0), ("int8", 10.0)])
def test_openvino_engine_of_each_precision(precision, error, exported, request, tmp_path):
    if precision == "int8":
        made = request.getfixturevalue("int8")
        folder, built = made.folder, made.metadata
    else:
        folder, built = tmp_path, build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision=precision)
    assert sorted(p.name for p in folder.iterdir()) == FILES
    feeds = feeds_of(folder, exported)
    engine = open_engine(folder / "amnet.xml")
    frame = engine.run(feeds)["frame"].astype(float)
    wanted = Runner(read(exported / "amnet.onnx")[0])(feeds)["frame"]
    assert np.abs(frame - wanted).mean() <= error
    assert Metadata.from_json(engine.metadata, "amnet.xml") == built
    assert built.precision == precision
    assert built.onnx == hashlib.sha256((exported / "amnet.onnx").read_bytes()).hexdigest()
    assert built.engine["name"] == "OpenVINO"
    asks = {"f32": "FP32", "fp16": "FP16"}.get(precision, "BF16")
    able = asks in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    lacks = {"FP16": "f16", "BF16": "bf16"}.get(asks)
    assert built.gate["on"] == ("OpenVINO" if able else f"OpenVINO in f32 (this CPU has no {lacks})")
    assert built.gate["samples"] == ("held out" if precision == "int8" else "made up")
    source = open_engine(folder / "amnet-source.xml")
    told = Metadata.from_json(source.metadata, "amnet-source.xml")
    assert (told.role, told.precision, told.onnx) == ("source", "f32", built.source)


def test_int8_is_as_near_on_a_cpu_that_has_no_more_than_avx2(exported, int8, tmp_path):
    """Such a CPU adds products in 16 bits, and cuts off what they do not hold; OpenVINO is told to use no more."""
    feeds = feeds_of(int8.folder, exported)
    np.savez(tmp_path / "feeds.npz", **feeds)
    code = (
        "import sys, numpy; from edgetalk.backends import open_engine; engine, feeds, frame = sys.argv[1:];"
        "numpy.save(frame, open_engine(engine).run(dict(numpy.load(feeds)))['frame'])"
    )
    paths = [str(int8.folder / "amnet.xml"), *(str(tmp_path / name) for name in ("feeds.npz", "frame.npy"))]
    environment = {**os.environ, "OV_CPU_MAX_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", code, *paths], env=environment, check=True)
    wanted = Runner(read(exported / "amnet.onnx")[0])(feeds)["frame"]
    assert gate.compare(wanted, np.load(tmp_path / "frame.npy"))["ssim"] > 0.99


def test_a_session_speaks_with_what_was_built(exported, int8):
    arrays, frames = samples(), {}
    for path in (int8.folder / "amnet.xml", exported / "amnet.onnx"):
        with Session(path) as session:
            frames[path.suffix] = session.step(
                arrays["mel"][0].astype(np.float32), arrays["pose"][0], arrays["blink"][0].astype(np.float32)
            )
    assert frames[".xml"].shape == (64, 64, 3)
    assert np.abs(frames[".xml"].astype(int) - frames[".onnx"]).mean() < 10


def test_int8_engines_are_small(exported, int8, tmp_path):
    build(exported / "amnet.onnx", tmp_path / "amnet.xml")
    large, small = ((folder / "amnet.bin").stat().st_size for folder in (tmp_path, int8.folder))
    assert small < 0.45 * large  # convolutions in 8 bits, linear layers in 16


def test_same_files_same_engine(exported, calibration, int8, tmp_path):
    build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision="int8", calibration=calibration)
    for file in FILES:
        assert (tmp_path / file).read_bytes() == (int8.folder / file).read_bytes(), file


def test_a_whole_graph_is_one_engine(exported, calibration, tmp_path):
    from edgetalk.export import to_onnx

    to_onnx(exported / "amnet.safetensors", tmp_path / "whole.onnx", whole=True)
    build(tmp_path / "whole.onnx", tmp_path / "whole.xml", precision="int8", calibration=calibration)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["whole.avatar", "whole.bin", "whole.onnx", "whole.xml"]


def test_a_dynamic_batch_becomes_an_engine(exported, tmp_path):
    from edgetalk.export import to_onnx

    to_onnx(exported / "amnet.safetensors", tmp_path / "amnet.onnx", dynamic_conv="shift")
    build(tmp_path / "amnet.onnx", tmp_path / "amnet.xml")
    with Session(tmp_path / "amnet.xml") as session:
        assert session.size == (64, 64)


def test_a_fixed_batch_becomes_an_engine(exported, tmp_path):
    from edgetalk.export import to_onnx

    to_onnx(exported / "amnet.safetensors", tmp_path / "amnet.onnx", batch=4)
    made_up = build(tmp_path / "amnet.onnx", tmp_path / "amnet.xml")
    assert made_up.gate["frames"] == 4 * builder.MADE_UP
    one, four = (Runner(read(folder / "amnet.onnx")[0]) for folder in (exported, tmp_path))
    sources = [Runner(read(folder / "amnet-source.onnx")[0]) for folder in (exported, tmp_path)]
    calibration = tmp_path / "c.npz"
    np.savez(calibration, **(samples(11) | {"source": pictures(11)}))
    single, rows = load(calibration, one, sources[0]), load(calibration, four, sources[1])
    assert len(single) == 11 and len(rows) == 2
    for i, row in enumerate(rows):
        for name in one.inputs:
            together = np.concatenate([feeds[name] for feeds in single[4 * i : 4 * i + 4]])
            np.testing.assert_allclose(row[name], together, atol=1e-5)
    face = tmp_path / "amnet.avatar"
    given = {"precision": "int8", "calibration": calibration, "fold_statistics": face}
    built = build(tmp_path / "amnet.onnx", tmp_path / "amnet.xml", **given)
    assert built.gate["frames"] == 4 and built.gate["folded_statistics"].endswith("norms, for amnet.avatar")
    np.savez(calibration, **samples(3))
    with pytest.raises(InputError, match="c.npz has 3 samples, expected at least the 4 that a run takes"):
        build(tmp_path / "amnet.onnx", tmp_path / "amnet.xml", calibration=calibration)


def test_rows_that_reach_behind_the_last_sample_go_on_with_the_first():
    rows = [_row(np.arange(3), first, 4).tolist() for first in (0, 4, 8)]
    assert rows == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]]


class Seen(Exception):
    """What has been asked for."""


def test_kept_layers_are_left_out(exported, calibration, tmp_path, monkeypatch):
    def to_int8(model, feeds, keep, **how):
        raise Seen(keep)

    names = layers(read(exported / "amnet.onnx")[0])
    monkeypatch.setattr(typed, "to_int8", to_int8)
    given = {"precision": "int8", "calibration": calibration, "keep": names[-1:]}
    with pytest.raises(Seen) as seen:
        build(exported / "amnet.onnx", tmp_path / "amnet.xml", **given)
    assert seen.value.args == (names[-1:],)


def test_held_out_samples_are_not_calibrated_on(int8):
    mels = samples()["mel"]
    assert [int(np.argmax([(m == f["mel"][0]).all() for m in mels])) for f in int8.judged] == [0, 5]
    assert [int(np.argmax([(m == f["mel"][0]).all() for m in mels])) for f in int8.learnt] == [1, 2, 3, 4]


def test_a_corrupted_engine_fails_the_gate_and_leaves_nothing(exported, calibration, tmp_path, monkeypatch):
    def corrupted(model, feeds, keep, **how):
        typed = real(model, feeds)
        name = next(n.input[0] for n in reversed(typed.graph.node) if n.op_type == "DequantizeLinear")
        weight = next(w for w in typed.graph.initializer if w.name == name)
        weight.raw_data = bytes(len(weight.raw_data))
        return typed

    real = typed.to_int8
    monkeypatch.setattr(typed, "to_int8", corrupted)
    (tmp_path / "amnet.bin").write_bytes(b"old")
    with pytest.raises(ModelError, match=r"amnet.xml in int8 has (ssim|psnr) [\d.]+ against f32, at least"):
        build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision="int8", calibration=calibration)
    assert [p.name for p in tmp_path.iterdir()] == ["amnet.bin"]
    assert (tmp_path / "amnet.bin").read_bytes() == b"old"


def zeroed(model, name):
    """A copy of the graph with nothing in a weight."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (weight,) = (w for w in copy.graph.initializer if w.name == name)
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros(list(weight.dims), np.float32), name))
    return copy


def test_a_damaged_source_engine_is_found_though_the_step_never_sees_it(exported, tmp_path, monkeypatch):
    real = builder.openvino.write

    def damaged(model, path, **how):
        largest = max(model.graph.initializer, key=lambda w: np.prod(w.dims)).name
        return real(zeroed(model, largest) if path.name == "amnet-source.xml" else model, path, **how)

    built = build(exported / "amnet.onnx", tmp_path / "amnet.xml")
    told = Metadata.from_json(open_engine(tmp_path / "amnet-source.xml").metadata, "amnet-source.xml").gate
    assert told["relative_error"] < 1e-4 and (told["on"], told["samples"]) == (built.gate["on"], "made up")
    monkeypatch.setattr(builder.openvino, "write", damaged)
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"amnet-source.xml in f32 has relative_error [\d.]+ against .*at most 0.001"):
        build(exported / "amnet.onnx", tmp_path / "out" / "amnet.xml", precision="bf16")
    assert list((tmp_path / "out").iterdir()) == []
    assert build(exported / "amnet.onnx", tmp_path / "out" / "amnet.xml", hold=False)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_an_engine_without_landmarks_fails_the_gate(precision, exported, tmp_path, monkeypatch):
    real = builder.typed_graph

    def damaged(model, *given, **how):
        typed = real(model, *given, **how)
        return zeroed(typed, next(n.input[1] for n in typed.graph.node if n.name.startswith("/landmark_layer")))

    monkeypatch.setattr(builder, "typed_graph", damaged)
    with pytest.raises(ModelError, match=rf"amnet.xml in {precision} has landmarks_error [\d.]+ against f32, at most"):
        build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision=precision)


def test_a_lone_sample_is_told_to_have_been_calibrated_on(exported, tmp_path):
    np.savez(tmp_path / "one.npz", **samples(1))
    given = {"calibration": tmp_path / "one.npz"}
    told = [build(exported / "amnet.onnx", tmp_path / "a.xml", precision=x, **given).gate for x in ("int8", "bf16")]
    assert [(gate["samples"], gate["frames"]) for gate in told] == [("calibrated on", 1), ("held out", 1)]


def test_an_int8_graph_is_typed_for_its_engine(exported, calibration):
    """A plan has all else in 16 bits and no type without a sign; OpenVINO gains a bit where nothing is negative."""
    step, source = (Runner(read(exported / f"amnet{role}.onnx")[0]) for role in ("", "-source"))
    feeds, model = load(calibration, step, source)[:2], read(exported / "amnet.onnx")[0]
    kinds, floats = {}, {}
    for suffix in (".plan", ".xml"):
        graph = typed.typed_graph(model, "int8", suffix, feeds, ()).graph
        values = {w.name: w for w in graph.initializer}
        zeros = (values[n.input[2]].data_type for n in graph.node if n.op_type == "QuantizeLinear")
        kinds[suffix] = {onnx.TensorProto.DataType.Name(kind) for kind in zeros}
        floats[suffix] = any(w.data_type == onnx.TensorProto.FLOAT and np.prod(w.dims) > 1 for w in values.values())
    assert kinds == {".plan": {"INT8"}, ".xml": {"INT8", "UINT8"}}
    assert floats == {".plan": False, ".xml": True}


def test_an_engine_that_is_not_held_to_the_floors_says_so(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(gate.FLOORS, "bf16", {"ssim": 1.1})  # a CPU without bf16 reaches 1
    with pytest.raises(ModelError, match="at least 1.1 is needed"):
        build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision="bf16")
    built = build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision="bf16", hold=False)
    assert built.gate["floors"] == "not held to" and 0 < built.gate["ssim"] <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


def test_a_plan_is_judged_by_its_typed_graph(exported, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    built = build(exported / "amnet.onnx", tmp_path / "amnet.plan", precision="fp16", compute_capability=["8.6"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["amnet-source.plan", "amnet.avatar", "amnet.plan"]
    assert built.gate["on"] == "ONNX Runtime (f32 where it has no fp16)"
    assert built.gate["psnr"] > 45
    assert built.to_json().encode() in (tmp_path / "amnet.plan").read_bytes()


def test_an_int8_plan_has_the_rest_in_fp16(exported, calibration, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    built = build(
        exported / "amnet.onnx",
        tmp_path / "amnet.plan",
        precision="int8",
        calibration=calibration,
        compute_capability=["8.6"],
    )
    assert (built.precision, built.gate["on"]) == ("int8", "ONNX Runtime (f32 where it has no fp16)")


@pytest.mark.parametrize(("suffix", "precision"), [(".xml", "fp16"), (".plan", "fp16"), (".plan", "int8")])
def test_what_fp16_does_not_hold_is_refused(exported, calibration, tmp_path, suffix, precision):
    """A norm takes out again how large its input is: in f32, in which the gate may compute, all looks well."""
    if suffix == ".plan":
        pytest.importorskip("tensorrt_rtx")
    options = {"compute_capability": ["8.6"]} if suffix == ".plan" else {}
    for file in (*exported.glob("amnet*.onnx"), exported / "amnet.avatar"):
        shutil.copy(file, tmp_path)
    model, metadata = read(tmp_path / "amnet.onnx")
    norm = next(n for n in model.graph.node if n.op_type == "InstanceNormalization")
    conv = next(n for n in model.graph.node if norm.input[0] in n.output)
    (weight,) = (w for w in model.graph.initializer if w.name == conv.input[1])
    values = onnx.numpy_helper.to_array(weight)
    peak = 10000 if precision == "int8" else 60000  # int8 balances channels: some weights become larger
    weight.CopyFrom(onnx.numpy_helper.from_array(values * (peak / np.abs(values).max()), weight.name))
    onnx.save(model, tmp_path / "amnet.onnx")
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / f"amnet{suffix}"
    given = {"calibration": calibration} if precision == "int8" else {}
    with pytest.raises(
        ModelError, match=f"amnet{suffix} in {precision}: {conv.name} makes values above 65504, more than"
    ):
        build(tmp_path / "amnet.onnx", out, precision=precision, **given, **options)
    assert list(out.parent.iterdir()) == []
    assert build(tmp_path / "amnet.onnx", out, **options).gate["psnr"] > 50


@pytest.fixture
def workplace(exported, calibration, tmp_path, monkeypatch):
    """The exported files and the calibration file in the current folder, with room for the output."""
    for file in (*exported.glob("amnet*.onnx"), exported / "amnet.avatar", calibration):
        shutil.copy(file, tmp_path)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails_in_one_line(arguments, message, folder, capfd):
    assert main(["build", *arguments]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert list((folder / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.onnx", "-o", "out/a.xml"], "nowhere.onnx"),
        (["calibration.npz", "-o", "out/a.xml"], "is no ONNX file"),
        (["amnet.onnx", "-o", "out/a.engine"], "expected a name that ends in .xml or .plan"),
        (["amnet.onnx", "-o", "out/a-source.xml"], "out: got 'a-source.xml', which is what the source engine of a"),
        (["amnet.onnx", "-o", "out/a-identity.plan"], "which is what the identity engine of a model is called"),
        (["amnet.onnx", "-o", "nowhere/a.xml"], "No such folder"),
        (["amnet.onnx", "-o", "out/a.xml", "--precision", "int8"], "int8 needs a calibration file"),
        (["amnet.onnx", "-o", "out/a.xml", "--keep", "x"], "kept in float in int8 alone"),
        (["amnet.onnx", "-o", "out/a.xml", "--workspace", "5"], "is an option of TensorRT"),
        (["amnet.onnx", "-o", "out/a.xml", "--batch", "1"], "batch: is an option of TensorRT"),
        (["amnet.onnx", "-o", "out/a.plan", "--precision", "bf16"], "bf16 is for OpenVINO"),
        (
            ["amnet.onnx", "-o", "out/a.xml", "--precision", "int8", "--calibration", "calibration.npz", "--keep", "x"],
            "no layer of the graph begins with 'x'",
        ),
        (["amnet.onnx", "-o", "out/a.xml", "--calibration", "nowhere.npz"], "nowhere.npz"),
        (["amnet.onnx", "-o", "out/a.xml", "--calibration", "amnet.onnx"], "is no .npz file"),
    ],
)
def test_bad_options_are_one_line(arguments, message, workplace, capfd):
    fails_in_one_line(arguments, message, workplace, capfd)


def without_metadata(model):
    del model.metadata_props[:]


def changed_metadata(**fields):
    def change(model):
        (told,) = model.metadata_props
        told.value = json.dumps(json.loads(told.value) | fields)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_metadata, "has no edgetalk metadata"),
        (changed_metadata(format=99), "metadata of format 99"),
        (changed_metadata(precision="int8"), "is in int8 already"),
        (changed_metadata(role="source"), "is the source graph of a model; name its step"),
        (changed_metadata(source="0" * 64), "is not of the same export"),
    ],
)
def test_bad_onnx_files_are_one_line(change, message, workplace, capfd):
    model = onnx.load("amnet.onnx")
    change(model)
    onnx.save(model, "amnet.onnx")
    fails_in_one_line(["amnet.onnx", "-o", "out/a.xml"], message, workplace, capfd)


def test_a_truncated_or_lonely_onnx_file_is_one_line(workplace, capfd):
    (workplace / "lonely.onnx").write_bytes((workplace / "amnet.onnx").read_bytes())
    fails_in_one_line(["lonely.onnx", "-o", "out/a.xml"], "has no lonely-source.onnx beside it", workplace, capfd)
    (workplace / "amnet.onnx").write_bytes((workplace / "lonely.onnx").read_bytes()[:-1000])
    fails_in_one_line(["amnet.onnx", "-o", "out/a.xml"], "is no ONNX file or not a whole one", workplace, capfd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mel": None}, "has no array 'mel'"),
        ({"source": None}, "has no array 'source'"),
        ({"mel": np.zeros((6, 80, 32), np.float32)}, "mel in calibration.npz is float32 (6, 80, 32), expected float32"),
        ({"mel": np.zeros((6, 32, 80), np.int32)}, "is int32 (6, 32, 80)"),
        ({"mel": np.full((6, 32, 80), np.nan, np.float32)}, "no finite numbers"),
        ({"mel": np.zeros((0, 32, 80), np.float32)}, "is float32 (0, 32, 80)"),
        ({"pose": np.zeros((5, 3), np.float32)}, "expected equally many or a part that divides 6"),
        ({"source": np.zeros((1, 32, 32, 3), np.uint8)}, "source in calibration.npz is uint8 (1, 32, 32, 3)"),
        ({"pose": np.array([{}] * 6)}, "is no .npz file"),
    ],
)
def test_bad_calibration_is_one_line(change, message, workplace, capfd):
    arrays = {name: value for name, value in (samples() | change).items() if value is not None}
    np.savez(workplace / "calibration.npz", **arrays)
    fails_in_one_line(
        ["amnet.onnx", "-o", "out/a.xml", "--precision", "int8", "--calibration", "calibration.npz"],
        message,
        workplace,
        capfd,
    )


@pytest.mark.parametrize("damage", ["cut", "spoilt"])
def test_damaged_calibration_is_one_line(workplace, capfd, damage):
    data = (workplace / "calibration.npz").read_bytes()
    spoilt = data[:100] + b"\xff" * 100 + data[200:]  # in what is compressed
    (workplace / "calibration.npz").write_bytes({"cut": data[:-200], "spoilt": spoilt}[damage])
    fails_in_one_line(
        ["amnet.onnx", "-o", "out/a.xml", "--calibration", "calibration.npz"], "is no .npz file", workplace, capfd
    )


def test_a_lone_array_is_no_calibration(workplace, capfd):
    np.save(workplace / "mel.npy", samples()["mel"])
    fails_in_one_line(
        ["amnet.onnx", "-o", "out/a.xml", "--calibration", "mel.npy"], "mel.npy is no .npz file", workplace, capfd
    )


def test_a_damaged_avatar_is_one_line(workplace, capfd):
    (workplace / "amnet.avatar").write_bytes(b"hello")
    fails_in_one_line(["amnet.onnx", "-o", "out/a.xml"], "amnet.avatar is truncated or no avatar", workplace, capfd)


@pytest.mark.parametrize("change", [{"weights": "0" * 64}, {"family": "wav2lip"}])
def test_an_avatar_of_other_weights_is_one_line(change, workplace, capfd):
    """Folded, it would make an engine that suits no face; copied, each session would have to prepare it again."""
    other = dataclasses.replace(avatar.load_avatar("amnet.avatar"), **change)
    avatar.save_avatar(other, "other.avatar")
    told = "was prepared with other weights than those of amnet.onnx; "
    again = "prepare it again: edgetalk avatar amnet.onnx PICTURE -o "
    given = ["amnet.onnx", "-o", "out/a.xml", "--precision", "bf16", "--calibration", "calibration.npz"]
    message = f"fold_statistics: other.avatar {told}{again}other.avatar"
    fails_in_one_line([*given, "--fold-statistics", "other.avatar"], message, workplace, capfd)
    shutil.move("other.avatar", "amnet.avatar")
    message = f"amnet.avatar {told}move it away, or {again}amnet.avatar"
    for arguments in (given, given[:3]):
        fails_in_one_line(arguments, message, workplace, capfd)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("amnet.onnx", "amnet.onnx is read and would be written over; give the result another name"),
        ("amnet-source.onnx", "amnet-source.onnx is read and"),
        ("amnet.avatar", "amnet.avatar is read and"),
        ("ada.avatar", "ada.avatar is read and"),
        ("calibration.npz", "calibration.npz is read and"),
        ("linked.npz", "linked.npz is read and"),
        ("out/a.xml", "report: a.xml is what a file that is built is called; name another"),
        ("out/../out/a.bin", "report: a.bin is"),
        ("out/a-source.xml", "report: a-source.xml is"),
        ("out/a-source.bin", "report: a-source.bin is"),
        ("out/a.avatar", "report: a.avatar is"),
    ],
)
def test_a_report_takes_no_other_file_s_place(name, message, workplace, capfd):
    os.link("calibration.npz", "linked.npz")
    shutil.copy("amnet.avatar", "ada.avatar")
    before = {file.name: file.read_bytes() for file in workplace.iterdir() if file.is_file()}
    given = ["--precision", "int8", "--calibration", "calibration.npz", "--keep", "auto", "--report", name]
    given += ["--fold-statistics", "ada.avatar"] if name == "ada.avatar" else []
    fails_in_one_line(["amnet.onnx", "-o", "out/a.xml", *given], message, workplace, capfd)
    assert before == {file.name: file.read_bytes() for file in workplace.iterdir() if file.is_file()}


def test_unknown_precision_is_refused(exported, tmp_path):
    with pytest.raises(InputError, match="precision: got 'int4', expected one of f32, bf16, fp16, int8"):
        build(exported / "amnet.onnx", tmp_path / "a.xml", precision="int4")


def test_features_may_come_in_the_calibration_file(exported, tmp_path):
    arrays = samples()
    source = Runner(read(exported / "amnet-source.onnx")[0])
    arrays["appearance"] = source({"source": arrays.pop("source")})["appearance"]
    np.savez(tmp_path / "c.npz", **arrays)
    assert build(exported / "amnet.onnx", tmp_path / "a.xml", calibration=tmp_path / "c.npz").gate["frames"] == 2


def test_command_says_what_was_built(int8):
    assert ", int8\n" in int8.printed
    assert "ssim" in int8.printed


def test_command_says_in_which_arithmetic_it_was_judged(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(openvino, "arithmetic_of", lambda *_: ("f32", " (this CPU has no bf16)"))
    given = ["build", str(exported / "amnet.onnx"), "-o", str(tmp_path / "amnet.xml"), "--precision", "bf16"]
    assert main(given) == 0
    assert ", on OpenVINO in f32 (this CPU has no bf16), " in capsys.readouterr().out
