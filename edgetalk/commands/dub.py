"""Let the people of a film say something else, or be somebody else: an mp4 or webm video with sound.

Several engines follow each other, so that `dub wav2lip.xml simswap.xml` first moves the lips and then
swaps the face. The face's place comes from --track, from VIDEO-stem.track.npz beside the video, or from the tracker
(edgetalk fetch face). Frames without a face are not repainted. The original sound is replaced.
"""

from __future__ import annotations

import argparse

from edgetalk.dubbing import dub
from edgetalk.errors import counted
from edgetalk.progress import Progress
from edgetalk.targets import FITS

from .options import add_device, add_face_models, add_output, add_use, add_which_face


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
    add_which_face(parser)
    add_face_models(parser)
    parser.add_argument(
        "--fit",
        choices=FITS,
        default=FITS[0],
        help="ping-pong: as long as the sound, a video that is too short runs back and forth (default); hold: as long "
        "as the longer one, the last picture is held, the sound is followed by silence; trim: as long as the shorter",
    )
    add_use(parser)
    add_device(parser)
    add_output(parser)


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
        + (f"; the film goes on for {counted(done.left_out, 'frame')}, --fit hold keeps them" if done.left_out else "")
    )
