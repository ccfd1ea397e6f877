"""Quantised graphs: what is in them, against ONNX Runtime's own quantiser."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetalk.engines import typed
from edgetalk.engines.balance import balance
from edgetalk.engines.calibration import load
from edgetalk.engines.onnx_file import Runner, read, with_outputs
from edgetalk.engines.precision import layers, overflow, quantize, scales, to_fp16, to_int8
from edgetalk.errors import InputError


@pytest.fixture(scope="module")
def step(exported):
    return read(exported / "amnet.onnx")[0]


@pytest.fixture(scope="module")
def feeds(step, exported, calibration):
    return load(calibration, Runner(step), Runner(read(exported / "amnet-source.onnx")[0]))


@pytest.fixture(scope="module")
def int8(step, feeds):
    return to_int8(step, feeds[:3])


def constants(model):
    return {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}


def test_balanced_channels_are_equally_large_and_the_graph_is_the_same(step, feeds):
    names = layers(step)
    even = balance(step, feeds[:2], names)
    before, after = Runner(step)(feeds[3]), Runner(even)(feeds[3])
    assert np.abs(before["frame"].astype(int) - after["frame"]).max() <= 1
    np.testing.assert_allclose(before["landmarks"], after["landmarks"], atol=1e-4)
    inputs = sorted({n.input[0] for n in even.graph.node if n.name in names and n.op_type == "Conv"})
    assert all(name.endswith("/balanced") for name in inputs)
    seen = Runner(with_outputs(even, inputs))(feeds[0])
    wide = [name for name in inputs if seen[name].shape[1] > 8 and "fuser" not in name]
    spreads = {name: seen[name].std(axis=(0, 2, 3)) / seen[name].std() for name in wide}
    assert all(0.3 < spread.min() and spread.max() < 3 for spread in spreads.values()), spreads


def test_every_convolution_is_symmetric_signed_and_without_quantised_bias(step, int8):
    values, made_by = constants(int8), {out: n for n in int8.graph.node for out in n.output}
    convolutions = [n for n in int8.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    assert len(convolutions) == len(layers(step)) == 27
    for node in int8.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (values[node.input[1]] > 0).all()
    for node in convolutions:
        data, weight = (made_by[name] for name in node.input[:2])
        assert (data.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert made_by[data.input[0]].op_type == "QuantizeLinear"
        whole = values[weight.input[0]]
        channels = whole.shape[1] if node.op_type == "ConvTranspose" else whole.shape[0]
        assert whole.dtype == np.int8
        assert values[weight.input[1]].shape == (channels,)
        if len(node.input) > 2:
            assert values[node.input[2]].dtype == np.float32
    assert not any(w.data_type == TensorProto.INT32 and "bias" in w.name for w in int8.graph.initializer)


def test_weights_are_those_of_onnxruntimes_quantiser(step, feeds, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            taken = {i.name for i in step.graph.input}  # it minds feeds of other graphs
            self.left = iter([{name: v for name, v in feeds[0].items() if name in taken}])

        def get_next(self):
            return next(self.left, None)

    onnx.save(step, tmp_path / "step.onnx")
    quantize_static(
        tmp_path / "step.onnx",
        tmp_path / "int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    theirs = onnx.load(tmp_path / "int8.onnx")
    values, compared = constants(theirs), 0
    ours = constants(quantize(step, scales(step, feeds[:1]), layers(step)))
    for node in step.graph.node:
        if node.op_type != "Conv":
            continue
        weight, name = ours[f"{node.input[1]}/q"], node.input[1]
        other = values[f"{name}_quantized"]
        scale, finer = (x.reshape(-1, 1, 1, 1) for x in (ours[f"{name}/scale"], values[f"{name}_scale"]))
        pair = [largest_pair(rows) / 128 for rows in constants(step)[name]]
        np.testing.assert_allclose(scale.ravel(), np.maximum(finer.ravel(), pair), rtol=1e-5)
        assert (np.abs(weight * scale - other * finer) <= (scale + finer) / 2 * 1.0001).all()
        compared += 1
    assert compared == 25


def largest_pair(weights):
    """What a CPU without VNNI adds in 16 bits, for weights (I, k, k): two inputs' of one place."""
    sums = [0.0]
    for i in range(0, len(weights) - 1, 2):
        for a, b in zip(weights[i].ravel(), weights[i + 1].ravel(), strict=True):
            sums += [max(a, 0) + max(b, 0), -min(a, 0) - min(b, 0)]
    return max(sums)


def test_activation_scales_cover_what_was_seen(step, feeds):
    scale = scales(step, feeds[:2])
    peak = np.abs(feeds[0]["appearance"]).max()
    first = next(name for name in scale)
    assert set(scale) == {n.input[0] for n in step.graph.node if n.name in set(layers(step))}
    assert all(np.isfinite(s.step) and s.step > 0 and s.dtype == np.int8 for s in scale.values())
    assert 0.2 * peak / 127 < scale[first].step < 10 * peak / 127


