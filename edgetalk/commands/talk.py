"""Let a face say a sound file, or words, into an mp4 or webm video with sound."""

from __future__ import annotations

import argparse

from edgetalk import speech
from edgetalk.progress import Progress
from edgetalk.render import talk
from edgetalk.writer import check_output

from .options import add_device, add_engine, add_face, add_life, add_output, add_use


def configure(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--audio", metavar="FILE", help="speech: wav, flac, mp3, a film …")
    words.add_argument("--text", help="English words, spoken by flite or espeak-ng if one is installed")
    add_face(parser)
    add_life(parser)
    add_use(parser)
    add_device(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> None:
    check_output(args.output, args.crf, args.audio, args.motion)  # before words are spoken
    with Progress("motion") as tracking, Progress("talk") as progress:
        timings = talk(
            args.engine,
            args.audio if args.text is None else speech.say(args.text),
            args.output,
            avatar=args.avatar,
            source=args.source,
            motion=args.motion,
            seed=args.seed,
            fps=args.fps,
            face_models=args.face_models,
            use=args.use,
            device=args.device,
            threads=args.threads,
            crf=args.crf,
            tracking=tracking,
            progress=progress,
        )
    print(
        f"{args.output}: {len(timings.step)} frames at {timings.fps} per second, {timings.sound:.2f} s of sound "
        f"in {timings.wall:.2f} s (real-time factor {timings.real_time_factor:.2f})"
    )
