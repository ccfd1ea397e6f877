"""Engines of WavSyncSwap: what is built of its three graphs, and that source and step pass the gate as one."""

import json
import shutil
import struct

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from edgetalk.backends import open_engine
from edgetalk.backends import plan as plans
from edgetalk.cli import main
from edgetalk.engines import build, builder, gate, judge
from edgetalk.engines.concat import quantize_early
from edgetalk.engines.onnx_file import Runner
from edgetalk.engines.precision import quantize, scales, to_int8
from edgetalk.errors import InputError, ModelError
from edgetalk.export import to_onnx
from edgetalk.metadata import Metadata

ROLES = ("-identity", "-source", "")
SIZE, SAMPLES = 96, 6
VECTOR = 32  # values of an identity


def soft(count, seed):
    """Seeded pictures without hard edges."""
    random = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(random.normal(size=(SIZE, SIZE, 3)), (0, 0), 4) for _ in range(count)]
    return np.stack([np.clip(p / p.std() * 50 + 128, 0, 255).astype(np.uint8) for p in noise])


def samples(count=SAMPLES):
    """Arrays of a calibration file."""
    random = np.random.default_rng(6)
    vectors = random.normal(size=(count, VECTOR)).astype(np.float32)
    return {
        "target": soft(count, 1),
        "reference": soft(1, 2),
        "identity": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "mel": random.uniform(-4, 4, (count, 16, 80)).astype(np.float16),
    }


def feeds(i=0):
    return {
        name: np.asarray(value[i % len(value)][None], np.float32 if value.dtype.kind == "f" else None)
        for name, value in samples().items()
    }


@pytest.fixture(scope="module", autouse=True)
def floors_for_random_weights():
    """How well a network without training quantises says nothing; that the floors hold is tested in test_gate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gate.FLOORS, "int8", {"ssim": 0.85, "psnr": 30.0, "mouth_psnr": 28.0})
        yield


@pytest.fixture(scope="module")
def exported(swaps, tmp_path_factory):
    """Folder with the three ONNX files and a calibration file."""
    folder = tmp_path_factory.mktemp("exported")
    swaps.write(folder)
    to_onnx(folder / "wavsyncswap.safetensors", folder / "wavsyncswap.onnx", family="wavsyncswap")
    np.savez_compressed(folder / "calibration.npz", **samples())
    return folder


def frames(folder, suffix):
    """What the engines in a folder make of every sample, source and step by hand."""
    source, step = (open_engine(folder / f"wavsyncswap{role}{suffix}") for role in ("-source", ""))
    made = []
    for i in range(SAMPLES):
        features = source.run({name: feeds(i)[name] for name in source.inputs})
        made.append(step.run({**features, "mel": feeds(i)["mel"]})["frame"].copy())
    return np.concatenate(made)


@pytest.fixture(scope="module")
def wanted(exported):
    return frames(exported, ".onnx")


@pytest.fixture(scope="module")
def int8(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    build(
        exported / "wavsyncswap.onnx",
        folder / "wavsyncswap.xml",
        precision="int8",
        calibration=exported / "calibration.npz",
    )
    return folder


@pytest.mark.parametrize(("precision", "error"), [("f32", 0.01), ("bf16", 1.0)])
def test_openvino_engines(precision, error, exported, wanted, tmp_path):
    built = build(exported / "wavsyncswap.onnx", tmp_path / "wavsyncswap.xml", precision=precision)
    assert np.abs(frames(tmp_path, ".xml").astype(float) - wanted).mean() <= error
    assert built.gate["samples"] == "made up" and built.gate["mouth_psnr"] > 34


def test_int8_source_and_step_pass_the_gate_as_one(exported, int8, wanted):
    assert sorted(p.name for p in int8.iterdir()) == sorted(
        f"wavsyncswap{role}{suffix}" for role in ROLES for suffix in (".bin", ".xml")
    )
    told = {role: Metadata.from_json(open_engine(int8 / f"wavsyncswap{role}.xml").metadata, role) for role in ROLES}
    assert [told[role].precision for role in ROLES] == ["f32", "int8", "int8"]
    assert [told[role].role for role in ROLES] == ["identity", "source", "step"]
    assert told["-source"].onnx == told[""].source and told["-identity"].onnx == told[""].identity
    made = frames(int8, ".xml")
    held_out = (made[::5].astype(float), wanted[::5])  # what the gate saw
    assert told[""].gate["psnr"] == pytest.approx(
        10 * np.log10(255**2 / np.square(np.subtract(*held_out)).mean()), 0.01
    )
    assert np.abs(made.astype(float) - wanted).mean() < 3
    for role in ROLES[1:]:
        small, large = (folder / f"wavsyncswap{role}" for folder in (int8, exported))
        assert small.with_suffix(".bin").stat().st_size < 0.5 * large.with_suffix(".onnx").stat().st_size


def test_a_damaged_source_fails_the_gate_of_the_step(exported, tmp_path, monkeypatch):
    def damaged(model, *arguments, **options):
        typed = real(model, *arguments, **options)
        if "target" in {i.name for i in model.graph.input}:
            weight = next(w for w in typed.graph.initializer if w.name.endswith("share.weight"))
            weight.raw_data = bytes(len(weight.raw_data))
        return typed

    real = builder.typed_graph
    monkeypatch.setattr(builder, "typed_graph", damaged)
    with pytest.raises(ModelError, match=r"wavsyncswap.xml in f32 has (ssim|psnr|mouth_psnr) [\d.]+ against f32"):
        build(exported / "wavsyncswap.onnx", tmp_path / "wavsyncswap.xml")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_identity_engine_is_found(exported, int8, tmp_path, monkeypatch):
    told = Metadata.from_json(open_engine(int8 / "wavsyncswap-identity.xml").metadata, "").gate
    assert told["cosine"] > 0.99999 and told["length_error"] < 1e-4
    real = builder.openvino.write

    def damaged(model, path, **how):
        if path.name == "w-identity.xml":
            weight = max(model.graph.initializer, key=lambda w: len(w.raw_data))
            weight.raw_data = onnx.numpy_helper.to_array(weight)[::-1].tobytes()
        return real(model, path, **how)

    monkeypatch.setattr(builder.openvino, "write", damaged)
    with pytest.raises(ModelError, match=r"w-identity.xml in f32 has cosine -?[\d.]+ against f32, at least 0.9999"):
        build(exported / "wavsyncswap.onnx", tmp_path / "w.xml", precision="bf16")
    assert list(tmp_path.iterdir()) == []


def test_the_mouth_is_judged_where_the_crops_have_it():
    """Corners at rows and columns of the template; here at (30, 70) and (60, 72) of 100 pixels."""
    template = np.array([[0, 0], [0, 0], [0, 0], [0.30, 0.70], [0.60, 0.72]])
    rows, columns = judge.mouth(template, 100)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (56, 86, 15, 75)


def literally(model, given):
    """The frame as the graph's nodes say it, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["frame"], given)[0]


