"""One function over many tasks on several processes, with a progress bar; it ends with its parent and leaves nothing
behind. Each task writes its own file, so that what is done stays done when the whole is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence

import cv2
from tqdm import tqdm

from edgetalk.errors import EdgetalkError


def spread(work: Callable[[int], int], tasks: Sequence[int], workers: int, label: str, unit: str, total: int) -> None:
    """Call work(task) for all tasks; it returns how many units of the bar it has done.

    An error in a worker ends all of them and is raised here as an EdgetalkError.
    """
    cv2.setNumThreads(1)
    with tqdm(total=total, desc=label, unit=unit, mininterval=0.5) as bar:
        if workers <= 1 or len(tasks) <= 1:
            for task in tasks:
                bar.update(work(task))
            return
        context = multiprocessing.get_context("fork")
        reports = context.Queue()
        processes = [
            context.Process(target=_worker, args=(work, tasks[i::workers], reports, os.getpid()), daemon=True)
            for i in range(min(workers, len(tasks)))
        ]
        for process in processes:
            process.start()
        try:
            for _ in tasks:
                bar.update(_next(reports, processes))
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()


def _next(reports, processes: list) -> int:
    """What the next finished task reports; EdgetalkError if it failed or its process has died."""
    while True:
        try:
            report = reports.get(timeout=1)
        except queue.Empty:
            died = [process.exitcode for process in processes if process.exitcode]
            if died:
                raise EdgetalkError(
                    f"worker: died with exit code {died[0]}, expected it to finish; run the same "
                    "command again, perhaps with fewer --workers"
                ) from None
            continue
        if isinstance(report, str):
            raise EdgetalkError(report)
        return report


def _worker(work: Callable[[int], int], tasks: Sequence[int], reports, parent: int) -> None:
    try:
        for task in tasks:
            if os.getppid() != parent:
                return
            reports.put(work(task))
    except Exception as error:
        reports.put(f"{type(error).__name__} in a worker: {error}")
