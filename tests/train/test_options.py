import argparse
from dataclasses import dataclass, fields

import pytest

from edgetalk.train.amnet import recipe as amnet
from edgetalk.train.lite import search as lite
from edgetalk.train.options import add_fields, explanations
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
    assert vars(options(preset=True, without=["start"]).parse_args([])) == {"images": None, "mixed_in": None}
    assert "default 100" not in options(preset=True).format_help()


@pytest.mark.parametrize("schedule", [amnet.Config, swap_schedule.Config, lite.Proxy])
def test_the_recipes_explain_their_fields(schedule):
    told = explanations(schedule)
    plain = {"seed", "lr", "critic_lr", "batch", "average", "pixel", "identity", "sync", "feature", "width", "skips"}
    assert {field.name for field in fields(schedule)} - told.keys() <= plain
