"""A page in the browser where a face lives: it says what you type, speak or open, idles, and stops when it is told to.

The page is for this machine alone (http://127.0.0.1:8000). With --host 0.0.0.0 others on the network may open it too;
nothing is encrypted then, and their browsers give no microphone to such a page.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import statistics
import threading
import warnings
from collections.abc import Collection, Iterable
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
SLOWEST = 10  # frames per second; below that, lips do not seem to speak
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
        check_ascii("name", name)
    origins = [origin_of(url) for url in args.origin]
    rate = frame_rate(args.fps) if args.fps is not None else None
    from edgetalk.page import HERE, Page

    with contextlib.ExitStack() as kept:
        # To open an engine and to time it takes seconds: what is wrong with the port is said before.
        places = [kept.enter_context(place) for place in bound(args.host, args.port)]
        session = kept.enter_context(
            Session(
                args.engine,
                avatar=args.avatar,
                source=args.source,
                use=args.use,
                device=args.device,
                threads=args.threads,
            )
        )
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
        number = asyncio.run(_serve(page, places, args.host, args.port))
    raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)


def too_slow(live: Live, variant: str) -> str:
    """Say that pictures of this variant take longer here than lies between them, "" where they do not.

    No rate is advised at which lips would not seem to speak.
    """
    seconds = sample(live.step, TRIED, warm_up=1)
    took, there = 1000 * statistics.median(seconds), 1000 / float(live.fps)
    if took <= there:
        return ""
    rate = int(HEADROOM * 1000 / took)
    ways = ["amnet-lite"] if variant != "amnet-lite" else []
    ways += [f"a lower rate: --fps {rate}"] if rate >= SLOWEST else []
    return (
        f"a picture took {took:.0f} ms just now, and another is due every {there:.0f} ms, so some will be left out; if "
        f"other programs run, end them; else take {', or '.join(ways) or 'a faster machine'}"
    )


def check_ascii(argument: str, told: str) -> None:
    """Raise InputError where a host is not named as browsers name it to a server."""
    if not told.isascii():
        raise InputError(
            f"{argument}: got {told}, expected ASCII, as browsers send it: xn--bcher-kva.example for bücher.example"
        )


def origin_of(url: str) -> str:
    """Return the start of a site's address as browsers tell it; InputError where it is none."""
    check_ascii("origin", url)
    if url == "null":
        return url
    site = SITE.fullmatch(url.lower().rstrip("/"))
    if not site:
        raise InputError(f"origin: got {url}, expected the start of a site's address, as https://example.org")
    scheme, host, port = site.groups()
    usual = {"http": ":80", "https": ":443"}[scheme]
    return f"{scheme}://{host}{'' if port in (None, usual) else port}"


def names_of(host: str, here: Collection[str]) -> set[str]:
    """Return the host names by which browsers may ask a server that listens at `host`; addresses always do."""
    if host in here:
        return set(here)
    own = socket.gethostname()
    return {*here, host, own, f"{own}.local", socket.getfqdn()}


def bound(host: str, port: int) -> list[socket.socket]:
    """Return sockets that have the port at every address of `host`, where nobody is heard yet; OSError where none can.

    What has the port is kept from others; whoever calls is told that nobody listens, until a server does.
    """
    there: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            try:
                place = socket.socket(family, kind, protocol)
            except OSError as error:  # localhost may have an address of IPv6 where the system has none
                missing = error
                continue
            there.append(place)
            if os.name == "posix":  # elsewhere it would let two servers have one port
                place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # which would take the port of IPv4, too
                place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                place.bind(address)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = error
                there.pop().close()
        if missing and not there:
            raise missing
    except OSError as error:
        for place in there:
            place.close()
        raise _unheard(host, port, error) from None
    return there


def _unheard(host: str, port: int, error: OSError) -> OSError:
    """Return the error of who cannot listen, in the words of the command."""
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return OSError(f"cannot listen at {host}, port {port}: {reason}; give another --host or --port")


async def _serve(page: Page, places: Iterable[socket.socket], host: str, port: int) -> int:
    """Serve a page until a signal ends it, whose number is returned."""
    from aiohttp import web

    runner = web.AppRunner(page.application(), shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            for place in places:
                await web.SockSite(runner, place).start()
        except OSError as error:  # somebody else has begun to listen there meanwhile
            raise _unheard(host, port, error) from None
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
