"""Smaller AMNets: their architectures, what they cost, what they take from a larger one."""

import dataclasses
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgetalk.engines import phases
from edgetalk.errors import InputError, ModelError
from edgetalk.export import to_onnx
from edgetalk.metadata import AudioSpec
from edgetalk.train import state, torchrun
from edgetalk.train.amnet import ablations
from edgetalk.train.amnet import recipe as amnet
from edgetalk.train.amnet.data import Footage
from edgetalk.train.amnet.recipe import AMNetRecipe, Config
from edgetalk.train.lite import search as lite
from edgetalk.train.lite.cost import Costs, counts
from edgetalk.train.lite.student import Teacher, inherit
from edgetalk.train.networks.amnet import VARIANTS, AMNet, Architecture, Cell, Reenactor
from edgetalk.train.networks.checkpoint import load_checkpoint, save_checkpoint
from edgetalk.train.networks.landmarks import load as load_judge
from edgetalk.train.scores.report import JUDGE

from .conftest import parameters

TINY = Architecture((4, 6, 8), (Cell("separable", 12, 16), Cell("basic", 12, 8), Cell("pointwise", 8)), (8, 4))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def write(path, network, size=64, **header):
    told = {"variant": network.variant, "architecture": network.reenactor.architecture.plain(), **header}
    tensors = network.state_dict()
    for i, name in enumerate(("ada", "dan")):
        tensors[f"source.{name}"] = torch.full((size, size, 3), 90 + 50 * i, dtype=torch.uint8)
    save_checkpoint(path, tensors, size=size, audio=asdict(AudioSpec()), persons=["ada", "dan"], training={}, **told)
    return path


def test_the_default_is_the_released_network_key_by_key():
    """Shapes as the published searched network has them (module docstring), written down layer by layer."""
    expected = {
        "stem.0.0.weight": (24, 3, 7, 7),
        "stem.1.0.weight": (40, 24, 3, 3),
        "stem.2.0.weight": (88, 40, 3, 3),
        "cells.0.skip.0.weight": (152, 88, 1, 1),
        "cells.6.0.weight": (152, 152, 1, 1),
        "cells.7.0.weight": (152, 152, 1, 1),
        "cells.8.0.weight": (128, 152, 1, 1),
        "header.0.0.weight": (128, 104, 3, 3),
        "header.1.0.weight": (104, 24, 3, 3),
        "header.2.weight": (3, 24, 7, 7),
    }
    for cell, inputs, wide in ((0, 88, 352), (5, 152, 608)):
        expected[f"cells.{cell}.body.0.0.weight"] = (wide, inputs, 1, 1)
        expected[f"cells.{cell}.body.1.0.weight"] = (wide, 1, 3, 3)
        expected[f"cells.{cell}.body.2.0.weight"] = (152, wide, 1, 1)
    for cell in (1, 2, 3, 4):
        expected |= {f"cells.{cell}.body.{i}.0.weight": (152, 152, 3, 3) for i in (0, 1)}
    for cell in range(9):
        channels = 128 if cell == 8 else 152
        for part in ("weight", "bias"):
            name = f"controllers.{cell}.{part}"
            expected |= {f"{name}.0.weight": (256, 256), f"{name}.0.bias": (256,)}
            expected |= {f"{name}.2.weight": (channels, 256), f"{name}.2.bias": (channels,)}
    found = {name: tuple(tensor.shape) for name, tensor in AMNet().reenactor.state_dict().items()}
    assert found == expected
    assert sum(np.prod(shape) for shape in found.values()) == 4_085_200  # Table II: 4.085 M


def test_an_architecture_survives_its_file(tmp_path):
    for architecture in (*VARIANTS.values(), TINY):
        assert Architecture.of(json.loads(json.dumps(architecture.plain()))) == architecture
    network = AMNet("amnet-lite", architecture=TINY)
    read = load_checkpoint(write(tmp_path / "tiny.safetensors", network)).network
    assert read.reenactor.architecture == TINY
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), network.parameters(), strict=True))


