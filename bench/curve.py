"""Speed beside picture quality: the bundled network in every precision, on held-out frames of drawn announcers.

    python -m bench.curve --data DIR         build, measure, write table and plot to docs/performance.md
    python -m bench.curve --data DIR --print measure and print alone

DIR is a folder of `edgetalk data announcers`. SSIM, PSNR and mouth PSNR against f32 are the build gate's, on its
held-out samples. Mouth PSNR and lip correlation against the truth are `edgetalk score`'s, on --limit of the held-out
frames: the loss is f32's figure less the engine's. Frames per second are told as how many times that of the f32
step, in turns of blocks.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetalk.avatar import load_avatar
from edgetalk.backends import Backend, open_engine
from edgetalk.engines import build
from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.metadata import Metadata
from edgetalk.train import program
from edgetalk.train.amnet.data import Footage
from edgetalk.train.amnet.scores import CORRELATED, Extras, frame_values, mean_of, spread, summary
from edgetalk.train.networks.landmarks import load as load_judge
from edgetalk.train.scores.report import JUDGE

from .machine import processor
from .page import PAGE, add_model, put
from .turns import in_turns, milliseconds, ratio

VARIANTS: dict[str, dict[str, Any]] = {
    "f32": {"precision": "f32"},
    "bf16": {"precision": "bf16"},
    "int8, last two stages bf16": {"precision": "int8", "keep": ["/header/header.1", "/header/header.2"]},
    "int8, second upsampling bf16": {"precision": "int8", "keep": ["/header/header.1"]},
    "int8, last convolution bf16": {"precision": "int8", "keep": ["/header/header.2"]},
    "int8": {"precision": "int8"},
    "int8, folded statistics": {"precision": "int8", "fold_statistics": True},
}
WARM_UP = 3
TOLD = ("mouth_psnr", "lip_r")


class Puppets:
    """Persons drawn by an engine; what train.amnet.scores.frame_values takes."""

    def __init__(self, engine: Backend, footage: Footage, appearances: dict[int, np.ndarray]):
        self.engine, self.footage, self.appearances = engine, footage, appearances

    def draw(self, person: torch.Tensor, mel: torch.Tensor, pose: torch.Tensor, blink: torch.Tensor) -> torch.Tensor:
        """uint8 pictures (B, 3, S, S) of the persons with the numbers `person` (B,)."""
        frames = []
        for who, *controls in zip(person.tolist(), mel, pose, blink, strict=True):
            feeds = dict(zip(("mel", "pose", "blink"), (c.float().numpy()[None] for c in controls), strict=True))
            frames.append(self.engine.run(feeds | {"appearance": self.appearances[who]})["frame"][0].copy())
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def engines(models: Path, calibration: Path, folder: Path) -> dict[str, tuple[Path, Metadata]]:
    """Build every variant, the folded one for the model's default face."""
    built = {}
    for number, (name, options) in enumerate(VARIANTS.items()):
        given = dict(options)
        if given.pop("fold_statistics", False):
            given["fold_statistics"] = models / "amnet.avatar"
        (folder / str(number)).mkdir()
        out = folder / str(number) / "amnet.xml"
        built[name] = out, build(models / "amnet.onnx", out, calibration=calibration, **given)
    return built


def held_out(footage: Footage, limit: int) -> torch.Tensor:
    """Return about `limit` of the held-out frames, (…) int64; InputError where a person has too few for its lips' r."""
    test = footage.held_out()
    rows = spread(test, footage.person[test], limit)
    _, counts = footage.person[rows].unique(return_counts=True)
    if counts.min() < CORRELATED:
        raise InputError(
            f"--limit: got {limit}, which leaves a person of {footage.name} {counts.min()} held-out frames, expected "
            f"at least {CORRELATED} of each of the {len(counts)}; give a larger --limit, or a set of more frames"
        )
    return rows


def quality(
    engine: Backend, footage: Footage, appearances: dict[int, np.ndarray], rows: torch.Tensor
) -> dict[str, float]:
    """Return the means, over the persons that have an appearance, of what `edgetalk score` tells of the frames."""
    judge = load_judge(JUDGE)[0]
    rows = rows[torch.isin(footage.person[rows], torch.tensor(list(appearances)))]
    with torch.inference_mode():
        values = frame_values(Puppets(engine, footage, appearances), judge, rows, Extras())
    person = footage.person[rows].numpy()
    return mean_of([summary(values, person == number) for number in np.unique(person)])


