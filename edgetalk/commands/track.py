"""Follow a face through a film, once for all: FILM-stem.track.npz, which dub, avatar and --motion take beside the film.

    edgetalk track film.mp4 --show seen.mp4      and a film of who was followed, to be looked at

The networks that see faces are those of edgetalk fetch face.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgetalk.face import picked
from edgetalk.progress import Progress

if TYPE_CHECKING:
    from edgetalk.face import Face
    from edgetalk.video import Image

GREEN = (40, 220, 80)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("film", type=Path, metavar="FILM", help="anything that FFmpeg reads")
    parser.add_argument(
        "--face",
        type=picked,
        default="largest",
        metavar="WHICH",
        help="the face that is followed: largest (default), its number from the left (0, 1 …), or the person's picture",
    )
    parser.add_argument(
        "--face-models",
        metavar="FOLDER",
        help="the two networks that find faces, from edgetalk fetch face -o FOLDER (default: the user's cache)",
    )
    parser.add_argument("--show", type=Path, metavar="FILE", help="write the film with the face marked, mp4 or webm")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the track file (default: FILM-stem.track.npz beside it)"
    )


def run(args: argparse.Namespace) -> None:
    from edgetalk.face import Tracker, write_track
    from edgetalk.reader import Reader
    from edgetalk.video import Writer, check_output

    if args.show is not None:
        check_output(args.show, None, args.film)
    film = Reader(args.film)
    output = args.output or Path(f"{os.path.splitext(args.film)[0]}.track.npz")
    output.parent.stat()  # the system's own words where it is not there, before the work
    faces: list[Face | None] = []
    with contextlib.ExitStack() as opened:
        tracker = opened.enter_context(contextlib.closing(Tracker(film.fps, models=args.face_models, pick=args.face)))
        shown = None if args.show is None else opened.enter_context(Writer(args.show, film.size, film.fps))
        progress = opened.enter_context(Progress("track"))
        for frame in film:
            faces.append(tracker.update(frame))
            if shown is not None:
                shown.write(marked(frame, faces[-1]))
            progress(len(faces), max(film.length, len(faces)))
    write_track(output, faces, film.fps)
    seen, cuts = sum(face is not None for face in faces), tracker.scene
    print(f"{output}: a face in {seen} of {len(faces)} frames; {cuts} cut{'' if cuts == 1 else 's'}")


def marked(frame: Image, face: Face | None) -> Image:
    """Return a copy of the frame, uint8 (H, W, 3) RGB, with the face's box and five points in it."""
    import cv2

    picture = frame.copy()
    if face is not None:
        left, top, right, bottom = (round(float(edge)) for edge in face.box)
        width = max(2, (right - left) // 60)
        cv2.rectangle(picture, (left, top), (right, bottom), GREEN, width)
        for x, y in face.points:
            cv2.circle(picture, (round(float(x)), round(float(y))), 2 * width, GREEN, -1)
    return picture
