"""Let the people of a film say something else, or be somebody else: an mp4 or webm video with sound.

One engine is a stage; several follow each other, so that `dub wav2lip.xml simswap.xml` first moves the lips and then
swaps the face. The face's place comes from --track, from VIDEO-stem.track.npz beside the video, or from the tracker
(edgetalk fetch face). Frames without a face stay as they are. The original sound is replaced.
"""

from __future__ import annotations

import argparse

from edgetalk.dubbing import dub
from edgetalk.face import picked
from edgetalk.progress import Progress
from edgetalk.targets import FITS
from edgetalk.use import USES


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engines", nargs="+", metavar="ENGINE", help="wav2lip.xml, wavsyncswap.xml, simswap.xml …")
    parser.add_argument("--video", required=True, metavar="FILE", help="the film to dub: anything that FFmpeg reads")
    parser.add_argument("--audio", required=True, metavar="FILE", help="what is said: wav, flac, mp3, a film …")
    parser.add_argument("--portrait", metavar="FILE", help="whose face is painted: a picture, or an .avatar of a film")
    parser.add_argument(
        "--identity",
        metavar="ENGINE",
        help="what tells the portrait's identity (default: STEM-identity or arcface beside the engine)",
    )
    parser.add_argument("--track", metavar="FILE", help="where the face is (default: VIDEO-stem.track.npz, or tracked)")
    parser.add_argument(
        "--face",
        type=picked,
        default="largest",
        metavar="WHICH",
        help="the face that is tracked: largest, its number from the left (0, 1 …), or a picture of the person",
    )
    parser.add_argument(
        "--face-models",
        metavar="FOLDER",
        help="the two networks that find faces, from edgetalk fetch face -o FOLDER (default: the user's cache)",
    )
    parser.add_argument(
        "--fit",
        choices=FITS,
        default=FITS[0],
        help="ping-pong: as long as the sound, a video that is too short runs back and forth (default); hold: as long "
        "as the longer one, the last picture is held, the sound is followed by silence; trim: as long as the shorter",
    )
    parser.add_argument("--use", choices=USES, default="any", help="commercial: refuse models that may not be used so")
    parser.add_argument("--crf", type=int, help="constant quality, less is better (default: 17 mp4, 30 webm)")
    parser.add_argument("--device", default="auto", help="CPU, GPU, cuda:0 … (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads of the engines (default: their own choice)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="out.mp4 or out.webm")


def run(args: argparse.Namespace) -> None:
    with Progress("dub") as progress:
        done = dub(
            args.engines,
            args.video,
            args.audio,
            args.output,
            args.portrait,
            identity=args.identity,
            track=args.track,
            face=args.face,
            face_models=args.face_models,
            fit=args.fit,
            use=args.use,
            device=args.device,
            threads=args.threads,
            crf=args.crf,
            progress=progress,
        )
    print(
        f"{args.output}: {done.frames} frames at {done.fps} per second, {done.painted} with a face, "
        f"in {done.wall:.2f} s ({done.rate:.1f} frames per second)"
    )
