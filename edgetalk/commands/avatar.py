"""Prepare a source face once, so that a step needs the engine alone.

The picture is a square crop of an aligned face. The source engine (amnet-source.xml beside amnet.xml) makes the
features; the .avatar file holds them with the picture, its licence, the consent to its use and the person's name.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", help="engine of the step, or the name of a bundled model")
    parser.add_argument("picture", type=Path, help="square crop of an aligned face, at least 64x64")
    parser.add_argument("-o", "--output", type=Path, help="the .avatar file; the picture's name by default")
    parser.add_argument("--licence", default="", help="licence of the picture, kept in the file")
    parser.add_argument("--consent", default="", help="who agreed, and when, that this face is animated")
    parser.add_argument("--name", default="", help="the person's name")


def run(args: argparse.Namespace) -> None:
    from edgetalk.avatar import make, save
    from edgetalk.session import Session, find_engine

    output = args.output or args.picture.parent / f"{args.picture.stem}.avatar"
    engine = find_engine(args.engine)
    avatar = make(engine, args.picture, licence=args.licence, consent=args.consent, name=args.name)
    Session(engine, avatar=avatar).close()  # refuses what is not of these weights, warns of a face it cannot know
    save(avatar, output)
    print(f"{output}: {avatar.source.shape[0]}x{avatar.source.shape[1]}, {output.stat().st_size / 1e6:.1f} MB")
