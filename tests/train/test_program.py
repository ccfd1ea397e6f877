"""What a program of train/ says of itself, and as it is stopped; errors are tested where they come from."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgetalk import cli
from edgetalk.train import program


def test_help_has_the_modules_docstring_as_it_is():
    shown = program.parser("edgetalk.train.swap", "Make data:\n\n    draw     it\n").format_help()
    assert shown.startswith("usage: python -m edgetalk.train.swap [-h]\n\nMake data:\n\n    draw     it\n")


def test_help_tells_the_default_of_what_does_not_tell_it():
    parser = program.parser("a", None)
    for name, default in (("told", 4), ("seed", 0), ("none", None), ("flag", False), ("text", ""), ("many", [])):
        parser.add_argument(f"--{name}", default=default, help="default: four" if name == "told" else "some")
    parser.add_argument("--ours", type=Path, default=Path("/lies/here"), help="some")
    parser.add_argument("--own", type=Path, default=Path("here"), help="some")
    below = parser.add_subparsers().add_parser("below", description="as it\n  is")
    below.add_argument("engine", nargs="?", default="amnet", help="some")
    below.add_argument("film", help="some")
    lines = [" ".join(line.split()) for one in (parser, below) for line in one.format_help().splitlines()]
    told = {line.split()[0]: line.partition(" some")[2] for line in lines if " some" in line}
    assert told == {"--seed": " (default 0)", "--none": "", "--flag": "", "--text": "", "--many": "", "--ours": "",
                    "--own": " (default here)", "engine": " (default amnet)", "film": ""}  # fmt: skip
    assert "--told TOLD default: four" in lines and "  is" in below.format_help().splitlines()


PROGRAMS = """amnet.ablations amnet.sheets experts.command experts.landmarks lite.search reports.figures reports.hello
reports.pasting reports.results swap.command swap.soup swap.wavsyncswap""".split()


@pytest.mark.parametrize("name", [*PROGRAMS, *cli.COMMANDS])
def test_every_option_has_words_and_o_is_output(name, check_options):
    if name in cli.COMMANDS:
        assert cli.main([name]) == 0
    else:
        with pytest.raises(SystemExit):
            importlib.import_module(f"edgetalk.train.{name}").main()
    assert check_options()


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
