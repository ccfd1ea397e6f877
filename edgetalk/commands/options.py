"""Options that several commands have, each said once."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from edgetalk.use import USES

Parser = argparse._ActionsContainer
"""A parser, or a group of one."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Shows a description as it is written, and of each option its default, where it has one and does not tell it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        told, default = action.help or "", action.default
        given = not isinstance(default, bool) and default not in (None, "", argparse.SUPPRESS) and default != []
        ours = isinstance(default, Path) and default.is_absolute()  # where we lie is of no use to anybody
        named = bool(action.option_strings) or action.nargs == argparse.OPTIONAL
        return f"{told} (default %(default)s)" if given and named and not ours and "default" not in told else told


class CommandParser(argparse.ArgumentParser):
    """A parser with such a help; those of its sub-commands are like it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help, **options})


def add_engine(parser: Parser) -> None:
    """The network that speaks, args.engine."""
    parser.add_argument("engine", help="amnet.xml, amnet.plan or amnet.onnx; a bare name is a bundled model")


def add_avatar(parser: Parser) -> None:
    """A face that was prepared, args.avatar."""
    parser.add_argument(
        "--avatar", metavar="FILE", help="a prepared face, or ada … finn (default: the one by the engine)"
    )


def add_face(parser: Parser) -> None:
    """Whose face speaks: args.avatar or args.source."""
    face = parser.add_mutually_exclusive_group()
    add_avatar(face)
    face.add_argument("--source", metavar="PICTURE", help="a square crop of an aligned face, prepared now")


def add_life(parser: Parser) -> None:
    """What the face does besides: args.motion, face_models, seed and fps."""
    parser.add_argument(
        "--motion",
        default="idle",
        metavar="MOTION",
        help="head and blinks: idle (default), still, or a film whose head is followed; FILM-stem.track.npz beside it "
        "is taken if it is there, else it is tracked (edgetalk fetch face)",
    )
    add_face_models(parser)
    parser.add_argument("--seed", type=int, default=0, help="another seed, another idle life (default: 0)")
    parser.add_argument("--fps", metavar="RATE", help="25 or 30000/1001 (default: the network's own rate)")


def which_face(word: str) -> str | int:
    """Return which face a word of the command line means, as `Tracker` takes it: numbers count, other words stay."""
    return int(word) if re.fullmatch("-?[0-9]+", word) and not Path(word).exists() else word


def add_which_face(parser: Parser, default: str | None = "largest") -> None:
    """Which face of a film, args.face."""
    parser.add_argument(
        "--face",
        type=which_face,
        default=default,
        metavar="WHICH",
        help="the face that is tracked: largest (default), its number from the left (0, 1 …), or the person's picture",
    )


def add_face_models(parser: Parser) -> None:
    """Where the networks are that find faces, args.face_models."""
    parser.add_argument(
        "--face-models",
        metavar="FOLDER",
        help="the two networks that find faces, from edgetalk fetch face -o FOLDER (default: the user's cache)",
    )


def add_use(parser: Parser) -> None:
    """What is done with the result, args.use."""
    parser.add_argument(
        "--use",
        choices=USES,
        default="any",
        help="commercial: refuse a model or a face that may not be used commercially",
    )


def add_device(parser: Parser) -> None:
    """Where engines run: args.device and args.threads."""
    parser.add_argument("--device", default="auto", help="CPU, GPU, cuda:0 … (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads of an engine (default: its own choice)")


def add_output(parser: Parser) -> None:
    """The film that is written: args.crf and args.output."""
    parser.add_argument("--crf", type=int, help="constant quality, less is better (default: 17 mp4, 30 webm)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="out.mp4 or out.webm")
