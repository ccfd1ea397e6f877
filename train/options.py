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
    help_of = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            help_of[field.target.id] = " ".join(str(below.value.value).split())
    return help_of


def add_fields(
    parser: argparse.ArgumentParser,
    schedule: type,
    *,
    without: Iterable[str] = (),
    presets: Mapping[str, Any] | None = None,
) -> None:
    """Add an option for every field of a dataclass that has a default, but for those in `without`.

    Options that are not given have the field's default, or None where the command has `presets`, of which the first one
    is taken where none is named.
    """
    help_of = explanations(schedule)
    for field in fields(schedule):
        if field.name in without:
            continue
        kind = type(field.default)
        options: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
        words = [help_of[field.name]] if field.name in help_of else []
        default, *others = [getattr(each, field.name) for each in presets.values()] if presets else [field.default]
        if default != "":
            names = list(presets or ())[1:]
            told = [f"{value} in {name}" for name, value in zip(names, others, strict=True) if value != default]
            words.append(f"({', '.join([f'default {default}', *told])})")
        options["help"] = " ".join(words).replace("%", "%%")
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, default=None if presets else field.default, **options)


def check_bounds(
    schedule: Any,
    bounds: Mapping[str, tuple[float, float]],
    positive: Iterable[str] = (),
    why: Mapping[str, str] | None = None,
) -> None:
    """Raise InputError, which names field and option, where a field lies outside its bounds (least, most).

    Those in `positive` have to be more than 0; `why` has what to add behind a bound. What is None was not given.
    """
    for name, (least, most) in bounds.items():
        if (got := getattr(schedule, name)) is not None and not least <= got <= most:
            wanted = f"{least} or more" if most == math.inf else f"{least} to {most}"
            message = f"{name}: got {got}, expected {wanted}{(why or {}).get(name, '')}"
            raise InputError(f"{message}; change --{name.replace('_', '-')}")
    for name in positive:
        if (got := getattr(schedule, name)) is not None and not 0 < got < math.inf:
            raise InputError(f"{name}: got {got}, expected more than 0; change --{name.replace('_', '-')}")
