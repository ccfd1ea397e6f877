"""Whose face speaks: the avatar that a session was asked for, and what the graph of its engine takes of it.

An avatar is read from a file or made of a picture; where other weights prepared it, it is prepared again.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .avatar import FRAMES, Avatar, AvatarLike, load_avatar, make_avatar
from .backends import Backend, beside
from .bundled import called, find_avatar, is_bundled
from .errors import InputError, ModelError, word
from .metadata import Metadata
from .model import not_of_one_export
from .picture import PictureLike, read_picture
from .preprocess import square_crop, whole_box
from .use import check_use, warn_of_photos

MOVED = ("mel", "pose", "blink")
"""Inputs of a step that every frame has anew; the others come from the avatar."""


@dataclasses.dataclass(frozen=True)
class Fitter:
    """Fits faces to the step at `path`. `device` and `threads` are those of the session, for engines that prepare."""

    path: Path
    backend: Backend
    metadata: Metadata
    device: str
    threads: int | None

    def avatar(self, avatar: AvatarLike | None, source: PictureLike | None, use: str) -> Avatar:
        """Find, load or make the avatar, with features of this engine's weights."""
        made = self._load_avatar(avatar, use) if source is None else self._of_picture(source, use)
        persons = self.metadata.persons
        if persons and made.name not in persons:
            warnings.warn(
                f"{self.path.name} was trained on {', '.join(persons)} alone: this face is none of them and will not "
                "look right",
                stacklevel=4,
            )
        return made

    def _of_picture(self, source: PictureLike, use: str) -> Avatar:
        """Return the avatar of a picture of a face."""
        whole = self.backend.inputs.get("source")  # the graph takes the picture itself
        if whole is None:
            return self._of_this_export(make_avatar(self.path, source, device=self.device, threads=self.threads), use)
        picture = read_picture(source)
        warn_of_photos(self.metadata.faces, self.metadata.persons, self.path.name)
        crop = square_crop(picture, whole.shape[1]).copy()  # not the caller's own array
        return Avatar(crop, {}, whole_box(picture), self.metadata.family, "")

    def _load_avatar(self, avatar: AvatarLike | None, use: str) -> Avatar:
        """Return an avatar, one of a file, or, of None, the one beside the engine."""
        name = self.path.name
        if isinstance(avatar, Avatar):
            made, label, bundled = avatar, "the avatar", False
        else:
            path = self._own_avatar() if avatar is None else find_avatar(avatar)
            made, label, bundled = load_avatar(path), path.name, is_bundled(path)
        check_use(made, label, use)
        if made.family != self.metadata.family:
            raise ModelError(
                f"{label} is of {made.family} and {name} is {self.metadata.family}; "
                f"prepare one for it: {self._preparing}"
            )
        inputs = self.backend.inputs
        if "source" in inputs:
            return dataclasses.replace(made, source=square_crop(made.source, inputs["source"].shape[1]))
        if "target" in inputs or made.weights == self.metadata.source:
            return made
        again = self._prepare_again(made, label, use)
        if not bundled:  # those are prepared for one of the bundled models and meant for all
            files = f"edgetalk avatar {called(self.path)} {word(label)} -o NEW.avatar"
            keep = "edgetalk.save_avatar(session.avatar, FILE)" if isinstance(avatar, Avatar) else files
            warnings.warn(
                f"{label} was prepared with other weights than those of {name} and has been prepared again "
                f"for this session; keep that with: {keep}",
                stacklevel=5,
            )
        return again

    def _own_avatar(self) -> Path:
        """Return the avatar that lies beside the engine; raises ModelError where there is none."""
        avatar = self.path.with_suffix(".avatar")
        if not avatar.is_file():
            raise ModelError(
                f"{self.path.name} has no {avatar.name} beside it; pass one as avatar= or --avatar, "
                f"made by: {self._preparing} -o {word(avatar.name)}"
            )
        return avatar

    @property
    def _preparing(self) -> str:
        """The command that prepares an avatar for this engine."""
        film = "pose" not in self.backend.inputs  # somebody else has to move the head
        return f"edgetalk avatar {called(self.path)} {'--video FILM --portrait PICTURE' if film else 'PICTURE'}"

    def _prepare_again(self, avatar: Avatar, label: str, use: str) -> Avatar:
        """Return an avatar of other weights with features of these."""
        name = self.path.name
        if beside(self.path, f"{self.path.stem}-source") is None:
            raise ModelError(
                f"{label} was prepared with other weights than those of {name}, and there is no "
                f"{self.path.stem}-source{self.path.suffix} to prepare it again; copy that file, or take the "
                "avatar of this model"
            )
        from .film_avatar import recompute  # seldom needed, and it brings the readers of films along

        try:
            again = recompute(avatar, self.path, device=self.device, threads=self.threads)
        except InputError as error:  # of a picture that nobody gave
            raise ModelError(
                f"{label} was prepared with other weights than those of {name} and cannot be prepared again: {error}"
            ) from None
        return self._of_this_export(again, use)

    def _of_this_export(self, made: Avatar, use: str) -> Avatar:
        """Return what was prepared here; raises ModelError where what prepared it is another model's, or limited."""
        check_use(made, f"what prepares faces for {self.path.name}", use)
        if made.weights != self.metadata.source:
            raise not_of_one_export(self.path.name, "its source engine")
        return made

    def features(self, avatar: Avatar) -> dict[str, NDArray[Any]]:
        """Return what the graph takes from the avatar; the first axis counts the avatar's frames."""
        fixed: dict[str, NDArray[Any]] = {**avatar.features, "source": avatar.source[None]}
        film = avatar.film
        if film is not None and "target" in self.backend.inputs:  # a graph that has everything in it
            fixed |= {key: getattr(film, key) for key in FRAMES & self.backend.inputs.keys()}
        wanted = {key: spec for key, spec in self.backend.inputs.items() if key not in MOVED}
        for key, spec in wanted.items():
            if key not in fixed or fixed[key].shape[1:] != spec.shape[1:]:
                got = f"{key} {fixed[key].shape[1:]}" if key in fixed else f"no {key}"
                raise ModelError(
                    f"{self.path.name} takes {key} {spec.shape[1:]} and the avatar has {got}; "
                    "prepare it again: edgetalk avatar"
                )
        return {key: fixed[key] for key in wanted}
