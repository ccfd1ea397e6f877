"""InsightFace's ArcFace, as weights and as ONNX, through export and engine, against calls on its names."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgetalk.backends import open_engine
from edgetalk.engines import build
from edgetalk.errors import InputError, ModelError
from edgetalk.export import to_onnx

from . import by_name
from .conftest import assert_plan, metadata_of, onnx_run

TERMS = "non-commercial research"


@pytest.fixture(scope="module")
def portrait():
    return np.random.default_rng(8).integers(0, 256, (1, 112, 112, 3), np.uint8)


@pytest.mark.parametrize(("blocks", "variant"), [((3, 4, 14, 3), "iresnet50"), ((3, 13, 30, 3), "iresnet100")])
def test_weights_through_both_files(blocks, variant, portrait, tmp_path):
    tensors = by_name.weights(by_name.iresnet_shapes(blocks, 0.125))
    torch.save(tensors, tmp_path / "backbone.pth")
    to_onnx(tmp_path / "backbone.pth", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    wanted = by_name.iresnet(tensors, portrait)
    assert np.ptp(wanted) > 0.1
    made = onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})["identity"]
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    build(tmp_path / "arcface.onnx", tmp_path / "arcface.xml")
    engine = open_engine(tmp_path / "arcface.xml")
    np.testing.assert_allclose(engine.run({"portrait": portrait})["identity"], wanted, atol=1e-5)
    engine.close()
    assert_plan(tmp_path / "arcface.onnx")
    metadata = metadata_of(tmp_path / "arcface.onnx")
    assert (metadata.variant, metadata.role, metadata.licence, metadata.use) == (
        variant,
        "identity",
        TERMS,
        "non-commercial",
    )


def test_simswaps_own_extractor_through_both_files(portrait, tmp_path):
    """Its file is a pickled object; what is read is the state dict that the refusal asks for."""
    tensors = by_name.weights(by_name.simswap_arcface_shapes((2, 1, 2, 1), 0.25))
    torch.save(tensors, tmp_path / "arcface.pth")
    to_onnx(tmp_path / "arcface.pth", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    wanted = by_name.simswap_arcface(tensors, portrait)
    assert np.ptp(wanted) > 0.1
    made = onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})["identity"]
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    build(tmp_path / "arcface.onnx", tmp_path / "arcface.xml")
    engine = open_engine(tmp_path / "arcface.xml")
    np.testing.assert_allclose(engine.run({"portrait": portrait})["identity"], wanted, atol=1e-5)
    engine.close()
    assert metadata_of(tmp_path / "arcface.onnx").variant == "simswap"
    assert_plan(tmp_path / "arcface.onnx")


def test_simswaps_own_extractor_has_the_published_names():
    from edgetalk.train.networks.simswap_arcface import SimSwapArcFace

    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in SimSwapArcFace().state_dict().items()}
    assert ours == by_name.simswap_arcface_shapes()


def test_parameters_are_the_published_ones():
    from edgetalk.export import arcface

    for blocks, millions in (((3, 4, 14, 3), 43.59), ((3, 13, 30, 3), 65.16)):
        shapes = by_name.iresnet_shapes(blocks)
        counted = sum(
            int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name and "num_" not in name
        )
        assert counted / 1e6 == pytest.approx(millions, abs=0.01)
        assert blocks in arcface.VARIANTS


def test_a_licence_is_asked_for(tmp_path):
    torch.save(by_name.weights(by_name.iresnet_shapes((1, 1, 1, 1), 0.125)), tmp_path / "backbone.pth")
    with pytest.raises(InputError, match="licence: backbone.pth is published without one that we know"):
        to_onnx(tmp_path / "backbone.pth", tmp_path / "arcface.onnx", family="arcface")
    to_onnx(tmp_path / "backbone.pth", tmp_path / "arcface.onnx", family="arcface", licence="MIT", use="any")
    assert metadata_of(tmp_path / "arcface.onnx").use == "any"


def write_onnx(path, weights, pixels=False, size=112, outputs=1, opset=11):
    """A tiny extractor as converters write it: planes in, vectors of any length out."""
    make = helper.make_node
    first = "data" if pixels == "identity" else "input.1"  # MXNet's begin with Identity
    nodes = [make("Identity", ["input.1"], ["data"])] if pixels == "identity" else []
    nodes += [make("Sub", [first, "mean"], ["x0"]), make("Mul", ["x0", "factor"], ["x1"])] if pixels else []
    nodes += [
        make("Conv", ["x1" if pixels else "input.1", "kernel"], ["x2"], strides=[16, 16]),
        make("Flatten", ["x2"], ["x3"]),
        make("MatMul", ["x3", "matrix"], ["683"]),
    ]
    constants = {"kernel": weights[0], "matrix": weights[1]}
    constants |= {"mean": np.float32(127.5), "factor": np.float32(1 / 127.5)} if pixels else {}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, size, size])],
        [helper.make_tensor_value_info("683", TensorProto.FLOAT, ["None", 32])] * outputs,
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 6 if opset < 15 else 8
    onnx.save(model, path)


def as_insightface(path, portrait):
    """The file's own graph in ONNX Runtime, fed by the rule of InsightFace's arcface_onnx.py; of unit length."""
    first = [node.op_type for node in onnx.load(path).graph.node[:8]]
    planes = portrait.transpose(0, 3, 1, 2).astype(np.float32)
    if not ("Sub" in first and "Mul" in first):
        planes = (planes - 127.5) / 127.5
    (vector,) = onnx_run(path, {"input.1": planes}).values()
    return vector.reshape(-1) / np.linalg.norm(vector)


def random_weights(side=7):
    random = np.random.default_rng(9)
    return random.normal(size=(8, 3, 16, 16)) / 16, random.normal(size=(8 * side * side, 32)) / 16


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("pixels", [False, True, "identity"])
def test_onnx_keeps_its_graph(pixels, opset, portrait, tmp_path):
    random = np.random.default_rng(9)
    kernel, matrix = random.normal(size=(8, 3, 16, 16)) / 16, random.normal(size=(8 * 49, 32)) / 16
    write_onnx(tmp_path / "w600k.onnx", (kernel, matrix), pixels, opset=opset)
    to_onnx(tmp_path / "w600k.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    patches = (portrait[0].astype(np.float64) / 127.5 - 1).reshape(7, 16, 7, 16, 3)
    vector = np.einsum("iajbc,ocab->oij", patches, kernel).reshape(-1) @ matrix
    wanted = vector / np.linalg.norm(vector)
    np.testing.assert_allclose(as_insightface(tmp_path / "w600k.onnx", portrait), wanted, atol=1e-5)
    np.testing.assert_allclose(
        onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})["identity"][0], wanted, atol=1e-5
    )
    build(tmp_path / "arcface.onnx", tmp_path / "arcface.xml")
    engine = open_engine(tmp_path / "arcface.xml")
    np.testing.assert_allclose(engine.run({"portrait": portrait})["identity"][0], wanted, atol=1e-5)
    engine.close()
    assert metadata_of(tmp_path / "arcface.onnx").role == "identity"
    assert_plan(tmp_path / "arcface.onnx")


@pytest.mark.parametrize(("version", "opset"), [(3, 8), (6, 11), (8, 18)])
def test_onnx_whose_weights_are_inputs_too(version, opset, portrait, tmp_path, capfd):
    """As MXNet writes it, and as version 3 of the format asks for; its nodes may be without names."""
    random = np.random.default_rng(9)
    kernel, matrix = random.normal(size=(8, 3, 16, 16)) / 16, random.normal(size=(8 * 49, 32)) / 16
    write_onnx(tmp_path / "bare.onnx", (kernel, matrix), opset=opset)
    model = onnx.load(tmp_path / "bare.onnx")
    model.ir_version = version
    weights = [helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in model.graph.initializer]
    model.graph.input.extend(weights)
    onnx.save(model, tmp_path / "listed.onnx")
    for name in ("bare", "listed"):
        to_onnx(tmp_path / f"{name}.onnx", tmp_path / f"{name}-out.onnx", family="arcface", licence=TERMS)
    assert capfd.readouterr().err == ""
    made = [onnx_run(tmp_path / f"{name}-out.onnx", {"portrait": portrait})["identity"] for name in ("bare", "listed")]
    np.testing.assert_array_equal(*made)
    assert [given.name for given in onnx.load(tmp_path / "listed-out.onnx").graph.input] == ["portrait"]
    assert_plan(tmp_path / "listed-out.onnx")
    built = build(tmp_path / "listed-out.onnx", tmp_path / "arcface.xml")
    assert built.gate["cosine"] > 0.9999


@pytest.mark.parametrize("keep", [(), "auto"])
def test_onnx_of_an_old_opset_in_int8(keep, portrait, tmp_path):
    """Scales for each channel came with opset 13."""
    random = np.random.default_rng(9)
    kernel, matrix = random.normal(size=(8, 3, 16, 16)) / 16, random.normal(size=(8 * 49, 32)) / 16
    write_onnx(tmp_path / "w600k.onnx", (kernel, matrix), opset=11)
    to_onnx(tmp_path / "w600k.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    np.savez(tmp_path / "c.npz", portrait=np.concatenate([portrait, 255 - portrait, portrait // 2]))
    given = {"precision": "int8", "calibration": tmp_path / "c.npz", "keep": keep}
    built = build(tmp_path / "arcface.onnx", tmp_path / "arcface.xml", **given)
    wanted = onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})["identity"][0]
    engine = open_engine(tmp_path / "arcface.xml")
    assert engine.run({"portrait": portrait})["identity"][0] @ wanted == pytest.approx(built.gate["cosine"], abs=1e-4)
    assert 0.98 < built.gate["cosine"] < 1
    engine.close()


def test_bad_onnx_is_one_line(tmp_path):
    write_onnx(tmp_path / "good.onnx", random_weights(5), size=80)
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:300])
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    model = onnx.load(tmp_path / "good.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    onnx.save(model, tmp_path / "wide.onnx")
    for name, message in (
        ("cut", "no ONNX file or not a whole one"),
        ("text", "no ONNX file or not a whole one"),
        ("empty", "no ONNX file or not a whole one"),
        ("wide", r"takes input.1 \[0, 6, 80, 80\], expected one picture"),
    ):
        with pytest.raises(ModelError, match=message):
            to_onnx(tmp_path / f"{name}.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        to_onnx(tmp_path / "none.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS)
    with pytest.raises(InputError, match="size: got 112, this extractor has 80 alone"):
        to_onnx(tmp_path / "good.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS, size=112)
    for batch in (0, 4):
        with pytest.raises(InputError, match="^batch: an ONNX file is exported for a batch of 1; leave --batch out$"):
            to_onnx(tmp_path / "good.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS, batch=batch)
    assert not (tmp_path / "out.onnx").exists()


def rename(model, old, new):
    """Give a value of a graph another name."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def our_names(model):
    for old, new in (
        ("input.1", "portrait"),
        ("683", "identity"),
        ("x2", "edgetalk/float"),
        ("kernel", "own/portrait"),
        ("matrix", "edgetalk/scale"),
    ):
        rename(model, old, new)


