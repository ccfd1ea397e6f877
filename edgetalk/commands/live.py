"""A page in the browser where a face lives: it says what you type, speak or open, idles, and stops when it is told to.

The page is for this machine alone (http://127.0.0.1:8000). With --host 0.0.0.0 others on the network may open it too;
nothing is encrypted then, and their browsers give no microphone to such a page.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import threading
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING

from edgetalk.clock import frame_rate
from edgetalk.errors import InputError
from edgetalk.session import Session
from edgetalk.signals import Ended
from edgetalk.timing import sample

from .options import add_device, add_engine, add_face, add_life, add_use

if TYPE_CHECKING:
    from edgetalk.live import Live
    from edgetalk.page import Page

TRIED = 5  # pictures that are timed before the page is open
HEADROOM = 0.8  # share of the time that pictures may take at a rate that is advised
SITE = re.compile(r"(https?)://([^][/?#@:\s]+|\[[0-9a-f:.]+\])(:\d+)?")  # as browsers tell it, in lower case


def configure(parser: argparse.ArgumentParser) -> None:
    add_engine(parser)
    add_face(parser)
    add_life(parser)
    parser.add_argument("--faces", type=int, default=1, metavar="N", help="pages that may be open at once (default: 1)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="another host name by which browsers may ask, as behind a web server; again for more",
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="a site whose pages may use this face, and show this page in theirs: https://example.org; again for more",
    )
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    add_use(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    if args.faces < 1:
        raise InputError(f"faces: got {args.faces}, expected 1 or more")
    if not 0 <= args.port <= 65535:
        raise InputError(f"port: got {args.port}, expected 0 to 65535")
    if not args.host:
        raise InputError("host: got none, expected an address to listen at, or 0.0.0.0 for all of this machine's")
    for name in args.name:
        if not re.fullmatch(r"[^][/?#@:\s]+", name):
            raise InputError(f"name: got {name!r}, expected a host name alone, as kiosk.example")
    origins = [origin_of(told) for told in args.origin]
    rate = frame_rate(args.fps) if args.fps is not None else None
    from edgetalk.page import HERE, Page

    with Session(
        args.engine,
        avatar=args.avatar,
        source=args.source,
        use=args.use,
        device=args.device,
        threads=args.threads,
    ) as session:
        life = session.motion(args.motion, args.seed, rate or session.fps, face_models=args.face_models)
        page = Page(
            session,
            lambda one: one.live(life, fps=rate),
            faces=args.faces,
            names=names_of(args.host, HERE) | set(args.name),
            origins=origins,
        )
        # Whatever is wrong with the engine, or too slow about it, is said before a page is open.
        if slow := too_slow(session.live(life, fps=rate), session.metadata.variant):
            warnings.warn(f"{args.engine}: {slow}", stacklevel=1)
        number = asyncio.run(_serve(page, args.host, args.port))
    raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)


def too_slow(live: Live, variant: str) -> str:
    """Say that pictures of this variant take longer here than lies between them, "" where they do not."""
    seconds = sample(live.step, TRIED, warm_up=1)
    took, there = 1000 * statistics.median(seconds), 1000 / float(live.fps)
    if took <= there:
        return ""
    smaller = "" if variant == "amnet-lite" else "a smaller network, such as amnet-lite, or "
    return (
        f"a picture takes {took:.0f} ms here, and another is due every {there:.0f} ms, so some will be left out; take "
        f"{smaller}a lower rate: --fps {max(1, int(HEADROOM * 1000 / took))}"
    )


def origin_of(told: str) -> str:
    """Return the start of a site's address as browsers tell it; InputError where it is none."""
    if told == "null":
        return told
    site = SITE.fullmatch(told.lower().rstrip("/"))
    if not site:
        raise InputError(f"origin: got {told}, expected the start of a site's address, as https://example.org")
    scheme, host, port = site.groups()
    usual = {"http": ":80", "https": ":443"}[scheme]
    return f"{scheme}://{host}{'' if port in (None, usual) else port}"


def names_of(host: str, here: Collection[str]) -> set[str]:
    """Return the host names by which browsers may ask a server that listens at `host`; addresses always do."""
    if host in here:
        return set(here)
    own = socket.gethostname()
    return {*here, host, own, f"{own}.local", socket.getfqdn()}


async def _serve(page: Page, host: str, port: int) -> int:
    """Serve a page until a signal ends it, whose number is returned."""
    from aiohttp import web

    runner = web.AppRunner(page.application(), shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            told = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            raise OSError(f"cannot listen at {host}, port {port}: {told}; give another --host or --port") from None
        (address, chosen, *_), *_ = runner.addresses
        print(f"http://{f'[{address}]' if ':' in address else address}:{chosen} (Ctrl-C ends it)", flush=True)
        return await _end()
    finally:
        await runner.cleanup()


async def _end() -> int:
    """Wait for a signal that ends the command, and return its number.

    What Python raises for one would end every task of the loop where it is, and no page would hear why.
    """
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[int] = asyncio.Queue()
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # no other may set them
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        handlers = {number: had for number in numbers if callable(had := signal.getsignal(number))}  # or it is ignored
    with contextlib.suppress(NotImplementedError):  # on Windows
        for number in handlers:
            loop.add_signal_handler(number, came.put_nowait, number)
    try:
        return await came.get()
    finally:
        for number, had in handlers.items():  # a second one does not wait
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, had)
