"""What filmed people agreed to: it goes with every set of them, and into every checkpoint that learnt from one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgetalk.errors import InputError
from edgetalk.use import ALLOWED


@dataclass(frozen=True)
class Terms:
    """Of one set; its file, and a checkpoint, hold them as a dict of these names."""

    consent: str
    """Who agreed, where that is written down."""
    licence: str = ""
    use: str = "any"
    """"any" or "non-commercial"."""


def add_terms(parser: argparse.ArgumentParser) -> None:
    """Add the options that these terms are given by."""
    parser.add_argument(
        "--consent",
        required=True,
        metavar="NOTE",
        help="who agreed, and when, that face and voice are trained on; kept in the set, its checkpoints and avatars",
    )
    parser.add_argument("--licence", default="", help="licence of the films, which the weights will be under, too")
    parser.add_argument("--use", choices=ALLOWED, default="any", help="what weights of these films may be used for")


def check_consent(terms: Terms) -> None:
    """Raise InputError where nobody is named who agreed."""
    if not terms.consent.strip():
        raise InputError(f"consent: got {terms.consent!r}, expected who agreed to it, and when; change --consent")


def joined(terms: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the terms of what was made of several sets: all consents and licences, the narrowest use.

    Those of drawn persons are empty, and so is the result where there are no others.
    """
    told = [one for one in terms if one]
    if not told:
        return {}
    parts = {key: [part for one in told for part in one[key].split("; ") if part] for key in ("consent", "licence")}
    every = {key: "; ".join(dict.fromkeys(own)) for key, own in parts.items()}  # what went on several times, once
    uses = [one["use"] for one in told]
    return every | {"use": next((use for use in uses if use != "any"), "any")}
