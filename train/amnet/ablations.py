"""Tables III and IV of the paper on our data: `python -m edgetalk.train.amnet.ablations --data DIR -o OUT`.

Every row is one training at 64×64 with the same frames, images and schedule, and differs from "all" only in what its
name says; every row has the same seeds. Several rows train at once, each in a process of its own. A row writes
OUT/NAME-SEED.json with its scores when it is done. OUT/ablations.json collects them all, reports/results.py makes the
tables of it; OUT/ablations.jpg shows what each row draws. The same command trains what neither of the two has, and
refuses rows of another schedule, data set or judge.

Table III takes loss terms away. Table IV changes the Geometric Controller: AdaIN normalises the cell's output
before scale and shift; GC k = 1 (the released arrangement, our default) does not; GC k = 3 predicts 3×3 kernels as
the paper's text has it. "all" and GC k = 1 are one network, so they are one row. "eq8" is "all" with the paper's
Eq. 8 (difference of means, spectral normalisation) in place of least squares.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgetalk.errors import InputError
from edgetalk.train import program
from edgetalk.train.options import check_bounds
from edgetalk.train.pools import pool
from edgetalk.train.scores.report import JUDGE

ROWS: dict[str, dict[str, Any]] = {
    "content": {"geometry": 0.0, "adversarial": 0.0},
    "content-geometry": {"adversarial": 0.0},
    "content-adversarial": {"geometry": 0.0},
    "all": {},
    "adain": {"variant": "amnet-adain"},
    "k3": {"variant": "amnet-k3"},
    "eq8": {"adversary": "eq8"},
}
"""The rows by name: what each changes in recipe.Config."""
SIZE = 64


class Job(NamedTuple):
    """One row with one seed."""

    row: str
    seed: int
    out: Path
    data: Path
    judge: Path
    changes: dict[str, Any]
    """Fields of recipe.Config that all rows share."""
    device: str
    compiled: bool = False
    """Compile the network first, which always happens on a GPU."""
    deadline: float = math.inf
    """Clock time (time.time()) after which no training starts."""

    @property
    def name(self) -> str:
        return f"{self.row}-{self.seed}"


def schedule(job: Job) -> Any:
    """Return the recipe.Config of a row."""
    from edgetalk.train.amnet.recipe import Config

    return Config(size=SIZE, seed=job.seed, **{**job.changes, **ROWS[job.row]})


def finished(out: Path) -> dict[str, dict[str, Any]]:
    """Return the reports of a folder's rows by name: those that were collected before, and those of single files.

    Raises InputError where a file of them is damaged.
    """
    collected = out / "ablations.json"
    files = [path for path in sorted(out.glob("*-[0-9]*.json")) if path.stem.rpartition("-")[0] in ROWS]
    found = {}
    for path in [*([collected] if collected.exists() else []), *files]:  # scores of announcers-6 may lie beside them
        try:
            told = json.loads(path.read_text())
            found |= {f"{row['row']}-{row['seed']}": row for row in (told["rows"] if path == collected else [told])}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no row of ablations, or it is damaged; remove it to train it again") from None
    return found


def missing(jobs: Sequence[Job], data: str, frames: int, judge: dict[str, Any], digest: str) -> list[Job]:
    """Return the jobs of one folder that are still to be done; InputError where its rows cannot stand in one table.

    `data` is the data set's name, `frames` how many of it are held out, `judge` the judge's record, `digest` the set's,
    which older rows do not tell. All rows that are there are looked at, since `collect` takes all of them: also those
    of other names and seeds than are asked for.
    """
    from edgetalk.train.amnet.recipe import Config, described

    any_job = jobs[0]
    reports = finished(any_job.out)
    for row, found in reports.items():
        if found["row"] not in ROWS:  # of another version, which no table shows
            continue
        wanted = described(schedule(any_job._replace(row=found["row"], seed=found["seed"])), data)
        wanted |= {"held-out frames": frames, "judge": judge, "digest": digest}
        before = asdict(Config()) | found["config"]  # a row from before there was a field had its default
        before |= {"held-out frames": found["frames"], "judge": found["judge"], "digest": found.get("digest", digest)}
        wanted = json.loads(json.dumps(wanted))
        changed = [name for name, value in wanted.items() if before.get(name) != value]
        if changed:
            long = ("architecture", "judge")  # dictionaries
            told = ", ".join(k if k in long else f"{k} {before.get(k)} → {wanted[k]}" for k in changed[:4])
            raise InputError(f"{any_job.out}: row {row} is of another training ({told}); choose another folder with -o")
    return [job for job in jobs if job.name not in reports]


def train_row(job: Job) -> Path | None:
    """Train and score one row, and write OUT/NAME.json; None where it is too late to start."""
    import torch

    from edgetalk.picture import write_picture
    from edgetalk.train import loop
    from edgetalk.train.amnet import recipe as amnet
    from edgetalk.train.amnet import sheets
    from edgetalk.train.amnet.scores import score
    from edgetalk.train.networks.landmarks import load
    from edgetalk.train.scores.report import write_json

    if time.time() > job.deadline:
        return None
    config = schedule(job)
    footage = _footage(job.data, config.versions, job.seed, job.device)
    if footage.device.type == "cuda":
        torch.set_num_threads(1)
    recipe = amnet.AMNetRecipe(config, footage, compiled=job.compiled or footage.device.type == "cuda")
    loop.train(
        recipe,
        job.out / job.name,
        save_every=1e9,
        sheet_every=1e9,
        show=lambda line: print(f"{job.name}: {line}", flush=True),
    )
    judge, record = load(job.judge, footage.device)
    network = recipe.averaged()
    report = score(network, footage, judge)
    render = sheets.render_of_network(network)
    examples = [render(d.source, d.mel, d.pose, d.blink) for d in sheets.drives(footage)]
    write_picture(job.out / f"{job.name}.png", np.concatenate(examples, 1))
    path = job.out / f"{job.name}.json"
    write_json(
        path,
        {
            "row": job.row,
            "seed": job.seed,
            "config": recipe.config,
            "judge": record,
            **report,
        },
    )
    (job.out / job.name / "state.safetensors").unlink(missing_ok=True)  # large, and never needed again
    return path


@functools.lru_cache(1)  # in a process that trains row after row, seed by seed
def _footage(data: Path, versions: int, seed: int, device: str) -> Any:
    """The data set at 64×64, its sound augmented as the seed tells."""
    from edgetalk.train.amnet.data import Footage

    return Footage.load(data, size=SIZE, versions=versions, seed=seed, device=device)


def collect(out: Path, data: Path, device: str) -> None:
    """Write OUT/ablations.json of all rows, and OUT/ablations.jpg where the pictures of each row's first seed lie."""
    import cv2

    from edgetalk.picture import write_picture
    from edgetalk.train.amnet import sheets
    from edgetalk.train.scores.report import command, write_json

    reports = finished(out)
    write_json(out / "ablations.json", {"command": command(), "rows": [reports[name] for name in sorted(reports)]})
    found = {name: out / f"{name}-0.png" for name in ROWS if f"{name}-0" in reports}
    if found and all(path.exists() for path in found.values()):
        examples = sheets.drives(_footage(data, 1, 0, device))
        rows = [[d.source for d in examples], [d.frame for d in examples]]
        for path in found.values():
            strip = cv2.imread(str(path))[..., ::-1]
            rows.append(np.split(strip, len(examples), axis=1))
        write_picture(out / "ablations.jpg", sheets.tiled(rows, 128, ["source", "true", *found], margin=190))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder written by: edgetalk data announcers")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, help="folder for a JSON file per row and seed"
    )
    parser.add_argument("--judge", type=Path, default=JUDGE, help="landmark judge (default: the bundled one)")
    parser.add_argument("--images", type=int, default=60_000, help="training pictures per row")
    parser.add_argument("--batch", type=int, default=16, help="pictures of one step")
    parser.add_argument("--width", type=float, default=1.0, help="factor of all channels, as in edgetalk train amnet")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each row")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=list(ROWS),
        default=list(ROWS),
        metavar="ROW",
        help=f"of {', '.join(ROWS)}; all by default",
    )
    parser.add_argument("--parallel", type=int, default=1, help="rows that train at once")
    parser.add_argument("--minutes", type=float, help="start no further row after so many minutes")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU, too: a minute a row, then faster")


