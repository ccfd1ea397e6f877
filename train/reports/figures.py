"""Draw how the networks are built, as the papers' figures do: `python -m edgetalk.train.reports.figures -o docs`.

AMNet's Fig. 1 (structure-amnet.svg) and Fig. 2 (structure-controller.svg), WavSyncSwap's Fig. 1 as the paper has it
(structure-wavsyncswap-paper.svg) and as it is bundled (structure-wavsyncswap.svg). Shapes, parameters and multiply-adds
are measured on the networks while they run (measured.py); where boxes stand is written here. Leaves out what training
alone needs.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from edgetalk.train import program
from edgetalk.train.networks import store
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.arcface import ArcFace
from edgetalk.train.networks.arcface import Config as ArcFaceConfig
from edgetalk.train.networks.checkpoint import load_checkpoint
from edgetalk.train.networks.wavsyncswap import Config, WavSyncSwap

from .drawing import GREY, Box, Drawing, Point
from .measured import Block, measure

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
WIDTH = 900
IR50 = ArcFaceConfig(1.0, (3, 4, 14, 3), mask=False)
"""The published identity extractor, which the paper takes."""
Found = dict[str, Block]


def number(count: int) -> str:
    """Return a count with three digits: 4.09 M."""
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            value = count / unit
            return f"{value:.{max(0, 3 - len(str(int(value))))}f} {word}"
    return str(count)


def times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def flow(block: Block) -> str:
    """Return what goes into a block and comes out of it: 6×96×96 → 64×96×96."""
    return f"{times(block.inputs[0])} → {times(block.output)}"


def cost(*blocks: Block) -> str:
    """Return the parameters and multiply-adds of blocks together."""
    return f"{number(sum(b.parameters for b in blocks))} parameters, {number(sum(b.macs for b in blocks))} MAC"


def begun(height: int, title: str, once: str, step: str, abbreviations: str = "") -> Drawing:
    """Return a drawing with its title and what the colours of its boxes say."""
    drawing = Drawing(WIDTH, height, title)
    drawing.text((20, 30), title, 16, anchor="start", bold=True)
    drawing.text((WIDTH - 20, 30), f"{abbreviations}MAC: multiply-adds of one picture", 11, GREY, anchor="end")
    for x, kind, told in ((20, "once", once), (WIDTH / 2, "step", step)):
        drawing.box(x, 44, 22, 14, kind)
        drawing.text((x + 30, 55.5), told, anchor="start")
    return drawing


# AMNet


def draw_amnet(network: AMNet, size: int, audio: tuple[int, int]) -> Drawing:
    """Draw Fuser φ and Reenactor ψ for pictures of `size`×`size` and mel windows `audio` (Fig. 1)."""
    fuser, psi = network.eval().fuser, network.reenactor
    frame = {"stem": psi.stem} | {f"cell {i}": cell for i, cell in enumerate(psi.cells, 1)}
    frame |= {f"GC {i}": controller for i, controller in enumerate(psi.controllers, 1)} | {"header": psi.header}
    drive = {"audio": [fuser.audio_features, fuser.audio_time, fuser.audio], "pose": fuser.pose, "blink": fuser.blink,
             "fusion": fuser.fusion, "landmarks": network.landmark_layer}  # fmt: skip
    given = torch.zeros(1, 3, size, size), torch.zeros(1, *audio), torch.zeros(1, 3), torch.zeros(1, 2)
    ups = {f"up {i}": layer for i, layer in enumerate(psi.header)}
    found = measure(frame | drive | ups, lambda: network(*given))
    once = [found["stem"], found["cell 1"]]
    steps = [found[name] for name in (*frame, *drive) if found[name] not in once]
    drawing = begun(690, "AMNet (Fig. 1 of the paper), as it is bundled", f"once per face: {cost(*once)}",
                    f"once per frame: {cost(*steps)}", "GC: Geometric Controller, par.: parameters, ")  # fmt: skip
    told = cost(*(found[name] for name in drive if name != "landmarks"))
    drawing.text((20, 88), f"φ, the Fuser: {told}", 13, anchor="start", bold=True)
    geometry = _fuser(drawing, found, audio)
    told = cost(*(found[name] for name in frame))
    drawing.text((20, 314), f"ψ, the Reenactor: {told}", 13, anchor="start", bold=True)
    source = drawing.box(20, 326, 130, 56, "given", "source face", times(found["stem"].inputs[0]))
    stem = drawing.box(190, 326, 240, 56, "once", f"{len(psi.stem)} convolutions", flow(found["stem"]),
                       cost(found["stem"]))  # fmt: skip
    kinds = [cell.kind for cell in psi.architecture.cells]
    first = drawing.box(480, 326, 240, 56, "once", f"cell 1, {kinds[0]}", flow(found["cell 1"]), cost(found["cell 1"]))
    drawing.arrow(source.right(), stem.left())
    drawing.arrow(stem.right(), first.left())
    drawing.text((808, 351), "appearance, kept:", bold=True)
    drawing.text((808, 367), times(found["cell 1"].output), 11)
    last = _cells(drawing, found, kinds, first, geometry)
    _header(drawing, [found[name] for name in ups], psi.architecture.last, last)
    return drawing


def _fuser(drawing: Drawing, found: Found, audio: tuple[int, int]) -> Point:
    """Draw φ and the landmarks; return where f_Geo comes out."""
    fusion = drawing.box(480, 145, 200, 80, "step", "φ_D: three linear, layer norm", flow(found["fusion"]),
                         cost(found["fusion"]))  # fmt: skip
    rows = (("audio", "φ_A: ten convolutions, linear", "mel", f"{times(audio)}, time first", 0.25),
            ("pose", "φ_H: three linear", "head pose", "3: yaw, pitch, roll", 0.5),
            ("blink", "φ_E: three linear", "eye blink", "2: left, right", 0.75))  # fmt: skip
    for row, (name, title, given, shape, share) in enumerate(rows):
        y = 100 + 60 * row
        into = times(audio if name == "audio" else found[name].inputs[0])
        signal = drawing.box(20, y, 130, 54, "given", given, shape)
        box = drawing.box(190, y, 240, 54, "step", title, f"{into} → {times(found[name].output)}", cost(found[name]))
        drawing.arrow(signal.right(), box.left())
        drawing.arrow(box.right(), (455, box.right()[1]), (455, fusion.left(share)[1]), fusion.left(share))
    read = found["landmarks"]
    marks = drawing.box(716, 100, 172, 60, "step", "landmarks (Eq. 6)", f"{times(read.inputs[0])} → 106×2", cost(read))
    out = (698.0, fusion.right()[1])
    drawing.arrow(fusion.right(), out, (out[0], marks.left()[1]), marks.left())
    drawing.text((out[0] + 10, out[1] + 5), f"f_Geo, {times(found['fusion'].output)}", anchor="start", bold=True)
    return out


def _cells(drawing: Drawing, found: Found, kinds: list[str], first: Box, geometry: Point) -> Box:
    """Draw each cell over the controller that follows it, all of which see f_Geo; return the last controller."""
    wide, gap, bus = 84, 12, 590
    left = (WIDTH - len(kinds) * (wide + gap) + gap) / 2
    row: list[Box] = []

    def block(x: float, y: float, name: str, title: str) -> Box:
        told = f"{number(found[name].parameters)} par.", f"{number(found[name].macs)} MAC"
        return drawing.box(x, y, wide, 56, "step", title, *told, size=11)

    for i, kind in enumerate(kinds, 1):
        x = left + (i - 1) * (wide + gap)
        controller = block(x, 510, f"GC {i}", f"GC {i}")
        drawing.arrow((controller.bottom()[0], bus), controller.bottom())
        if row:
            cell = block(x, 430, f"cell {i}", f"{i}: {kind}")
            before, between = row[-1].right(), x - gap / 2
            drawing.arrow(before, (between, before[1]), (between, cell.left()[1]), cell.left())
            drawing.arrow(cell.bottom(), controller.top())
        else:  # the first cell belongs to the face
            drawing.arrow(first.bottom(), (first.bottom()[0], 408), (controller.top()[0], 408), controller.top())
        row.append(controller)
    drawing.arrow(geometry, (geometry[0], 288), (8, 288), (8, bus), (row[-1].bottom()[0], bus), head=False)
    drawing.text((left + wide + gap, bus + 16), "f_Geo", bold=True)
    return row[-1]


def _header(drawing: Drawing, blocks: list[Block], kernel: int, last: Box) -> None:
    """Draw the layers that make the frame, from right to left."""
    titles = ["transposed, twice as large"] * (len(blocks) - 1) + [f"{kernel}×{kernel} convolution, tanh"]
    given, x = last.right(), WIDTH - 30.0
    for title, block in zip(titles, blocks, strict=True):
        box = drawing.box(x - 200, 622, 200, 56, "step", title, flow(block), cost(block))
        corner = [(WIDTH - 10, given[1]), (WIDTH - 10, box.right()[1])] if block is blocks[0] else []
        drawing.arrow(given, *corner, box.right())
        given, x = box.left(), x - 224
    frame = drawing.box(20, 622, 130, 56, "given", "frame", times(blocks[-1].output))
    drawing.arrow(given, frame.right())


def draw_controller(network: AMNet, size: int, audio: tuple[int, int]) -> Drawing:
    """Draw the first Geometric Controller (Fig. 2)."""
    controller = network.eval().reenactor.controllers[0]
    given = torch.zeros(1, 3, size, size), torch.zeros(1, *audio), torch.zeros(1, 3), torch.zeros(1, 2)
    parts = {"weight": controller.weight, "bias": controller.bias, "whole": controller}
    found = measure(parts, lambda: network(*given))
    weight, bias, whole = (found[name] for name in parts)
    kernel = (controller.channels, controller.channels // controller.groups, controller.kernel, controller.kernel)
    drawing = begun(300, "The Geometric Controller (Fig. 2 of the paper): GC 1 of AMNet", "once per face",
                    f"once per frame: {cost(whole)}")  # fmt: skip
    geometry = drawing.box(20, 127, 110, 50, "given", "f_Geo", times(weight.inputs[0]))
    product = drawing.box(640, 110, 240, 80, "step", "F_out = W ⊗ F_in + b (Eq. 4)",
                          f"{kernel[2]}×{kernel[3]} in {controller.groups} groups",
                          f"{number(whole.macs - weight.macs - bias.macs)} MAC")  # fmt: skip
    for y, block, shape, share in ((85, weight, f"W: {times(kernel)}", 0.3),
                                   (165, bias, f"b: {times(bias.output)}", 0.7)):  # fmt: skip
        box = drawing.box(180, y, 220, 54, "step", "linear, ReLU, linear", flow(block), cost(block))
        drawing.arrow(geometry.right(), (155, geometry.right()[1]), (155, box.left()[1]), box.left())
        shaped = drawing.box(450, y, 130, 54, "step", shape)
        drawing.arrow(box.right(), shaped.left())
        end = product.left(share)
        drawing.arrow(shaped.right(), (610, shaped.right()[1]), (610, end[1]), end)
    into = drawing.box(450, 236, 130, 46, "once", "F_in: appearance", times(whole.inputs[0]))
    drawing.arrow(into.right(), (product.bottom(0.2)[0], into.right()[1]), product.bottom(0.2))
    out = drawing.box(750, 236, 130, 46, "given", "F_out", times(whole.output))
    drawing.arrow((out.top()[0], product.bottom()[1]), out.top())
    return drawing


# WavSyncSwap

COLUMNS = (20, 180, 420, 660)
WIDE, HIGH = 200, 60


def draw_wavsyncswap(network: WavSyncSwap, extractor: ArcFace, title: str) -> Drawing:
    """Draw sound, identity, face and decoder (Fig. 1), and the skips and the matte where there are any."""
    config, size, seen = network.eval().config, network.config.size, extractor.eval().config.size
    parts: dict[str, nn.Module | list[nn.Module]] = {
        "hear": network.audio_encoder, "map": network.audio_map, "decoder": [*network.decoder], "head": network.head,
        "encoder": [network.stem, *network.down], "blocks": [*network.id_blocks], "arcface": extractor,
    }  # fmt: skip
    if config.skips:
        parts |= {"skips": [*network.skips]} | {f"skip {i}": skip for i, skip in enumerate(network.skips)}
    if config.matte:
        parts["filling"] = network.filling
    picture, portrait, mel = torch.zeros(1, 3, size, size), torch.zeros(1, 3, seen, seen), torch.zeros(1, 16, 80)
    found = measure(parts, lambda: network(picture, picture, extractor(portrait), mel))
    once = [found[name] for name in ("encoder", "blocks", "skips", "filling") if name in found]
    step = [found[name] for name in ("hear", "map", "decoder", "head")]
    drawing = begun(640 if config.matte else 494, title, f"once per frame of the film: {cost(*once)}",
                    f"once per frame of sound: {cost(*step)}")  # fmt: skip

    def block(column: int, y: float, kind: str, name: str, words: str, shapes: str = "") -> Box:
        return drawing.box(COLUMNS[column], y, WIDE, HIGH, kind, words, shapes or flow(found[name]), cost(found[name]))

    frame_shape = times(tuple(picture.shape[1:]))
    sound = drawing.box(20, 80, 120, HIGH, "given", "mel", "16×80, 200 ms")
    hear = block(1, 80, "step", "hear", f"Enc_a: {len(network.audio_encoder)} convolutions")
    grown = block(2, 80, "step", "map", f"{len(network.audio_map)} transposed convolutions")
    face = drawing.box(20, 180, 120, HIGH, "given", "source face", times(tuple(portrait.shape[1:])))
    arcface = block(1, 180, "once", "arcface", "ArcFace, once per portrait")
    pictures = ("reference", frame_shape) if config.matte else ("target, reference", f"2×{frame_shape}")
    film = drawing.box(20, 290, 120, HIGH, "given", *pictures)
    encoder = block(1, 290, "once", "encoder", f"Enc_f: {1 + sum(map(len, network.down))} convolutions")
    injected = block(2, 290, "once", "blocks", f"{len(network.id_blocks)} ID blocks, AdaIN (Eq. 2)")
    for left, right in ((sound, hear), (hear, grown), (face, arcface), (film, encoder), (encoder, injected)):
        drawing.arrow(left.right(), right.left())
    down, v_src = injected.top()[0], arcface.right()[1]
    drawing.arrow(arcface.right(), (down, v_src), injected.top())
    drawing.text((down + 8, v_src + 24), f"v_src, {times(found['arcface'].output)}", anchor="start", bold=True)

    both = drawing.box(COLUMNS[3], 146, WIDE, 46, "step", "f_a and f_tgt(v_src)", times(found["decoder"].inputs[0]))
    decoder = block(3, 230, "step", "decoder", f"{len(network.decoder)} transposed convolutions")
    head = block(3, 330, "step", "head", f"{len(network.head)} convolutions, sigmoid")
    drawing.arrow(grown.right(), (both.top()[0], grown.right()[1]), both.top())
    f_a = f"f_a, {times(found['map'].output)}"
    drawing.text((both.top()[0] - 8, grown.right()[1] - 8), f_a, anchor="end", bold=True)
    elbow = COLUMNS[3] - 24
    drawing.arrow(injected.right(), (elbow, injected.right()[1]), (elbow, both.left()[1]), both.left())
    for upper, lower in ((both, decoder), (decoder, head)):
        drawing.arrow(upper.bottom(), lower.top())
    if config.skips:
        shapes = ", ".join(times(found[f"skip {i}"].output) for i in range(len(network.skips)))
        skips = block(2, 390, "once", "skips", f"{len(network.skips)} skips, AdaIN by v_src", shapes)
        drawing.arrow(encoder.bottom(0.7), (encoder.bottom(0.7)[0], skips.left()[1]), skips.left())
        drawing.arrow(skips.right(), (elbow + 10, skips.right()[1]), (elbow + 10, decoder.left()[1]), decoder.left())
    if config.matte:
        target = drawing.box(20, 480, 120, HIGH, "given", "target", frame_shape)
        filling = block(1, 480, "once", "filling", "what is hidden, filled linearly")
        shapes = f"{times(found['head'].output)} → {frame_shape}"
        mixed = drawing.box(
            COLUMNS[3], 480, WIDE, HIGH, "step", "α p + (1 − α) t", shapes, "background and hair from t"
        )
        for left, right in ((target, filling), (filling, mixed)):
            drawing.arrow(left.right(), right.left())
        drawing.arrow(filling.top(0.3), encoder.bottom(0.3))
        drawing.text((COLUMNS[2] + WIDE / 2, filling.right()[1] - 8), "t, the filled target", bold=True)
        drawing.arrow(head.bottom(), mixed.top())
        head = mixed
    frame = drawing.box(COLUMNS[3], head.y + HIGH + 40, WIDE, 46, "given", "frame", frame_shape)
    drawing.arrow(head.bottom(), frame.top())
    return drawing


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("edgetalk.train.reports.figures", __doc__)
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, help="folder for the pictures")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    amnet = load_checkpoint(CHECKPOINTS / "amnet.safetensors")
    audio = (amnet.audio.window, amnet.audio.features)
    bundled, _ = store.load(CHECKPOINTS / "wavsyncswap.safetensors", "wavsyncswap")
    extractor, _ = store.load(CHECKPOINTS / "experts" / "identity-a.safetensors", "arcface")
    drawings = {
        "amnet": draw_amnet(amnet.network, amnet.size, audio),
        "controller": draw_controller(amnet.network, amnet.size, audio),
        "wavsyncswap": draw_wavsyncswap(bundled, extractor, "WavSyncSwap as it is bundled"),
    }
    with torch.device("meta"):  # there are no weights of that size, and shapes need none
        paper = WavSyncSwap(Config()), ArcFace(IR50)
        drawings["wavsyncswap-paper"] = draw_wavsyncswap(*paper, "WavSyncSwap as in Fig. 1 of its paper")
    for name, drawing in drawings.items():
        drawing.write(args.out / f"structure-{name}.svg")


if __name__ == "__main__":
    program.run(main)
