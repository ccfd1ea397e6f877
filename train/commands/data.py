"""Make a data set, of drawn announcers or of films, or the samples that an int8 engine is calibrated with.

edgetalk data announcers -o DIR     speech first, then pictures and labels; the same command goes on where it was
edgetalk data filmed ada.mp4 films/ --consent "NOTE" -o DIR     AMNet's data of people who were filmed as they speak
edgetalk data calibration --checkpoint FILE -o FILE.npz     what a network is fed with when announcers speak
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetalk.commands.options import add_face_models, which_face
from edgetalk.errors import InputError
from edgetalk.train.terms import add_terms

FILMED = """A film is one person, who is called as the file without its ending. In a folder every film is one person,
and every folder with films is one, who is called as that folder. The face is tracked (edgetalk fetch face), cropped
where it stays in its place, and labelled; the last sixth of each person is for tests. The same command goes on where it
was."""


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    announcers = kinds.add_parser("announcers", help="talking heads with exact labels")
    announcers.set_defaults(make=_announcers)
    announcers.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, metavar="DIR", help="folder of the set"
    )
    announcers.add_argument(
        "--set",
        choices=("announcers-6", "any", "wild", "calm", "heard"),
        default=None,
        help="six persons (default), many, varied looks and light, the six with calm heads, or with hours of speech in "
        "voices without number",
    )
    announcers.add_argument("--size", type=int, default=256, help="width and height in pixels")
    announcers.add_argument("--frames", type=int, default=None, help="how many frames (default: all that the set has)")
    announcers.add_argument("--seed", type=int, default=None, help="another seed, another set (default 0)")
    announcers.add_argument("--workers", type=int, default=None, help="processes (default: one for each core)")
    announcers.add_argument(
        "--codec",
        choices=("h264", "raw", "none"),
        default=None,
        help="h264: small clips (default); raw: one large frames.npy that training maps into memory; "
        "none: no pictures, for edgetalk train amnet --heard (default of the set heard)",
    )
    announcers.add_argument(
        "--speech-only", action="store_true", help="stop after speech.npz, to draw it on another machine"
    )
    _configure_filmed(kinds.add_parser("filmed", help="people in films with sound", description=FILMED))
    calibration = kinds.add_parser("calibration", help="samples for edgetalk build --precision int8")
    calibration.set_defaults(make=_calibration)
    calibration.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="AMNet or WavSyncSwap to calibrate"
    )
    calibration.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="WavSyncSwap's identity extractor (default: beside the checkpoint)",
    )
    calibration.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, metavar="FILE.npz", help="file to write"
    )
    calibration.add_argument("--samples", type=int, default=60, help="how many, for AMNet a multiple of its persons")
    calibration.add_argument("--seed", type=int, default=0, help="another seed, other samples")


def _configure_filmed(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(make=_filmed)
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM_OR_FOLDER", help="films with sound")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, metavar="DIR", help="folder of the set")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    add_terms(parser)
    parser.add_argument(
        "--face",
        type=which_face,
        default="largest",
        metavar="WHICH",
        help="where there are several: largest, its number from the left (0, 1 …), or a picture of the person",
    )
    add_face_models(parser)
    parser.add_argument(
        "--codec",
        choices=("h264", "raw"),
        default="h264",
        help="h264: small clips; raw: one large frames.npy that training maps into memory",
    )


def run(args: argparse.Namespace) -> None:
    args.make(args)


def _filmed(args: argparse.Namespace) -> None:
    from edgetalk.train.amnet.dataset import describe
    from edgetalk.train.filmed import dataset as filmed
    from edgetalk.train.terms import Terms

    terms = Terms(args.consent, args.licence, args.use)
    filmed.write(args.films, args.out, terms, filmed.Settings(args.size, args.codec, args.face), args.face_models)
    print(f"{describe(args.out)}; look at {args.out / 'sheet.jpg'}")


def _calibration(args: argparse.Namespace) -> None:
    from edgetalk.train.amnet import calibration
    from edgetalk.train.networks import store
    from edgetalk.train.swap import calibration as swap_calibration

    if args.out.suffix.lower() != ".npz":
        raise InputError(f"out: got {args.out.name}, expected a name that ends in .npz")
    if store.family(args.checkpoint) == "wavsyncswap":
        swap_calibration.write(args.checkpoint, args.out, args.samples, args.seed, args.identity)
    elif args.identity is not None:
        raise InputError(f"identity: got {args.identity}, which {args.checkpoint.name} has no use for; leave it out")
    else:
        calibration.write(args.checkpoint, args.out, args.samples, args.seed)
    print(f"{args.out}: {args.samples} samples")


def _announcers(args: argparse.Namespace) -> None:
    from edgetalk.train.amnet.dataset import describe
    from edgetalk.train.announcers.dataset import write

    write(args.out, args.set, args.frames, args.seed, args.size, args.codec, args.workers, args.speech_only)
    print(describe(args.out))