def crossed_names(model):
    rename(model, "input.1", "identity")
    rename(model, "683", "portrait")


def rank_four(model):
    model.graph.node[-1].output[0] = "flat"
    model.graph.node.append(helper.make_node("Reshape", ["flat", "four"], ["683"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 32, 1, 1]), "four"))
    model.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["None", 32, 1, 1]))


def shapes_noted(model):
    """As some converters leave them: true for the batch that they traced."""
    model.graph.value_info.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, [4, 8, 7, 7]))


def name_nodes(model, *names):
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name


def nodes_as_torch_counts_them(model):
    """Up to 1.12; the frame has a Cast and a Transpose, too."""
    name_nodes(model, "Cast_0", "Transpose_1", "Add_3")


def nodes_as_the_frame_s(model):
    name_nodes(model, "edgetalk/Cast_0", "own/edgetalk/Cast_0", "")


def nodes_as_weights(model):
    name_nodes(model, "kernel", "input.1", "matrix")


NODES = [nodes_as_torch_counts_them, nodes_as_the_frame_s, nodes_as_weights]


@pytest.mark.parametrize("change", [our_names, crossed_names, rank_four, shapes_noted, *NODES])
@pytest.mark.parametrize("opset", [11, 18])
def test_onnx_a_little_foreign_is_read(change, opset, portrait, tmp_path):
    weights = [weight.astype(np.float16) for weight in random_weights()]  # which export stores as such, behind a Cast
    write_onnx(tmp_path / "plain.onnx", weights, opset=opset)
    model = onnx.load(tmp_path / "plain.onnx")
    change(model)
    onnx.save(model, tmp_path / "foreign.onnx")
    to_onnx(tmp_path / "foreign.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    wanted = as_insightface(tmp_path / "plain.onnx", portrait)
    made = onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})
    np.testing.assert_allclose(made["identity"], wanted[None], atol=1e-5)
    built = build(tmp_path / "arcface.onnx", tmp_path / "arcface.xml")
    assert built.gate["cosine"] > 0.9999


