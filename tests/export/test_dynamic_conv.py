"""The predicted convolution: what is exported against a plain loop over samples."""

import numpy as np
import pytest
import torch
from torch import nn

from edgetalk.export import dynamic_conv, onnx_file
from edgetalk.metadata import Metadata
from edgetalk.train.networks.amnet import GeometricController, NormalisedController

CHANNELS, GEOMETRY, SIDE = 16, 8, 10


def naive(controller, x, f_geo):
    """One convolution per sample, with that sample's weights."""
    weight, bias = controller.predict(f_geo)
    if isinstance(controller, NormalisedController):
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    return torch.cat(
        [
            nn.functional.conv2d(
                x[i : i + 1], weight[i], bias[i], padding=controller.kernel // 2, groups=controller.groups
            )
            for i in range(len(x))
        ]
    )


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("groups", [1, CHANNELS // 8, CHANNELS])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("form", dynamic_conv.FORMS)
@pytest.mark.parametrize("kind", [GeometricController, NormalisedController])
def test_both_forms_are_the_per_sample_convolution(kind, form, kernel, groups, batch):
    torch.manual_seed(kernel * 100 + groups)
    net = nn.ModuleDict({"controller": kind(CHANNELS, kernel, groups, GEOMETRY)})
    controller = net["controller"]
    nn.init.normal_(controller.weight[2].weight, std=0.3)
    nn.init.normal_(controller.bias[2].weight, std=0.3)
    if form == "shift":
        dynamic_conv.unroll(net)
    dynamic = form == "shift"
    example = {
        "x": torch.randn(2 if dynamic else batch, CHANNELS, SIDE, SIDE),
        "f_geo": torch.randn(2 if dynamic else batch, GEOMETRY),
    }
    data = onnx_file.to_bytes(
        onnx_file.trace(net["controller"], example, ["y"], dynamic_batch=dynamic), Metadata(family="test")
    )
    x, f_geo = torch.randn(batch, CHANNELS, SIDE, SIDE), torch.randn(batch, GEOMETRY)
    with torch.no_grad():
        wanted = naive(controller, x, f_geo).numpy()
    got = onnx_file.run(data, {"x": x.numpy(), "f_geo": f_geo.numpy()})["y"]
    assert got.shape == wanted.shape
    assert np.abs(wanted).std() > 0.1  # the weights matter
    np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_a_multiply_add_is_left_as_it_is():
    net = nn.ModuleDict({"controller": GeometricController(CHANNELS)})
    dynamic_conv.unroll(net)
    assert type(net["controller"]) is GeometricController
    example = {"x": torch.randn(2, CHANNELS, SIDE, SIDE), "f_geo": torch.randn(2, 256)}
    nodes = onnx_file.trace(net["controller"], example, ["y"], dynamic_batch=True).graph.node
    assert not {node.op_type for node in nodes} & {"Conv", "Pad", "MatMul"}
