"""Train a network on drawn announcers or on filmed people; the same command goes on where it was stopped."""

from __future__ import annotations

import argparse
import importlib

MODULES = {
    "amnet": "edgetalk.train.amnet.recipe",
    "wavsyncswap": "edgetalk.train.swap.wavsyncswap",
    "wav2lip": "edgetalk.train.swap.wav2lip",
    "simswap": "edgetalk.train.swap.simswap",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """One sub-command per family, with the options that its recipe names."""
    families = parser.add_subparsers(dest="family", required=True, metavar="{" + ",".join(MODULES) + "}")
    for name, module in MODULES.items():
        importlib.import_module(module).configure(families.add_parser(name))


def run(args: argparse.Namespace) -> None:
    importlib.import_module(MODULES[args.family]).run(args)
