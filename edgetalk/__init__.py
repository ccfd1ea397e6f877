"""Audio-driven talking faces in real time, offline.

>>> with edgetalk.Session("amnet") as session:
...     for frame in session.talk("speech.wav"): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import BackendError, EdgetalkError, InputError, ModelError

if TYPE_CHECKING:
    from .dubbing import dub
    from .render import talk
    from .session import Session

__version__ = "0.1.0"
__all__ = ["BackendError", "EdgetalkError", "InputError", "ModelError", "Session", "dub", "talk"]


def __getattr__(name: str) -> Any:
    if name == "Session":  # imported when it is first asked for: numpy and all that follows take their time
        from .session import Session

        return Session
    if name == "dub":
        from .dubbing import dub

        return dub
    if name == "talk":
        from .render import talk

        return talk
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
