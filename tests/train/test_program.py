"""What a program of train/ says as it is stopped; errors are tested where they come from."""

import pytest

from edgetalk.train import program


def test_ctrl_c_is_one_line(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        program.run(main)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 130 and len(lines) == 1 and lines[0].endswith(": interrupted")
