"""Folded statistics: what torch's own batch norm does in evaluation, and only where they are as good."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from edgetalk.avatar import load_avatar, save_avatar
from edgetalk.engines import build
from edgetalk.engines.calibration import load, split
from edgetalk.engines.fold import cheapest, fold, norms, statistics
from edgetalk.engines.onnx_file import Runner, read
from edgetalk.errors import InputError
from edgetalk.export.onnx_file import trace
from edgetalk.metadata import Metadata

torch.manual_seed(0)


class Stage(nn.Module):
    """A convolution, transposed or not, an instance norm, ReLU; whole pixels, as frames are."""

    def __init__(self, conv):
        super().__init__()
        self.conv, self.norm = conv, nn.InstanceNorm2d(6)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1, bias=False),
        nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1),
    ],
)
def test_folded_norm_is_a_batch_norm_of_the_calibration(conv):
    stage = Stage(conv)
    samples = [torch.randn(1, 4, 8, 8) + i for i in range(3)]
    model = trace(stage, {"x": samples[0]}, ["frame"])
    (name,) = norms(model)
    known = statistics(model, [{"x": x.numpy()} for x in samples], [name])
    together = trace(stage, {"x": torch.cat(samples)}, ["frame"])
    for batch, one in zip(
        statistics(together, [{"x": torch.cat(samples).numpy()}], [name])[name], known[name], strict=True
    ):
        np.testing.assert_allclose(batch, one, rtol=1e-5)
    folded = fold(model, known, [name])
    assert [n.op_type for n in folded.graph.node if n.op_type != "Constant"] == [type(conv).__name__[:-2], "Relu"]
    with torch.no_grad():
        seen = [conv(x) for x in samples]
        reference = nn.BatchNorm2d(6).eval()
        reference.running_mean = sum(y.mean((0, 2, 3)) for y in seen) / 3
        reference.running_var = (sum(y.var((0, 2, 3), unbiased=False).sqrt() for y in seen) / 3) ** 2
        expected = torch.relu(reference(seen[1])).numpy()
    np.testing.assert_allclose(Runner(folded)({"x": samples[1].numpy()})["frame"], expected, atol=1e-4)


class TwoStages(nn.Module):
    """The first norm sees what is always of one size, the second what changes from sample to sample."""

    def __init__(self):
        super().__init__()
        self.steady, self.other = nn.Conv2d(1, 3, 3, bias=False), nn.Conv2d(1, 3, 3, bias=False)
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x):
        steady = x / (x.std() + 1e-3)
        return (self.norm(self.steady(steady)) + self.norm(self.other(x))).permute(0, 2, 3, 1) * 50


def test_only_norms_that_cost_little_are_folded():
    pattern = torch.randn(1, 1, 12, 12)
    samples = [{"x": (pattern * size).numpy()} for size in (0.5, 1.0, 2.0, 4.0)]
    model = trace(TwoStages(), {"x": pattern}, ["frame"])
    steady, other = norms(model)
    assert cheapest(model, samples, budget=1.0) == [steady]
    assert set(cheapest(model, samples, budget=1e6)) == {steady, other}
    assert cheapest(model, samples, budget=0.0) == []
    assert statistics(model, samples, []) == {}


def test_what_is_no_plain_norm_of_a_convolution_stays():
    affine = nn.InstanceNorm2d(6, affine=True)
    nn.init.normal_(affine.weight)
    shared = nn.Sequential(nn.ReLU(), nn.InstanceNorm2d(6), nn.Conv2d(6, 6, 1), affine.requires_grad_(False))
    assert norms(trace(shared, {"x": torch.randn(1, 6, 8, 8)}, ["frame"])) == []


def test_step_has_a_norm_behind_every_convolution_but_the_last(exported):
    model = read(exported / "amnet.onnx")[0]
    assert len(norms(model)) == 8 + 3 + 3 + 2


def test_engine_of_one_face_tells_what_was_folded(exported, calibration, tmp_path):
    face, out = exported / "amnet.avatar", tmp_path / "amnet.xml"
    with pytest.raises(InputError, match="statistics to fold come from a calibration file"):
        build(exported / "amnet.onnx", out, fold_statistics=face)
    told = {"precision": "bf16", "calibration": calibration}
    metadata = build(exported / "amnet.onnx", out, fold_statistics=face, **told)
    model = read(exported / "amnet.onnx")[0]
    learn, _ = split(load(calibration, Runner(model), Runner(read(exported / "amnet-source.onnx")[0])))
    features = {key: values[:1].astype(np.float32) for key, values in load_avatar(face).features.items()}
    chosen = cheapest(model, [sample | features for sample in learn])
    assert metadata.gate["folded_statistics"] == f"{len(chosen)} of 16 norms, for amnet.avatar"
    assert Metadata.from_json(metadata.to_json(), "amnet.xml").gate == metadata.gate
    assert (tmp_path / "amnet.avatar").read_bytes() == face.read_bytes()
    other = dataclasses.replace(load_avatar(face), features={})
    save_avatar(other, tmp_path / "bare.avatar")
    with pytest.raises(InputError, match="bare.avatar has no features of this model"):
        build(exported / "amnet.onnx", out, fold_statistics=tmp_path / "bare.avatar", **told)