def test_scale_clips_a_lone_outlier_and_keeps_an_even_range():
    def scale_of(values, unsigned=False):
        weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["frame"], "conv")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, len(values)])],
            [helper.make_tensor_value_info("frame", TensorProto.FLOAT, None)],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return scales(model, [{"x": np.float32(values).reshape(1, 1, 1, -1)}], unsigned)["x"]

    even = np.linspace(-1, 1, 5000)
    assert scale_of(even) == (pytest.approx(1 / 127, rel=0.01), np.int8)
    assert scale_of(even, unsigned=True) == scale_of(even)
    assert scale_of(np.abs(even)).dtype == np.int8
    assert scale_of(np.abs(even), unsigned=True) == (pytest.approx(1 / 255, rel=0.01), np.uint8)
    assert scale_of(np.append(np.tile(even, 20), 2.0)).step < 1.5 / 127  # 2 / 127 without clipping
    assert scale_of(np.append(np.tile(even, 2000), 10.0)).step < 0.5 * 10 / 127
    fine = np.append(np.linspace(1e-6, 0.05, 10**6), 1.0)  # whose steps are as small as what zeros would count as
    assert scale_of(np.append(fine, np.zeros(10**6)), unsigned=True) == scale_of(fine, unsigned=True)
    assert scale_of(np.zeros(9)).step > 0


def test_int8_runs_and_is_near(step, int8, feeds):
    wanted, got = (Runner(m)(feeds[-1])["frame"].astype(int) for m in (step, int8))
    assert 0 < np.abs(wanted - got).mean() < 10


def test_int8_with_the_rest_in_fp16(step, int8, feeds):
    half = to_int8(step, feeds[:3], rest="fp16")
    onnx.checker.check_model(half, full_check=True)
    values = constants(half)
    scale_names = {n.input[1] for n in half.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert {values[name].dtype for name in scale_names} == {np.dtype(np.float16)}
    assert not any(w.data_type == TensorProto.FLOAT for w in half.graph.initializer if np.prod(w.dims) > 1)
    assert list(half.metadata_props) == list(step.metadata_props)
    frames = [Runner(m)(feeds[-1])["frame"].astype(int) for m in (step, int8, half)]
    losses = [np.abs(frame - frames[0]).mean() for frame in frames[1:]]
    assert losses[1] < 1.2 * losses[0]  # 16 bits add little to what 8 bits lose


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_weights_too_small_for_a_scale_in_fp16_keep_what_fp16_holds(kind):
    """The last channel's own step would be 2e-9, the third's 2e-8, where fp16 knows 0 and 6e-8."""
    random = np.random.default_rng(3)
    size = np.float32([1, 1e-3, 1e-5, 1e-6])
    weight = random.normal(size=(4, 6, 3, 3)).astype(np.float32) / 4 * size.reshape(-1, 1, 1, 1)
    weight = weight if kind == "Conv" else weight.transpose(1, 0, 2, 3)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 6, 9, 9]), ("y", [1, 4, None, None]))
    ]
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node(kind, ["r", "w"], ["y"], "conv")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = [{"x": np.cumsum(random.normal(size=(1, 6, 9, 9)), 3).astype(np.float32)} for _ in range(4)]
    half = to_int8(model, given, rest="fp16")
    scale = constants(half)["w/scale"]
    assert scale.dtype == np.float16 and (scale > 0).all()
    wanted, got = (Runner(m)(given[0])["y"] for m in (model, half))
    lost = np.sqrt(np.square(got - wanted).sum((0, 2, 3)) / np.square(wanted).sum((0, 2, 3)))
    assert (lost < [0.03, 0.03, 0.03, 0.1]).all(), lost


