"""Follow a face through a film, once for all: FILM-stem.track.npz, which dub, avatar and --motion take beside the film.

    edgetalk track film.mp4 --show seen.mp4      and a film of who was followed, to be looked at

The networks that see faces are those of edgetalk fetch face.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgetalk.arrays import Picture
from edgetalk.errors import InputError, counted
from edgetalk.progress import Progress

from .options import add_face_models, add_which_face

if TYPE_CHECKING:
    from edgetalk.face import Face

GREEN = (40, 220, 80)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("film", type=Path, metavar="FILM", help="anything that FFmpeg reads")
    add_which_face(parser)
    add_face_models(parser)
    parser.add_argument("--show", type=Path, metavar="FILE", help="write the film with the face marked, mp4 or webm")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the track file (default: FILM-stem.track.npz beside it)"
    )


def run(args: argparse.Namespace) -> None:
    from edgetalk.face import Tracker, track_of, write_track
    from edgetalk.files import check_place
    from edgetalk.reader import Reader
    from edgetalk.writer import TOOL, Writer, check_output

    output = args.output or track_of(args.film)
    # Said before the work; and the suffix keeps a film from being written over.
    if output.suffix.lower() != ".npz":
        raise InputError(f"{output}: got suffix {output.suffix!r}, expected .npz; rename the output")
    film = Reader(args.film)
    check_place(output)
    if args.show is not None:
        check_output(args.show, None, args.film)
    faces: list[Face | None] = []
    with contextlib.ExitStack() as opened:
        tracker = Tracker(film.fps, face_models=args.face_models, face=args.face)
        opened.enter_context(contextlib.closing(tracker))
        shown = None
        if args.show is not None:
            tags = {"comment": f"a face marked by {TOOL}"}  # nothing of it is generated
            writer = Writer(args.show, film.size, film.fps, pixel_aspect=film.pixel_aspect, tags=tags)
            shown = opened.enter_context(writer)
        progress = opened.enter_context(Progress("track"))
        for frame in film:
            face = tracker.update(frame)
            faces.append(face and face.without_mesh())
            if shown is not None:
                shown.write(marked(frame, face))
            progress(len(faces), max(film.length, len(faces)))
        seen, cuts = sum(face is not None for face in faces), tracker.scene
        if not seen:
            where = f"in {counted(len(faces), 'frame')}, so nothing was written"
            if isinstance(args.face, int):
                raise InputError(f"{args.film.name} shows no such face {where}; choose another --face")
            raise InputError(f"{args.film.name} shows no face {where}")
    write_track(output, faces, film.fps, film.size)
    print(f"{output}: a face in {seen} of {counted(len(faces), 'frame')}; {counted(cuts, 'cut')}")


def marked(frame: Picture, face: Face | None) -> Picture:
    """Return a copy of the frame, uint8 (H, W, 3) RGB, with the face's box, jaw and five points in it."""
    import cv2

    picture = frame.copy()
    if face is not None:
        left, top, right, bottom = (round(float(edge)) for edge in face.box)
        width = max(2, (right - left) // 60)
        cv2.rectangle(picture, (left, top), (right, bottom), GREEN, width)
        if face.jaw is not None:
            cv2.polylines(picture, [np.rint(face.jaw).astype(np.int32)], False, GREEN, width)
        for x, y in face.points:
            cv2.circle(picture, (round(float(x)), round(float(y))), 2 * width, GREEN, -1)
    return picture
