"""What a program of train/ says of itself, and as it is stopped; errors are tested where they come from."""

import signal
import subprocess
import sys

import pytest

from edgetalk.train import program


def test_help_has_the_modules_docstring_as_it_is():
    shown = program.parser("edgetalk.train.swap", "Make data:\n\n    draw     it\n").format_help()
    assert shown.startswith("usage: python -m edgetalk.train.swap [-h]\n\nMake data:\n\n    draw     it\n")


def test_ctrl_c_is_one_line(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        program.run(main)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 130 and len(lines) == 1 and lines[0].endswith(": interrupted")


SAVES = """
import os, signal
from edgetalk.train import program

def main():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:  # as a training does
        print("saved")
        raise

program.run(main)
"""


def test_sigterm_is_what_ctrl_c_is():
    ended = subprocess.run([sys.executable, "-c", SAVES], capture_output=True, text=True)
    [line] = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGTERM, "saved\n") and line.endswith(": ended by SIGTERM")
