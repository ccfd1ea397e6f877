"""Rewritten graphs compute what the graphs did, in torch's words too, and leave alone what they do not know."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgetalk.engines.graph import Graph
from edgetalk.engines.onnx_file import Runner, read
from edgetalk.engines.phases import WIDE, phase_grid, sub_pixel
from edgetalk.engines.rewrite import (
    AFTER,
    BEFORE,
    OPSETS,
    centre,
    channels_last,
    early_cast,
    late_bias,
    merge_predictors,
    rewritten,
)
from edgetalk.export.onnx_file import trace

torch.manual_seed(0)


def graph_of(module, example):
    """The module's ONNX graph and what torch makes of the example."""
    model = trace(module, {"x": example}, ["frame"])
    with torch.no_grad():
        return model, module(example).numpy()


def kinds(model):
    return [node.op_type for node in model.graph.node if node.op_type != "Constant"]


def assert_equal(model, example, wanted):
    np.testing.assert_allclose(Runner(model)({"x": example.numpy()})["frame"], wanted, atol=2e-5, rtol=1e-4)


def upsampling(inputs, outputs, bias=False):
    return nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1, bias=bias)


def test_a_constant_is_read_in_each_of_its_forms():
    """As ONNX Runtime reads them."""
    forms = {"value_int": 3, "value_ints": [2, -1], "value_float": 0.5, "value_floats": [0.1, 2.0]}
    forms |= {"value": numpy_helper.from_array(np.array([[1.5]], np.float16))}
    nodes = [helper.make_node("Constant", [], [name], **{name: value}) for name, value in forms.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in forms]
    text = helper.make_node("Constant", [], ["text"], value_string="max")
    model = helper.make_model(
        helper.make_graph([*nodes, text], "g", [], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    read = Graph(model).constants
    wanted = Runner(model)({})
    assert read.keys() == wanted.keys()
    for name, values in wanted.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values)


@pytest.mark.parametrize("bias", [False, True])
def test_transposed_convolution_becomes_a_convolution_and_a_shuffle(bias):
    example = torch.randn(2, 5, 6, 9)
    model, wanted = graph_of(upsampling(5, 7, bias), example)
    rewritten = sub_pixel(model)
    assert kinds(rewritten) == ["Conv", "DepthToSpace"]
    assert wanted.shape == (2, 7, 12, 18)
    assert_equal(rewritten, example, wanted)


@pytest.mark.parametrize(
    "other",
    [
        nn.ConvTranspose2d(4, 6, 3, 2, padding=1, bias=False),
        nn.ConvTranspose2d(4, 6, 4, 2, padding=1, bias=False),
        nn.ConvTranspose2d(4, 6, 3, 1, padding=1, bias=False),
        nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1, groups=2, bias=False),
        nn.ConvTranspose2d(4, WIDE + 1, 3, 2, padding=1, output_padding=1, bias=False),
    ],
)
def test_other_transposed_convolutions_stay(other):
    model, _ = graph_of(other, torch.randn(1, 4, 8, 8))
    assert kinds(sub_pixel(model)) == ["ConvTranspose"]


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("bias", [False, True])
def test_a_narrow_last_stage_moves_to_the_small_grid(kernel, bias):
    last = nn.Conv2d(8, 3, kernel, padding=kernel // 2, bias=bias)
    example = torch.randn(2, 5, 7, 6)
    model, wanted = graph_of(nn.Sequential(upsampling(5, 8), nn.InstanceNorm2d(8), nn.ReLU(), last, nn.Tanh()), example)
    rewritten = phase_grid(sub_pixel(model))
    margin = kernel in (3, 7)  # whose cells begin one pixel early, so that fewer of them hold what a pixel looks at
    assert kinds(rewritten)[-1 - margin :] == ["DepthToSpace", "Slice"][: 1 + margin]
    assert "InstanceNormalization" not in kinds(rewritten)
    shapes = {w.name: list(w.dims) for w in rewritten.graph.initializer}
    (narrow,) = [n for n in rewritten.graph.node if n.op_type == "Conv" and shapes[n.input[1]][0] == 12]
    assert shapes[narrow.input[1]][1:] == [32, *[{1: 1, 3: 2, 5: 3, 7: 4}[kernel]] * 2]
    assert_equal(rewritten, example, wanted)


def test_a_norm_behind_the_last_stage_sees_no_margin():
    last = nn.Sequential(nn.Conv2d(8, 3, 7, padding=3), nn.InstanceNorm2d(3))
    example = torch.randn(1, 5, 7, 6)
    model, wanted = graph_of(nn.Sequential(upsampling(5, 8), last), example)
    rewritten = phase_grid(sub_pixel(model))
    assert kinds(rewritten)[-1] == "DepthToSpace"
    assert_equal(rewritten, example, wanted)


def test_statistics_far_from_zero_keep_their_variance():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.last = upsampling(4, 6), nn.Conv2d(6, 3, 3, padding=1)

        def forward(self, x):
            return self.last(nn.functional.instance_norm(self.up(x)))

    module, example = Shifted(), torch.randn(1, 4, 8, 8) * 1e-2 + 30
    model, wanted = graph_of(module, example)
    assert np.abs(Runner(phase_grid(sub_pixel(model)))({"x": example.numpy()})["frame"] - wanted).max() < 1e-3


@pytest.mark.parametrize(
    "tail",
    [
        [nn.Conv2d(8, 16, 3, padding=1)],  # not narrow: the small grid would cost more
        [nn.Conv2d(8, 3, 3)],  # another size
        [nn.Conv2d(8, 3, 3, stride=2, padding=1)],
        [nn.Conv2d(8, 2, 3, padding=1, groups=2)],
        [nn.Conv2d(8, 3, 2, padding=1)],
        [nn.ReLU()],
        [
            nn.InstanceNorm2d(8, affine=True, track_running_stats=False).requires_grad_(False),
            nn.Conv2d(8, 3, 3, padding=1),
        ],
    ],
)
def test_other_stages_keep_their_shuffle(tail):
    if isinstance(tail[0], nn.InstanceNorm2d):
        nn.init.normal_(tail[0].weight)
    example = torch.randn(1, 5, 8, 8)
    model, wanted = graph_of(nn.Sequential(upsampling(5, 8), *tail), example)
    rewritten = phase_grid(sub_pixel(model))
    assert kinds(rewritten)[:2] == ["Conv", "DepthToSpace"]
    assert_equal(rewritten, example, wanted)


@pytest.mark.parametrize(("size", "mode"), [(2, b"CRD"), (3, b"DCR"), (2, b"DCR")])
def test_shuffles_of_another_order_or_size_stay(size, mode):
    """Torch's own shuffle has the phases last; without that attribute, as here for DCR, they come first."""
    example = torch.randn(1, 5, 6, 6)
    shuffled = nn.Sequential(nn.Conv2d(5, 8 * size**2, 1), nn.PixelShuffle(size), nn.Conv2d(8, 3, 3, padding=1))
    model, wanted = graph_of(shuffled, example)
    (shuffle,) = (node for node in model.graph.node if node.op_type == "DepthToSpace")
    (order,) = (told for told in shuffle.attribute if told.name == "mode")
    assert order.s == b"CRD"
    if mode == b"DCR":
        shuffle.attribute.remove(order)
        wanted = Runner(model)({"x": example.numpy()})["frame"]
    rewritten = phase_grid(model)
    moved = kinds(rewritten) == ["Conv", "Conv", "DepthToSpace", "Slice"]
    assert moved == ((size, mode) == (2, b"DCR")) and (moved or kinds(rewritten) == kinds(model))
    assert_equal(rewritten, example, wanted)


def test_features_keep_their_channels_last():
    class Step(nn.Module):
        def forward(self, x):
            return x.permute(0, 3, 1, 2) * 2 + 1

    example = torch.randn(1, 4, 5, 6)
    model, wanted = graph_of(Step(), example)
    rewritten = channels_last(model)
    assert kinds(rewritten)[:2] == ["Transpose", "Conv"]
    assert_equal(rewritten, example, wanted)


def test_the_bias_of_an_output_comes_last():
    class Points(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 10)

        def forward(self, x):
            return self.layer(x).view(-1, 5, 2)

    example = torch.randn(1, 6)
    model, wanted = graph_of(Points(), example)
    rewritten = late_bias(model)
    assert kinds(rewritten) == ["Gemm", "Reshape", "Add"]
    assert_equal(rewritten, example, wanted)
    inner, _ = graph_of(nn.Sequential(nn.Linear(6, 10), nn.ReLU()), example)
    assert kinds(late_bias(inner)) == ["Gemm", "Relu"]


class Predicted(nn.Module):
    """What a Geometric Controller of few channels and one of more predict, and a third chain of another width."""

    def __init__(self):
        super().__init__()
        self.pairs = nn.ModuleList(
            nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, size))
            for width, size in ((10, 5), (10, 7), (10, 5), (11, 7))
        )

    def forward(self, x):
        five, seven, other, wide = (pair(x) for pair in self.pairs)
        return torch.cat([five * other, seven + wide], 1)


