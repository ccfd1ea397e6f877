"""The experts that WavSyncSwap is trained against and judged by: identity (ArcFace), lip-sync (SyncNet), landmarks.

`python -m edgetalk.train.experts identity|sync|landmarks --data DIR --speech FILE --seconds 60 --seed 0 -o FILE`. Each
is scored on held-out people and sentences at its end, drawn ones other than those of the tests; the sync expert on a
held-out voice (of films on the tests), too. The score stays in its file; `good_enough` (swap/judging.py) says whether a
generator may be trained against it. Two seeds give two independent experts: one to train against, one to judge. The
run, its losses and pictures lie in FILE with suffix .run (loop.py): a training that was stopped goes on with the same
command, one that is over with more of --seconds. How they are trained is in identity.py, sync.py and landmarks.py.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.errors import InputError, ModelError
from edgetalk.train import loop, program
from edgetalk.train.networks import arcface, store
from edgetalk.train.options import check_bounds
from edgetalk.train.state import run_beside
from edgetalk.train.stretch import Stretch
from edgetalk.train.swap.data import LOOKS, POSES, STILLS_PER_JOB, Swaps, pictures, wait_for
from edgetalk.train.terms import joined

from .identity import BATCH, IdentityRecipe, score_identity
from .recipe import ExpertRecipe
from .sync import CLIPS, SyncRecipe, score_sync

BOUNDS = {"seconds": (0, math.inf), "steps": (0, math.inf), "seed": (0, 2**32 - 1), "size": (16, math.inf),
          "people": (1, math.inf), "patience": (0, math.inf), "batch": (0, math.inf)}  # fmt: skip
"""What options may be, least and most, where they are given."""


def labelled_faces(data: Swaps):
    """Return the labelled frames of the clips as train/experts/landmarks.py wants them, and the person of each."""
    from .landmarks import Faces

    parts: list[list[Tensor]] = [[], [], [], []]
    persons = []
    index = data["clip_labelled"]  # (C, L) frame numbers
    clip = torch.arange(len(index), device=index.device)[:, None]
    for name, column in (("own", 0), ("swap", 1)):
        frames = pictures(data[f"clip_{name}"][clip, index])
        big = F.interpolate(frames, 128, mode="bilinear", align_corners=False)
        parts[0].append((big * 255).round().byte().contiguous())
        parts[1].append(data[f"clip_{name}_landmarks"].flatten(0, 1).float())
        parts[2].append(data["clip_pose"][clip, index].flatten(0, 1))
        parts[3].append(data["clip_blink"][clip, index].flatten(0, 1))
        persons.append(data["clip_meta"][:, column].repeat_interleave(index.shape[1]).cpu().numpy())
    return Faces(*(torch.cat(p) for p in parts)), np.concatenate(persons)


def begun_recipe(args: argparse.Namespace, data: Swaps, stretch: Stretch) -> ExpertRecipe:
    """Return the recipe of an identity or a sync expert, as soon as enough has been drawn for it."""
    if args.kind == "identity":
        wait_for(data, lambda d: "still_person" in d and len(d.rows) >= args.enough, args.patience)
        config = arcface.Config(width=args.width, size=args.size, parameters=data["still_parameters"].shape[1])
        people = data.strangers if data.filmed else args.people
        if (drawn := max(data.rows, default=-1) + 1) > -(-people // STILLS_PER_JOB) * STILLS_PER_JOB:
            raise InputError(f"people: got {people}, expected {drawn}, as many as are drawn already; change --people")
        return IdentityRecipe(data, stretch, args.seed, config, people, args.batch or BATCH)
    wait_for(data, lambda d: d.clips >= args.enough, args.patience)
    begun, told = store.load(args.begun, "syncnet") if args.begun else (None, {})
    if begun is not None and (width := told["config"]["width"]) != args.width:
        raise ModelError(f"{args.begun} has width {width}, expected {args.width}; change --width")
    recipe = SyncRecipe(data, stretch, args.seed, args.width, args.batch or CLIPS, args.grey, begun)
    recipe.terms = joined([data.terms, told.get("terms", {})])
    return recipe


def held_out_scores(args: argparse.Namespace, network, device: str) -> dict[str, float]:
    """Return the scores of an identity or a sync expert on people and sentences that it has not seen."""
    if args.kind == "identity":  # of films the strangers have stills in "test" alone
        unseen = Swaps(args.data, args.speech, device, "valid" if args.speech else "test", clips=False)
        wait_for(unseen, lambda d: "still_person" in d, args.patience)
        return score_identity(network, unseen, LOOKS, POSES, unseen.strangers)
    test = Swaps(args.data, args.speech, device, "test", stills=False)
    wait_for(test, lambda d: "clip_own" in d, args.patience)
    valid = Swaps(args.data, args.speech, device, "valid", stills=False)
    wait_for(valid, lambda d: d.clips > 0, args.patience)
    scores = score_sync(network, valid)  # what FLOORS are about: an expert without would be refused for ever
    other = "test" if test.filmed else "unheard_voice"  # of films `valid` are strangers, and half of `test` are not
    return scores | {f"{other}_{name}": value for name, value in score_sync(network, test).items()}


def train_landmarks(args: argparse.Namespace, data: Swaps, stretch: Stretch) -> None:
    """Train the landmark judge on the clips' labelled frames."""
    from . import landmarks

    wait_for(data, lambda d: d.clips >= args.enough, args.patience)
    test = Swaps(args.data, args.speech, data.device, "test", stills=False)
    wait_for(test, lambda d: "clip_own" in d, args.patience)
    faces, _ = labelled_faces(data)
    record = landmarks.train(
        faces, *labelled_faces(test), stretch, args.out, args.seed, args.minutes, digest=data.digest
    )
    if record:
        print(f"landmarks {args.seed}: {record}", flush=True)


