"""Turn a checkpoint into ONNX: NAME.onnx, the step of one frame; NAME-source.onnx, what sees the picture alone;
and NAME.avatar, a picture prepared with it. WavSyncSwap gets NAME-identity.onnx, too.

The files get their names only after ONNX Runtime has reproduced torch with them, all or none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetalk.use import ALLOWED

from .dynamic_conv import FORMS
from .exporter import FAMILIES, to_onnx


def batch(word: str) -> int:
    """Return how many samples a word of the command line means, 0 for any number."""
    if word == "dynamic":
        return 0
    try:
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f'got {word!r}, expected a number of samples, or "dynamic" for any') from None


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", choices=FAMILIES, help="what kind of network it is")
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="FILE",
        help="file to read: ours (.safetensors), or as its authors published it (.pth, .tar, .onnx)",
    )
    parser.add_argument(
        "-o", "--output", dest="out", required=True, type=Path, metavar="FILE", help="NAME.onnx to write"
    )
    parser.add_argument(
        "--dynamic-conv",
        choices=FORMS,
        default="conv",
        help="the predicted convolution as a grouped convolution (default, fastest on a CPU) or as "
        "shifted multiply-adds, which any batch and any engine can take",
    )
    parser.add_argument("--whole", action="store_true", help="one graph with all inputs instead of two")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the picture (default: as trained)")
    parser.add_argument(
        "--batch",
        type=batch,
        metavar="N",
        help='samples of a run, or "dynamic" (default: 1, or dynamic with --dynamic-conv shift)',
    )
    parser.add_argument("--avatar", metavar="NAME", help="person in the checkpoint to make the avatar of")
    parser.add_argument("--every-avatar", action="store_true", help="write PERSON.avatar for each person, too")
    parser.add_argument("--source", type=Path, metavar="PICTURE", help="picture to make the avatar of instead")
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="wavsyncswap: the identity extractor that it was trained with (default: beside it identity.safetensors, "
        "else experts/identity-a.safetensors)",
    )
    parser.add_argument(
        "--licence",
        default="",
        metavar="TEXT",
        help="licence of the weights (default: that of the published ones, where it is known)",
    )
    parser.add_argument(
        "--use", choices=ALLOWED, help="what the weights may be used for (default: as published; any for one's own)"
    )


def run(args: argparse.Namespace) -> None:
    written = to_onnx(
        args.checkpoint,
        args.out,
        family=args.family,
        dynamic_conv=args.dynamic_conv,
        whole=args.whole,
        size=args.size,
        batch=args.batch,
        avatar=args.avatar,
        source=args.source,
        every_avatar=args.every_avatar,
        identity=args.identity,
        licence=args.licence,
        use=args.use,
    )
    for path in written:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