@pytest.mark.parametrize("batch", [1, 3])
def test_predictors_of_one_tensor_are_computed_at_once(batch):
    example = torch.randn(batch, 6)
    model, wanted = graph_of(Predicted(), example)
    rewritten = merge_predictors(model)
    assert kinds(model).count("Gemm") == 8
    assert kinds(rewritten).count("Gemm") == 3 and kinds(rewritten).count("Conv") == 1
    assert_equal(rewritten, example, wanted)


def test_single_predictors_stay():
    model, _ = graph_of(nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 5)), torch.randn(1, 6))
    assert kinds(merge_predictors(model)) == ["Gemm", "Relu", "Gemm"]


def separable(kernel=1, groups=12, last=None, bias=False):
    return nn.Sequential(
        nn.Conv2d(4, 12, kernel, padding=kernel // 2, bias=bias),
        nn.InstanceNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, groups=groups, bias=False),
        last or nn.InstanceNorm2d(12),
        nn.ReLU(),
    )


@pytest.mark.parametrize("bias", [False, True])
def test_a_norm_before_a_depthwise_convolution_is_a_mean(bias):
    example = 3 * torch.randn(2, 4, 9, 7) + 5
    model, wanted = graph_of(separable(bias=bias), example)
    rewritten = centre(model)
    assert kinds(rewritten) == ["ReduceMean", "Sub", "Conv", "Relu", "Conv", "InstanceNormalization", "Relu"]
    made = Runner(rewritten)({"x": example.numpy()})["frame"]
    np.testing.assert_allclose(made, wanted, atol=2e-3)  # epsilon of 1e-5 weighs a little differently


