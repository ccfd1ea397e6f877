"""The errors that edgetalk raises; a missing file stays the builtin FileNotFoundError.

    EdgetalkError
    ├── ModelError(ValueError)      a file of a model cannot be used
    ├── InputError(ValueError)      what the caller passed cannot be used
    └── BackendError(RuntimeError)  the engine package, its driver or its device is missing or failed

Every message is one sentence: which thing, what came, what was expected, what to do about it.
"""

import os
import shlex


class EdgetalkError(Exception):
    """Base of every error that edgetalk raises on purpose."""


class ModelError(EdgetalkError, ValueError):
    """File unreadable or truncated, metadata missing or newer, engine built for another device or version."""


class InputError(EdgetalkError, ValueError):
    """Wrong name, dtype, shape, range or NaN; no face; empty or broken audio."""


class BackendError(EdgetalkError, RuntimeError):
    """Engine package, driver or device missing, or inference failed."""


def counted(count: int, what: str) -> str:
    """Return a number with what it counts: 1 frame, 2 frames."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def one_line(error: BaseException) -> str:
    """Return an error as one line; for a file error, its name and the reason.

    >>> one_line(FileNotFoundError(errno.ENOENT, "No such file or directory", "speech.wav"))
    'speech.wav: No such file or directory'
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # str() begins with the number and ends with the name
        text = error.strerror
        if isinstance(error.filename, str | bytes | os.PathLike):  # a number is of an open file, and tells nobody
            text = f"{os.fsdecode(error.filename)}: {text}"
    return " ".join(text.split())


def word(name: str | os.PathLike[str]) -> str:
    """Return a name as one word of a command that a message tells, quoted where a shell would not take it for one.

    >>> print("edgetalk build", word("my amnet.onnx"))
    edgetalk build 'my amnet.onnx'
    """
    return shlex.quote(os.fspath(name))
