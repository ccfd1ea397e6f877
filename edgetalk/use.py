"""What a model or a face may be used for, said by its own metadata, and the refusal where that is not enough."""

from __future__ import annotations

from typing import Protocol

from .errors import InputError, ModelError

USES = ("any", "commercial")
"""What a caller may state: nothing in particular, or commercial use."""
ALLOWED = ("any", "non-commercial")
"""What a model or a face may be used for."""


class Licensed(Protocol):
    """A model's metadata, or an avatar."""

    @property
    def use(self) -> str: ...
    @property
    def licence(self) -> str: ...


def check_stated(use: str) -> None:
    """Raise InputError where `use` is none of USES."""
    if use not in USES:
        raise InputError(f'use: got {use!r}, expected "any" or "commercial"')


def check_use(used: Licensed, name: str, use: str) -> None:
    """Raise ModelError where the model or avatar `name` may not be used so, InputError where `use` is unknown."""
    check_stated(use)
    if use == "commercial" and used.use != "any":
        raise ModelError(
            f"{name} is for {used.use} use (licence: {used.licence or 'not stated'}), "
            "and commercial use was asked for; take one without that limit"
        )
