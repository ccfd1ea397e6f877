"""How a program ends: with a line and a status after an error, and by a service manager's signal as by Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from .errors import EdgetalkError, one_line

_SERVICE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a service; Windows has one of the two."""

REPEAT = 1.0  # seconds


class Ended(KeyboardInterrupt):
    """A signal that ends services has come: what Ctrl-C would save is saved, what it would remove is removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let the signals that end a service unwind the command as Ctrl-C does, so that it leaves no NAME.part behind."""
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a forked worker, whose owner says what there is to say
            os._exit(128 + number)
        raise Ended(number)

    ours = []
    if threading.current_thread() is threading.main_thread():  # no other may set them
        # What nohup, or a program that calls main, has set stays.
        ours = [number for number in _SERVICE if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def held_back(text: str) -> Iterator[None]:
    """Let Ctrl-C, and a signal that ends services, wait for the end of the block, which a second one does not.

    One that comes within REPEAT of the first counts as the same: `timeout` of GNU signals a process, and then the group
    that it is in. `text` is written to stderr when one has to wait. In a thread other than the main one, which no
    signal reaches, nothing changes.
    """
    came: list[int] = []
    first = 0.0
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # Those that python does not handle end the process, or do nothing, as before.
        handlers = {n: had for n in (signal.SIGINT, *_SERVICE) if callable(had := signal.getsignal(n))}

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if came:
            if time.monotonic() - first > REPEAT:
                handlers[number](number, frame)
            return
        first = time.monotonic()
        came.append(number)
        os.write(2, f"{text}\n".encode())  # print might be in the middle of another line

    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, had in handlers.items():
            signal.signal(number, had)
    if came:
        handlers[came[0]](came[0], None)


def status(name: str, work: Callable[[], int]) -> int:
    """Return the exit status of `work`, what it returns: 1 after an EdgetalkError or OSError, 130, 143 or 129 if ended.

    Then one line on stderr says why; it begins with the program's `name`.
    """
    try:
        return work()
    except (EdgetalkError, OSError) as error:
        why, ended = one_line(error), 1
    except Ended as end:
        why, ended = f"ended by {end.signal.name}", 128 + end.signal
    except KeyboardInterrupt:
        why, ended = "interrupted", 130
    print(f"{name}: {why}", file=sys.stderr)
    return ended
