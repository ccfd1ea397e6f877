"""The fields of a schedule as options of a command, each explained by its own docstring."""

from __future__ import annotations

import argparse
import ast
import inspect
import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from edgetalk.errors import InputError


def explanations(schedule: type) -> dict[str, str]:
    """Return the docstrings of a dataclass's fields (the strings below them) by name, each in one line."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(schedule))).body
    assert isinstance(definition, ast.ClassDef)
    told = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            told[field.target.id] = " ".join(str(below.value.value).split())
    return told


def add_fields(
    parser: argparse.ArgumentParser, schedule: type, *, without: Iterable[str] = (), preset: bool = False
) -> None:
    """Add an option for every field of a dataclass that has a default, but for those in `without`.

    Options that are not given have the field's default, or None where the command has presets.
    """
    told = explanations(schedule)
    for field in fields(schedule):
        if field.name in without:
            continue
        kind = type(field.default)
        options: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        words = [told[field.name]] if field.name in told else []
        if not preset and field.default != "":
            words.append(f"(default {field.default})")
        options["help"] = " ".join(words).replace("%", "%%")
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, default=None if preset else field.default, **options)


def check_bounds(
    schedule: Any,
    bounds: Mapping[str, tuple[float, float]],
    positive: Iterable[str] = (),
    why: Mapping[str, str] | None = None,
) -> None:
    """Raise InputError, which names field and option, where a field lies outside its bounds (least, most).

    Those in `positive` have to be more than 0; `why` has what to add behind a bound.
    """
    for name, (least, most) in bounds.items():
        if not least <= (got := getattr(schedule, name)) <= most:
            wanted = f"{least} or more" if most == math.inf else f"{least} to {most}"
            told = f"{name}: got {got}, expected {wanted}{(why or {}).get(name, '')}"
            raise InputError(f"{told}; change --{name.replace('_', '-')}")
    for name in positive:
        if not 0 < (got := getattr(schedule, name)) < math.inf:
            raise InputError(f"{name}: got {got}, expected more than 0; change --{name.replace('_', '-')}")