@pytest.mark.parametrize(
    ("module", "shape"), [(separable(), (1, 4, 9, 7)), (Predicted(), (1, 6))], ids=["separable", "predicted"]
)
def test_graphs_of_other_opsets_are_left_alone(module, shape):
    """Where ReduceMean has no attribute axes, and where Split has no input of sizes."""
    model, _ = graph_of(module, torch.randn(shape))
    for opset in (11, 13, 17, 18):
        model.opset_import[0].version = opset  # what this graph has of operators is the same in all of them
        assert (kinds(rewritten(model, BEFORE + AFTER)) == kinds(model)) is (opset not in OPSETS)


def test_small_weights_are_as_good_as_large_ones_without_their_norm():
    """What they make varies less than epsilon, and the norm that is left would add it to that."""
    example = 3 * torch.randn(2, 4, 9, 7) + 5
    module = separable()
    module[0].weight.data *= torch.logspace(-4, 0, 12).view(-1, 1, 1, 1)
    module[1].eps = 1e-12  # so that all rows are of use
    module[0].weight.data[3] = 0
    model, wanted = graph_of(module, example)
    made = Runner(centre(model))({"x": example.numpy()})["frame"]
    np.testing.assert_allclose(made, wanted, atol=2e-3)


class Shared(nn.Module):
    """What the first convolution makes is read by its norm and by something else."""

    def __init__(self):
        super().__init__()
        self.first, *rest = separable()
        self.rest = nn.Sequential(*rest)

    def forward(self, x):
        seen = self.first(x)
        return self.rest(seen) + seen


