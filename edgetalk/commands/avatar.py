"""Prepare a source face once, so that a step needs the engine alone.

edgetalk avatar amnet.xml face.png                                          a square crop of an aligned face
edgetalk avatar amnet.xml photo.jpg --crop                                  a photo, out of which the face is cut
edgetalk avatar wavsyncswap.xml --video target.mp4 --portrait face.png      a film, and whose face it is given
edgetalk avatar amnet-lite.xml ada -o ada-lite.avatar                       an avatar, for another network

The source engine beside ENGINE (amnet-source.xml beside amnet.xml) makes the features; the .avatar file holds them
with the picture or the film's, licence, consent and the person's name. The face in a film is where --track says,
or VIDEO-stem.track.npz beside the video, or the tracker (edgetalk fetch face), which finds that in a photo, too.
"""

from __future__ import annotations

import argparse
import errno
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetalk.errors import InputError
from edgetalk.use import ALLOWED

from .options import add_device, add_face_models, add_which_face

if TYPE_CHECKING:
    from edgetalk.avatar import Avatar

FILM = ("portrait", "track", "seconds", "identity", "crops")
TERMS = ("licence", "consent", "name", "use")
PLACES = ("device", "threads")
FOUND = ("face", "face_models")
"""Options of where a face is looked for: in films, and in photos."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engine", help="engine of the step, or the name of a bundled model")
    parser.add_argument(
        "picture",
        nargs="?",
        type=Path,
        help="square, at least 64x64: an upright face half as wide as it, eyes at 45 %% of its height; or an .avatar, "
        "or a bundled one's name, to prepare for another engine",
    )
    parser.add_argument(
        "--crop", action="store_true", help="cut such a square out of a photo; the head is turned upright"
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="write the picture that the network sees, too: .png or .jpg"
    )
    film = parser.add_argument_group("film, for networks that repaint one")
    film.add_argument("--video", type=Path, metavar="FILE", help="anything that FFmpeg reads")
    film.add_argument("--portrait", type=Path, metavar="PICTURE", help="the person whose face is painted")
    film.add_argument("--track", type=Path, metavar="FILE", help="where the face is (default: beside the video)")
    film.add_argument("--seconds", type=float, help="of the film's beginning (default: 10)")
    film.add_argument(
        "--crops",
        action="store_true",
        default=None,
        help="keep the crops of the face alone, not the film's pictures: a smaller file, and that is what then speaks",
    )
    film.add_argument(
        "--identity", type=Path, metavar="ENGINE", help="the portrait's extractor (default: beside ENGINE)"
    )
    found = parser.add_argument_group("where a face is looked for")
    add_which_face(found, default=None)
    add_face_models(found)
    parser.add_argument(
        "-o", "--output", type=Path, help="the .avatar file (default: beside the picture or video, by its name)"
    )
    parser.add_argument("--licence", default="", help="licence of the face, kept in the file")
    parser.add_argument("--consent", default="", help="who agreed, and when, that this face is animated")
    parser.add_argument("--use", choices=ALLOWED, help="what the face may be used for (default: what ENGINE allows)")
    parser.add_argument("--name", default="", help="the person's name")
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    from edgetalk.avatar import save_avatar
    from edgetalk.bundled import find_avatar
    from edgetalk.files import check_place
    from edgetalk.picture import WRITTEN, write_picture
    from edgetalk.session import Session

    if (args.picture is None) == (args.video is None):
        raise InputError("picture: got none or both of PICTURE and --video, expected one of them")
    source = args.picture or args.video
    prepared = args.picture is not None and (source.suffix.lower() == ".avatar" or _is_bundled(source))
    file = find_avatar(source) if prepared else source
    file.stat()  # the system's own words where there is none
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(source))
    output = args.output or source.parent / f"{source.stem}.avatar"
    # Said before the work; and the suffix keeps the picture from being written over.
    if output.suffix.lower() != ".avatar":
        raise InputError(f"{output}: got suffix {output.suffix!r}, expected .avatar; rename the output")
    if args.show is not None and args.show.suffix.lower() not in WRITTEN:
        raise InputError(f"show: got {args.show.name}, expected a name that ends in {' or '.join(WRITTEN)}")
    for place in filter(None, (output, args.show)):
        check_place(place, args.picture, args.video, args.portrait, args.face)
    avatar = _of_film(args) if args.video else _of_avatar(args, file) if prepared else _of_picture(args)
    what = f"{avatar.frames} frames" if avatar.film else "{}x{}".format(*avatar.source.shape)
    # Refuses what is not of these weights, warns of a face that the network cannot know.
    Session(args.engine, avatar=avatar, device=args.device, threads=args.threads).close()
    save_avatar(avatar, output)
    if args.show is not None:
        write_picture(args.show, avatar.source)
    print(f"{output}: {what}, {output.stat().st_size / 1e6:.1f} MB, for {avatar.use} use")


def _is_bundled(name: Path) -> bool:
    from edgetalk.bundled import is_face

    return is_face(str(name)) and not name.exists()


def _refuse(args: argparse.Namespace, options: Collection[str], why: str) -> None:
    """Raise InputError where one of these options was given."""
    for option in options:
        if (given := getattr(args, option)) is not None and given is not False and given != "":
            raise InputError(f"{option.replace('_', '-')}: {why}")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(args, key) for key in (*TERMS, *PLACES)}


def _of_picture(args: argparse.Namespace) -> Avatar:
    from edgetalk.avatar import make_avatar

    _refuse(args, FILM, f"is of films, {args.picture} is a picture; give --video or leave it out")
    if not args.crop:
        _refuse(args, FOUND, f"nothing is looked for in a square; add --crop where {args.picture} is a photo")
        return make_avatar(args.engine, args.picture, **_options(args))
    from edgetalk.framing import framed

    where = {key: value for key in FOUND if (value := getattr(args, key)) is not None}
    return make_avatar(args.engine, framed(args.picture, **where), **_options(args))


def _of_avatar(args: argparse.Namespace, file: Path) -> Avatar:
    from edgetalk.avatar import load_avatar
    from edgetalk.bundled import find_engine
    from edgetalk.film_avatar import recompute

    given = load_avatar(file)
    looked_at = [key for key in (*FILM, *FOUND, "crop") if key != "identity" or given.film is None]
    _refuse(args, looked_at, f"is of films and photos, {args.picture} is prepared; leave it out")
    _refuse(args, TERMS, f"{args.picture} has its own, which it keeps; leave it out")
    places = {key: getattr(args, key) for key in PLACES}
    return recompute(given, find_engine(args.engine), identity=args.identity, **places)


def _of_film(args: argparse.Namespace) -> Avatar:
    from edgetalk.film_avatar import SECONDS, make_film_avatar
    from edgetalk.progress import Progress

    _refuse(args, ("crop",), "is of photos, films are cut as they are; leave it out")
    if args.portrait is None:
        raise InputError("portrait: got none, expected a picture of whose face the film is given: --portrait")
    with Progress("track") as tracking, Progress("avatar") as progress:
        return make_film_avatar(
            args.engine,
            args.video,
            args.portrait,
            track=args.track,
            face="largest" if args.face is None else args.face,
            seconds=SECONDS if args.seconds is None else args.seconds,
            pictures=not args.crops,
            identity=args.identity,
            face_models=args.face_models,
            tracking=tracking,
            progress=progress,
            **_options(args),
        )
