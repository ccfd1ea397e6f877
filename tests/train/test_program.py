"""What a program of train/ says as it is stopped; errors are tested where they come from."""

import os
import signal

import pytest

from edgetalk.train import program


def test_ctrl_c_is_one_line(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        program.run(main)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 130 and len(lines) == 1 and lines[0].endswith(": interrupted")


def test_sigterm_is_what_ctrl_c_is(capsys):
    saved = []

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:  # as a training does
            saved.append("state")
            raise

    with pytest.raises(SystemExit) as stop:
        program.run(main)
    [line] = capsys.readouterr().err.splitlines()
    assert saved == ["state"] and stop.value.code == 128 + signal.SIGTERM and line.endswith(": ended by SIGTERM")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