def test_an_activation_too_small_for_a_scale_in_fp16_has_the_next_one_above():
    """Its own would be 2e-8, of which fp16 makes 0; one that is rounded down would cut the largest values off."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 9, 9]) for name in "xy"]
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "w")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], "conv")], "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for peak in (2e-6, 1e-4, 1.0, 3.0):
        given = [{"x": np.linspace(-peak, peak, 81, dtype=np.float32).reshape(1, 1, 9, 9)}]
        (step,) = scales(balance(model, given, ["conv"]), given).values()
        half = constants(to_int8(model, given, rest="fp16"))
        (found,) = (value for name, value in half.items() if name.endswith("/scale") and name != "w/scale")
        assert found.dtype == np.float16
        assert step.step <= float(found) <= step.step + max(step.step * 2**-10, 6e-8)


def test_a_bit_is_gained_where_nothing_is_negative(step, int8, feeds):
    finer = to_int8(step, feeds[:3], unsigned=True)
    kinds = {n.name: constants(finer)[n.input[2]].dtype for n in finer.graph.node if n.op_type == "QuantizeLinear"}
    assert set(kinds.values()) == {np.dtype(np.int8), np.dtype(np.uint8)}
    behind_relu = {f"{n.output[0]}/Quantize" for n in step.graph.node if n.op_type == "Relu"} & set(kinds)
    assert behind_relu
    assert {kinds[name] for name in behind_relu} == {np.dtype(np.uint8)}
    wanted, signed, gained = (Runner(m)(feeds[-1])["frame"].astype(int) for m in (step, int8, finer))
    assert np.abs(gained - wanted).mean() < np.abs(signed - wanted).mean()


def test_kept_layers_stay_as_they_were(step, feeds):
    names = layers(step)
    kept = to_int8(step, feeds[:1], keep=names[3:])
    changed = [n.name for n in kept.graph.node if n.name in names and n.input[1].endswith("/dq")]
    assert changed == names[:3]
    by_prefix = to_int8(step, feeds[:1], keep=["/fuser", "/cells"])
    assert {n.name for n in by_prefix.graph.node if n.name in names and n.input[1].endswith("/dq")} == {
        name for name in names if name.startswith("/header")
    }
    nothing = to_int8(step, feeds[:1], keep=names)
    np.testing.assert_array_equal(Runner(nothing)(feeds[0])["frame"], Runner(step)(feeds[0])["frame"])
    with pytest.raises(InputError, match="no layer of the graph begins with 'nonesuch'"):
        to_int8(step, feeds[:1], keep=["nonesuch"])


@pytest.mark.parametrize("suffix", [".plan", ".xml"])
def test_upsampling_layers_of_a_plan_stay_in_fp16(step, feeds, monkeypatch, suffix):
    """What is left of them in a plan's graph: test_tensorrt.py."""
    asked = []
    monkeypatch.setattr(typed, "to_int8", lambda model, samples, keep, **how: asked.extend(keep) or model)
    typed.typed_graph(step, "int8", suffix, feeds[:1], ["/fuser"])
    up = [n.name for n in step.graph.node if n.op_type == "ConvTranspose"]
    assert len(up) == 2 and asked == ["/fuser", *(up if suffix == ".plan" else [])]


def test_no_sample_is_an_error(step):
    with pytest.raises(InputError, match="no sample"):
        to_int8(step, [])


def test_a_predicted_convolution_stays_in_float():
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["frame"], "predicted", group=4, pads=[1] * 4)],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 1, 3, 3]),
        ],
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, None)],
    )
    assert layers(helper.make_model(graph)) == []


def test_a_convolution_of_sequences_stays_in_float():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 9]) for name in "xy"]
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "sequence", pads=[1, 1])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = {"x": np.random.default_rng(1).normal(size=(1, 2, 9)).astype(np.float32)}
    assert layers(model) == []
    np.testing.assert_array_equal(Runner(to_int8(model, [given]))(given)["y"], Runner(model)(given)["y"])


def test_fp16_runs_in_onnxruntime(step, feeds):
    half = to_fp16(step)
    session = ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [x.type for x in session.get_inputs()] == ["tensor(float)"] * 4
    weights = [w for w in half.graph.initializer if len(w.dims) > 1 and w.data_type != TensorProto.INT64]
    assert {w.data_type for w in weights} == {TensorProto.FLOAT16}
    frame = Runner(half)(feeds[0])["frame"]
    assert frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - Runner(step)(feeds[0])["frame"]).max() <= 3
    assert half.metadata_props == step.metadata_props


@pytest.mark.parametrize("half", [False, True])
def test_a_layer_that_makes_more_than_fp16_holds_is_named(half):
    """In f32, in which ONNX Runtime computes it on most CPUs, the result is right."""
    make = helper.make_node
    nodes = [make("Mul", ["x", "k"], ["a"], "up"), make("Mul", ["a", "k"], ["b"], "further")]
    nodes += [make("Div", ["b", "k"], ["c"], "down"), make("Div", ["c", "k"], ["y"], "back")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.float32([1000]), "k")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = to_fp16(model) if half else model
    small, large = ({"x": np.float32([0.05, size])} for size in (-0.06, -0.07))
    assert overflow(model, [small]) == ""
    assert overflow(model, [small, large]) == "further"


def test_fp16_of_a_constant_with_several_readers():
    """Resize keeps its factors in 32 bits: two that share them once gave a graph with one name made twice."""
    make = helper.make_node
    resizes = [make("Resize", [x, "", "factors"], [y], mode="linear") for x, y in (("x", "y"), ("y", "z"))]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, side, side])
        for name, side in (("x", 4), ("z", 16))
    ]
    constant = make("Constant", [], ["factors"], value=numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32)))
    graph = helper.make_graph([constant, *resizes], "resize", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    x = {"x": np.random.default_rng(0).uniform(-1, 1, (1, 2, 4, 4)).astype(np.float32)}
    np.testing.assert_allclose(Runner(to_fp16(model))(x)["z"], Runner(model)(x)["z"], atol=2e-3)