def jobs_of(args: argparse.Namespace, deadline: float) -> list[Job]:
    """Return the rows that are still to be trained; refuses what each would fail with, or after its training."""
    from edgetalk.train.amnet import dataset
    from edgetalk.train.amnet.data import pick_device
    from edgetalk.train.amnet.recipe import checked
    from edgetalk.train.networks.landmarks import load

    pick_device(args.device)
    record = load(args.judge)[1]
    data = dataset.load(args.data)
    frames = int((~data.train).sum())
    if not frames:
        raise InputError(f"{args.data}: got no held-out frames, expected some to score on; make a set of more frames")
    changes = {"images": args.images, "batch": args.batch, "width": args.width}
    # Seed by seed: a run that is cut short has every row once rather than some rows twice.
    jobs = [
        Job(row, seed, args.out, args.data, args.judge, changes, args.device, args.compile, deadline)
        for seed in range(args.seeds)
        for row in args.rows
    ]
    for job in jobs:
        checked(schedule(job))
    return missing(jobs, data.name, frames, record, data.digest)


def train_rows(jobs: Sequence[Job], parallel: int, began: float) -> int:
    """Train so many at once, tell how each ended, and return how many failed."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // parallel)))
    failed = 0
    with pool(max(1, min(parallel, len(jobs)))) as processes:
        waiting = {processes.submit(train_row, job): job for job in jobs}
        for done in as_completed(waiting):
            name, minutes = waiting[done].name, (time.time() - began) / 60
            if error := done.exception():
                failed += 1
                print(f"{name}: failed after {minutes:.1f} min: {type(error).__name__}: {error}", flush=True)
            else:
                print(f"{name}: {done.result() or 'not started'} after {minutes:.1f} min", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("edgetalk.train.amnet.ablations", __doc__)
    configure(parser)
    args = parser.parse_args(arguments)
    check_bounds(args, {name: (1, math.inf) for name in ("images", "batch", "seeds", "parallel")}, ["width", "minutes"])
    began = time.time()
    jobs = jobs_of(args, math.inf if args.minutes is None else began + 60 * args.minutes)
    args.out.mkdir(parents=True, exist_ok=True)
    failed = train_rows(jobs, args.parallel, began)
    collect(args.out, args.data, args.device)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    program.run(main)
