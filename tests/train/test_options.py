import argparse
import importlib
import re
from dataclasses import dataclass, fields

import pytest

from edgetalk.errors import InputError
from edgetalk.train.amnet import recipe as amnet
from edgetalk.train.commands.train import MODULES
from edgetalk.train.lite import search as lite
from edgetalk.train.networks.amnet import VARIANTS
from edgetalk.train.options import add_fields, check_bounds, explanations
from edgetalk.train.swap import schedule as swap_schedule


@dataclass
class Schedule:
    images: int = 100
    """Training pictures,
    100 % of them."""
    mixed_in: bool = True
    start: str = ""
    """Where from."""


def options(**how):
    parser = argparse.ArgumentParser()
    add_fields(parser, Schedule, **how)
    return parser


def test_every_field_is_an_option_with_its_docstring_as_help():
    told = options().format_help()
    assert "Training pictures, 100 % of them. (default 100)" in " ".join(told.split())
    assert "Where from." in told and "(default )" not in told
    given = options().parse_args(["--images", "7", "--no-mixed-in", "--start", "a"])
    assert vars(given) == {"images": 7, "mixed_in": False, "start": "a"}
    assert vars(options().parse_args([])) == {"images": 100, "mixed_in": True, "start": ""}


def test_a_command_with_presets_leaves_open_what_is_not_given():
    presets = {"usual": Schedule(), "long": Schedule(images=900)}
    assert vars(options(presets=presets, without=["start"]).parse_args([])) == {"images": None, "mixed_in": None}
    help_of = " ".join(options(presets=presets).format_help().split())
    assert "100 % of them. (default 100, 900 in long)" in help_of and "(default True)" in help_of


def test_what_was_not_given_has_no_bounds():
    given, bounds = options(presets={"usual": Schedule()}), {"images": (1, 5)}
    check_bounds(given.parse_args([]), bounds, ["images"])
    for told in ("0", "6", "-1"):
        with pytest.raises(InputError, match=f"^images: got {told}, expected 1 to 5; change --images$"):
            check_bounds(given.parse_args(["--images", told]), bounds)
    with pytest.raises(InputError, match="^images: got 0, expected more than 0; change --images$"):
        check_bounds(given.parse_args(["--images", "0"]), {}, ["images"])


@pytest.mark.parametrize("schedule", [amnet.Config, swap_schedule.Config, lite.Proxy])
def test_the_recipes_explain_their_fields(schedule):
    told = explanations(schedule)
    assert {field.name for field in fields(schedule)} - told.keys() <= {"lr", "batch", "skips"}


@pytest.mark.parametrize("family", ["amnet", "wavsyncswap", "wav2lip", "simswap"])
def test_every_option_of_a_training_is_explained_and_what_has_a_default_tells_it(family):
    parser = argparse.ArgumentParser()
    importlib.import_module(MODULES[family]).configure(parser)
    for action in parser._actions:
        assert action.help, action.dest
    told = " ".join(parser.format_help().split())
    for option in ("lr", "width", "seed"):
        assert re.search(rf"--{option} {option.upper()} [A-Z][^(]+\(default [\d.e-]+\)", told), option
    if family == "amnet":
        assert all(re.search(rf"\b{variant}\b", told) for variant in VARIANTS)