def test_half_the_width_is_every_layer_with_half_the_channels():
    half = VARIANTS["amnet-k3"].scaled(0.5)
    assert (half.stem, half.header, half.kernel) == ((16, 16, 48), (48, 16), 3)  # multiples of 8
    assert [tuple(cell) for cell in half.cells[:2]] == [("separable", 80, 176), ("basic", 80, 80)]
    assert half.cells[-1] == Cell("pointwise", 64)
    assert VARIANTS["amnet"].scaled(1.0) == VARIANTS["amnet"]
    size = {width: parameters(Reenactor(VARIANTS["amnet"].scaled(width)).cells) for width in (0.5, 1.0)}
    assert size[0.5] == pytest.approx(size[1.0] / 4, rel=0.2)


@pytest.mark.parametrize("spoil", [{"header": (8,)}, {"shuffle": 2}, {"cells": ()}, {"cells": (Cell("dense", 8),)}])
def test_what_cannot_be_is_refused(spoil, tmp_path):
    with pytest.raises(ValueError, match=r"reduction|no cell 'dense'"):
        dataclasses.replace(TINY, **spoil)
    (tmp_path / "a.json").write_text(json.dumps({**TINY.plain(), "header": [1, 2, 3]}))
    with pytest.raises(ModelError, match=r"a\.json holds no architecture of AMNet"):
        AMNetRecipe(Config(architecture=str(tmp_path / "a.json")), SPEC_ONLY)


class SPEC_ONLY:  # noqa: N801 - stands for footage where it must not be looked at
    name = "none"


