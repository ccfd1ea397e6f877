"""Layers that int8 leaves in float: a planted one that 8 bits ruin is found, and nothing else is kept."""

import csv

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgetalk.cli import main
from edgetalk.engines import build, builder, gate, keep
from edgetalk.engines.keep import Layer, check_margin, choose, shares
from edgetalk.engines.onnx_file import Runner, read, set_metadata
from edgetalk.engines.precision import layers
from edgetalk.engines.typed import arranged
from edgetalk.errors import InputError, ModelError
from edgetalk.export.onnx_file import trace
from edgetalk.metadata import Metadata

SIDE, CHANNELS = 24, 8


class Tiny(nn.Module):
    """Convolutions, four if not told. In those planted each output has one weight that is a thousand times too large.

    It meets a channel that is always zero, so it changes nothing but the step that the other weights are rounded to.
    """

    def __init__(self, planted=(), count=4):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        sizes = [3, *[CHANNELS] * (count - 1), 3]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(sizes, sizes[1:], strict=False))
        for i, layer in enumerate(self.layers):
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) / layer.weight[0].numel() ** 0.5
            layer.bias.data.fill_(0.3)
            if i + 1 < len(self.layers):
                layer.bias.data[0] = -100.0
            else:
                layer.weight.data *= 60
                layer.bias.data.fill_(100.0)
            if i in planted:
                layer.weight.data[:, 0, 0, 0] = 1000 * layer.weight.abs().max()

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x).clamp(0, 255).round().permute(0, 2, 3, 1).byte()


def names(*numbers):
    return [f"/layers.{number}/Conv" for number in numbers]


def pictures(count=6):
    random = np.random.default_rng(1)
    return random.uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def graph_of(planted, count=4):
    return trace(Tiny(planted, count), {"x": torch.from_numpy(pictures(1))}, ["frame"])


