"""Films in: upright pictures at a constant rate, from any file that FFmpeg reads.

The film's rate and resolution are kept, exactly. Where a file shows its pictures for unequal times, each index shows
the picture whose time is nearest: some are given twice, some not at all. Where its clock is set anew on the way the
pictures go on, and those of another size are brought to the first one's. Colours follow what the file says of itself;
where it says nothing, films of 720 and more rows are taken for BT.709 and smaller ones for BT.601, as players do.
Interlaced films are not deinterlaced, high dynamic range is not mapped to the screen's.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Picture, Planes
from .clock import MAX_FPS
from .errors import InputError
from .files import plain
from .overlap import codec_threads
from .planes import BT709, FULL, LIMITED, even, of_rgb

HD = 720  # rows from which on an untold colour space is BT.709
BT601 = 5  # FFmpeg's number
SPACES = (1, 4, 5, 6, 7, 9)  # matrices that FFmpeg's scaler knows by the same numbers
HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer curves
VARIES = Fraction(3, 2)  # a nominal rate that many times the mean one is that of the clock, not of the pictures
MEMORY = 1 << 28  # bytes of pictures that walking backwards may hold
TS_DISCONT = 0x200  # FFmpeg's flag of formats whose clock may start anew, as where broadcasts were joined
UNSURE = ("mpeg",)  # FFmpeg's formats that tell few times, and from the middle on others than from the start
JUMP = 10  # seconds by which such a clock goes on in one step only where it was set, as the ffmpeg program has it
SLACK = Fraction(3, 20)  # seconds by which a film, or its sound (priming, rounding), may miss its promised length


class Reader:
    """A film. Every iteration starts anew and gives RGB pictures, uint8 (height, width, 3).

    Of several picture streams the first is read that can be decoded. Raises FileNotFoundError, and InputError where the
    file is no film, a pipe, has no such stream or is cut short; what only shows on the way raises while the pictures
    are read. Who first asks for pictures of high dynamic range is warned that they will look pale.

    >>> film = Reader("target.mp4")
    >>> film.size, film.fps, film.length
    ((1280, 720), Fraction(30000, 1001), 240)
    >>> for frame in film: ...
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        head(self.path, "film")
        self._turn, self._joined = 0, False
        self._origin: Fraction | None = None
        with _opened(self.path) as (container, stream):
            self._check_whole(stream)
            self.fps: Fraction = _rate(stream)
            """Pictures per second, exact."""
            first = next(self._decode(container, stream), None)
            if first is None:
                raise InputError(f"{path} has a picture stream without a picture; expected a film")
            self._origin = _time(first)
            self.begins: Fraction | None = self._origin
            """When the first picture is shown, in seconds of the file's clock, which its sound has, too; None where its
            pictures have no times."""
            self._turn = first.rotation // 90 % 4
            self._stored = first.width, first.height  # before it is turned
            self._plain = first.format.name == "yuv420p" and not (
                self._turn or first.width % 2 or first.height % 2 or _colours(first) != (BT709, LIMITED)
            )
            upright = (first.width, first.height) if self._turn % 2 == 0 else (first.height, first.width)
            self.size: tuple[int, int] = upright
            """Width, height in pixels, upright."""
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            self.pixel_aspect: Fraction = aspect if self._turn % 2 == 0 else 1 / aspect
            """Width of a pixel as it is to be shown, by its height."""
            self._pale = HDR.get(first.color_trc, "")
            seconds = _promised(stream, self._origin) or Fraction(container.duration or 0, 1_000_000)
            self.length: int = round(seconds * self.fps)
            """How many pictures the file promises, 0 where it does not; how many there are, only reading tells."""

    def __iter__(self) -> Iterator[Picture]:
        self._warn_of_range()
        return map(self._rgb, self._constant(0))

    def planes(self, start: int = 0) -> Iterator[Planes]:
        """Yield the pictures from index `start` on as planes, see planes.py; sides that are odd get one pixel more.

        Bytes are the decoder's where the film is upright, yuv420p in BT.709 and limited range, of even sides; others
        go by way of RGB and come out a level or two darker, as from planes.to_rgb.
        """
        self._warn_of_range()
        return map(self._planes, self._constant(start))

    def backwards(self, stop: int) -> Iterator[Planes]:
        """Yield the planes of the pictures stop - 1, stop - 2, … 0, holding few of them at a time."""
        width, height = self.size
        at_once = max(8, MEMORY // (width * height * 3 // 2))
        for end in range(stop, 0, -at_once):
            start = max(0, end - at_once)
            pictures = [picture for picture, _ in zip(self.planes(start), range(start, end), strict=False)]
            yield from reversed(pictures)

    def _warn_of_range(self) -> None:
        """Warn once of high dynamic range: whoever reads the file for its sound is told nothing of pictures."""
        kind, self._pale = self._pale, ""
        if kind:
            warnings.warn(
                f"{self.path.name} has high dynamic range ({kind}), which is read as standard range and will look "
                "pale; convert it first for right colours",
                stacklevel=3,
            )

    def _rgb(self, frame: Any) -> Picture:
        space, span = _colours(frame)
        rgb = frame.reformat(
            *self._stored,
            "rgb24",
            src_colorspace=space,
            dst_colorspace=space,
            src_color_range=span,
            dst_color_range=FULL,
        )
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), self._turn))

    def _planes(self, frame: Any) -> Planes:
        # A film may change its format on the way: what is not as the first picture takes the long way.
        same = frame.format.name == "yuv420p" and (frame.width, frame.height) == self._stored
        if self._plain and same and _colours(frame) == (BT709, LIMITED):
            return np.asarray(frame.to_ndarray())
        return of_rgb(even(self._rgb(frame)))

    def _constant(self, start: int) -> Iterator[Any]:
        """Yield the decoded picture that every index from `start` on shows."""
        held, at, index = None, start, 0
        for index, frame in self._indexed(start):
            while held is not None and at < index:
                yield held
                at += 1
            held = frame
        if held is None:
            return
        duration = Fraction(held.duration or 0) * (held.time_base or 0)
        end = index + max(1, round(duration * self.fps))
        while at < end:
            yield held
            at += 1

    def _indexed(self, start: int) -> Iterator[tuple[int, Any]]:
        """Yield decoded pictures with the index at which each begins, from one at or before `start` on."""
        if start and (origin := self._origin) is not None and not self._joined:
            with _opened(self.path) as (container, stream):
                if _sought(container, stream, origin + start / self.fps):
                    pictures = self._numbered(container, stream, start)
                    first = next(pictures, None)
                    if first is not None and first[0] <= start:
                        yield first
                        yield from pictures
                        return
        with _opened(self.path) as (container, stream):
            yield from self._numbered(container, stream, 0)

    def _numbered(self, container: Any, stream: Any, index: int) -> Iterator[tuple[int, Any]]:
        before, shift = None, 0  # the index that was given last, and by how much the clock is to be set
        back, jump = round(self.fps), round(JUMP * self.fps) if container.format.flags & TS_DISCONT else math.inf
        for frame in self._decode(container, stream):
            time = _time(frame)
            if time is not None and self._origin is not None:
                index = shift + ((time - self._origin) * self.fps + Fraction(1, 2)).__floor__()
                if before is not None and not before - back <= index <= before + jump:  # a second less is an overlap
                    shift, index, self._joined = shift + before + 1 - index, before + 1, True
                index = max(0, index)
            yield index, frame
            before = index if before is None else max(before, index)
            index += 1

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield the pictures of a stream in the order in which they are shown; what precedes a key frame is skipped."""
        import av

        count, last = 0, None
        try:
            for packet in container.demux(stream):
                try:
                    pictures = packet.decode()
                except av.InvalidDataError:
                    if count:
                        raise
                    continue
                for picture in pictures:
                    count, last = count + 1, picture
                    yield picture
        except av.FFmpegError as error:
            place = f" at {float(last.time):.2f} s" if last is not None and last.time is not None else ""
            raise InputError(f"{self.path} is damaged{place} ({error.strerror}); copy or convert it again") from None
        promised = _promised(stream, self._origin)
        if last is not None and promised and not self._joined and last.time is not None and self._origin is not None:
            shown = max(1 / self.fps, Fraction(last.duration or 0) * last.time_base)  # the last one may stay long
            if Fraction(last.pts * last.time_base) - self._origin + shown < promised - SLACK:
                raise self._truncated()

    def _check_whole(self, stream: Any) -> None:
        """An mp4 lists where each picture lies: beyond the end of a file that was cut short."""
        entries = stream.index_entries
        if len(entries):
            last = max((entry.pos + entry.size for entry in entries), default=0)
            if last > self.path.stat().st_size:
                raise self._truncated()

    def _truncated(self) -> InputError:
        return InputError(f"{self.path} is truncated: its header promises more pictures than it holds; copy it again")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file and its picture stream for one pass."""
    import av

    try:
        container = av.open(plain(path))
    except av.FFmpegError as error:
        raise InputError(f"{path} is no film that FFmpeg can read ({error.strerror}), or it is damaged") from None
    with container:
        streams = picture_streams(container)
        stream = next((stream for stream in streams if stream.codec_context is not None), None)
        if stream is None:
            if streams:
                raise InputError(
                    f"{path} has pictures that this FFmpeg cannot decode, expected H.264 or the like; convert it first"
                )
            raise InputError(f"{path} has no picture stream; expected a film")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = codec_threads()
        yield container, stream