def scaled():
    """A norm with a scale and a shift of its own."""
    made = separable()
    made[1] = nn.InstanceNorm2d(12, affine=True)
    nn.init.normal_(made[1].weight)
    nn.init.normal_(made[1].bias)
    return made


@pytest.mark.parametrize("other", [separable(3), separable(groups=6), separable(last=nn.ReLU()), Shared(), scaled()])
def test_other_norms_stay_whole(other):
    model, _ = graph_of(other, torch.randn(1, 4, 9, 7))
    assert kinds(centre(model)) == kinds(model)


def test_pixels_are_made_before_they_are_moved():
    class Pixels(nn.Module):
        def forward(self, x):
            pixels = nn.functional.pixel_shuffle(x.round(), 2)[:, :, 1:-1, 2:]
            return pixels.permute(0, 2, 3, 1).to(torch.uint8)

    example = torch.rand(1, 12, 4, 5) * 255
    model, wanted = graph_of(Pixels(), example)
    moves = [kind for kind in kinds(model) if kind not in ("Round", "Cast")]
    assert set(moves) == {"DepthToSpace", "Slice", "Transpose"}
    assert kinds(early_cast(model)) == ["Round", "Cast", *moves]
    made = Runner(early_cast(model))({"x": example.numpy()})["frame"]
    assert made.dtype == np.uint8 and (made == wanted).all()


def test_the_whole_step_is_what_it_was(full):
    model = read(full / "amnet.onnx")[0]
    rewritten = early_cast(merge_predictors(late_bias(channels_last(centre(phase_grid(sub_pixel(model)))))))
    assert kinds(model).count("ConvTranspose") == 2
    assert kinds(rewritten).count("ConvTranspose") == 1
    assert kinds(rewritten).count("DepthToSpace") == 1
    assert kinds(rewritten).count("InstanceNormalization") == kinds(model).count("InstanceNormalization") - 2
    assert kinds(model).count("Gemm") - kinds(rewritten).count("Gemm") == 4 * 9 - 6 - 1
    assert kinds(rewritten)[-3:-1] != ["Transpose", "Cast"]
    assert [i.name for i in rewritten.graph.input] == [i.name for i in model.graph.input]
    assert list(rewritten.metadata_props) == list(model.metadata_props)
    random = np.random.default_rng(1)
    feeds = {name: random.uniform(-1, 1, spec.shape).astype(np.float32) for name, spec in Runner(model).inputs.items()}
    before, after = Runner(model)(feeds), Runner(rewritten)(feeds)
    assert np.abs(before["frame"].astype(int) - after["frame"]).max() <= 1
    np.testing.assert_allclose(before["landmarks"], after["landmarks"], atol=1e-5)
    assert before["frame"].std() > 5


def test_openvino_turns_no_feature_map_round(full, tmp_path):
    """Reorders of whole feature maps cost a fifth of the step before the rewrites; only tiny ones may be left."""
    import openvino as ov

    from edgetalk.engines import build

    build(full / "amnet.onnx", tmp_path / "amnet.xml", precision="bf16")
    core = ov.Core()
    compiled = core.compile_model(core.read_model(tmp_path / "amnet.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    turned = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        told = {
            key: str(value.astype(str))
            for key, value in node.get_rt_info().items()
            if key in ("layerType", "outputLayouts")
        }
        before = node.input_values()[0].get_node().get_rt_info() if node.get_input_size() else {}
        layout = str(before["outputLayouts"].astype(str)) if "outputLayouts" in before else ""
        shape = node.output(0).get_partial_shape() if node.get_output_size() else None
        if (
            told.get("layerType") == "Reorder"
            and {layout, told["outputLayouts"]} == {"abcd", "acdb"}
            and not node.get_friendly_name().endswith("_fake")
            and shape[1].get_length() > 1
            and shape[2].get_length() * shape[3].get_length() >= 256
        ):
            turned.append(node.get_friendly_name())
    assert turned == []
