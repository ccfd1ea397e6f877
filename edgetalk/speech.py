"""Text into sound, by flite or espeak-ng where one of them is installed.

Both are programs of the system and no part of edgetalk; any other speech synthesis works as well, as a sound file.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import audio
from .errors import BackendError, InputError

LIMIT = 60  # seconds of wall time, for texts of a few sentences
FLITE_VOICE = "slt"


def say(text: str) -> NDArray[np.float32]:
    """Return `text` as spoken English, (N,) float32 at 16 kHz.

    Raises InputError where there is nothing to say, and BackendError where neither program is there or it failed.
    """
    if not any(character.isascii() and character.isalnum() for character in text):
        raise InputError(f"text: got {text!r}, expected words to say, in English")
    with tempfile.TemporaryDirectory(prefix="edgetalk-") as folder:
        spoken, written = Path(folder) / "speech.wav", Path(folder) / "speech.txt"
        written.write_text(text, encoding="utf-8")  # a file, so that no text is taken for an option
        if flite := shutil.which("flite"):
            command = [flite, "-voice", FLITE_VOICE, "-f", str(written), "-o", str(spoken)]
        elif espeak := shutil.which("espeak-ng"):
            command = [espeak, "-w", str(spoken), "-f", str(written)]
        else:
            raise BackendError(
                "text needs flite or espeak-ng, and neither is installed; try: apt install flite, or pass a sound file"
            )
        try:
            run = subprocess.run(command, capture_output=True, timeout=LIMIT, text=True, errors="replace")
        except subprocess.TimeoutExpired:
            raise BackendError(f"{command[0]} took longer than {LIMIT} s for this text; shorten it") from None
        if run.returncode or not spoken.is_file():
            raise BackendError(f"{command[0]} failed on this text: {run.stderr.strip() or run.returncode}")
        return audio.read(spoken)
