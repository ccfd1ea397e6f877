"""What each rewrite asks of a graph before it changes it: one that lacks this is left alone, or computes what it did.

The graphs are of the pattern but for one thing. Those of the pattern itself stand first: there the rewrite does change
something.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetalk.engines.balance import balance
from edgetalk.engines.fold import fold, norms, statistics
from edgetalk.engines.onnx_file import Runner
from edgetalk.engines.phases import phase_grid, sub_pixel
from edgetalk.engines.precision import layers
from edgetalk.engines.rewrite import centre, channels_last, early_cast, late_bias, merge_predictors

make = helper.make_node
UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT
DOUBLED = {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1], "kernel_shape": [3, 3]}
PADDED = {"kernel_shape": [3, 3], "pads": [1] * 4}


def graph(nodes, inputs, outputs, **weights):
    """The model of `nodes`, and seeded feeds; `inputs` are shapes by name, `outputs` names or types by name."""
    random = np.random.default_rng(7)
    given = {name: random.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
    constants = [
        numpy_helper.from_array(
            value if isinstance(value, np.ndarray) else random.normal(size=value).astype(np.float32), name
        )
        for name, value in weights.items()
    ]
    outputs = outputs if isinstance(outputs, dict) else dict.fromkeys(outputs, FLOAT)
    sides = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    made = [onnx.ValueInfoProto(name=name) for name in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", sides, made, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    for value, kind in zip(model.graph.output, outputs.values(), strict=True):
        value.type.tensor_type.elem_type = kind
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model, given


def small_grid(*tail, up=DOUBLED, kernel=(3, 6, 3, 3), **more):
    """A transposed convolution that doubles the size, and what follows."""
    weights = {"up": (4, 6, 3, 3), "w": kernel, "one": np.ones(6, np.float32), "zero": np.zeros(6, np.float32)}
    return graph(
        [make("ConvTranspose", ["x", "up"], ["a"], "up", **up), *tail], {"x": [1, 4, 5, 6]}, ["y"], **(weights | more)
    )


def narrow(data="a", out="y", *bias, **other):
    return make("Conv", [data, "w", *bias], [out], "narrow", **(PADDED | other))


def on_small_grid(model):
    return phase_grid(sub_pixel(model))


def separable(conv=None, deep=None, weight=(12, 4, 1, 1), output=("y",), **inputs):
    """A 1×1 convolution, a norm, ReLU, a depthwise convolution and another norm."""
    bare = {"one": np.ones(12, np.float32), "zero": np.zeros(12, np.float32)}
    nodes = [
        make("Conv", ["x", "w"], ["a"], "first", **(conv or {})),
        make("InstanceNormalization", ["a", "one", "zero"], ["b"], "n1"),
        make("Relu", ["b"], ["c"], "relu"),
        make("Conv", ["c", "d"], ["e"], "deep", **({"group": 12, "pads": [1] * 4} | (deep or {}))),
        make("InstanceNormalization", ["e", "one", "zero"], ["y"], "n2"),
    ]
    kernel = {} if inputs else {"d": (12, 1, 3, 3)}
    return graph(nodes, {"x": [1, 4, 9, 8], **inputs}, output, w=weight, **kernel, **bare)


def predictors(first=None, outputs=("y",), bias=(10,), widths=(10, 10), square=False, weights=None):
    """Pairs of linear layers with a ReLU between."""
    rows, made, tensors = [], [], {}
    for i, width in enumerate(widths):
        size = 6 if square else 5
        rows += [
            make("Gemm", ["x", f"a{i}", f"b{i}"], [f"h{i}"], f"g{i}", **({"transB": 1} | (first or {}))),
            make("Relu", [f"h{i}"], [f"q{i}"], f"r{i}"),
            make("Gemm", [f"q{i}", f"c{i}", f"d{i}"], [f"o{i}"], f"k{i}", transB=1),
        ]
        own = (6,) if square else bias if width == 10 else (width,)
        tensors |= {f"a{i}": (6 if square else width, 6), f"b{i}": own}
        tensors |= {f"c{i}": (size, 6 if square else width), f"d{i}": (size,)}
        made.append(f"o{i}")
    rows.append(make("Sum", made, ["y"]))
    return graph(rows, {"x": [6, 6]}, outputs, **(tensors | (weights or {})))


def points(outputs=("y",), shape=(1, 5, 2), **told):
    nodes = [
        make("Gemm", ["x", "w", "b"], ["g"], "gemm", **({"transB": 1} | told)),
        make("Reshape", ["g", "shape"], ["y"], "reshape"),
    ]
    return graph(nodes, {"x": [1, 6]}, outputs, w=(10, 6), b=(10,), shape=np.array(shape))


def two_points(shapes):
    """Two outputs whose layers share a bias: torch stores equal ones once."""
    nodes, outputs = [], {}
    for i in range(2):
        nodes += [
            make("Gemm", ["x", f"w{i}", "b"], [f"g{i}"], f"gemm{i}", transB=1),
            make("Reshape", [f"g{i}", f"s{i}"], [f"y{i}"], f"reshape{i}"),
        ]
        outputs[f"y{i}"] = FLOAT
    sizes = {f"s{i}": np.array(shape) for i, shape in enumerate(shapes)}
    return graph(nodes, {"x": [1, 6]}, outputs, w0=(10, 6), w1=(10, 6), b=(10,), **sizes)


def pixels(to=UINT8, outputs=None, **more):
    nodes = [
        make("Abs", ["x"], ["p"], "abs"),
        make("Transpose", ["p"], ["t"], "turn", perm=[0, 2, 3, 1]),
        make("Cast", ["t"], ["y"], "cast", to=to),
    ]
    return graph(nodes, {"x": [1, 3, 4, 5]}, outputs or {"y": to})


def two_pixels():
    nodes = [make("Abs", ["x"], ["p"], "abs")]
    for i, perm in enumerate(([0, 2, 3, 1], [0, 3, 2, 1])):
        nodes += [
            make("Transpose", ["p"], [f"t{i}"], f"turn{i}", perm=perm),
            make("Cast", [f"t{i}"], [f"y{i}"], f"cast{i}", to=UINT8),
        ]
    return graph(nodes, {"x": [1, 3, 4, 5]}, {"y0": UINT8, "y1": UINT8})


def turned(*perms, shape=(1, 4, 5, 3)):
    """Features that come in and are transposed; without perm, all axes the other way round."""
    nodes = [
        make("Transpose", ["x"], [f"y{i}"], f"turn{i}", **({"perm": perm} if perm else {}))
        for i, perm in enumerate(perms)
    ]
    return graph(nodes, {"x": list(shape)}, [f"y{i}" for i in range(len(perms))])


def any_channels():
    model, feeds = turned([0, 3, 1, 2])
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "C"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "C"
    return model, feeds


def normed(kind="Conv", outputs=("y",), epsilon=1e-5, **told):
    weight = {"Conv": (6, 4, 3, 3), "ConvTranspose": (4, 6 // told.get("group", 1), 3, 3)}[kind]
    nodes = [
        make(kind, ["x", "w", "b"], ["a"], "conv", **told),
        make("InstanceNormalization", ["a", "one", "zero"], ["y"], "norm", epsilon=epsilon),
    ]
    bare = {"one": np.ones(6, np.float32), "zero": np.zeros(6, np.float32)}
    return graph(nodes, {"x": [1, 4, 8, 9]}, outputs, w=weight, b=(6,), **bare)


def grouped(group):
    loud = np.float32([0.1, 1, 5, 20]).reshape(1, 4, 1, 1)
    nodes = [make("Mul", ["x", "loud"], ["a"]), make("Conv", ["a", "w"], ["y"], "conv", group=group)]
    return graph(nodes, {"x": [1, 4, 8, 9]}, ["y"], w=(8, 4 // group, 3, 3), loud=loud)


def shared_weight():
    loud = np.float32([0.1, 1, 5, 20]).reshape(1, 4, 1, 1)
    nodes = [
        make("Mul", ["x", "loud"], ["a"]),
        make("Conv", ["a", "w"], ["b"], "one", **PADDED),
        make("Conv", ["b", "w"], ["y"], "two", **PADDED),
    ]
    return graph(nodes, {"x": [1, 4, 8, 9]}, ["y"], w=(4, 4, 3, 3), loud=loud)


def folded(model, feeds):
    """By the statistics of the very sample, so that nothing may change."""
    names = norms(model)
    return fold(model, statistics(model, [feeds], names), names)


def balanced(model, feeds):
    return balance(model, [feeds], layers(model))


def shared_bias(kind, *names, **told):
    """Two layers of the same bias, the second behind a ReLU."""
    nodes = [
        make(kind, ["x", "w0", "b"], ["a"], "one", **told),
        make("Relu", ["a"], ["r"]),
        make(kind, ["r", "w1", "b"], ["y"], "two", **told),
    ]
    return graph(nodes, {"x": [1, 6, 5, 6]}, ["y"], w0=(6, 6, 3, 3), w1=(6, 6, 3, 3), b=(6,))


def twice_narrow():
    """Two last stages whose convolutions share weight and bias."""
    nodes = []
    for i in range(2):
        nodes += [
            make("ConvTranspose", ["x", f"up{i}"], [f"a{i}"], f"up{i}", **DOUBLED),
            make("Conv", [f"a{i}", "w", "b"], [f"y{i}"], f"narrow{i}", **PADDED),
        ]
    return graph(nodes, {"x": [1, 4, 5, 6]}, ["y0", "y1"], up0=(4, 6, 3, 3), up1=(4, 6, 3, 3), w=(3, 6, 3, 3), b=(3,))


PATTERNS = {
    "sub_pixel": (sub_pixel, small_grid(narrow())),
    "phase_grid": (on_small_grid, small_grid(narrow())),
    "centre": (centre, separable()),
    "early_cast": (early_cast, pixels()),
    "channels_last": (channels_last, turned([0, 3, 1, 2])),
    "late_bias": (late_bias, points()),
    "merge_predictors": (merge_predictors, predictors()),
    "fold": (folded, normed()),
    "balance": (balanced, grouped(1)),
}


def turned_norm(epsilon):
    return make("InstanceNormalization", ["a", "one", "zero"], ["n"], "norm", epsilon=epsilon)


GUARDED = {
    "sub_pixel: dilated": (sub_pixel, small_grid(narrow(), up=DOUBLED | {"dilations": [2, 2]})),
    "sub_pixel: one bias of two": (sub_pixel, shared_bias("ConvTranspose", **DOUBLED)),
    "phase_grid: dilated": (on_small_grid, small_grid(narrow(dilations=[2, 2]))),
    "phase_grid: strided": (on_small_grid, small_grid(narrow(strides=[2, 2]))),
    "phase_grid: a factor for each channel": (
        on_small_grid,
        small_grid(make("Mul", ["a", "k"], ["b"]), narrow("b"), k=(1, 6, 1, 1)),
    ),
    "phase_grid: a square": (on_small_grid, small_grid(make("Mul", ["a", "a"], ["b"]), narrow("b"))),
    "phase_grid: a square behind": (on_small_grid, small_grid(narrow(out="b"), make("Mul", ["b", "b"], ["y"]))),
    "phase_grid: a sum with itself behind": (
        on_small_grid,
        small_grid(narrow(out="b"), make("Add", ["b", "b"], ["y"])),
    ),
    "phase_grid: a bias that is made": (
        on_small_grid,
        small_grid(make("Relu", ["seed"], ["made"]), narrow("a", "y", "made"), seed=(3,)),
    ),
    "phase_grid: pixels as weights": (
        on_small_grid,
        small_grid(make("Conv", ["k", "a"], ["y"], "turned", pads=[5] * 4), k=(1, 6, 11, 11)),
    ),
    "phase_grid: epsilon": (on_small_grid, small_grid(turned_norm(0.1), narrow("n"))),
    "phase_grid: shared weights": (on_small_grid, twice_narrow()),
    "centre: strided": (centre, separable({"strides": [2, 2]})),
    "centre: padded": (centre, separable({"pads": [1] * 4})),
    "centre: predicted weights": (centre, separable(d=[12, 1, 3, 3])),
    "centre: the norm is an output": (centre, separable(output=("y", "b"))),
    "early_cast: to whole numbers of 32 bits": (early_cast, pixels(TensorProto.INT32)),
    "early_cast: pixels are an output too": (early_cast, pixels(outputs={"y": UINT8, "t": FLOAT})),
    "early_cast: twice": (early_cast, two_pixels()),
    "channels_last: other axes": (channels_last, turned([0, 3, 2, 1])),
    "channels_last: axes the other way round": (channels_last, turned(None)),
    "channels_last: any number of channels": (channels_last, any_channels()),
    "channels_last: twice": (channels_last, turned([0, 3, 1, 2], [0, 3, 1, 2])),
    "late_bias: half of it": (late_bias, points(beta=0.5)),
    "late_bias: the product is an output": (late_bias, points(("y", "g"))),
    "late_bias: one of two": (late_bias, two_points([(1, 5, 2), (1, 5, 2)])),
    "late_bias: one of two in other shapes": (late_bias, two_points([(1, 5, 2), (1, 2, 5)])),
    "merge_predictors: not transposed": (merge_predictors, predictors({"transB": 0}, square=True)),
    "merge_predictors: transposed": (merge_predictors, predictors({"transA": 1}, square=True)),
    "merge_predictors: twice": (merge_predictors, predictors({"alpha": 2.0})),
    "merge_predictors: half a bias": (merge_predictors, predictors({"beta": 0.5})),
    "merge_predictors: one bias for all": (merge_predictors, predictors(bias=(1,))),
    "merge_predictors: a bias of two axes": (merge_predictors, predictors(bias=(1, 10))),
    "merge_predictors: what is hidden is an output": (merge_predictors, predictors(outputs=("y", "q0"))),
    "merge_predictors: two widths": (merge_predictors, predictors(widths=(10, 10, 11, 11))),
    "fold: epsilon": (folded, normed(epsilon=0.1)),
    "fold: grouped": (folded, normed("ConvTranspose", group=2)),
    "fold: another reader": (folded, normed(outputs=("y", "a"))),
    "balance: two groups": (balanced, grouped(2)),
    "balance: each channel alone": (balanced, grouped(4)),
    "balance: weights of two layers": (balanced, shared_weight()),
}


def outcome(rewrite, model, feeds):
    """The kinds of the nodes before and after, and whether all outputs are what they were."""
    rewritten = rewrite(model, feeds) if rewrite in (folded, balanced) else rewrite(model)
    before, after = Runner(model)(feeds), Runner(rewritten)(feeds)
    equal = all(
        after[name].dtype == value.dtype and np.allclose(after[name], value, atol=1e-4, rtol=1e-3)
        for name, value in before.items()
    )
    return *([n.op_type for n in m.graph.node if n.op_type != "Constant"] for m in (model, rewritten)), equal


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_pattern_itself_is_rewritten(pattern):
    rewrite, (model, feeds) = PATTERNS[pattern]
    before, after, equal = outcome(rewrite, model, feeds)
    assert before != after and equal


@pytest.mark.parametrize("guard", GUARDED)
def test_what_differs_in_one_thing_is_left_alone_or_computes_the_same(guard):
    rewrite, (model, feeds) = GUARDED[guard]
    before, after, equal = outcome(rewrite, model, feeds)
    assert equal, (before, after)
