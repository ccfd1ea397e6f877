"""The bundled announcer says the bundled sentence: demo.mp4, and milliseconds per stage."""

from __future__ import annotations

import argparse

from edgetalk import audio, benchmark, motion, session, speech, video
from edgetalk.errors import InputError
from edgetalk.progress import Progress
from edgetalk.render import STAGES, render, streams

MODEL = "amnet"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--announcer", metavar="NAME", help="another bundled announcer; a wrong name lists them")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--audio", metavar="FILE", help="another sentence, as a sound file")
    words.add_argument("--text", help="another sentence, spoken by flite or espeak-ng if one is installed")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another idle life (default: 0)")
    parser.add_argument("-o", "--output", default="demo.mp4", metavar="FILE", help="default: demo.mp4")


def announcers() -> list[str]:
    """Return the names of the bundled avatars beside the model's default one."""
    return sorted(file.stem for file in session.MODELS.glob("*.avatar") if file.stem != MODEL)


def run(args: argparse.Namespace) -> None:
    video.check_output(args.output, None, args.audio)
    avatar = None
    if args.announcer is not None:
        if args.announcer not in announcers():
            there = ", ".join(announcers()) or "none: this copy holds the default announcer alone"
            raise InputError(f"announcer: got {args.announcer!r}, expected one of {there}")
        avatar = session.MODELS / f"{args.announcer}.avatar"
    pcm = speech.say(args.text) if args.text is not None else audio.read(args.audio or benchmark.SENTENCE)
    with session.Session(MODEL, avatar=avatar, streams=streams(None)) as face:
        life = motion.Idle(args.seed, face.fps)
        with Progress("demo") as progress:
            timings = render(face, pcm, args.output, life, face.fps, progress=progress)
        device = face.device
    stages = {name: benchmark.Spread.of(getattr(timings, name)) for name in STAGES}
    print(benchmark.table(stages))
    print(
        f"{args.output}: {len(timings.step)} frames, {timings.sound:.2f} s of speech in {timings.wall:.2f} s, "
        f"real-time factor {timings.real_time_factor:.2f} on {device}"
    )
