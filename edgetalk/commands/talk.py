"""Let a face say a sound file, or words, into an mp4 or webm video with sound."""

from __future__ import annotations

import argparse

from edgetalk import speech, video
from edgetalk.progress import Progress
from edgetalk.render import talk
from edgetalk.use import USES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", help="amnet.xml, amnet.plan or amnet.onnx; a bare name is a bundled model")
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--audio", metavar="FILE", help="speech: wav, flac, mp3, a film …")
    words.add_argument("--text", help="English words, spoken by flite or espeak-ng if one is installed")
    face = parser.add_mutually_exclusive_group()
    face.add_argument(
        "--avatar", metavar="FILE", help="a prepared face, or ada … finn (default: the one by the engine)"
    )
    face.add_argument("--source", metavar="PICTURE", help="a square crop of an aligned face, prepared now")
    parser.add_argument(
        "--motion",
        default="idle",
        metavar="MOTION",
        help="head and blinks: idle (default), still, or a film whose head is followed; FILM-stem.track.npz beside it "
        "is taken if it is there, else it is tracked (edgetalk fetch face)",
    )
    parser.add_argument(
        "--face-models",
        metavar="FOLDER",
        help="the two networks that find faces, from edgetalk fetch face -o FOLDER (default: the user's cache)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another idle life (default: 0)")
    parser.add_argument("--fps", metavar="RATE", help="25 or 30000/1001 (default: the network's own rate)")
    parser.add_argument(
        "--use", choices=USES, default="any", help="commercial: refuse a model or a face that may not be used so"
    )
    parser.add_argument("--crf", type=int, help="constant quality, less is better (default: 17 mp4, 30 webm)")
    parser.add_argument("--device", default="auto", help="CPU, GPU, cuda:0 … (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine (default: its own choice)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="out.mp4 or out.webm")


def run(args: argparse.Namespace) -> None:
    video.check_output(args.output, args.crf, args.audio, args.motion)  # before words are spoken
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
