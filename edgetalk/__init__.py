"""Audio-driven talking faces in real time, offline.

>>> with edgetalk.Session("amnet") as session:
...     for frame in session.talk("speech.wav"): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import BackendError, EdgetalkError, InputError, ModelError

if TYPE_CHECKING:
    from .avatar import Avatar, load_avatar, make_avatar, save_avatar
    from .dubbing import dub
    from .film_avatar import make_film_avatar
    from .render import talk
    from .session import Session

__version__ = "0.1.0"
__all__ = [
    "Avatar",
    "BackendError",
    "EdgetalkError",
    "InputError",
    "ModelError",
    "Session",
    "dub",
    "load_avatar",
    "make_avatar",
    "make_film_avatar",
    "save_avatar",
    "talk",
]

# Imported when they are first asked for: numpy and all that follows take their time.
_LAZY = {
    "Avatar": "avatar",
    "Session": "session",
    "dub": "dubbing",
    "load_avatar": "avatar",
    "make_avatar": "avatar",
    "make_film_avatar": "film_avatar",
    "save_avatar": "avatar",
    "talk": "render",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
