"""Processes that work through jobs end with the program that asked for them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from edgetalk.train.pools import pool

PROGRAM = """
import os, sys, time
from edgetalk.train.pools import pool
if __name__ == "__main__":
    with pool(2) as processes:
        print(*[processes.submit(os.getpid).result() for _ in range(2)], flush=True)
        [processes.submit(time.sleep, 600) for _ in range(9)]
        time.sleep(600)
"""


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or read
        return False


def gone(processes, seconds=30.0) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.1)
    return not any(map(alive, processes))


def test_jobs_are_done_in_other_processes():
    with pool(2) as processes:
        assert list(processes.map(abs, [-1, -2, -3])) == [1, 2, 3]
        assert processes.submit(os.getpid).result() != os.getpid()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc to see processes")
def test_an_interrupted_block_waits_for_no_job():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), pool(1) as processes:
        process = processes.submit(os.getpid).result()
        for _ in range(5):
            processes.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert gone([process]) and time.monotonic() - began < 300


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc to see processes")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_program_takes_its_processes_along(tmp_path, how):
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True) as program:
        processes = [int(word) for word in program.stdout.readline().split()]
        assert processes and all(map(alive, processes))
        program.send_signal(how)
        program.wait(30)
        assert gone(processes)
