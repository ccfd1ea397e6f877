"""Processes that work through a list of jobs and end with the program that asked for them, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give an executor of so many fresh processes.

    Where its block is left by an error or by Ctrl-C, jobs that wait are dropped and those that run are ended; a program
    that is killed takes them along within a second. Left alone, an executor works through all that it was given.
    """
    context = multiprocessing.get_context("spawn")  # threads of OpenVINO and PyTorch do not survive a fork
    executor = ProcessPoolExecutor(workers, context, _follow, (os.getpid(),))
    try:
        yield executor
    except BaseException:
        processes = list((executor._processes or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    finally:
        executor.shutdown()


def _follow(parent: int) -> None:
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
