"""The drawings of the networks: what is counted against torch's own counter, and boxes that hold their text."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgetalk.train.networks.amnet import AMNet, Architecture, Cell
from edgetalk.train.networks.arcface import ArcFace
from edgetalk.train.networks.arcface import Config as ArcFaceConfig
from edgetalk.train.networks.wavsyncswap import Config, WavSyncSwap
from edgetalk.train.reports import figures
from edgetalk.train.reports.measured import measure

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def amnet(kernel):
    cells = (Cell("separable", 16, 24), Cell("basic", 16, 16), Cell("pointwise", 8))
    return AMNet(architecture=Architecture((8, 8, 16), cells, (8, 8), kernel=kernel)).eval()


def swapping(**options):
    return WavSyncSwap(Config(width=0.125, **options)).eval()


@pytest.mark.parametrize("kernel", [1, 3])
def test_amnets_multiply_adds_are_torchs(kernel):
    network = amnet(kernel)
    given = torch.zeros(1, 3, 32, 32), torch.zeros(1, 32, 80), torch.zeros(1, 3), torch.zeros(1, 2)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*given)
    scaled = (16 + 16 + 8) * 8 * 8 if kernel == 1 else 0  # a product of each value, which torch takes for none
    parts = [network.fuser, network.reenactor, network.landmark_layer]
    [found] = measure({"all": parts}, lambda: network(*given)).values()
    assert found.macs == counter.get_total_flops() // 2 + scaled
    assert found.parameters == sum(p.numel() for p in network.parameters())


def test_wavsyncswaps_multiply_adds_are_torchs():
    network = swapping(skips=(64, 48, 32), hidden=(0.36, 0.42), matte=True)
    picture, vector, mel = torch.zeros(1, 3, 96, 96), torch.zeros(1, 512), torch.zeros(1, 16, 80)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(picture, picture, vector, mel)
    parts = {"down": [*network.down], "all": network}
    found = measure(parts, lambda: network(picture, picture, vector, mel))
    assert found["all"].macs == counter.get_total_flops() // 2
    assert (found["down"].inputs, found["down"].output) == ([(8, 96, 96)], (64, 12, 12))


def test_what_was_measured_keeps_no_hooks():
    network = amnet(1)
    with pytest.raises(ZeroDivisionError):
        measure({"all": network}, lambda: 1 / 0)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    "count", [(7, "7"), (4_085_360, "4.09 M"), (12_345, "12.3 k"), (999, "999"), (2.1e11, "210 G")]
)
def test_numbers_have_three_digits(count):
    assert figures.number(count[0]) == count[1]


def drawings():
    extractor = ArcFace(ArcFaceConfig(0.125, size=32))
    yield figures.draw_amnet(amnet(1), 64, (32, 80))
    yield figures.draw_controller(amnet(3), 64, (32, 80))
    for matte in (False, True):
        skips = (64, 48, 32) if matte else ()
        yield figures.draw_wavsyncswap(swapping(skips=skips, matte=matte), extractor, "WavSyncSwap")


def test_everything_is_on_the_card_and_text_in_its_box(tmp_path):
    for number, drawing in enumerate(drawings()):
        drawing.write(tmp_path / f"{number}.svg")
        root = ET.parse(tmp_path / f"{number}.svg").getroot()
        width, height = float(root.get("width")), float(root.get("height"))
        boxes = []
        for rect in root.findall(f"{SVG}rect"):
            x, y, wide, high = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
            assert 0 <= x and x + wide <= width and 0 <= y and y + high <= height
            boxes.append((x, y, x + wide, y + high))
        card, *boxes = boxes
        for i, (left, top, right, bottom) in enumerate(boxes):  # none on another
            assert all(right <= a or c <= left or bottom <= b or d <= top for a, b, c, d in boxes[:i])
        for text in root.findall(f"{SVG}text"):
            x, y, size = (float(text.get(name)) for name in ("x", "y", "font-size"))
            half = 0.25 * size * len(text.text)  # of usual letters
            inside = [box for box in boxes if box[0] < x < box[2] and box[1] < y < box[3]]
            if inside and text.get("text-anchor") == "middle":
                [(left, top, right, bottom)] = inside
                assert left <= x - half and x + half <= right and top <= y - 0.8 * size and y + 0.2 * size <= bottom, (
                    text.text
                )


def test_drawings_in_docs_are_of_the_networks_as_they_are(tmp_path):
    """After another architecture, python -m edgetalk.train.reports.figures -o docs draws them again."""
    figures.main(["-o", str(tmp_path)])
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == [f"structure-{name}.svg" for name in ("amnet", "controller", "wavsyncswap-paper", "wavsyncswap")]
    for name in made:
        assert (tmp_path / name).read_bytes() == (DOCS / name).read_bytes(), name
    paper = ET.parse(tmp_path / "structure-wavsyncswap-paper.svg").getroot()
    words = [text.text for text in paper.findall(f"{SVG}text")]
    for shape in ("768×12×12", "f_a, 256×12×12", "v_src, 512", "1×80×16 → 512×1×1", "6×96×96 → 512×12×12"):  # §2.1
        assert shape in words