@pytest.mark.parametrize("outside", [False, True])
def test_onnx_in_half_precision_is_read(outside, portrait, tmp_path):
    """`outside`: float32 comes in and goes out, and Casts stand between."""
    write_onnx(tmp_path / "plain.onnx", [weight.astype(np.float16) for weight in random_weights()], "identity")
    model = onnx.load(tmp_path / "plain.onnx")
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    nodes = list(model.graph.node)
    if outside:
        nodes[0] = helper.make_node("Cast", ["input.1"], ["data"], to=TensorProto.FLOAT16)
        nodes[-1].output[0] = "half"
        nodes.append(helper.make_node("Cast", ["half"], ["683"], to=TensorProto.FLOAT))
    else:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    factor = model.graph.initializer.pop()
    assert factor.name == "factor"
    nodes.insert(0, helper.make_node("Constant", [], ["factor"], value=factor))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "half.onnx")
    to_onnx(tmp_path / "half.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    wanted = as_insightface(tmp_path / "plain.onnx", portrait)
    made = onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})["identity"]
    np.testing.assert_allclose(made, wanted[None], atol=1e-3)  # the factor itself was rounded
    built = build(tmp_path / "arcface.onnx", tmp_path / "arcface.xml")
    assert built.gate["cosine"] > 0.9999


