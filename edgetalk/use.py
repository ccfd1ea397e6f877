"""What a model or a face may be used for, said by its own metadata, and the refusal where that is not enough."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from .bundled import is_bundled
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


def terms(licence: str, use: str | None, *networks: tuple[str, Licensed]) -> tuple[str, str]:
    """Return licence and use of a face that is prepared by these networks, each with its name.

    Terms stated for the face stay. If none were (None, ""), it gets those of a limited network. Raises
    InputError where `use` is "any" and a network is limited.
    """
    for name, network in networks:
        if network.use != "any":
            if use == "any":
                raise InputError(
                    f"use: got any, and {name}, which prepares the face, is for {network.use} use (licence: "
                    f"{network.licence or 'not stated'}); state that, or nothing"
                )
            licence, use = licence or network.licence, "non-commercial"
    return licence, use or "any"


def warn_of_drawn(faces: str, name: str, video: str | os.PathLike[str]) -> None:
    """Warn that the network `name` has seen only drawn faces, unless the film is the bundled one, which is drawn."""
    if faces == "drawn" and not is_bundled(Path(os.path.abspath(video))):
        warnings.warn(
            f"{name} has learnt from drawn faces alone: if this film shows filmed people, their faces become drawn "
            "patches; take a network that has seen some, as published Wav2Lip and SimSwap have",
            stacklevel=3,
        )


def warn_of_photos(faces: str, persons: Collection[str], name: str) -> None:
    """Warn, before a picture is prepared, that the network `name` has seen only drawn faces.

    Networks of named persons are passed over: they have a warning of their own.
    """
    if faces == "drawn" and not persons:
        warnings.warn(
            f"{name} has learnt from drawn faces alone: if this picture is a photo, it comes out destroyed; "
            "take a drawing, or a network that was trained on people who were filmed",
            stacklevel=3,
        )


def check_stated(use: str) -> None:
    """Raise InputError where `use` is none of USES."""
    if use not in USES:
        raise InputError(f'use: got {use!r}, expected "any" or "commercial"')


def check_use(used: Licensed, name: str, use: str) -> None:
    """Raise ModelError where the model or avatar `name` may not be used for `use`, InputError where that is unknown."""
    check_stated(use)
    if use == "commercial" and used.use != "any":
        raise ModelError(
            f"{name} is for {used.use} use (licence: {used.licence or 'not stated'}), "
            "and commercial use was asked for; take one without that limit"
        )
