"""What filmed people agreed to: it goes with every set of them, and into every checkpoint that learnt from one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """Of one set; its file, and a checkpoint, hold them as a dict of these names."""

    consent: str
    """Who agreed, where that is written down."""
    licence: str = ""
    use: str = "any"
    """"any" or "non-commercial"."""


def joined(terms: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the terms of what was made of several sets: all consents and licences, the narrowest use.

    Those of drawn persons are empty, and so is the result where there are no others.
    """
    told = [one for one in terms if one]
    if not told:
        return {}
    every = {key: "; ".join(dict.fromkeys(one[key] for one in told if one[key])) for key in ("consent", "licence")}
    uses = [one["use"] for one in told]
    return every | {"use": next((use for use in uses if use != "any"), "any")}
