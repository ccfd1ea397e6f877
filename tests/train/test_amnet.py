"""AMNet against its paper: parameter counts, the naive predicted convolution, the normalisation of f_Geo."""

import pytest
import torch
import torch.nn.functional as F

from edgetalk.train.networks.amnet import AMNet, Fuser, GeometricController, as_bytes, from_bytes

from .conftest import parameters


def test_generator_has_the_parameters_of_table_ii():
    assert round(parameters(AMNet().reenactor) / 1e6, 3) == 4.085
    assert round(parameters(AMNet("amnet-k3").reenactor) / 1e6, 3) == 6.848  # stated in the module's docstring


def test_every_byte_comes_back_as_it_was():
    levels = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    torch.testing.assert_close(from_bytes(levels).flatten(), torch.linspace(-1, 1, 256))
    assert torch.equal(as_bytes(from_bytes(levels)), levels)


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


POINTWISE = (5, 6, 7)  # controllers of which a 1×1 cell makes use


def with_every_bias(network: AMNet, source, f_geo):
    """Eq. 3 as it is written: every controller adds the bias that it predicts."""
    reenactor = network.reenactor
    x = reenactor.source(source)
    for cell, controller in zip([None, *reenactor.cells[1:]], reenactor.controllers, strict=True):
        x = x if cell is None else cell(x)
        weight = controller.weight(f_geo).view(len(x), -1, 1, controller.kernel, controller.kernel)
        x = naive_predicted_convolution(x, weight, controller.bias(f_geo), controller.groups)
    return torch.tanh(reenactor.header(x))


@pytest.mark.parametrize("variant", ["amnet", "amnet-k3"])
def test_a_bias_that_the_next_norm_takes_out_is_left_out(variant):
    torch.manual_seed(1)
    network = AMNet(variant).eval()
    assert [i for i, c in enumerate(network.reenactor.controllers) if not c.biased] == list(POINTWISE)
    for controller in network.reenactor.controllers:
        torch.nn.init.normal_(controller.bias[2].weight, std=0.2)
    source, f_geo = torch.randn(2, 3, 32, 32), torch.randn(2, 256)
    with torch.no_grad():
        made = network.reenactor.step(network.reenactor.source(source), f_geo)
        expected = with_every_bias(network, source, f_geo)
        torch.testing.assert_close(made, expected, atol=2e-4, rtol=0)
        network.reenactor.controllers[4].bias[2].bias += 1  # one that matters
        assert (with_every_bias(network, source, f_geo) - expected).abs().mean() > 0.01


def test_gradients_in_bfloat16_are_those_of_float32():
    """Of every tensor: a bias without effect had a gradient of rounding noise, half of the time of the wrong sign."""
    torch.manual_seed(2)
    network = AMNet()
    given = torch.randn(2, 3, 32, 32), torch.randn(2, 32, 80), 0.2 * torch.randn(2, 3), torch.rand(2, 2)
    target = torch.rand(2, 3, 32, 32) * 2 - 1

    def gradients(mixed):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            made, landmarks = network(*given)
        ((made.float() - target).abs().mean() + landmarks.float().square().mean()).backward()
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    exact, fast = gradients(False), gradients(True)
    unused = {name for name, _ in network.named_parameters()} - exact.keys()
    assert {name.rsplit(".", 2)[0] for name in unused} == {f"reenactor.controllers.{i}.bias" for i in POINTWISE}
    cosines = {name: F.cosine_similarity(exact[name].flatten(), fast[name].flatten(), dim=0) for name in exact}
    together = F.cosine_similarity(*(torch.cat([g.flatten() for g in all.values()]) for all in (exact, fast)), dim=0)
    assert together > 0.9
    assert min(cosines.values()) > 0.5, min(cosines, key=cosines.get)
