"""Weights that are rounded together: against the paper's update written naively, and by what it is for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetalk.engines import rounding
from edgetalk.engines.onnx_file import Runner
from edgetalk.engines.precision import Scale, quantize, scales
from edgetalk.engines.rounding import DAMPING, columns, gptq, nearest, rounded, steps


def alike(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Samples (count, size) of which neighbours are much alike, as the values of a map are."""
    return np.cumsum(rng.normal(size=(count, size)), axis=1) / np.sqrt(np.arange(1, size + 1))


def optimal_brain(weight: np.ndarray, step: float, products: np.ndarray) -> np.ndarray:
    """GPTQ's Eq. 2 as it stands: what is left moves by -(w - q) / [H^-1]_kk times the column of its own H^-1."""
    left, whole = weight.copy(), np.zeros_like(weight)
    for k in range(len(weight)):
        inverse = np.linalg.inv(products[k:, k:])
        whole[k] = np.clip(np.round(left[k] / step), -127, 127)
        left[k:] -= (left[k] - whole[k] * step) / inverse[0, 0] * inverse[:, 0]
    return whole


@pytest.mark.parametrize("block", [1, 5, 128])
def test_it_is_the_update_of_the_paper(monkeypatch, block):
    monkeypatch.setattr(rounding, "BLOCK", block)
    rng = np.random.default_rng(0)
    x, weight = alike(200, 12, rng), rng.normal(size=(5, 12))
    products = x.T @ x
    step = np.abs(weight).max(1) / 20  # coarse, so that much is handed on
    damped = products + DAMPING * np.diag(products).mean() * np.eye(12)
    want = [optimal_brain(row, s, damped) for row, s in zip(weight, step, strict=True)]
    whole = gptq(weight, step, products)
    np.testing.assert_array_equal(whole, want)
    assert whole.dtype == np.int8 and (whole != nearest(weight, step[:, None])).mean() > 0.1


def test_the_output_is_nearer_than_by_plain_rounding():
    rng = np.random.default_rng(1)
    x, weight = alike(500, 40, rng), rng.normal(size=(30, 40))
    step = steps(weight, 0)
    plain, ours = nearest(weight, step), gptq(weight, step.ravel(), x.T @ x)
    errors = [np.square(x @ (whole * step - weight).T).sum() for whole in (plain, ours)]
    assert errors[1] < 0.3 * errors[0]
    assert np.abs(ours - weight / step).max() < 20


def test_a_step_is_written_so_that_it_is_not_zero_and_cuts_nothing_off():
    peaks = np.float32([0, 1e-7, 1e-5, 1e-3, 0.3, 127])
    exact, half = (steps(peaks.astype(dtype)[:, None], 0)[:, 0] for dtype in (np.float32, np.float16))
    np.testing.assert_array_equal(exact, np.where(peaks > 0, peaks / np.float32(127), 1))
    assert half.dtype == np.float16 and half[0] == half[5] == 1 and (half[1:] > 0).all()
    assert (127 * half.astype(np.float64) >= peaks.astype(np.float16)).all()
    np.testing.assert_allclose(half[3:], exact[3:], rtol=2**-6)


@pytest.mark.parametrize("channels", [7, 8])
def test_no_two_neighbours_make_more_than_16_bits_hold(channels):
    """CPUs without VNNI add two products of an unsigned and a signed byte in 16 bits."""
    rng = np.random.default_rng(5)
    weight = rng.uniform(-1, 1, (20, channels, 3, 3)).astype(np.float32)
    step, flat = steps(weight, 0), weight.reshape(20, -1)
    x = alike(500, flat.shape[1], rng)
    for whole in (nearest(weight, step), gptq(flat, step.ravel(), x.T @ x, 9).reshape(weight.shape)):
        first, second = whole[:, :-1:2].astype(int), whole[:, 1::2].astype(int)
        sums = [255 * (max(a, 0) + max(b, 0)) for a, b in zip(first.ravel(), second.ravel(), strict=True)]
        sums += [255 * (min(a, 0) + min(b, 0)) for a, b in zip(first.ravel(), second.ravel(), strict=True)]
        assert -(2**15) <= min(sums) and max(sums) < 2**15
        assert max(max(sums), -min(sums)) > 0.98 * 2**15  # and the range is used
    turned = steps(weight.transpose(1, 0, 2, 3), 1)
    np.testing.assert_array_equal(turned.ravel(), step.ravel())


def test_inputs_that_are_never_there_and_equal_ones_do_no_harm():
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=(100, 6)), rng.normal(size=(3, 6))
    x[:, 2], x[:, 4] = 0, x[:, 3]
    step = steps(weight, 0)
    np.testing.assert_array_equal(gptq(weight, step.ravel(), 0 * x.T @ x), nearest(weight, step))
    whole = gptq(weight, step.ravel(), x.T @ x)
    np.testing.assert_array_equal(whole[:, 2], nearest(weight, step)[:, 2])
    assert np.abs(x @ (whole * step - weight).T).max() < 0.2


GEOMETRY = {"pads": [1, 2, 0, 1], "strides": [2, 1], "dilations": [1, 2]}