def _configure(kind: str, parser: argparse.ArgumentParser) -> None:
    """Add the options of one kind of expert, those that it reads."""
    parser.add_argument("--data", type=Path, required=True, help="made by: python -m edgetalk.train.swap")
    parser.add_argument("--speech", type=Path, help="sentences of a drawn set; filmed people have their own")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float, help="training time in all; the processor's without GPU")
    length.add_argument("--steps", type=int, help="steps in all, instead of seconds: the same on every machine")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; call again to go on")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another expert")
    enough = "stills of persons" if kind == "identity" else "clips"
    parser.add_argument("--enough", type=int, default=200, help=f"{enough} to wait for")
    parser.add_argument("--patience", type=float, default=90, help="seconds to wait for them")
    if kind != "landmarks":
        parser.add_argument("--width", type=float, default=0.4375, help="factor of all channels; 1 is the paper's")
        rows = "stills" if kind == "identity" else "clips"
        parser.add_argument("--batch", type=int, default=0, help=f"{rows} per step; 0 takes the usual number")
    if kind == "identity":
        parser.add_argument("--size", type=int, default=112, help="side of the picture that it sees")
        parser.add_argument("--people", type=int, default=1000, help="who are drawn; of films it is known")
    if kind == "sync":
        parser.add_argument("--grey", action="store_true", help="hide colour from it")
        parser.add_argument("--begun", type=Path, help="sync expert of the same width to go on from")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, metavar="FILE", help="the expert, a .safetensors file"
    )


def main(arguments=None) -> None:
    parser = program.parser("edgetalk.train.experts", __doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("identity", "sync", "landmarks"):
        _configure(kind, kinds.add_parser(kind, help=f"train the {kind} expert"))
    args = parser.parse_args(arguments)
    bounds = {name: bound for name, bound in BOUNDS.items() if name in args}
    check_bounds(args, bounds, [name for name in ("width", "minutes") if name in args])
    if args.kind == "identity" and args.size % 16:
        raise InputError(f"size: got {args.size}, expected a multiple of 16; change --size")
    if args.kind == "identity" and args.batch == 1:
        raise InputError("batch: got 1 still, expected 2 or more, for batch norm; change --batch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    run = run_beside(args.out)
    kept = None if args.kind == "landmarks" else run  # which takes whatever is drawn by now
    data = Swaps(args.data, args.speech, device, stills=args.kind == "identity", run=kept)
    stretch = Stretch(args.seconds or 0.0, args.steps, device)
    if args.kind == "landmarks":
        train_landmarks(args, data, stretch)
        return
    recipe = begun_recipe(args, data, stretch)
    reached = loop.train(recipe, run, minutes=args.minutes, save_every=60)
    if reached < recipe.steps:
        seen = f", see {run / 'index.html'}" if reached else ""  # which the first step makes
        print(f"{args.kind} {args.seed}: {reached} steps; give the same command to go on{seen}")
        return
    scores = held_out_scores(args, recipe.network.eval(), device)
    recipe.write(args.out, scores)
    print(f"{args.kind} {args.seed}: held out {scores}, see {run / 'index.html'}", flush=True)
