"""The live page: a browser shows a face and plays what it says; it gives a microphone, a sound file, or words.

Each page that is open has a session of its own on the one engine, stepped in a thread. A message to the page is the
sound of one frame time and its picture: the count of samples, uint32, so many int16 at 16 kHz, a JPEG, little-endian.
From the page comes sound, int16 at 16 kHz, or text, which this machine's synthesiser says; empty text hushes both.
Nothing comes from or goes to any other place.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web
from numpy.typing import NDArray

from edgetalk import speech
from edgetalk.bundled import SENTENCE
from edgetalk.clock import SAMPLE_RATE
from edgetalk.errors import EdgetalkError
from edgetalk.live import Live
from edgetalk.picture import as_jpeg
from edgetalk.session import Session

HERE = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a browser on this machine calls it."""
FOLDER = Path(__file__).parent
FILES = {"/": FOLDER / "page.html", "/page.js": FOLDER / "page.js", "/microphone.js": FOLDER / "microphone.js"}
FILES["/sentence.flac"] = SENTENCE
LARGEST = 1 << 20  # bytes; one message has less: half a minute of sound
QUALITY = 90  # of a JPEG
FULL = 32768  # scale of int16
LONGEST, MESSAGES = 600, 1000  # seconds that may wait to be said; messages, behind words that are being spoken
TEXT = 500  # characters of a message, which a synthesiser says in a second or so
CONTENT = "default-src 'self'; style-src 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' ws: wss:"
LAST = 1.0  # seconds that a page has to take the last that it is sent


class Page:
    """What a web server of one engine and its face answers, to `faces` pages at a time.

    `live` begins the face of a session. `names` are the host names by which a browser may ask, beside the numbers of
    an address: a site that lets its own name mean this machine is refused. So are pages of other sites but those of
    `origins` (https://example.org), which may also show this page as a part of theirs.
    """

    def __init__(
        self,
        session: Session,
        live: Callable[[Session], Live],
        *,
        faces: int = 1,
        names: Collection[str] = HERE,
        origins: Collection[str] = (),
    ) -> None:
        self._session, self._live, self._free = session, live, faces
        self._names, self._origins = {name.lower() for name in names}, set(origins)
        self._sockets: set[web.WebSocketResponse] = set()
        self._threads = ThreadPoolExecutor(faces)  # of its own: asyncio's few are for files

    def application(self) -> web.Application:
        """Return what aiohttp serves."""
        app = web.Application(middlewares=[self._guard])
        for url, path in FILES.items():
            app.router.add_get(url, partial(_file, path, " ".join(["'self'", *(self._origins - {"null"})])))
        app.router.add_get("/face", self._face)
        app.on_shutdown.append(self._end)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            here, origin = urlsplit(f"//{request.host}"), urlsplit(request.headers.get("Origin", ""))
        except ValueError:
            raise web.HTTPBadRequest(text="Got a Host or an Origin that is no address.") from None
        if here.hostname not in self._names and not _is_address(here.hostname):
            raise web.HTTPForbidden(text=f"Got host {here.hostname}, expected {', '.join(sorted(self._names))}.")
        other = "Origin" in request.headers and origin.netloc != here.netloc
        if other and request.headers["Origin"] not in self._origins:
            raise web.HTTPForbidden(text="A page of another site may not ask; see edgetalk live --origin.")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _end(self, app: web.Application) -> None:
        told = b"edgetalk live has ended"
        closing = [asyncio.create_task(one.close(code=WSCloseCode.GOING_AWAY, message=told)) for one in self._sockets]
        if closing:
            await asyncio.wait(closing, timeout=LAST)

    async def _face(self, request: web.Request) -> web.WebSocketResponse:
        """Let a page have a face for as long as it is open."""
        socket = web.WebSocketResponse(max_msg_size=LARGEST, heartbeat=10, compress=False)  # a JPEG gets no smaller
        await socket.prepare(request)
        if not self._free:
            await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"all faces are taken; see --faces")
            return socket
        self._free -= 1
        self._sockets.add(socket)
        try:
            if opened := await self._opened(socket):
                live, session = opened
                with session:
                    await self._converse(live, session, socket, request.transport)
        finally:
            self._free += 1
            self._sockets.discard(socket)
        return socket

    async def _opened(self, socket: web.WebSocketResponse) -> tuple[Live, Session] | None:
        """Open a session and its face in a thread; where that fails, tell the page and close its socket."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._open)
        except EdgetalkError as error:
            await _tell(socket, error=str(error))
            await socket.close(code=WSCloseCode.INTERNAL_ERROR)
            return None

    def _open(self) -> tuple[Live, Session]:
        session = self._session.twin()
        try:
            return self._live(session), session
        except BaseException:
            session.close()
            raise

    async def _converse(
        self, live: Live, session: Session, socket: web.WebSocketResponse, way: asyncio.Transport | None
    ) -> None:
        """Show a face to a page, and let it say what comes from there, until the page has gone."""
        width, height = session.size
        await _tell(socket, width=width, height=height, fps=float(live.fps))
        gone = threading.Event()
        showing = asyncio.create_task(self._shown(live, socket, gone))
        talk = _Talk(live, socket)
        try:
            async for came in socket:
                if came.type == WSMsgType.TEXT and not came.data:
                    talk.hush()
                elif came.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    talk.say(came.data)
        finally:
            silenced = talk.end()
            gone.set()
            await asyncio.wait([showing, silenced], timeout=LAST)
            if way:
                way.abort()  # or what is on its way to a page that reads no more would wait for ever
            await showing

    async def _shown(self, live: Live, socket: web.WebSocketResponse, gone: threading.Event) -> None:
        """Show a face until the page has gone, and close the socket of one that cannot be shown."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, _show, live, socket, loop, gone)
        except ConnectionError:  # it has just gone
            pass
        except EdgetalkError as error:
            await _tell(socket, error=str(error))
        finally:
            await socket.close(code=WSCloseCode.INTERNAL_ERROR)