def turned(model, *which):
    """The same graph, with the convolutions `which` written as transposed ones, which no plan has in int8."""
    weights = {w.name: w for w in model.graph.initializer}
    for node in model.graph.node:
        if node.name in which:
            node.op_type, weight = "ConvTranspose", weights[node.input[1]]
            values = numpy_helper.to_array(weight)[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
            weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
    return model


def chosen(graphs, margin=0.002, samples=None, **how):
    """What is chosen for a step, judged on all samples by the gate's own comparison with the f32 graphs."""
    samples = [{"x": p[None]} for p in pictures()] if samples is None else samples
    exact = {role: Runner(model) for role, model in graphs.items()}

    def whole(feeds):
        return exact["step"](feeds | (exact["source"](feeds) if "source" in exact else {}))["frame"]

    wanted = np.concatenate([whole(feeds) for feeds in samples])

    def judge(run):
        return gate.compare(wanted, np.concatenate([run(feeds)["frame"] for feeds in samples]))

    return choose(graphs, samples, judge, margin, **how)


def test_the_planted_layer_is_found_and_kept_alone():
    told = []
    choice = chosen({"step": graph_of([2])}, progress=lambda *step: told.append(step))
    assert choice.kept == [Layer("step", *names(2))] and choice.passed
    assert next(iter(choice.alone)) == choice.kept[0] and len(choice.alone) == 4
    costs = [max(shares(figures, 0.002).values()) for figures in choice.alone.values()]
    assert costs == sorted(costs, reverse=True) and costs[0] > 1 > 2 * costs[1]
    before, after = choice.trail
    assert before["ssim"] < 0.98 < 0.982 <= after["ssim"]
    assert choice.reasons() == {f"step:{names(2)[0]}": f"ssim {before['ssim']} to {after['ssim']}"}
    tried = [step for step in told if step[0] == "sensitivity of layers"]
    assert tried == [("sensitivity of layers", i, 4) for i in range(4)]
    assert told[0][0] == "samples for rounding" and told[-1] == ("layers left in float", 1, 4)
    assert chosen({"step": graph_of([2])}) == choice


def test_nothing_is_kept_where_the_gate_passes():
    choice = chosen({"step": graph_of([])})
    assert choice.passed and choice.kept == [] and len(choice.trail) == 1 and len(choice.alone) == 4


def test_a_wider_margin_keeps_more():
    model = graph_of([])
    (figures,) = chosen({"step": model}).trail
    choice = chosen({"step": model}, margin=figures["ssim"] - 0.98 + 1e-4)
    assert choice.passed and len(choice.kept) == 1 and choice.trail[1]["ssim"] >= figures["ssim"] + 1e-4


def test_half_of_all_layers_is_the_most():
    choice = chosen({"step": graph_of([1, 2, 3])})
    assert not choice.passed and len(choice.kept) == 2 and set(choice.kept) < {Layer("step", n) for n in names(1, 2, 3)}
    five = chosen({"step": graph_of([1, 2, 3, 4], count=5)})
    assert not five.passed and len(five.alone) == 5 and len(five.kept) == 2


def test_layers_that_stay_in_float_anyway_are_neither_tried_nor_counted():
    """Three of four are ruined by 8 bits; the half that may be kept of the other two is one."""
    model, never = turned(graph_of([1, 2, 3]), *names(1, 2)), [Layer("step", name) for name in names(1, 2)]
    assert not chosen({"step": model}).passed
    choice = chosen({"step": model}, never=never)
    assert choice.passed and choice.kept == [Layer("step", *names(3))]
    assert {layer.name for layer in choice.alone} == set(names(0, 3))


def test_a_plan_chooses_among_the_layers_that_it_has_in_int8(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    model = turned(graph_of([1, 2, 3]), *names(1, 2))
    set_metadata(model, Metadata(family="amnet"))
    (tmp_path / "tiny.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "samples.npz", x=pictures(10))
    given = {"precision": "int8", "calibration": tmp_path / "samples.npz", "compute_capability": ["8.6"]}
    built = build(tmp_path / "tiny.onnx", tmp_path / "tiny.plan", keep="auto", **given)
    kept = built.gate["kept"]
    assert kept.pop(f"step:{names(3)[0]}").startswith("ssim 0.")
    assert kept == dict.fromkeys([f"step:{name}" for name in names(1, 2)], "upsampling, not for TensorRT in int8")


def test_an_error_has_to_stay_below_its_ceiling(monkeypatch):
    model, (bad,), quantised, real = graph_of([]), names(1), [], keep.quantize

    def judge(run):
        return {"ssim": 1.0, "landmarks_error": 0.02 if bad in quantised[-1] else 0.001}

    monkeypatch.setattr(
        keep, "quantize", lambda m, scale, which, w: quantised.append(which) or real(m, scale, which, w)
    )
    choice = choose({"step": model}, [{"x": pictures(1)}], judge)
    assert choice.passed and choice.kept == [Layer("step", bad)]
    assert choice.reasons() == {f"step:{bad}": "landmarks_error 0.02 to 0.001"}


@pytest.mark.parametrize("unsigned", [False, True])
def test_layers_are_tried_with_the_scales_that_are_built(unsigned, monkeypatch):
    asked, real = [], keep.scales
    monkeypatch.setattr(keep, "scales", lambda *given: asked.append(given[2]) or real(*given))
    chosen({"step": graph_of([])}, unsigned=unsigned)
    assert asked == [unsigned]


class Seen(Exception):
    """What has been asked for."""


@pytest.mark.parametrize(("margin", "allowed"), [(0.005, 0.005), (None, 0.002)])
@pytest.mark.parametrize("suffix", [".xml", ".plan"])
def test_layers_are_chosen_of_the_graph_and_by_the_margin_asked_for(
    suffix, margin, allowed, exported, calibration, tmp_path, monkeypatch
):
    def spy(graphs, samples, judge, margin, never=(), unsigned=False, progress=None):
        raise Seen({role: graph.SerializeToString() for role, graph in graphs.items()}, margin, len(never), unsigned)

    if suffix == ".plan":
        pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(builder, "choose", spy)
    more = {"compute_capability": ["8.6"]} if suffix == ".plan" else {}
    with pytest.raises(Seen) as seen:
        build(
            exported / "amnet.onnx",
            tmp_path / f"a{suffix}",
            precision="int8",
            calibration=calibration,
            keep="auto",
            margin=margin,
            **more,
        )
    model = read(exported / "amnet.onnx")[0]
    shaped, plain = (arranged(model, x).SerializeToString() for x in (".xml", ".plan"))
    assert shaped != plain
    wanted = shaped if suffix == ".xml" else plain
    assert seen.value.args == ({"step": wanted}, allowed, 0 if suffix == ".xml" else 2, suffix == ".xml")


@pytest.mark.parametrize("planted", ["source", "step"])
def test_both_graphs_of_a_film_are_searched(planted):
    """The source graph makes what the step takes."""

    class Source(nn.Module):
        def __init__(self):
            super().__init__()
            self.tiny = Tiny([1] if planted == "source" else [])

        def forward(self, target):
            return self.tiny(target).permute(0, 3, 1, 2) / 127.5 - 1

    source = trace(Source(), {"target": torch.from_numpy(pictures(1))}, ["x"])
    step = graph_of([1] if planted == "step" else [])
    choice = chosen({"step": step, "source": source}, samples=[
        {"target": p[None], **Runner(source)({"target": p[None]})} for p in pictures()
    ])  # fmt: skip
    found = {"source": "/tiny/layers.1/Conv", "step": "/layers.1/Conv"}[planted]
    assert choice.kept == [Layer(planted, found)] and choice.names(planted) == [found] and len(choice.alone) == 8


def test_layers_of_one_name_in_both_graphs_are_told_apart():
    step, source = graph_of([]), graph_of([], count=5)
    graphs = {"step": step, "source": source}
    kept = {Layer("step", "/layers.1/Conv"): {"ssim": 0.97}, Layer("source", "/layers.1/Conv"): {"ssim": 0.975}}
    reasons = keep.Choice(kept, list(kept), [*kept.values(), {"ssim": 0.99}], 0.002, True).reasons()
    assert reasons == {"step:/layers.1/Conv": "ssim 0.97 to 0.975", "source:/layers.1/Conv": "ssim 0.975 to 0.99"}

    def named(*keep):
        return {role: builder._named(keep, role, graphs) for role in graphs}

    one, last = "/layers.1/Conv", "/layers.4/Conv"
    assert named(one) == {"step": [one], "source": [one]}
    assert named(f"step:{one}", last) == {"step": [one], "source": [last]}
    assert named(f"source:{one}", "/layers") == {"step": ["/layers"], "source": [one, "/layers"]}
    assert named(f"step:{last}") == {"step": [last], "source": []}  # which to_int8 refuses: the step has none


def test_a_figure_s_share_is_of_the_error_that_the_floor_allows(monkeypatch):
    monkeypatch.setitem(gate.FLOORS, "int8", {"ssim": 0.9, "psnr": 30.0, "cosine": 0.5})
    assert shares({"ssim": 0.95, "psnr": 40.0, "frames": 3}, 0.0) == pytest.approx({"ssim": 0.5, "psnr": 0.1})
    assert shares({"ssim": 0.95}, 0.05) == pytest.approx({"ssim": 1.0})
    assert shares({"cosine": 0.0}, 0.0) == {"cosine": 2.0}
    assert shares({"landmarks_error": 0.005}, 0.05) == {"landmarks_error": 0.5}
    for margin in (-0.01, 0.1, float("nan")):
        with pytest.raises(InputError, match="margin: got"):
            check_margin(margin)


@pytest.fixture
def written(tmp_path):
    """Folder with NAME.onnx for a number of planted layers, and samples."""

    def write(*planted):
        model = graph_of(planted)
        set_metadata(model, Metadata(family="amnet"))
        (tmp_path / "tiny.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / "samples.npz", x=pictures(10))
        return tmp_path

    return write


def arguments(folder, *more):
    given = ["--precision", "int8", "--calibration", str(folder / "samples.npz"), *more]
    return ["build", str(folder / "tiny.onnx"), "-o", str(folder / "tiny.xml"), *given]


def test_command_builds_keeps_and_reports(written, capsys):
    folder = written(2)
    assert main(arguments(folder)) == 1
    assert "against f32, at least 0.98 is needed" in capsys.readouterr().err
    assert main(arguments(folder, "--keep", "auto", "--report", str(folder / "layers.csv"))) == 0
    assert "in float:     step:/layers.2/Conv: ssim 0." in capsys.readouterr().out
    text = (folder / "tiny.xml").read_text()
    assert "&quot;kept&quot;:{&quot;step:/layers.2/Conv&quot;:&quot;ssim 0." in text
    rows = list(csv.DictReader((folder / "layers.csv").open()))
    assert [row["layer"] for row in rows[:2]] == ["(all layers)", "/layers.2/Conv"] and len(rows) == 5
    assert [row["in float"] for row in rows] == ["", "1", "", "", ""]
    assert float(rows[1]["part of what the gate allows"]) > 1
    assert float(rows[1]["ssim, all others in int8"]) >= 0.982 > 0.98 > float(rows[0]["ssim, alone in int8"])
    assert rows[2]["ssim, all others in int8"] == ""


def test_what_is_kept_by_name_is_told(written):
    folder = written(2)
    assert layers(read(folder / "tiny.onnx")[0]) == names(0, 1, 2, 3)
    given = {"precision": "int8", "calibration": folder / "samples.npz"}
    built = build(folder / "tiny.onnx", folder / "tiny.xml", keep=names(2), **given)
    assert built.gate["kept"] == {names(2)[0]: "asked for"}


def test_an_engine_that_half_in_float_does_not_save_is_refused(written, capfd):
    folder = written(1, 2, 3)
    assert main(arguments(folder, "--keep", "auto", "--report", str(folder / "layers.csv"))) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "with half of its layers in float; build it in a higher precision: --precision bf16" in line
    assert sorted(p.name for p in folder.iterdir()) == ["layers.csv", "samples.npz", "tiny.onnx"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--keep", "auto", "--keep", "/layers"], "auto chooses all of them"),
        (["--keep", "/layers", "--margin", "0.01"], "margin: is of layers that are chosen; add --keep auto"),
        (["--report", "a.csv"], "report: is of layers that are chosen; add --keep auto"),
        (["--keep", "auto", "--margin", "0.02"], "margin: got 0.02, expected at least 0 and less than 0.02"),
        (["--keep", "auto", "--report", "nowhere/a.csv"], "No such folder"),
    ],
)
def test_bad_options_are_one_line(written, more, message, capfd):
    folder = written()
    assert main(arguments(folder, *more)) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line and not (folder / "tiny.xml").exists()


def test_a_layer_named_in_full_is_kept_alone(monkeypatch):
    """/layers.1/Conv may be what /layers.1/Conv_1 begins with."""
    from edgetalk.engines.precision import to_int8

    model = graph_of([])
    for node in model.graph.node:
        node.name = node.name.replace("/layers.2/Conv", "/layers.1/Conv_1")
    sample = [{"x": pictures(1)}]
    quantised = lambda keep: [  # noqa: E731
        n.name for n in to_int8(model, sample, keep).graph.node if n.op_type == "Conv" and n.input[1].endswith("/dq")
    ]
    assert quantised(["/layers.1/Conv"]) == ["/layers.0/Conv", "/layers.1/Conv_1", "/layers.3/Conv"]
    assert quantised(["/layers.1"]) == ["/layers.0/Conv", "/layers.3/Conv"]


def test_an_unfit_model_is_told_before_anything_is_searched(written, tmp_path):
    folder = written()
    with pytest.raises(FileNotFoundError, match="No such folder"):
        build(folder / "tiny.onnx", folder / "nowhere" / "a.xml", keep="auto", precision="int8", calibration="x")
    with pytest.raises(InputError, match="kept in float in int8 alone"):
        build(folder / "tiny.onnx", folder / "a.xml", keep="auto")
    with pytest.raises(ModelError, match="no ONNX file"):
        build(folder / "samples.npz", folder / "a.xml", keep="auto", precision="int8", calibration="x")