def measure(models: Path, calibration: Path, data: Path, limit: int, turns: int) -> list[dict[str, Any]]:
    """Return one row per variant."""
    footage = Footage.load(data, size=len(load_avatar(models / "amnet.avatar").source), device="cpu")
    judged = held_out(footage, limit)
    with tempfile.TemporaryDirectory() as place:
        built = engines(models, calibration, Path(place))
        opened = {name: open_engine(path) for name, (path, _) in built.items()}
        source = open_engine(models / "amnet-source.onnx")
        everyone = {
            number: source.run({"source": p[None]})["appearance"].astype(np.float16).astype(np.float32)
            for number, p in enumerate(footage.frames[footage.neutral].numpy())
        }
        face = load_avatar(models / "amnet.avatar")
        only = {footage.persons.index(face.name): face.features["appearance"][:1].astype(np.float32)}
        rows = []
        controls = footage.windows(footage.test[:1]), footage.pose[footage.test[:1]], footage.blink[footage.test[:1]]
        feeds = {k: v.float().numpy() for k, v in zip(("mel", "pose", "blink"), controls, strict=True)}
        for engine in opened.values():
            engine.run(feeds | {"appearance": next(iter(only.values()))})  # which it keeps
        taken = in_turns({name: partial(engine.run, {}) for name, engine in opened.items()}, turns, warm_up=WARM_UP)
        for name, (_, metadata) in built.items():
            alone = "folded_statistics" in metadata.gate
            faces = only if alone else everyone  # and so is f32 beside it
            rows.append(
                {
                    "name": name,
                    "ms": milliseconds(taken[name]),
                    "speed": ratio(taken["f32"], taken[name]),
                    "gate": metadata.gate,
                    "truth": quality(opened[name], footage, faces, judged),
                    "reference": quality(opened["f32"], footage, faces, judged) if alone else None,
                }
            )
        for engine in (*opened.values(), source):
            engine.close()
    return rows


def markdown(rows: list[dict[str, Any]], limit: int, data: str, date: str) -> str:
    """Return the table."""
    lines = [
        f"{processor()}, {date}; truth: {limit} held-out frames of {data}.",
        "",
        "| step | ms | × f32 step | SSIM to f32 | PSNR to f32, dB | mouth PSNR to f32, dB "
        "| mouth PSNR lost against truth, dB | lip r lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        reference = row["reference"] or rows[0]["truth"]
        lost = [f"{reference[key] - row['truth'][key]:+.3f}" for key in TOLD]
        gate = row["gate"]
        lines.append(
            f"| {row['name']} | {row['ms']:.1f} | {row['speed']:.2f} | {gate['ssim']:.4f} | {gate['psnr']:.1f} "
            f"| {gate['mouth_psnr']:.1f} | {lost[0]} | {lost[1]} |"
        )
    folded = [row for row in rows if "folded_statistics" in row["gate"]]
    lines += ["", *(f"Folded: {row['gate']['folded_statistics']}, judged on that face." for row in folded)]
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw SSIM to f32 over milliseconds per step."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "curve"  # the same bytes for the same figures
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    for row in rows[1:]:
        axes.plot(row["ms"], row["gate"]["ssim"], "o")
        axes.annotate(row["name"], (row["ms"], row["gate"]["ssim"]), textcoords="offset points", xytext=(6, 4))
    axes.axhline(0.98, color="grey", linestyle=":")
    axes.set(xlabel="milliseconds per step", ylabel="SSIM to f32")
    axes.margins(x=0.25, y=0.2)
    with replacing(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = program.parser("bench.curve", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="of edgetalk data announcers")
    add_model(parser)
    parser.add_argument("--limit", type=int, default=240, help="held-out frames, 20 or more a person (default: 240)")
    parser.add_argument("--turns", type=int, default=30, help="turns of all engines")
    parser.add_argument("--print", action="store_true", help="write nothing")
    parser.add_argument("--write", type=Path, default=PAGE, metavar="PAGE", help="page with the two marks")
    args = parser.parse_args(arguments)
    rows = measure(args.models, args.calibration, args.data, args.limit, args.turns)
    text = markdown(rows, args.limit, args.data.name, time.strftime("%Y-%m-%d"))
    print(text)
    if not args.print:
        picture = args.write.with_name("curve.svg")
        plot(rows, picture)
        put(f"{text}\n![SSIM over milliseconds per step]({picture.name})\n", "bench.curve", args.write)
    return rows


if __name__ == "__main__":
    program.run(main)