def _is_address(host: str | None) -> bool:
    """Whether a host is an address in numbers, which means the same machine to everybody."""
    try:
        return bool(ipaddress.ip_address(host or ""))
    except ValueError:
        return False


async def _file(path: Path, ancestors: str, request: web.Request) -> web.FileResponse:
    # A page of another site may not show ours as a part of itself either, and lure clicks to it.
    return web.FileResponse(
        path,
        headers={
            "Cache-Control": "no-cache",
            "Content-Security-Policy": f"{CONTENT}; frame-ancestors {ancestors}",
            "X-Content-Type-Options": "nosniff",
        },
    )


async def _tell(socket: web.WebSocketResponse, **what: Any) -> None:
    with contextlib.suppress(ConnectionError):  # it has just gone
        await socket.send_json(what)


class _Talk:
    """What a page gives its face to say, in the order in which it came.

    A synthesiser may take long over words: hushing ends it, and forgets those that are not spoken yet.
    """

    def __init__(self, live: Live, socket: web.WebSocketResponse) -> None:
        self._live, self._socket = live, socket
        self._begin()

    def _begin(self) -> None:
        self._wanted: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._queued = 0  # samples in it
        self._task = asyncio.create_task(self._work(self._wanted))

    def say(self, what: str | bytes) -> None:
        """Say text, or sound as it comes from a page, after all that came before."""
        if isinstance(what, str) and len(what) > TEXT:
            self._refuse(f"text: got {len(what)} characters, expected at most {TEXT}; send it in parts")
        elif isinstance(what, bytes) and len(what) % 2:
            self._refuse(f"sound: got {len(what)} bytes, expected 16-bit samples, whole ones in each message")
        elif self._live.left + self._queued / SAMPLE_RATE > LONGEST or self._wanted.qsize() > MESSAGES:
            self._refuse(f"{LONGEST // 60} minutes are waiting to be said; wait, or hush the face")
        else:
            self._queued += _samples(what)
            self._wanted.put_nowait(what)

    def _refuse(self, why: str) -> None:
        self._refusing = asyncio.create_task(_tell(self._socket, error=why))

    def hush(self) -> None:
        self.end()
        self._begin()
        self._live.hush()

    def end(self) -> asyncio.Task[None]:
        """Say nothing more; return the task that ends with the program that was speaking."""
        self._task.cancel()
        return self._task

    async def _work(self, wanted: asyncio.Queue[str | bytes]) -> None:
        try:
            while True:
                what = await wanted.get()
                self._queued -= _samples(what)
                try:
                    if isinstance(what, str):
                        self._live.say(await speech.say_cancellably(what))
                    else:
                        self._live.say(np.frombuffer(what, "<i2").astype(np.float32) / FULL)
                except EdgetalkError as error:
                    await _tell(self._socket, error=str(error))
        except Exception as error:  # that nobody expects: the page shall not go on without a voice
            told = {"message": "edgetalk live: a page's wish failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
            await self._socket.close(code=WSCloseCode.INTERNAL_ERROR)


def _samples(what: str | bytes) -> int:
    return len(what) // 2 if isinstance(what, bytes) else 0


def _show(live: Live, socket: web.WebSocketResponse, loop: asyncio.AbstractEventLoop, gone: threading.Event) -> None:
    """Send pictures and sound as they are due until the page has `gone`; one that is slow is sent fewer pictures."""
    for frame, sound in live:
        if gone.is_set():
            return
        asyncio.run_coroutine_threadsafe(socket.send_bytes(message(frame, sound)), loop).result()


def message(frame: NDArray[np.uint8], sound: NDArray[np.float32]) -> bytes:
    """Return a message to the page, from a picture, uint8 (H, W, 3) RGB, and its sound, float32 (N,) at 16 kHz."""
    samples = np.clip(np.rint(sound * FULL), -FULL, FULL - 1).astype("<i2").tobytes()
    return len(sound).to_bytes(4, "little") + samples + as_jpeg(frame, QUALITY).tobytes()
