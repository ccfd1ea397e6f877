"""Make data for WavSyncSwap: `python -m edgetalk.train.swap speech|draw|filmed|scene`.

    speech    synthesise speech once (mel and phones, no sound: a few MB)
    draw      draw endless identities that speak it, each clip with the pixel-exact truth of its swap, and stills
    filmed    cut the same files, without that truth, out of films
    scene     draw a film to dub, its exact track, somebody else's portrait and another sentence

Drawing works on any machine with numba and stops at its time limit: stills and test clips come first, training clips
go on until the end.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from edgetalk.commands.options import add_face_models
from edgetalk.train import program
from edgetalk.train.options import check_bounds
from edgetalk.train.terms import Terms, add_terms


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("edgetalk.train.swap", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _configure_speech(commands.add_parser("speech"))
    _configure_draw(commands.add_parser("draw"))
    _configure_scene(commands.add_parser("scene", help="a film, its track, a portrait and a sentence, to dub"))
    _configure_filmed(commands.add_parser("filmed", help="clips and stills of filmed people"))
    args = parser.parse_args(arguments)
    args.make(args)


def _configure_speech(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(make=_speech)
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, metavar="FILE.npz", help="file to write"
    )
    parser.add_argument(
        "--sentences", type=int, default=900, help="how many in known voices; one in 16 is for validation"
    )
    parser.add_argument("--held-out", type=int, default=120, help="how many more in a voice that is for tests")


def _speech(args: argparse.Namespace) -> None:
    from .drawn import write_speech

    write_speech(args.out, args.sentences, args.held_out)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        dest="out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the set; the same command goes on",
    )


def _configure_draw(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(make=_draw)
    _add_set(parser)
    parser.add_argument("--speech", type=Path, required=True, help="file that `speech` wrote")
    parser.add_argument("--seconds", type=float, default=120, help="time at most")
    parser.add_argument("--people", type=int, default=1000, help="persons of whom stills are drawn")
    parser.add_argument(
        "--test-clips", type=int, default=120, help="clips for the scores, each of two persons of its own"
    )
    parser.add_argument("--valid-clips", type=int, default=48, help="clips on which the sync expert is scored")
    parser.add_argument("--clips", type=int, default=4000, help="clips for training at most")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)"
    )
    parser.add_argument("--nice", type=int, default=10, help="niceness of the drawing processes")


def _draw(args: argparse.Namespace) -> None:
    from .drawn import draw

    counts = ("seconds", "test_clips", "valid_clips", "clips")
    bounds = {"workers": (1, math.inf)} | dict.fromkeys(counts, (0, math.inf))
    bounds["people"] = (2 if args.clips > 0 else 0, math.inf)
    check_bounds(args, bounds, why={"people": ", since a clip shows two" if args.clips > 0 else ""})
    draw(args.out, args.speech, args.seconds, args.people, args.test_clips, args.valid_clips, args.clips,
         args.workers, args.nice)  # fmt: skip


def _configure_scene(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(make=_scene)
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, metavar="DIR", help="folder for the five files"
    )
    parser.add_argument("--target", default="dan", help="announcer who is filmed")
    parser.add_argument("--portrait", default="finn", help="announcer whose face it gets")
    parser.add_argument("--seconds", type=float, help="length of the film (default: of its sentence)")


def _scene(args: argparse.Namespace) -> None:
    from .scene import write_scene

    write_scene(args.out, args.target, args.portrait, args.seconds)


def _configure_filmed(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(make=_filmed)
    parser.add_argument("films", type=Path, nargs="+", metavar="FILM_OR_FOLDER",
                        help="a film is a person, and so is a folder of films within a folder")  # fmt: skip
    _add_set(parser)
    add_terms(parser)
    parser.add_argument("--seed", type=int, default=0, help="another seed, other people in the test")
    parser.add_argument("--clips", type=int, help="of a person at most, evenly spread (default: all)")
    add_face_models(parser)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)"
    )


def _filmed(args: argparse.Namespace) -> None:
    from .films import told, write

    check_bounds(args, {"seed": (0, math.inf), "workers": (1, math.inf)})
    terms = Terms(args.consent, args.licence, args.use)
    record = write(args.films, args.out, terms, args.seed, args.clips, args.face_models, args.workers)
    print(f"{args.out}: {told(record)}")
