"""The command line: a table of commands, each imported only when it is called.

A command is a module with `configure(parser)` and `run(args)`. Exit status: 0 done, 1 an EdgetalkError or
OSError (one line on stderr), 2 wrong usage, 130 interrupted, 143 and 129 ended by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import __version__, signals


class Command(NamedTuple):
    module: str
    help: str
    extra: str = ""


COMMANDS = {
    "demo": Command("edgetalk.commands.demo", "the bundled announcer speaks the bundled sentence into demo.mp4"),
    "talk": Command("edgetalk.commands.talk", "speech and a face in, a video with sound out"),
    "live": Command("edgetalk.commands.live", "a page in the browser where a face says what you type or speak", "live"),
    "dub": Command("edgetalk.commands.dub", "a film, a sound and perhaps a portrait in, the dubbed film out"),
    "avatar": Command("edgetalk.commands.avatar", "prepare a source face once, so that a step needs the engine alone"),
    "bench": Command("edgetalk.commands.bench", "milliseconds per stage, memory and real-time factor of an engine"),
    "doctor": Command(
        "edgetalk.commands.doctor", "what this machine can run, whether an engine fits, what an avatar holds"
    ),
    "track": Command("edgetalk.commands.track", "follow a face through a film: where it is, once for all"),
    "fetch": Command("edgetalk.commands.fetch", "download the face-tracking networks into the user's cache"),
    "data": Command(
        "edgetalk.train.commands.data", "a data set of announcers or films, or calibration arrays", "train"
    ),
    "train": Command("edgetalk.train.commands.train", "train a network; the same command resumes", "train"),
    "score": Command("edgetalk.train.commands.score", "score a checkpoint on held-out data", "train"),
    "export": Command("edgetalk.export.command", "checkpoint to ONNX", "export"),
    "build": Command("edgetalk.engines.command", "ONNX to an engine for this or another device", "build"),
}


def usage() -> str:
    lines = ["usage: edgetalk COMMAND [options]", ""]
    lines += [f"  {name:<8} {command.help}" for name, command in COMMANDS.items()]
    told = ["edgetalk COMMAND --help tells the options of a command, edgetalk --version which edgetalk this is."]
    return "\n".join([*lines, "", *told])


def _one_line(name: str) -> Callable[..., None]:
    """Show a warning as one line without its place in the code, which says nothing at a command line."""

    def show(message: Warning | str, *place: object) -> None:
        print(f"edgetalk {name}: {' '.join(str(message).split())}", file=sys.stderr)

    return show


def _run(name: str, arguments: Sequence[str]) -> int:
    """Do what the command `name` does with its arguments; return the exit status."""
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"edgetalk {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"edgetalk: no command {name!r}; one of: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    from .commands.options import CommandParser  # here, where Ctrl-C is told in one line

    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    parser = CommandParser(prog=f"edgetalk {name}", description=module.__doc__ or command.help)
    module.configure(parser)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as stop:  # 0 after --help, 2 after wrong usage
        return int(stop.code or 0)
    with warnings.catch_warnings(), signals.ended_by_signals():
        warnings.showwarning = _one_line(name)
        module.run(args)
    return 0


def _flush() -> None:
    """Write our output out here, where an error is told in one line, and not as Python ends."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        error.filename = "standard output"
        raise


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _done(name: str, arguments: Sequence[str]) -> int:
    """Do what the command `name` does, and write out what it says; return the exit status."""
    try:
        status = _run(name, arguments)
        if sys.stdout is not None:
            _flush()
        return status
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        extra = COMMANDS[name].extra if name in COMMANDS else ""
        if not extra or missing == "edgetalk":
            raise
        print(f'edgetalk {name} needs {missing}: pip install "edgetalk[{extra}]"', file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as `edgetalk doctor | head -1` does
        _drop_output()
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be of the terminal's letters
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:  # closed by who started us, or never there, as of programs without a console
        sys.stderr = open(os.devnull, "w")
    return signals.status(f"edgetalk {name}", lambda: _done(name, arguments))


if __name__ == "__main__":
    sys.exit(main())
