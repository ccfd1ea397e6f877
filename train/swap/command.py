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

from edgetalk.train.options import check_bounds
from edgetalk.use import ALLOWED


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m edgetalk.train.swap", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    speech = commands.add_parser("speech")
    speech.add_argument("-o", type=Path, required=True)
    speech.add_argument("--sentences", type=int, default=900)
    speech.add_argument("--held-out", type=int, default=120)
    drawing = commands.add_parser("draw")
    drawing.add_argument("-o", type=Path, required=True)
    drawing.add_argument("--speech", type=Path, required=True)
    drawing.add_argument("--seconds", type=float, default=120)
    drawing.add_argument("--people", type=int, default=1000)
    drawing.add_argument("--test-clips", type=int, default=120)
    drawing.add_argument("--valid-clips", type=int, default=48)
    drawing.add_argument("--clips", type=int, default=4000)
    drawing.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    drawing.add_argument("--nice", type=int, default=10, help="niceness of the drawing processes")
    scene = commands.add_parser("scene", help="a film, its track, a portrait and a sentence, to dub")
    scene.add_argument("-o", type=Path, required=True)
    scene.add_argument("--target", default="dan", help="announcer who is filmed")
    scene.add_argument("--portrait", default="finn", help="announcer whose face it gets")
    scene.add_argument("--seconds", type=float, help="length of the film (default: of its sentence)")
    filmed = commands.add_parser("filmed", help="clips and stills of filmed people")
    filmed.add_argument("films", type=Path, nargs="+", metavar="FILM_OR_FOLDER",
                        help="a film is a person, and so is a folder of films within a folder")  # fmt: skip
    filmed.add_argument("-o", type=Path, required=True, metavar="DIR", help="the same command goes on")
    filmed.add_argument(
        "--consent", required=True, metavar="NOTE", help="who agreed, and when, that face and voice are trained on"
    )
    filmed.add_argument("--licence", default="", help="licence of the films, which the weights will be under, too")
    filmed.add_argument("--use", choices=ALLOWED, default="any", help="what weights of these films may be used for")
    filmed.add_argument("--seed", type=int, default=0, help="another seed, other people in the test")
    filmed.add_argument("--clips", type=int, help="of a person at most, evenly spread (default: all)")
    filmed.add_argument("--face-models", type=Path, metavar="FOLDER", help="of the two networks that find faces")
    filmed.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args(arguments)
    if args.command == "filmed":
        from edgetalk.train.terms import Terms

        from .films import told, write

        check_bounds(args, {"seed": (0, math.inf), "workers": (1, math.inf)})
        terms = Terms(args.consent, args.licence, args.use)
        record = write(args.films, args.o, terms, args.seed, args.clips, args.face_models, args.workers)
        print(f"{args.o}: {told(record)}")
    elif args.command == "scene":
        from .scene import write_scene

        write_scene(args.o, args.target, args.portrait, args.seconds)
    elif args.command == "speech":
        from .drawn import write_speech

        write_speech(args.o, args.sentences, args.held_out)
    else:
        from .drawn import draw

        counts = ("seconds", "test_clips", "valid_clips", "clips")
        bounds = {"workers": (1, math.inf)} | dict.fromkeys(counts, (0, math.inf))
        bounds["people"] = (2 if args.clips > 0 else 0, math.inf)
        check_bounds(args, bounds, why={"people": ", since a clip shows two" if args.clips > 0 else ""})
        draw(args.o, args.speech, args.seconds, args.people, args.test_clips, args.valid_clips, args.clips,
             args.workers, args.nice)  # fmt: skip
