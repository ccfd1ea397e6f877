"""AMNet against its paper: parameter counts, the naive predicted convolution, the normalisation of f_Geo."""

import pytest
import torch
import torch.nn.functional as F

from edgetalk.train.networks.amnet import AMNet, Fuser, GeometricController


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_generator_has_the_parameters_of_table_ii():
    assert round(parameters(AMNet().reenactor) / 1e6, 3) == 4.085
    assert round(parameters(AMNet("amnet-k3").reenactor) / 1e6, 3) == 6.848  # stated in the module's docstring


def test_released_audio_side_has_its_parameters():
    released = AMNet(audio=(64, 60))
    assert parameters(released.fuser) + parameters(released.landmark_layer) == 1_864_495  # 1.86 M


def naive_predicted_convolution(x, weight, bias, groups):
    """Eq. 4 as it is written: each sample is convolved on its own, with its own weights."""
    return torch.cat(
        [
            F.conv2d(x[i : i + 1], weight[i], bias[i], padding=weight.shape[-1] // 2, groups=groups)
            for i in range(len(x))
        ]
    )


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 4, 32])
def test_geometric_controller_equals_the_naive_convolution(kernel, groups, batch):
    torch.manual_seed(0)
    controller = GeometricController(32, kernel, groups)
    x, f_geo = torch.randn(batch, 32, 9, 7), torch.randn(batch, 256)
    weight, bias = controller.predict(f_geo)
    assert weight[0].numel() + bias[0].numel() == 32 * (32 // groups * kernel**2 + 1)  # §III: C × (C_g × k × k + 1)
    expected = naive_predicted_convolution(x, weight, bias, groups)
    torch.testing.assert_close(controller(x, f_geo), expected, atol=1e-5, rtol=1e-5)


def test_geometric_controller_differs_between_samples():
    controller = GeometricController(16, 3)
    x = torch.randn(1, 16, 8, 8).expand(2, -1, -1, -1)
    one, other = controller(x, torch.randn(2, 256))
    assert (one - other).abs().mean() > 0.01


@pytest.mark.parametrize(("kernel", "groups"), [(2, 8), (3, 3)])
def test_geometric_controller_refuses_what_cannot_be(kernel, groups):
    with pytest.raises(ValueError, match="must"):
        GeometricController(8, kernel, groups)


@pytest.mark.parametrize("audio", [(32, 80), (64, 60), (16, 80)])
def test_f_geo_is_standardised_per_sample(audio):
    f_geo = Fuser(audio)(torch.randn(3, *audio), torch.randn(3, 3), torch.rand(3, 2))
    assert f_geo.shape == (3, 256)
    torch.testing.assert_close(f_geo.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(f_geo.var(1, unbiased=False), torch.ones(3), atol=1e-2, rtol=0)


def test_split_network_equals_the_whole():
    network = AMNet().eval()
    source, mel, pose, blink = torch.randn(2, 3, 64, 64), torch.randn(2, 32, 80), torch.randn(2, 3), torch.rand(2, 2)
    picture, landmarks = network(source, mel, pose, blink)
    appearance = network.reenactor.source(source)
    assert appearance.shape == (2, 152, 16, 16) and picture.shape == (2, 3, 64, 64) and landmarks.shape == (2, 106, 2)
    torch.testing.assert_close(network.reenactor.step(appearance, network.fuser(mel, pose, blink)), picture)
    assert len(network.reenactor.cells) == len(network.reenactor.controllers) == 9  # L of Eq. 3


def test_adain_variant_is_scale_and_shift_of_the_normalised_map():
    controller = AMNet("amnet-adain").reenactor.controllers[0]
    x, f_geo = 3 + 2 * torch.randn(2, 152, 8, 8), torch.randn(2, 256)
    weight, bias = controller.predict(f_geo)
    mean, std = x.mean((2, 3), keepdim=True), (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = weight.view(2, 152, 1, 1) * (x - mean) / std + bias[:, :, None, None]
    torch.testing.assert_close(controller(x, f_geo), expected, atol=1e-4, rtol=1e-4)