def test_lite_graphs_are_the_network(tmp_path):
    network = AMNet("amnet-lite").eval()
    to_onnx(write(tmp_path / "c.safetensors", network, 32), tmp_path / "amnet.onnx")
    rng = np.random.default_rng(0)
    feeds = {
        "source": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8),
        "mel": rng.normal(size=(1, 32, 80)).astype(np.float32),
        "pose": rng.normal(size=(1, 3)).astype(np.float32) / 5,
        "blink": rng.random((1, 2), np.float32),
    }
    for name in ("amnet-source.onnx", "amnet.onnx"):
        session = onnxruntime.InferenceSession(tmp_path / name)
        taken = {i.name: feeds[i.name] for i in session.get_inputs()}
        feeds |= dict(zip([o.name for o in session.get_outputs()], session.run(None, taken), strict=True))
    reduction = VARIANTS["amnet-lite"].reduction
    channels = VARIANTS["amnet-lite"].cells[0].channels
    assert feeds["appearance"].shape == (1, 32 // reduction, 32 // reduction, channels)
    with torch.no_grad():
        source = torch.from_numpy(feeds["source"]).permute(0, 3, 1, 2).float() / 127.5 - 1
        image, landmarks = network(source, *(torch.from_numpy(feeds[n]) for n in ("mel", "pose", "blink")))
    frame = np.rint((image.numpy() + 1) * 127.5).transpose(0, 2, 3, 1)
    assert np.abs(feeds["frame"] - frame).max() <= 1 and frame.std() > 5
    np.testing.assert_allclose(feeds["landmarks"], landmarks.numpy(), atol=1e-4)
    graph = onnx.load(tmp_path / "amnet.onnx")
    assert '"variant":"amnet-lite"' in graph.metadata_props[0].value
    with pytest.raises(InputError, match=f"multiple of {reduction}"):
        to_onnx(tmp_path / "c.safetensors", tmp_path / "x.onnx", size=64 + reduction // 2)


def hooked_products(architecture, size):
    """Multiply-adds of the step's convolutions as torch runs them, depthwise ones left out."""
    reenactor, made = Reenactor(architecture), []

    def count(module, inputs, output):
        if isinstance(module, torch.nn.ConvTranspose2d):  # four phases of 2×2 taps, those that are zero too
            made.append(module.weight.shape[0] * 4 * module.weight.shape[1] * 4 * inputs[0][0, 0].numel())
        elif module.groups == 1:
            made.append(module.weight.numel() * output[0, 0].numel())

    for layer in [*reenactor.cells[1:], reenactor.header]:
        for module in layer.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.register_forward_hook(count)
    side = size // architecture.reduction
    with torch.no_grad():
        reenactor.step(torch.randn(1, architecture.cells[0].channels, side, side), torch.randn(1, 256))
    return sum(made)


def test_counts_are_those_of_the_layers():
    """What torch multiplies; 32 channels in four phases narrow to 3×3 of 4·32 → 4·12, 80 stay, 12 of 16 lanes used."""
    cells = (Cell("separable", 32, 64), Cell("basic", 32, 16), Cell("separable", 48, 64), Cell("pointwise", 16))
    plain = Architecture((8, 8, 16), cells, (), last=5, shuffle=4)  # 16 → 48 channels: no phases
    found = counts(plain, 64)
    assert found["convolution"] * 1e9 == pytest.approx(hooked_products(plain, 64))
    made = 32 + (16 + 32) + (64 + 64 + 48 + 48) + 16  # appearance, cells with their skips
    assert found["values"] * 1e6 == pytest.approx(made * 16**2)
    for header, taps, last in ((32, 16, 4 * 32 * 48 * 9 * 16**2), (80, 9, 80 * 16 * 25 * 32**2)):
        narrowing = dataclasses.replace(plain, header=(header,), shuffle=2)
        hooked = hooked_products(narrowing, 64) - header * 12 * 25 * 32**2 - 16 * header * (16 - taps) * 16**2
        assert counts(narrowing, 64)["convolution"] * 1e9 == pytest.approx(hooked + last)


@pytest.mark.parametrize("last", [5, 7])
def test_the_last_convolution_is_counted_as_the_build_rewrites_it(tmp_path, last):
    network = AMNet("amnet-lite", architecture=dataclasses.replace(TINY, last=last))
    to_onnx(write(tmp_path / "c.safetensors", network), tmp_path / "amnet.onnx")
    graph = phases.phase_grid(phases.sub_pixel(onnx.load(tmp_path / "amnet.onnx"))).graph
    shapes = {w.name: list(w.dims) for w in graph.initializer}
    final = [node for node in graph.node if node.op_type == "Conv"][-1]
    outputs, inputs, *taps = shapes[final.input[1]]
    padding = next(list(a.ints) for a in final.attribute if a.name == "pads")
    cells = 64 // 2 + padding[0] + padding[2] - taps[0] + 1
    found = counts(network.reenactor.architecture, 64)["convolution"]
    before = counts(dataclasses.replace(network.reenactor.architecture, last=1), 64)["convolution"]
    one = 4 * 4 * 16 * 32**2  # of 1×1, on the same grid
    assert (found - before) * 1e9 + one == pytest.approx(inputs * 16 * taps[0] * taps[1] * cells**2)
    assert outputs == 4 * 3 and taps == [{5: 3, 7: 4}[last]] * 2


def test_costs_grow_with_everything():
    costs, base = Costs.load(), VARIANTS["amnet-lite"]
    cells, small = base.cells, costs.predict(base)
    wider = tuple(cell._replace(channels=cell.channels + 32) for cell in cells)
    for change in (
        {"cells": wider},
        {"cells": (*cells[:2], Cell("basic", cells[0].channels, 64), *cells[2:])},
        {"cells": (*cells[:2], Cell("separable", cells[0].channels, 256), *cells[2:])},
        {"last": base.last + 4},
        {"header": (base.header[0] + 32, *base.header[1:])},
    ):
        assert costs.predict(dataclasses.replace(base, **change)) > small
    assert costs.predict(base, 128) < small < costs.predict(VARIANTS["amnet"])


def test_the_cost_model_is_worth_what_it_says():
    """Each network of the file was predicted by a fit without it."""
    measured = Costs.load().measured
    errors = np.array([abs(predicted / value - 1) for value, predicted in measured.values()])
    assert len(errors) >= 9 and errors.mean() < 0.03 and errors.max() < 0.1


def test_finalists_fit_the_budget_and_differ_in_kind():
    costs = Costs.load()
    budget = 1.05 * costs.predict(VARIANTS["amnet-lite"])
    chosen = lite.finalists(costs, budget, 6)
    assert len(set(chosen)) == 6 and all(costs.predict(one) <= budget for one in chosen)
    assert len({lite.family_of(one) for one in chosen}) >= 4
    assert len({lite.name_of(one) for one in lite.candidates()}) == len(list(lite.candidates()))
    with pytest.raises(InputError, match=r"budget: got 0\.1 ms"):
        lite.finalists(costs, 0.1, 6)


def test_nothing_is_lost_with_channels_that_nobody_reads():
    """A student that lacks only what weighs nothing draws what its teacher draws."""
    large = Reenactor(TINY)
    small = dataclasses.replace(
        TINY,
        stem=(3, 6, 6),
        cells=(Cell("separable", 9, 12), Cell("basic", 9, 5), Cell("pointwise", 7)),
        header=(6, 3),
    )
    dropped = {"trunk": [0, 4, 11], "wide": [1, 2, 7, 15], "inner": [3, 5, 6], "last": [2]}
    with torch.no_grad():
        large.stem[1][0].weight[:, [1]] = 0
        large.cells[0].body[0][0].weight[:, [0, 5]] = 0
        large.cells[0].skip[0].weight[:, [0, 5]] = 0
        large.cells[0].body[2][0].weight[:, dropped["wide"]] = 0
        large.cells[1].body[0][0].weight[:, dropped["trunk"]] = 0
        large.cells[1].body[1][0].weight[:, dropped["inner"]] = 0
        large.cells[2][0].weight[:, dropped["trunk"]] = 0
        large.header[0][0].weight[dropped["last"]] = 0
        large.header[1][0].weight[[0, 7]] = 0
        large.header[2].weight[:, [3]] = 0
    student = Reenactor(small)
    inherit(student, large)
    picture, f_geo = torch.rand(2, 3, 32, 32), torch.randn(2, 256)
    with torch.no_grad():
        expected = large.step(large.source(picture), f_geo)
        torch.testing.assert_close(student.step(student.source(picture), f_geo), expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", ["wider", "deeper", "shuffled"])
def test_what_has_no_counterpart_keeps_its_first_weights(name):
    small = {
        "wider": dataclasses.replace(TINY, cells=(Cell("separable", 20, 16), Cell("basic", 20, 12), TINY.cells[2])),
        "deeper": dataclasses.replace(TINY, stem=(4, 6, 8, 10), header=(8, 8, 4)),
        "shuffled": dataclasses.replace(TINY, header=(8,), shuffle=2),
    }[name]  # fmt: skip
    student, teacher = Reenactor(small), Reenactor(TINY)
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    inherit(student, teacher)
    kept = {key for key, tensor in student.state_dict().items() if torch.equal(tensor, before[key])}
    changed = before.keys() - kept
    assert {"stem.0.0.weight", "stem.1.0.weight", "stem.2.0.weight", "cells.2.0.weight"} <= changed
    assert {"wider": set(), "deeper": {"stem.3.0.weight", "header.0.0.weight"}, "shuffled": {"header.1.weight"}}[
        name
    ] <= kept
    assert torch.equal(student.stem[1][0].weight, teacher.stem[1][0].weight)
    if name == "wider":
        assert torch.equal(student.cells[1].body[0][0].weight[:8, :12], teacher.cells[1].body[0][0].weight)


@pytest.fixture
def distilling(footage, tmp_path):
    """Return a recipe's maker: a tiny student of a tiny teacher."""
    torch.manual_seed(3)
    teacher = write(tmp_path / "teacher.safetensors", AMNet("amnet-lite", architecture=TINY))
    (tmp_path / "a.json").write_text(json.dumps(dataclasses.replace(TINY, header=(8,), shuffle=2).plain()))
    config = Config("amnet-lite", size=64, batch=2, images=12, mouth=3.0, adversarial=0.0, mixed=False,
                    teacher=str(teacher), architecture=str(tmp_path / "a.json"))  # fmt: skip
    return lambda **changes: AMNetRecipe(dataclasses.replace(config, **changes), footage)


def test_a_teacher_draws_each_frame_once_and_as_it_would_alone(distilling, footage):
    recipe = distilling()
    calls = []
    recipe.teacher.network.fuser.register_forward_hook(lambda *_: calls.append(1))
    index = torch.tensor([3, 20, 3])
    first, again = recipe.teacher.draw(index), recipe.teacher.draw(index)
    assert len(calls) == 1 and torch.equal(first, again) and torch.equal(first[0], first[2])
    source = recipe.teacher.network.reenactor.source
    for picture, i in zip(first, index.tolist(), strict=True):
        grey = torch.full((1, 3, 64, 64), (90 + 50 * footage.person[i]) / 127.5 - 1)
        with torch.no_grad():
            f_geo = recipe.teacher.network.fuser(
                footage.windows(torch.tensor([i])), footage.pose[[i]], footage.blink[[i]]
            )
            alone = recipe.teacher.network.reenactor.step(source(grey), f_geo)[0]
        assert (picture - alone).abs().max() <= 0.51 / 127.5


def test_distillation_goes_on_as_if_it_had_not_been_killed(distilling, tmp_path):
    whole = distilling()
    expected = [{name: float(v.detach()) for name, v in whole.step(i).items()} for i in range(4)]
    assert set(expected[0]) == {"L_C", "L_T", "L_G"}
    first = distilling()
    for i in range(2):
        first.step(i)
    state.save(first, tmp_path, 2)
    second = distilling()
    assert state.resume(second, tmp_path) == 2
    for i in (2, 3):
        assert {n: float(v.detach()) for n, v in second.step(i).items()} == pytest.approx(expected[i], rel=1e-5)
    with pytest.raises(ModelError, match="another configuration"):
        state.resume(distilling(teaching=1.0), tmp_path)
    second.save_checkpoint(tmp_path / "student.safetensors")
    read = load_checkpoint(tmp_path / "student.safetensors")
    assert read.network.reenactor.architecture.shuffle == 2 and read.training["teacher"] == "teacher.safetensors"


def test_teaching_alone_ignores_the_true_frames(distilling, footage):
    """With teaching = 1 the gradient is that of the distance to the teacher's pictures."""
    recipe = distilling(teaching=1.0, geometry=0.0, mouth=1.0)
    batch = footage.draw(footage.train, 2, torchrun.generator(0, 0), recipe.settings.neutral)
    made = recipe.network(batch.source, batch.mel, batch.pose, batch.blink)[0]
    weight = recipe.network.reenactor.header[-1].weight
    wanted = torch.autograd.grad(100 * (made - recipe.teacher.draw(batch.index)).abs().mean(), weight)[0]
    recipe.step(0)
    torch.testing.assert_close(weight.grad, wanted, atol=1e-6, rtol=1e-4)


def test_a_student_keeps_its_teachers_fuser(distilling, tmp_path):
    teacher = load_checkpoint(tmp_path / "teacher.safetensors").network
    spoken = {n: t for n, t in teacher.state_dict().items() if n.startswith(("fuser", "landmark_layer"))}
    strayed = distilling(fuser="learn")
    strayed.step(0)
    strayed.average.update(10**6)
    strayed.save_checkpoint(tmp_path / "strayed.safetensors")
    for recipe in (distilling(), distilling(start=str(tmp_path / "strayed.safetensors"))):
        recipe.step(0)
        now = recipe.network.state_dict()
        assert all(torch.equal(now[name], tensor) for name, tensor in spoken.items())
    assert not torch.equal(strayed.network.state_dict()["fuser.audio.weight"], spoken["fuser.audio.weight"])
    with pytest.raises(InputError, match="geometry_first"):
        distilling(geometry_first=2)


def test_a_run_reads_each_checkpoint_once(distilling, tmp_path, monkeypatch):
    distilling().save_checkpoint(tmp_path / "start.safetensors")
    read = []
    monkeypatch.setattr(amnet, "load_checkpoint", lambda path: read.append(Path(path).name) or load_checkpoint(path))
    distilling(start=str(tmp_path / "start.safetensors"))
    assert read == ["start.safetensors", "teacher.safetensors"]


def test_a_teacher_of_other_persons_is_refused(distilling, footage, tmp_path):
    checkpoint = load_checkpoint(tmp_path / "teacher.safetensors")
    checkpoint.sources.pop("dan")
    with pytest.raises(InputError, match=r"teacher: got a checkpoint of the persons ada, expected .*\(ada, dan\)"):
        Teacher(checkpoint, footage)


def test_finalists_are_compared_on_the_last_training_clips_and_not_on_what_is_for_tests(footage, monkeypatch, tmp_path):
    many = dataclasses.replace(
        footage, train=torch.arange(40), test=torch.arange(40, 48)
    )  # clips of 8: ada's and dan's
    some = lite.held_back(many)
    assert some.train.tolist() == [*range(24)] and some.test.tolist() == [*range(24, 40)]
    quiet = dataclasses.replace(many, pose=many.pose.clone(), blink=many.blink.clone())
    quiet.pose[24:], quiet.blink[24:] = 0, 0  # what looks ahead and is not to be seen
    assert all(int(frame) < 24 for frame in lite.held_back(quiet).neutral)
    one = lite.held_back(footage)  # of each a single clip
    assert one.train.tolist() == [*range(7), *range(8, 15)] and one.test.tolist() == [7, 15]
    given = []
    monkeypatch.setattr(
        lite, "try_out", lambda path, data, settings: given.append(data) or {"loss": 1, "ssim": 0, "seconds": 0}
    )
    monkeypatch.setattr(lite, "report", lambda out: None)
    lite.search(many, tmp_path, Costs.load(), 3.5, 2, lite.Proxy())
    assert [data.test.tolist() for data in given] == [some.test.tolist()] * 2
    assert [data.train.tolist() for data in given] == [some.train.tolist()] * 2


def test_the_search_trains_each_finalist_once(footage, tmp_path, capsys):
    teacher = write(tmp_path / "teacher.safetensors", AMNet("amnet-lite", architecture=TINY))
    settings = lite.Proxy(images=2, batch=1, size=64, judged=2, teacher=str(teacher))
    footage = dataclasses.replace(footage, digest="d")
    wanted = lite.search(footage, tmp_path / "out", Costs.load(), 3.5, 2, settings)
    files = sorted((tmp_path / "out").iterdir())
    (tmp_path / "before").mkdir()
    for file in files:
        os.link(file, tmp_path / "before" / file.name)
    assert len(wanted) == 2 and all(row["ms"] <= 3.5 and row["loss"] > 0 for row in wanted.values())
    assert lite.search(footage, tmp_path / "out", Costs.load(), 3.5, 2, settings) == wanted  # seconds too
    assert files == sorted((tmp_path / "out").iterdir()) and len(files) == 5
    assert not any(file.samefile(tmp_path / "before" / file.name) for file in files)  # replaced, when each was whole
    table = (tmp_path / "out" / "search.md").read_text()
    for name in wanted:
        assert name in table
        AMNet(architecture=Architecture.of(json.loads((tmp_path / "out" / f"{name}.json").read_text())))
    assert "<svg" in (tmp_path / "out" / "search.svg").read_text()[:2000]
    assert Path(tmp_path / "out" / "search.json").exists()
    for other, changed, told in (
        (dataclasses.replace(footage, name="others"), {}, "data drawn → others"),
        (dataclasses.replace(footage, digest="e"), {}, "digest d → e"),  # as another seed of `edgetalk data` makes it
        (footage, {"images": 4}, "images 2 → 4"),
    ):
        with pytest.raises(InputError, match=rf"another search \({told}\); choose another folder with -o$"):
            lite.search(other, tmp_path / "out", Costs.load(), 3.5, 2, dataclasses.replace(settings, **changed))
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    del found["proxy"]["digest"]  # a search from before it was told
    (tmp_path / "out" / "search.json").write_text(json.dumps(found))
    assert lite.search(footage, tmp_path / "out", Costs.load(), 3.5, 2, settings) == wanted


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--judged 0", "judged: got 0, expected 1 or more; change --judged"),
        ("--finalists 0", "finalists: got 0, expected 1 or more; change --finalists"),
        ("--budget nan", "budget: got nan, expected more than 0; change --budget"),
        ("--images 0", "images: got 0, expected 1 or more; change --images"),
        ("--size 36", "size: got 36, expected a multiple of 8"),
        ("--costs FILE", "FILE holds no costs of a machine; write them with: python -m bench.lite costs"),
        ("--teacher FILE", "FILE is not a checkpoint of AMNet"),
    ],
)
@pytest.mark.parametrize("text", ["{}", "[]", "none", '{"milliseconds": [], "machine": "", "measured": {}}'])
def test_a_search_that_cannot_be_is_refused_before_the_data_is_read(tmp_path, options, told, text):
    file = tmp_path / "file.json"
    file.write_text(text)
    words = options.replace("FILE", str(file)).split()
    with pytest.raises((InputError, ModelError), match="^" + re.escape(told.replace("FILE", str(file)))):
        lite.main(["search", "--data", str(tmp_path / "none"), "-o", str(tmp_path / "out"), *words])
    assert list(tmp_path.iterdir()) == [file]


def test_a_search_says_what_it_lacks_and_leaves_nothing(footage, tmp_path):
    out, settings = tmp_path / "out", lite.Proxy()
    with pytest.raises(InputError, match="^budget: got 0.1 ms, but no candidate is predicted to be that fast"):
        lite.search(footage, out, Costs.load(), 0.1, 2, settings)
    with pytest.raises(InputError, match="data set drawn: got no two training frames of a person, .* more frames"):
        lite.search(dataclasses.replace(footage, train=torch.tensor([0, 8])), out, Costs.load(), 6.0, 2, settings)
    assert not out.exists()
    out.mkdir()
    (out / "search.json").write_text("{}")
    with pytest.raises(InputError, match="search.json is no search, or it is damaged; choose another folder with -o$"):
        lite.search(footage, out, Costs.load(), 6.0, 2, settings)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--minutes nan", "minutes: got nan, expected more than 0; change --minutes$"),
        ("--minutes -1", "minutes: got -1.0, expected more than 0; change --minutes$"),
        ("--width 9", "width: got 9, expected over 0 and at most 4"),
        ("--device tpu", "device: got 'tpu', expected auto, cpu"),
    ],
)
def test_ablations_that_cannot_be_are_refused_before_any_row_begins(tmp_path, monkeypatch, options, told):
    from edgetalk.train.amnet import dataset

    monkeypatch.setattr(dataset, "load", lambda _: SimpleNamespace(name="drawn", train=np.arange(5) < 3))
    with pytest.raises(InputError, match=f"^{told}"):
        ablations.main(["--data", "drawn", "-o", str(tmp_path / "out"), *options.split()])
    assert not list(tmp_path.iterdir())
    for name in ("ablations.json", "all-0.json"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(InputError, match=f"{name} is no row of ablations, or it is damaged; remove it"):
            ablations.finished(tmp_path)
        (tmp_path / name).unlink()


def test_a_row_hears_sound_that_its_seed_augmented(tmp_path, monkeypatch):
    loaded, begun = [], []

    def load(folder, seed, **_):
        loaded.append(seed)
        return SimpleNamespace(device=torch.device("cpu"), seed=seed)

    def begin(config, footage, compiled):
        begun.append((config.seed, footage.seed))
        raise LookupError

    monkeypatch.setattr(Footage, "load", load)
    monkeypatch.setattr(amnet, "AMNetRecipe", begin)
    for row, seed in (("all", 0), ("k3", 0), ("all", 1)):
        with pytest.raises(LookupError):
            ablations.train_row(ablations.Job(row, seed, tmp_path, tmp_path, JUDGE, {"images": 9, "batch": 2}, "cpu"))
    assert loaded == [0, 1] and begun == [(0, 0), (0, 0), (1, 1)]


def test_ablated_rows_of_another_training_are_refused(footage, tmp_path, monkeypatch):
    from edgetalk.train.amnet import dataset

    data = SimpleNamespace(name="drawn", train=np.arange(5) < 3, digest="d")
    monkeypatch.setattr(dataset, "load", lambda _: data)
    job = ablations.Job("all", 0, tmp_path, tmp_path, JUDGE, {"images": 9, "batch": 2}, "cpu")
    record = load_judge(JUDGE)[1]
    (tmp_path / "announcers-6.json").write_text('{"family": "amnet"}')  # scores, which lie in the same folder
    assert ablations.missing([job], "drawn", 2, record, "d")
    recipe = AMNetRecipe(ablations.schedule(job), footage)
    config = recipe.config
    report = {"row": "all", "seed": 0, "config": config, "frames": 2, "judge": record}
    (tmp_path / "all-0.json").write_text(json.dumps(report))
    assert not ablations.missing([job], "drawn", 2, record, "d")
    command = ["--data", str(tmp_path), "-o", str(tmp_path), "--rows", "all", "--seeds", "1", "--batch", "2"]
    with pytest.raises(InputError, match=r"row all-0 is of another training \(images 9 → 8\); choose another folder"):
        ablations.main([*command, "--images", "8"])
    with pytest.raises(InputError, match="seeds: got 0, expected 1 or more; change --seeds"):
        ablations.main([*command, "--seeds", "0"])
    data.train = np.arange(5) < 5
    with pytest.raises(InputError, match="got no held-out frames, expected some to score on"):
        ablations.main(command)
    data.name, data.train = "others", np.arange(6) < 3
    with pytest.raises(InputError, match=r"\(data drawn → others, held-out frames 2 → 3\)"):
        ablations.main([*command, "--images", "9"])
    with pytest.raises(InputError, match=r"\(judge\)"):
        ablations.missing([job], "drawn", 2, {"another": 1}, "d")
    (tmp_path / "all-0.json").write_text(json.dumps(report | {"digest": "d"}))
    assert not ablations.missing([job], "drawn", 2, record, "d")
    with pytest.raises(InputError, match=r"\(digest d → e\)"):  # as another seed of `edgetalk data` makes it
        ablations.missing([job], "drawn", 2, record, "e")
    (tmp_path / "all-0.json").unlink()
    assert ablations.missing([job], "drawn", 2, record, "d")
    (tmp_path / "ablations.json").write_text(json.dumps({"rows": [report]}))
    assert not ablations.missing([job], "drawn", 2, record, "d")
    older = report | {"config": {name: value for name, value in config.items() if name != "heard"}}
    (tmp_path / "ablations.json").write_text(json.dumps({"rows": [older]}))  # from before there was the field
    assert not ablations.missing([job], "drawn", 2, record, "d")
    narrow = job._replace(changes=job.changes | {"width": 0.5})
    (tmp_path / "ablations.json").unlink()
    other = AMNetRecipe(ablations.schedule(narrow._replace(row="k3", seed=1)), footage).config
    (tmp_path / "k3-1.json").write_text(json.dumps(report | {"row": "k3", "seed": 1, "config": other}))
    with pytest.raises(InputError, match=r"row k3-1 is of another training \(width 0.5 → 1.0, architecture"):
        ablations.missing(
            [job], "drawn", 2, record, "d"
        )  # a row and seed that are not asked for, but stand in the same table
    assert ablations.missing([narrow], "drawn", 2, record, "d")  # another name and seed are no other training
    (tmp_path / "k3-1.json").unlink()
    (tmp_path / "ablations.json").write_text(json.dumps({"rows": [older]}))
    smaller = AMNetRecipe(ablations.schedule(narrow), footage)
    assert parameters(smaller.critic) < 0.3 * parameters(recipe.critic)
    with pytest.raises(InputError, match="width 1.0 → 0.5"):
        ablations.missing([narrow], "drawn", 2, record, "d")
