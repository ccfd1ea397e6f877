"""Score a checkpoint on the held-out frames of a data set.

Of AMNet: pictures (SSIM, PSNR, LPIPS, FID), detection rate, landmarks, pose, blink and lips, per person, per voice and
in the mean. Landmarks, pose, blink and lips are measured by the landmark judge; its own error on the true frames is
printed beside them. What cannot be computed here is named with what it needs.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from edgetalk.errors import InputError, word
from edgetalk.train.reports.markdown import number
from edgetalk.train.scores.report import JUDGE, command, plain, write_json

from . import score_wavsyncswap

if TYPE_CHECKING:
    from torch import Tensor

    from edgetalk.train.amnet.data import Footage

COLUMNS = {
    "ssim": "SSIM ↑",
    "psnr": "PSNR ↑",
    "mouth_ssim": "mouth SSIM",
    "mouth_psnr": "mouth PSNR",
    "lpips": "LPIPS ↓",
    "fid": "FID ↓",
    "judge_frechet": "judge Fréchet ↓",
    "detection": "detected ↑",
    "ale_px": "ALE px ↓",
    "judge_ale_px": "(judge)",
    "ape_rad": "APE rad ↓",
    "judge_ape_rad": "(judge)",
    "abe": "ABE ↓",
    "judge_abe": "(judge)",
    "lip_r": "lip r ↑",
    "lip_r_judge": "(judge)",
    "lip_r_shuffled": "shuffled",
}
"""Columns of the table, in order; those that no row has are left out."""


def configure(parser: argparse.ArgumentParser) -> None:
    families = parser.add_subparsers(dest="family", required=True, metavar="{amnet,wavsyncswap}")
    _configure_amnet(families.add_parser("amnet", help="against held-out frames"))
    score_wavsyncswap.configure(families.add_parser("wavsyncswap", help="against the drawn truth of the swap"))


def run(args: argparse.Namespace) -> None:
    (score_wavsyncswap.run if args.family == "wavsyncswap" else _run_amnet)(args)


def _configure_amnet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="written by: edgetalk train amnet")
    parser.add_argument("--data", type=Path, required=True, help="folder of: edgetalk data announcers, or filmed")
    parser.add_argument("--judge", type=Path, default=JUDGE, help="landmark judge (default: the bundled one)")
    parser.add_argument(
        "--at",
        type=int,
        metavar="SIZE",
        help="compare at this size, the pictures enlarged to it (default: the checkpoint's)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="score about N frames, evenly spread, instead of all")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="AlexNet's weights, for LPIPS")
    parser.add_argument("--fid", type=Path, metavar="FILE", help="Inception's weights, for FID")
    parser.add_argument("--no-detection", action="store_true", help="leave out dlib's detector (13 ms per frame)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("-o", "--output", dest="out", type=Path, metavar="FILE", help="also write the JSON to FILE")


def _run_amnet(args: argparse.Namespace) -> None:
    from edgetalk.train.amnet.data import Footage, pick_device
    from edgetalk.train.amnet.recipe import SMALLEST
    from edgetalk.train.amnet.scores import score
    from edgetalk.train.networks.checkpoint import LARGEST, load_checkpoint
    from edgetalk.train.networks.landmarks import load

    if args.limit is not None and args.limit < 2:
        raise InputError(f"--limit: got {args.limit}, expected at least 2 frames")
    if args.at is not None and not SMALLEST <= args.at <= LARGEST:
        raise InputError(f"--at: got {args.at}, expected pictures of {SMALLEST} to {LARGEST} pixels")
    device = pick_device(args.device)
    checkpoint = load_checkpoint(args.checkpoint)
    judge, record = load(args.judge, device)
    extras = extras_of(args.lpips, args.fid, not args.no_detection, device)
    size = checkpoint.size if args.at is None else args.at
    footage = Footage.load(args.data, size=size, device=args.device, spec=checkpoint.audio)
    if footage.terms and args.judge == JUDGE:
        warnings.warn(
            "the bundled landmark judge has seen drawn faces alone: what it reads off filmed ones is worth what stands "
            "at (judge); one of your own: "
            f"python -m edgetalk.train.experts.landmarks --data {word(args.data)} -o judge.safetensors",
            stacklevel=2,
        )
    report = score(
        checkpoint.network.to(device),
        footage,
        judge,
        size=checkpoint.size,
        limit=args.limit,
        extras=extras,
        sources={**_portraits(args.data, footage, checkpoint.sources), **checkpoint.sources},
        known=checkpoint.persons,
    )
    report = {
        "family": "amnet",
        "variant": checkpoint.variant,
        "command": command(),
        "checkpoint": checkpoint.sha256,
        "training": checkpoint.training,
        "judge": record,
        **report,
    }
    if args.out:
        write_json(args.out, report)
    print(json.dumps(plain(report), indent=1) if args.json else table(report))


def _portraits(folder: Path, footage: Footage, kept: Collection[str]) -> dict[str, Tensor]:
    """Source pictures of the drawn persons who are tested and of whom the checkpoint keeps none."""
    import torch

    from edgetalk.train.announcers.dataset import SETS, portraits

    if footage.name not in SETS:
        return {}
    tested = {footage.persons[i] for i in footage.person[footage.test].unique().tolist()}
    drawn = portraits(folder, footage.frames.shape[1], tested.difference(kept))
    return {name: torch.from_numpy(picture) for name, picture in drawn.items()}


def extras_of(lpips_path: Path | None, fid_path: Path | None, detection: bool, device):
    """The measures that need libraries or weights, as far as they are here."""
    from edgetalk.train.amnet.scores import Extras
    from edgetalk.train.scores import perceptual

    extras = Extras()
    wanted = {
        "lpips": lambda: perceptual.lpips(lpips_path, device),
        "inception": lambda: perceptual.inception(fid_path, device),
        "detector": perceptual.detector,
    }
    if not detection:
        del wanted["detector"]
        extras.missing["detection"] = "left out by --no-detection"
    for name, make in wanted.items():
        try:
            setattr(extras, name, make())
        except perceptual.Unavailable as reason:
            extras.missing[{"inception": "fid", "detector": "detection"}.get(name, name)] = str(reason)
    return extras


def table(report: dict) -> str:
    """The report for a screen: a row per person, the mean, all frames together, a row per voice."""
    rows = dict(report["persons"]) if len(report["persons"]) <= 12 else {}
    if "unknown" in report:
        rows |= {"trained": report["known"], "never seen": report["unknown"]} if "known" in report else {}
    rows |= {"mean": report["mean"], "all frames": report["all"]}
    for voice, figures in report["voices"].items():
        rows[f"voice {voice}" + (" (held out)" if figures["held_out"] else "")] = figures
    names = [name for name in COLUMNS if any(name in figures for figures in rows.values())]
    cells = [["", *(COLUMNS[name] for name in names), "frames"]]
    for label, figures in rows.items():
        told = (figures.get(name, math.nan) for name in names)
        cells.append([label, *(f"{f:.4g}" if math.isfinite(f) else "–" for f in told), str(figures["frames"])])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    quiet, speaking = report["jitter"]["silent"], report["jitter"]["speaking"]
    mean = report["mean"]
    lines += [
        "",
        f"lip r of fewer than {report['correlated']} frames is not counted: a voice's is the mean over the persons "
        "who have one",
        f"still head, silent room: pixels move {number(quiet['pixels'])} of 255 per frame, landmarks "
        f"{number(quiet['landmarks_px'])} px, lips open {number(quiet['opening_px'], 2)} px",
        f"still head, speaking: brows, nose and eyes move {number(speaking['landmarks_px'])} px per frame",
    ]
    if "closed_px" in mean:
        lines.append(
            f"where the lips are truly closed they are open {mean['closed_px']:.2f} px "
            f"(judge on true frames: {mean['judge_closed_px']:.2f})"
        )
    alone = [COLUMNS[name] for name in ("fid", "judge_frechet") if name in report["all"] and name not in mean]
    if alone:
        told = " and ".join(label.removesuffix(" ↓") for label in alone)
        lines.append(f"{told}: of all frames together, one person has too few for a distance of clouds")
    lines += [f"{name}: not computed: {reason}" for name, reason in report["not_computed"].items()]
    lines.append(
        f"{report['frames']} frames of {report['data']}, network at {report['size']}, compared at "
        f"{report['compared_at']}, {report['seconds']} s on {report['device']}; (judge): the same figure "
        "measured on the true frames"
    )
    return "\n".join(lines)
