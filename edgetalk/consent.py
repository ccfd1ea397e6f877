"""What a model or a face may be used for, said by its own metadata, and the refusal where that is not enough."""

from __future__ import annotations

from .errors import InputError, ModelError
from .metadata import Metadata

USES = ("any", "commercial")
"""What a caller may state: nothing in particular, or commercial use."""


def check_stated(use: str) -> None:
    """Raise InputError where `use` is none of USES."""
    if use not in USES:
        raise InputError(f'use: got {use!r}, expected "any" or "commercial"')


def check_use(metadata: Metadata, name: str, use: str) -> None:
    """Raise ModelError where the model `name` may not be used for what is stated, InputError where that is unknown."""
    check_stated(use)
    if use == "commercial" and metadata.use != "any":
        raise ModelError(
            f"{name} is for {metadata.use} use (licence: {metadata.licence or 'not stated'}), "
            "and commercial use was asked for; take a model without that limit"
        )
