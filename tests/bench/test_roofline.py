"""The roofline's counts against torch's own, and its command on a small model."""

from dataclasses import asdict

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgetalk.engines import build
from edgetalk.export import to_onnx
from edgetalk.export.onnx_file import trace
from edgetalk.metadata import AudioSpec
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def roofline():
    from bench import roofline

    return roofline


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder with an AMNet of random weights at 64×64."""
    folder = tmp_path_factory.mktemp("roofline")
    torch.manual_seed(0)
    told = {"variant": "amnet", "size": 64, "audio": asdict(AudioSpec()), "persons": [], "training": {}}
    save_checkpoint(folder / "amnet.safetensors", AMNet().state_dict(), **told)
    to_onnx(folder / "amnet.safetensors", folder / "amnet.onnx")
    return folder


def test_multiply_adds_are_those_that_torch_counts(roofline):
    network, given = (
        AMNet().eval(),
        (torch.rand(1, 3, 64, 64), torch.rand(1, 32, 80), torch.rand(1, 3), torch.rand(1, 2)),
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(*given)
    model = trace(network, dict(zip(("source", "mel", "pose", "blink"), given, strict=True)), ["frame", "landmarks"])
    assert 2 * sum(roofline.multiply_adds(model).values()) == counter.get_total_flops()


def test_every_layer_of_the_step_has_a_group(roofline, exported):
    names = roofline.multiply_adds(onnx.load(exported / "amnet.onnx"))
    groups = {name: roofline.group_of(name) for name in names}
    assert None not in groups.values()
    assert groups["/cells.2/body/body.0/body.0.0/Conv"] == "residual cells 1–4"
    assert groups["/controllers.2/weight/weight.0/Gemm"] == "predicted weights"
    assert groups["/header/header.2/Conv"] == "last convolution, to pixels"


def test_command_writes_table_and_plot(roofline, exported, tmp_path, monkeypatch):
    build(exported / "amnet.onnx", tmp_path / "amnet.xml", precision="bf16")
    (tmp_path / "amnet.onnx").write_bytes((exported / "amnet.onnx").read_bytes())
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench.roofline begins -->\nold\n<!-- bench.roofline ends -->\nafter\n")
    monkeypatch.setattr(roofline, "CHANNELS", 32)
    made = roofline.main(
        ["--engine", str(tmp_path / "amnet.xml"), "--turns", "2", "--threads", "1", "--write", str(page)]
    )
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| residual cells 1–4 |" in text and "× the floor of" in text
    assert (tmp_path / "roofline.svg").read_text().startswith("<?xml")
    assert all(rate > 1e9 for rate in made["peaks"].values())
    residual = next(group for group in made["groups"] if group.name.startswith("residual"))
    # eight convolutions of 152 channels on 16 × 16, and nothing is done in no time
    assert sum(residual.macs.values()) == 8 * 152 * 152 * 9 * 16 * 16
    assert residual.convolutions > 0 and set(residual.macs) <= {"bf16", "f32"}
    # layer by layer: all eight, and together what their group took
    assert [layer.macs for layer in residual.layers] == [152 * 152 * 9 * 16 * 16] * 8
    assert sum(layer.ms for layer in residual.layers) == pytest.approx(residual.convolutions)
    predicted = next(group for group in made["groups"] if group.name.startswith("predicted"))
    assert sum(layer.macs for layer in predicted.layers) == sum(predicted.macs.values())  # merged by a rewrite
    layer = residual.layers[0]
    rate = made["peaks"][layer.precision]
    assert f"| `{layer.name}` | {layer.macs / 1e6:.2f} | {layer.precision} | {1e3 * layer.macs / rate:.3f} |" in text
    assert text.count("<details>") == text.count("</details>") == 1
