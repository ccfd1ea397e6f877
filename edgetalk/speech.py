"""Text into sound, by flite or espeak-ng where one of them is installed.

Both are programs of the system and no part of edgetalk; any other speech synthesis works as well, as a sound file.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import audio
from .errors import BackendError, InputError
from .preprocess import check_text

LIMIT = 60  # seconds of wall time, for texts of a few sentences
FLITE_VOICE = "slt"


def say(text: str) -> NDArray[np.float32]:
    """Return `text` as spoken English, (N,) float32 at 16 kHz.

    Raises InputError where there is nothing to say, and BackendError where neither program is there or it failed.
    """
    with _asked(text) as (command, spoken):
        try:
            run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise _slow(command) from None
        return _heard(command, run.returncode, run.stderr, spoken)


async def say_cancellably(text: str) -> NDArray[np.float32]:
    """Return what `say` returns, in an event loop; the end of a task that is cancelled is the program's as well."""
    with _asked(text) as (command, spoken):
        program = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        hearing = asyncio.create_task(program.communicate())
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes as the program ends.
            if not (await asyncio.wait([hearing], timeout=LIMIT))[0]:
                raise _slow(command)
            _, stderr = hearing.result()
        finally:
            hearing.cancel()
            if program.returncode is None:
                program.kill()
                await program.wait()
        return await asyncio.to_thread(_heard, command, program.returncode, stderr, spoken)


@contextlib.contextmanager
def _asked(text: str) -> Iterator[tuple[list[str], Path]]:
    """Give the command that speaks `text`, and the file that it writes."""
    check_text("text", text)
    if not any(character.isascii() and character.isalnum() for character in text):
        raise InputError(f"text: got {text!r}, expected words to say, in English")
    with tempfile.TemporaryDirectory(prefix="edgetalk-") as folder:
        spoken, written = Path(folder) / "speech.wav", Path(folder) / "speech.txt"
        written.write_text(text, encoding="utf-8")  # a file, so that no text is taken for an option
        if flite := shutil.which("flite"):
            yield [flite, "-voice", FLITE_VOICE, "-f", str(written), "-o", str(spoken)], spoken
        elif espeak := shutil.which("espeak-ng"):
            yield [espeak, "-w", str(spoken), "-f", str(written)], spoken
        else:
            raise BackendError(
                "text needs flite or espeak-ng, and neither is installed; try: apt install flite, or pass a sound file"
            )


def _slow(command: list[str]) -> BackendError:
    return BackendError(f"{command[0]} took longer than {LIMIT} s for this text; shorten it")


def _heard(command: list[str], status: int | None, stderr: bytes, spoken: Path) -> NDArray[np.float32]:
    if status or not spoken.is_file():
        raise BackendError(f"{command[0]} failed on this text: {stderr.decode(errors='replace').strip() or status}")
    return audio.read(spoken)
