"""Programs that `python -m` starts: their help, and what they do with an error, Ctrl-C or SIGTERM, as `edgetalk`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edgetalk.commands.options import CommandParser
from edgetalk.signals import ended_by_signals, status


def module() -> str:
    """Return the name of the module, or of the package, that Python was told to run with -m; "" where it was not."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else ""


def parser(name: str, docstring: str | None) -> CommandParser:
    """Return a parser for `python -m NAME`, whose help begins with the module's docstring as it is."""
    return CommandParser(f"python -m {name}", description=docstring)


def run(main: Callable[[], object]) -> None:
    """Call `main`; end the program with one line on stderr where it is told to, or raises EdgetalkError or OSError.

    The status is 1 after an error, 130 after Ctrl-C, 143 and 129 after SIGTERM and SIGHUP.
    """

    def work() -> int:
        with ended_by_signals():
            main()
        return 0

    if ended := status(f"python -m {module() or main.__module__}", work):
        sys.exit(ended)