def batch_of_eight(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 8


def bytes_in(model):
    model.graph.node.insert(0, helper.make_node("Cast", ["input.1"], ["cast"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "cast"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def two_outputs(model):
    model.graph.output.append(helper.make_tensor_value_info("x3", TensorProto.FLOAT, ["None", 392]))


def a_map(model):
    del model.graph.node[1:]
    rename(model, "x2", "683")
    model.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["None", 8, 7, 7]))


def other_domain(model):
    model.graph.node[1].domain, model.graph.node[1].op_type = "com.acme", "Fold"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))


def unknown_operator(model):
    model.graph.node[1].op_type = "Fold"


def old_opset(model):
    """Of before operators broadcast: its own nodes run, the frame's do not."""
    model.opset_import[0].version = 6


def future_opset(model):
    model.opset_import[0].version = 99


def future_format(model):
    model.ir_version = 99


def wrong_product(model):
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones((391, 32), np.float32), "matrix"))


def wrong_shape(model):
    """Noticed not before it runs."""
    model.graph.node[1].CopyFrom(helper.make_node("Reshape", ["x2", "five"], ["x3"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([5, -1]), "five"))


def short_half(model):
    tensor = model.graph.initializer[1]
    tensor.data_type, tensor.raw_data = TensorProto.FLOAT16, bytes(10)


def zeros(model):
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros((392, 32), np.float32), "matrix"))


def not_a_number(model):
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((392, 32), np.nan, np.float32), "matrix"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (batch_of_eight, "takes 8 pictures at once, expected 1 or any number; export it for that"),
        (bytes_in, "takes input.1 in uint8, expected float; export it with a float input"),
        (two_outputs, "makes 683, x3, expected one vector alone; export it with that output alone"),
        (a_map, r"makes 683 float32 \[1, 8, 7, 7\], expected one float32 vector \(1, 512\); give an ArcFace"),
        (other_domain, r"\(opset 11, com.acme 1\) does not run in ONNX Runtime .*com.acme:Fold.*; copy it again"),
        (unknown_operator, r"\(opset 11\) does not run in ONNX Runtime .*Fold.*; copy it again"),
        (old_opset, r"\(opset 6\) does not run in ONNX Runtime .*Div.*; copy it again"),
        (future_opset, r"\(opset 99\) does not run in ONNX Runtime .*; copy it again"),
        (future_format, r"\(opset 11\) does not run in ONNX Runtime .* ir_version 99 .*; copy it again"),
        (wrong_shape, r"\(opset 11\) does not run in ONNX Runtime .*Reshape node.*; copy it again"),
        (wrong_product, r"\(opset 11\) does not run in ONNX Runtime .*MatMul.*; copy it again"),
        (short_half, r"\(opset 11\) does not run in ONNX Runtime .*; copy it again"),
        (zeros, "makes zeros alone of a picture, expected a vector with a length; give a trained file"),
        (not_a_number, "makes NaN or infinity of a picture, expected a vector with a length; give a trained file"),
    ],
)
def test_foreign_onnx_is_one_line(change, message, tmp_path, capfd):
    write_onnx(tmp_path / "plain.onnx", random_weights())
    model = onnx.load(tmp_path / "plain.onnx")
    change(model)
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match=f"^foreign.onnx {message}") as caught:
        to_onnx(tmp_path / "foreign.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS)
    assert "\n" not in str(caught.value) and "torch" not in str(caught.value)
    assert len(str(caught.value)) < 450
    assert not (tmp_path / "out.onnx").exists()
    assert capfd.readouterr().err == ""


def test_onnx_with_weights_beside_it(portrait, tmp_path):
    write_onnx(tmp_path / "plain.onnx", random_weights())
    model = onnx.load(tmp_path / "plain.onnx")
    given = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(model, tmp_path / "large.onnx", **given)
    to_onnx(tmp_path / "large.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    made = onnx_run(tmp_path / "arcface.onnx", {"portrait": portrait})["identity"]
    np.testing.assert_allclose(made, as_insightface(tmp_path / "plain.onnx", portrait)[None], atol=1e-5)
    (tmp_path / "arcface.onnx").unlink()
    message = "^large.onnx has its weights in weights.bin, which is missing or not whole; copy that beside it$"
    for spoil in (lambda path: path.write_bytes(b"1234"), lambda path: path.unlink()):
        spoil(tmp_path / "weights.bin")
        with pytest.raises(ModelError, match=message):
            to_onnx(tmp_path / "large.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    assert not (tmp_path / "arcface.onnx").exists()
