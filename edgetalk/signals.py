"""What a program does when a service manager ends it: what it does after Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


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
        there = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))  # Windows has one of the two
        # What nohup, or a program that calls main, has set stays.
        ours = [number for number in there if number and signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
