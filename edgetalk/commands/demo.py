"""The bundled announcer says the bundled sentence: demo.mp4, and milliseconds per stage.

With --film the bundled film is dubbed instead: somebody else's face says another sentence in it, in demo-film.mp4.
"""

from __future__ import annotations

import argparse

from edgetalk import audio, bundled, dubbing, motion, session, speech, timing
from edgetalk.arrays import Array
from edgetalk.errors import InputError
from edgetalk.progress import Progress
from edgetalk.render import STAGES, render, side_by_side
from edgetalk.writer import check_output

MODEL = "amnet"
FILM_MODEL = "wavsyncswap"
SCENE = "scene"
"""Folder of the bundled film, whose face it gets, and what is said; `python -m edgetalk.train.swap scene` drew them."""


def configure(parser: argparse.ArgumentParser) -> None:
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--announcer", metavar="NAME", help="another bundled announcer; a wrong name lists them")
    shown.add_argument("--film", action="store_true", help="dub the bundled film, with somebody else's face in it")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--audio", metavar="FILE", help="another sentence, as a sound file")
    words.add_argument("--text", help="another sentence, spoken by flite or espeak-ng if one is installed")
    parser.add_argument("--seed", type=int, help="another seed, another idle life (default: 0)")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: demo.mp4, with --film demo-film.mp4")


def announcers() -> list[str]:
    """Return the names of the bundled avatars that are no model's default one."""
    files = bundled.MODELS.glob("*.avatar")
    return sorted(file.stem for file in files if not file.with_suffix(".xml").is_file())


def run(args: argparse.Namespace) -> None:
    if args.film and args.seed is not None:
        raise InputError("seed: is of an announcer's idle life, a film moves as it was shot; leave it or --film out")
    output = args.output or ("demo-film.mp4" if args.film else "demo.mp4")
    check_output(output, None, args.audio)
    if args.announcer is not None and args.announcer not in announcers():
        there = ", ".join(announcers()) or "none: this copy holds the default announcer alone"
        raise InputError(f"announcer: got {args.announcer!r}, expected one of {there}")
    sentence = bundled.MODELS / SCENE / "speech.wav" if args.film else bundled.SENTENCE
    pcm = speech.say(args.text) if args.text is not None else audio.as_pcm(args.audio or sentence)
    if args.film:
        dub(pcm, output)
    else:
        talk(pcm, output, args.announcer, args.seed or 0)


def talk(pcm: Array, output: str, announcer: str | None, seed: int) -> None:
    """Let an announcer speak, and print what it took."""
    avatar = bundled.MODELS / f"{announcer}.avatar" if announcer else None
    with session.Session(MODEL, avatar=avatar, streams=side_by_side(None)) as face:
        life = motion.Idle(seed, face.fps)
        with Progress("demo") as progress:
            timings = render(face, pcm, output, life, face.fps, progress=progress)
        device = face.device
    stages = {name: timing.Spread.of(getattr(timings, name)) for name in STAGES}
    print(timing.table(stages))
    print(
        f"{output}: {len(timings.step)} frames, {timings.sound:.2f} s of speech in {timings.wall:.2f} s, "
        f"real-time factor {timings.real_time_factor:.2f} on {device}"
    )


def dub(pcm: Array, output: str) -> None:
    """Dub the bundled film, and print what it took."""
    scene = bundled.MODELS / SCENE
    with Progress("demo") as progress:
        done = dubbing.dub(FILM_MODEL, scene / "target.mp4", pcm, output, scene / "portrait.png", progress=progress)
    stages = {name: timing.Spread.of(getattr(done, name)) for name in dubbing.STAGES}
    print(timing.table(stages))
    print(
        f"{output}: {done.frames} frames of {scene / 'target.mp4'} with the face of {scene / 'portrait.png'}, "
        f"{done.rate:.1f} frames per second"
    )