def graph(**attributes):
    """A convolution, a transposed and a grouped one on four channels."""
    rng = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in {"w": (6, 4, 2, 3), "t": (4, 3, 3, 3), "g": (4, 2, 3, 3)}.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "plain", **attributes),
        helper.make_node("ConvTranspose", ["x", "t"], ["b"], "transposed"),
        helper.make_node("Conv", ["x", "g"], ["c"], "grouped", group=2),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list("nchw")) for name in "abc"]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 12, 14])
    made = helper.make_graph(nodes, "g", [x], outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def pictures(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    shared = np.cumsum(np.cumsum(rng.normal(size=(count, 1, 12, 14)), 2), 3) / 10
    return [{"x": (one + 0.1 * rng.normal(size=(4, 12, 14))).astype(np.float32)[None]} for one in shared]


@pytest.mark.parametrize("attributes", [{}, GEOMETRY], ids=["plain", "pads, strides, dilations"])
def test_columns_are_what_the_convolution_sums(attributes):
    model, (feeds,) = graph(**attributes), pictures(1)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    want = Runner(model)(feeds)["a"]
    want, rng = want.transpose(0, 2, 3, 1).reshape(-1, 6), np.random.default_rng(0)
    got = columns(feeds["x"], model.graph.node[0], weight.shape[2:], len(want), rng) @ weight.reshape(6, -1).T
    np.testing.assert_allclose(got, want, atol=1e-5)
    some = columns(feeds["x"], model.graph.node[0], weight.shape[2:], 20, rng) @ weight.reshape(6, -1).T
    found = [np.flatnonzero(np.abs(want - row).max(1) < 1e-4) for row in some]
    assert all(len(places) for places in found) and len({places[0] for places in found}) == 20


def test_a_quantised_graph_is_nearer_to_the_float_one():
    model, samples = graph(), pictures(12)
    names = ["plain", "transposed", "grouped"]
    scale = scales(model, samples[:8])
    told = []
    whole = rounded(model, samples[:8], names, scale, lambda *step: told.append(step))
    assert told == [("samples for rounding", i, 8) for i in range(8)] + [("weights rounded", 0, 1)]
    assert not rounding.rounded(model, samples[:1], [], scale)
    assert list(whole) == ["w"] and whole["w"].shape == (6, 4, 2, 3) and whole["w"].dtype == np.int8

    def error(given):
        quantised, total = quantize(model, scale, ["plain"], given), 0.0
        weights = {w.name: numpy_helper.to_array(w) for w in quantised.graph.initializer}
        exact = onnx.ModelProto()
        exact.CopyFrom(model)
        exact.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(weights["w/q"] * weights["w/scale"].reshape(-1, 1, 1, 1), "w")
        )
        for feeds in samples[8:]:
            total += np.square(Runner(exact)(feeds)["a"] - Runner(model)(feeds)["a"]).sum()
        return total

    assert error(whole) < 0.5 * error({})


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER"])
def test_a_convolution_that_pads_by_itself_is_rounded_plainly(pad):
    model, samples = graph(auto_pad=pad), pictures(1)
    assert rounded(model, samples, ["plain"], scales(model, samples)) == {}


def test_a_scale_leaves_of_an_activation_what_lies_on_its_steps_within_its_range():
    values = np.array([-9.0, -0.26, -0.24, 0.0, 0.76, 200.0], np.float32)
    assert Scale(0.5, np.int8).applied(values).tolist() == [-9.0, -0.5, 0.0, 0.0, 1.0, 63.5]
    assert Scale(0.5, np.uint8).applied(values).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 127.5]
    (feeds,) = pictures(1)
    fine = Scale(1e-4, np.int32)
    np.testing.assert_allclose(fine.applied(feeds["x"]), feeds["x"], atol=1e-4)


def test_what_inputs_have_in_common_is_looked_at_as_the_engine_sees_them(monkeypatch):
    monkeypatch.setattr(rounding, "PLACES", 1000)  # all of them, so that none is drawn by chance
    model, samples, coarse = graph(), pictures(3), Scale(0.7)
    (node,) = (n for n in model.graph.node if n.name == "plain")
    seen = rounding._products(model, samples, [node], {"x": coarse}, None)["plain"]
    rng, want = np.random.default_rng(0), 0
    for feeds in samples:
        whole = coarse.applied(feeds["x"])
        assert set(np.unique(np.round(whole / 0.7, 4))) <= set(range(-128, 128))
        places = columns(whole, node, (2, 3), 10**6, rng).astype(np.float64)
        want = want + places.T @ places
    np.testing.assert_allclose(seen, want, rtol=1e-4)


def chain(count: int) -> onnx.ModelProto:
    """Convolutions of 36 inputs one behind the other."""
    rng = np.random.default_rng(5)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 4, 3, 3)).astype(np.float32) / 6, f"w{i}") for i in range(count)
    ]
    nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"c{i}", pads=[1] * 4) for i in range(count)]
    ends = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1, 4, 12, 14]) for i in (0, count)]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_little_memory_gives_the_same_in_parts_and_large_layers_are_left_out(monkeypatch):
    model, names = chain(5), [f"c{i}" for i in range(5)]
    samples = [{"x0": feeds["x"]} for feeds in pictures(2)]
    scale = scales(model, samples)
    monkeypatch.setattr(rounding, "PLACES", 1000)  # all of them, so that none is drawn by chance
    told: list[tuple[str, int, int]] = []
    whole = rounded(model, samples, names, scale, lambda *step: told.append(step))
    assert list(whole) == [f"w{i}" for i in range(5)] and len(told) == 2 + 5
    monkeypatch.setattr(rounding, "MEMORY", 2 * 8 * 36**2 + 1)
    told.clear()
    again = rounded(model, samples, names, scale, lambda *step: told.append(step))
    assert [step for step in told if step[0] == "weights rounded"] == [("weights rounded", i, 5) for i in range(5)]
    assert len(told) == 3 * 2 + 5 and all(np.array_equal(whole[name], again[name]) for name in whole)
    monkeypatch.setattr(rounding, "LARGEST", 35)
    assert rounded(model, samples, names, scale) == {}
