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
    nodes = [make("Sub", ["input.1", "mean"], ["x0"]), make("Mul", ["x0", "factor"], ["x1"])] if pixels else []
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


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("pixels", [False, True])
def test_onnx_keeps_its_graph(pixels, opset, portrait, tmp_path):
    random = np.random.default_rng(9)
    kernel, matrix = random.normal(size=(8, 3, 16, 16)) / 16, random.normal(size=(8 * 49, 32)) / 16
    write_onnx(tmp_path / "w600k.onnx", (kernel, matrix), pixels, opset=opset)
    to_onnx(tmp_path / "w600k.onnx", tmp_path / "arcface.onnx", family="arcface", licence=TERMS)
    patches = (portrait[0].astype(np.float64) / 127.5 - 1).reshape(7, 16, 7, 16, 3)
    vector = np.einsum("iajbc,ocab->oij", patches, kernel).reshape(-1) @ matrix
    wanted = vector / np.linalg.norm(vector)
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
    weights = np.zeros((8, 3, 16, 16)), np.zeros((8 * 25, 32))
    write_onnx(tmp_path / "good.onnx", weights, size=80)
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:300])
    (tmp_path / "text.onnx").write_text("hello")
    model = onnx.load(tmp_path / "good.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 6
    onnx.save(model, tmp_path / "wide.onnx")
    for name, message in (
        ("cut", "no ONNX file or not a whole one"),
        ("text", "no ONNX file or not a whole one"),
        ("wide", r"takes input.1 \[0, 6, 80, 80\], expected one picture"),
    ):
        with pytest.raises(ModelError, match=message):
            to_onnx(tmp_path / f"{name}.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        to_onnx(tmp_path / "none.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS)
    with pytest.raises(InputError, match="size: got 112, this extractor has 80 alone"):
        to_onnx(tmp_path / "good.onnx", tmp_path / "out.onnx", family="arcface", licence=TERMS, size=112)
    assert not (tmp_path / "out.onnx").exists()
