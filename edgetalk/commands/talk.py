"""Let a face say a sound file, into an mp4 or webm video with sound."""

from __future__ import annotations

import argparse
from fractions import Fraction

from edgetalk import audio, video
from edgetalk.clock import frame_count, frame_rate
from edgetalk.progress import Progress
from edgetalk.render import render, streams
from edgetalk.session import Session
from edgetalk.use import USES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", help="amnet.xml, amnet.plan or amnet.onnx; a bare name is a bundled model")
    parser.add_argument("--audio", required=True, metavar="FILE", help="speech: wav, flac, mp3, a film …")
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
    # What can be wrong with the arguments is said before an engine is loaded.
    video.check_output(args.output, args.crf, args.audio, args.motion)
    fps: Fraction | None = frame_rate(args.fps) if args.fps is not None else None
    pcm = audio.read(args.audio)
    with Session(
        args.engine,
        avatar=args.avatar,
        source=args.source,
        use=args.use,
        device=args.device,
        threads=args.threads,
        streams=streams(args.threads),
    ) as session:
        fps = fps or session.fps
        with Progress("motion") as progress:
            frames = frame_count(len(pcm), fps)
            life = session.motion(
                args.motion, args.seed, fps, frames=frames, face_models=args.face_models, progress=progress
            )
        with Progress("talk") as progress:
            timings = render(session, pcm, args.output, life, fps, args.crf, progress)
    print(
        f"{args.output}: {len(timings.step)} frames at {fps} per second, {timings.sound:.2f} s of sound "
        f"in {timings.wall:.2f} s (real-time factor {timings.real_time_factor:.2f})"
    )