def test_quantising_before_a_concat_changes_nothing(exported):
    """Three skips: three joins, whose inputs are quantised one by one, with equal values bit for bit."""
    step, source = (onnx.load(exported / f"wavsyncswap{role}.onnx") for role in ("", "-source"))
    made = Runner(source)(feeds()) | {"mel": feeds()["mel"]}
    late = to_int8(step, [made], unsigned=True)
    early = quantize_early(late)
    joins = [n for n in early.graph.node if n.op_type == "Concat"]
    makers = {n.output[0]: n.op_type for n in early.graph.node}
    assert len(joins) == 3 and {makers[name] for n in joins for name in n.input} == {"DequantizeLinear"}
    before = {n.op_type for n in late.graph.node for j in joins if n.output[0] in j.input}
    assert before.isdisjoint({"DequantizeLinear"})
    assert np.array_equal(literally(early, made), literally(late, made))
    assert {n.op_type for n in quantize_early(step).graph.node} == {n.op_type for n in step.graph.node}


@pytest.mark.parametrize(
    ("shape", "moved"), [((1, 8, 1, 1), True), ((1, 1, 1, 1), False), ((), False), ((8, 1, 1), False)]
)
def test_only_a_factor_for_each_channel_moves_before_a_concat(shape, moved):
    random = np.random.default_rng(3)
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    constants = {"factors": random.uniform(0.5, 2, shape), "w": random.normal(size=(4, 8, 3, 3))}
    nodes = [
        make("Concat", ["a", "b"], ["c"], "join", axis=1),
        make("Mul", ["c", "factors"], ["d"], "mul"),
        make("Conv", ["d", "w"], ["frame"], "conv"),
    ]
    given = {name: random.normal(size=(1, size, 8, 8)).astype(np.float32) for name, size in (("a", 3), ("b", 5))}
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [value(name, 1, array.shape) for name, array in given.items()],
        [value("frame", 1, [1, 4, 6, 6])],
        [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    late = quantize(model, scales(model, [given]), ["conv"])
    early = quantize_early(late)
    assert ([n.op_type for n in early.graph.node] != [n.op_type for n in late.graph.node]) == moved
    assert np.array_equal(literally(early, given), literally(late, given))


def test_layers_of_either_graph_can_be_kept(exported, int8, tmp_path, monkeypatch, capsys):
    asked, real = {}, builder.typed_graph

    def typed_graph(model, precision, suffix, feeds, keep, **how):
        asked["source" if "target" in {i.name for i in model.graph.input} else "step"] = keep
        return real(model, precision, suffix, feeds, keep, **how)

    monkeypatch.setattr(builder, "typed_graph", typed_graph)
    command = ["build", str(exported / "wavsyncswap.onnx"), "-o", str(tmp_path / "w.xml"), "--precision", "int8"]
    command += ["--calibration", str(exported / "calibration.npz")]
    assert main([*command, "--keep", "/id_blocks", "--keep", "/head"]) == 0
    assert asked == {"source": ["/id_blocks"], "step": ["/head"]}
    kept = [(tmp_path / f"w{role}.bin").stat().st_size for role in ROLES]
    none = [(int8 / f"wavsyncswap{role}.bin").stat().st_size for role in ROLES]
    assert kept[0] == none[0] and kept[1] > 1.3 * none[1] and kept[2] > none[2]
    capsys.readouterr()
    assert main([*command, "--keep", "/nowhere"]) == 1
    assert "no layer of the graph begins with '/nowhere'" in capsys.readouterr().err


def test_nothing_can_be_folded_into_a_step_without_norms(exported, tmp_path):
    given = {"calibration": exported / "calibration.npz", "fold_statistics": tmp_path / "face.avatar"}
    with pytest.raises(InputError, match=r"fold_statistics: wavsyncswap.onnx has no norm to fold .*; leave it out"):
        build(exported / "wavsyncswap.onnx", tmp_path / "w.xml", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["f32", "fp16", "int8"])
def test_plans_of_all_three_graphs(precision, exported, tmp_path):
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'edgetalk[rtx]'")
    given = exported / "calibration.npz" if precision == "int8" else None
    built = build(
        exported / "wavsyncswap.onnx",
        tmp_path / "wavsyncswap.plan",
        precision=precision,
        calibration=given,
        compute_capability=["8.6", "12.0"],
    )
    on = "ONNX Runtime" if precision == "f32" else "ONNX Runtime (f32 where it has no fp16)"
    assert built.gate["on"] == on and built.gate["samples"] == ("held out" if given else "made up")
    names = {
        "": ("face", "skip0", "skip1", "skip2", "kept", "mel", "frame"),
        "-source": ("target", "reference", "identity", "face", "skip0", "skip1", "skip2", "kept"),
        "-identity": ("portrait", "identity"),
    }
    for role in ROLES:
        path = tmp_path / f"wavsyncswap{role}.plan"
        plan, content = plans.read(path), path.read_bytes()
        assert plan.metadata.precision == ("f32" if role == "-identity" else precision)
        assert plan.metadata.family == "wavsyncswap" and plan.capabilities == ("8.6", "12.0")
        assert content[:4] == b"vtrt" and struct.unpack_from("<Q", content, 16)[0] == len(content)
        assert all(name.encode() in content for name in names[role])
        assert plan.version == trt.__version__


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "wavsyncswap-source.onnx").unlink(), "has no wavsyncswap-source.onnx beside it"),
        (lambda f: (f / "wavsyncswap-identity.onnx").unlink(), "has no wavsyncswap-identity.onnx beside it"),
        (
            lambda f: shutil.copy(f / "wavsyncswap-source.onnx", f / "wavsyncswap-identity.onnx"),
            "wavsyncswap-identity.onnx is not of the same export",
        ),
        (lambda f: np.savez(f / "c.npz", **(samples() | {"target": samples()["mel"]})), "target in c.npz is float16"),
        (lambda f: np.savez(f / "c.npz", mel=samples()["mel"]), "c.npz has no array 'target'"),
        (
            lambda f: np.savez(f / "c.npz", **(samples() | {"identity": np.zeros((6, 8), np.float32)})),
            "identity in c.npz is float32 (6, 8), expected float32 (N, 32)",
        ),
    ],
)
def test_bad_input_is_one_line(spoil, message, exported, tmp_path, capsys):
    for file in exported.glob("*.onnx"):
        shutil.copy(file, tmp_path)
    shutil.copy(exported / "calibration.npz", tmp_path / "c.npz")
    spoil(tmp_path)
    (tmp_path / "out").mkdir()
    command = ["build", str(tmp_path / "wavsyncswap.onnx"), "-o", str(tmp_path / "out/w.xml"), "--precision", "int8"]
    assert main([*command, "--calibration", str(tmp_path / "c.npz")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0], lines
    assert list((tmp_path / "out").iterdir()) == []


def test_gate_figures_stand_in_the_engine(int8):
    told = json.loads(open_engine(int8 / "wavsyncswap.xml").metadata)["gate"]
    assert told["samples"] == "held out" and told["frames"] == 2 and told["mouth_psnr"] >= 28