def head(path: Path, what: str, count: int = 1) -> bytes:
    """Return the first bytes of a file that is to hold a `what`; raises as read and Reader where it has none."""
    if "\0" in str(path):  # Python's own error does not name it
        raise InputError(f"{str(path)!r} has a zero byte in it, expected the name of a {what} file")
    if path.is_fifo():  # /dev/stdin too
        raise InputError(f"{path} is a pipe, which cannot be read from its start again; write the {what} to a file")
    with open(path, "rb") as file:  # the system's own words for: no such file, a folder, no permission
        data = file.read(count)
    if not data:
        raise InputError(f"{path} is empty (0 bytes); expected a {what} file")
    return data


def picture_streams(container: Any) -> list[Any]:
    """Return a file's streams of moving pictures: no cover of a record."""
    import av

    covers = int(av.stream.Disposition.attached_pic)
    return [stream for stream in container.streams.video if not int(stream.disposition) & covers]


def _rate(stream: Any) -> Fraction:
    mean = stream.average_rate
    for rate in (stream.guessed_rate, mean and Fraction(mean).limit_denominator(1001)):
        if rate and 1 <= rate <= MAX_FPS and (not mean or rate <= VARIES * mean):
            return Fraction(rate)
    return Fraction(25)


def _sought(container: Any, stream: Any, time: Fraction) -> bool:
    """Go to the key frame at or before a time, in seconds; False where a kind of file cannot, or not surely."""
    import av

    if container.format.name in UNSURE:
        return False
    try:
        container.seek(int(time / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _time(frame: Any) -> Fraction | None:
    return None if frame.pts is None else Fraction(frame.pts) * frame.time_base


def _promised(stream: Any, begins: Fraction | None = None) -> Fraction:
    """Seconds of pictures by the file's header, 0 where it tells none of this stream, whose first begins then."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    text = stream.metadata.get("DURATION", "")  # Matroska: 00:00:08.008000000, when the last one ends
    try:
        hours, minutes, seconds = text.split(":")
        ends = Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
        return max(Fraction(0), ends - max(Fraction(0), begins or Fraction(0)))
    except ValueError:
        return Fraction(0)


def _colours(frame: Any) -> tuple[int, int]:
    """Matrix and range of a picture, in FFmpeg's numbers."""
    space = int(frame.colorspace)
    if space not in SPACES:
        space = BT709 if frame.height >= HD else BT601
    full = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
    return space, FULL if full else LIMITED
