"""Signals that have to wait: what is done meanwhile is done whole."""

import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from edgetalk import signals
from edgetalk.signals import held_back


def test_ctrl_c_waits_for_the_end_of_the_block(capfd):
    done = []
    with pytest.raises(KeyboardInterrupt), held_back("wait"):
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        done.append("block")
    assert done == ["block"] and capfd.readouterr().err == "wait\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not_wait(monkeypatch):
    clock = iter([0.0, 1.5])
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(KeyboardInterrupt), held_back("wait"):
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        pytest.fail("it waited")


def test_one_that_is_sent_twice_at_once_is_one(capfd):  # as `timeout` does, to a process and to its group
    done = []
    with pytest.raises(KeyboardInterrupt), held_back("wait"):
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        done.append("block")
    assert done == ["block"] and capfd.readouterr().err == "wait\n"


def test_an_error_of_the_block_is_what_is_raised():
    with pytest.raises(ZeroDivisionError), held_back("wait"):
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_thread_is_left_alone():
    done = []

    def work():
        with held_back("wait"):
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


SERVICE = """
import os, signal, sys
from edgetalk.signals import ended_by_signals, held_back, status

def work():
    with ended_by_signals(), held_back("wait"):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        print("whole", flush=True)
    return 0

signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(status("service", work))
"""


@pytest.mark.parametrize(
    "name, code, told",
    [("SIGTERM", 143, ["wait", "service: ended by SIGTERM"]), ("SIGINT", 0, [])],
    ids=["a service manager's", "Ctrl-C in a job that ignores it"],
)
def test_what_the_command_would_have_done_is_done_afterwards(name, code, told):
    ended = subprocess.run([sys.executable, "-c", SERVICE, name], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr.splitlines()) == (code, "whole\n", told)
