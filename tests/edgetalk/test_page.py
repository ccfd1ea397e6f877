"""The live page: what its server says to whom, and the page itself in a browser where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket as sockets
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgetalk import BackendError, InputError, Session, cli, speech
from edgetalk.commands.live import names_of, origin_of, too_slow

aiohttp = pytest.importorskip("aiohttp", reason="needs aiohttp: the live extra")

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@contextlib.asynccontextmanager
async def serving(engine, **options):
    """A client of a page of `engine`."""
    from aiohttp.test_utils import TestClient, TestServer

    from edgetalk.page import Page

    with Session(engine) as session:
        page = Page(session, lambda one: one.live(seed=2), **options)
        async with TestClient(TestServer(page.application())) as client:
            yield client


async def receive(socket, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sound, float64 (N,), and picture of `count` messages, read by other means than the page's."""
    got = []
    for _ in range(count):
        data = await socket.receive_bytes(timeout=20)
        samples = int.from_bytes(data[:4], "little")
        sound = np.frombuffer(data, "<i2", samples, 4) / 32768
        got.append((sound, cv2.imdecode(np.frombuffer(data, np.uint8, offset=4 + 2 * samples), cv2.IMREAD_COLOR)))
    return got


@pytest.fixture
def engine(zoo, tmp_path):
    return zoo.set("f32", tmp_path)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder whose flite takes ten minutes, and tells its process number there."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "flite").write_text(f"#!/bin/sh\n: > '{folder}'/$$.pid\nexec sleep 600\n")
    (folder / "flite").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def begun(programs: Path) -> int:
    """How many were called."""
    return len(list(programs.glob("*.pid")))


def at_work(programs: Path) -> int:
    """How many of them have not ended."""
    count = 0
    for path in programs.glob("*.pid"):
        with contextlib.suppress(FileNotFoundError):
            count += Path(f"/proc/{path.stem}/cmdline").read_bytes() != b""  # of one that has ended there is none
    return count


async def until(holds) -> None:
    for _ in range(600):
        if holds():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it does not happen")


def test_what_is_sent_to_the_page_comes_back_with_pictures(engine):
    said = np.random.default_rng(0).integers(1, 2000, 8000).astype("<i2")

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            assert await socket.receive_json() == {"width": 32, "height": 32, "fps": 25.0}
            for piece in np.split(said, [1000, 1001, 5000]):
                await socket.send_bytes(piece.tobytes())
            return await receive(socket, 22)

    got = asyncio.run(talk())
    heard = np.concatenate([sound for sound, _ in got])
    np.testing.assert_array_equal(heard[heard != 0][:7680], said[:7680] / 32768)
    assert {picture.shape for _, picture in got} == {(32, 32, 3)}
    assert all(len(sound) % 640 == 0 for sound, _ in got)
    assert np.abs(got[0][1].astype(int) - got[-8][1]).mean() > 1


def test_a_message_holds_the_picture_in_its_colours_and_sound_that_is_never_wrapped():
    from edgetalk.page import message

    y, x = np.mgrid[:64, :64]
    frame = np.stack([4 * y, 4 * x, np.full_like(x, 30)], -1).astype(np.uint8)
    data = message(frame, np.array([0, 0.5, 1.5, -1.5], np.float32))
    assert np.frombuffer(data, "<i2", 4, 4).tolist() == [0, 16384, 32767, -32768]
    shown = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8, offset=12), 1), cv2.COLOR_BGR2RGB)
    assert np.abs(shown.astype(int) - frame).mean() < 3


def test_empty_text_hushes(engine):
    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.receive_json()
            await socket.send_bytes(np.full(160000, 9000, "<i2").tobytes())
            before = await receive(socket, 15)
            await socket.send_str("")
            return before, await receive(socket, 20)

    before, after = asyncio.run(talk())
    assert before[-1][0].min() > 0.2 and not after[-1][0].any()


def test_hushing_waits_for_no_words(engine, monkeypatch):
    """What is being spoken and what waits for it is forgotten; what comes afterwards is said."""
    spoken = asyncio.Event()

    async def say(text):
        if text == "long":
            await spoken.wait()
        return np.full(3200, len(text) / 100, np.float32)

    monkeypatch.setattr("edgetalk.speech.say_cancellably", say)

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.receive_json()
            await socket.send_bytes(np.full(160000, 9000, "<i2").tobytes())
            await receive(socket, 15)
            for what in ("long", "waits", ""):
                await socket.send_str(what)
            await socket.send_bytes(np.full(3200, 3001, "<i2").tobytes())
            hushed = await receive(socket, 20)
            spoken.set()
            await socket.send_str("a" * 25)
            return hushed, await receive(socket, 25)

    hushed, after = (np.concatenate([sound for sound, _ in got]) for got in asyncio.run(talk()))
    counted = int((hushed == 3001 / 32768).sum()), int(np.abs(hushed[-640:]).max() * 32768)
    assert counted == (3200, 0)
    assert set(np.unique(after)) == {0, 0.25}, "neither what was being spoken nor what waited for it"


def test_hushing_ends_the_program_that_speaks(engine, programs):
    """However often it is hushed, files and other pages are served."""

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            for count in range(1, 13):
                await socket.send_str("words")
                await until(lambda count=count: begun(programs) == count)
                await socket.send_str("")
                await until(lambda: not at_work(programs))
            return (await asyncio.wait_for(client.get("/page.js"), 20)).status

    assert asyncio.run(talk()) == 200


def test_a_hush_that_comes_as_the_program_ends_is_heeded(programs, monkeypatch):
    """In the same turn of the loop."""
    (programs / "flite").write_text("#!/bin/sh\n")
    communicate = asyncio.subprocess.Process.communicate

    async def speak():
        async def ended(program):
            told = await communicate(program)
            asyncio.get_running_loop().call_soon(speaking.cancel)
            return told

        monkeypatch.setattr("asyncio.subprocess.Process.communicate", ended)
        speaking = asyncio.create_task(speech.say_cancellably("words"))
        await asyncio.wait([speaking])
        return speaking.cancelled()

    assert asyncio.run(speak())


def test_a_page_that_goes_ends_the_program_that_speaks(engine, programs):
    async def talk():
        async with serving(engine) as client:
            async with client.ws_connect("/face") as socket:
                await socket.send_str("words")
                await until(lambda: begun(programs) == 1)
            await until(lambda: not at_work(programs))

    asyncio.run(talk())


async def error_of(socket) -> str:
    """The next error that a page is told."""
    while "error" not in (told := json.loads(came) if isinstance(came := (await socket.receive()).data, str) else {}):
        pass
    return told["error"]


def test_a_program_that_takes_too_long_or_fails_is_told(engine, programs, monkeypatch):
    monkeypatch.setattr("edgetalk.speech.LIMIT", 0.5)

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.send_str("words")
            slow = await asyncio.wait_for(error_of(socket), 20)
            (programs / "flite").write_text("#!/bin/sh\necho no voice >&2\nexit 3\n")
            await socket.send_str("words")
            return slow, await asyncio.wait_for(error_of(socket), 20)

    flite = programs / "flite"
    assert asyncio.run(talk()) == (
        f"{flite} took longer than 0.5 s for this text; shorten it",
        f"{flite} failed on this text: no voice",
    )
    assert not at_work(programs)


def test_a_text_that_is_too_long_is_refused(engine, programs):
    """The page's own field takes no more than the server."""
    from edgetalk.page import FILES, TEXT

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.send_str("a" * (TEXT + 1))
            told = await asyncio.wait_for(error_of(socket), 20)
            assert not begun(programs)
            await socket.send_str("a" * TEXT)
            await until(lambda: begun(programs) == 1)
            return told

    assert asyncio.run(talk()) == f"text: got {TEXT + 1} characters, expected at most {TEXT}; send it in parts"
    assert f'maxlength="{TEXT}"' in FILES["/"].read_text()


def test_half_a_sample_is_refused(engine):
    """What follows it would be noise."""

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.send_bytes(bytes(3))
            return await asyncio.wait_for(error_of(socket), 20)

    assert asyncio.run(talk()) == "sound: got 3 bytes, expected 16-bit samples, whole ones in each message"


def test_text_is_spoken_and_what_cannot_be_is_told(engine, monkeypatch):
    async def say(text):
        if text == "?":
            raise InputError("text: got '?', expected words")
        return np.full(6400, len(text) / 100, np.float32)

    monkeypatch.setattr("edgetalk.speech.say_cancellably", say)

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.receive_json()
            await socket.send_str("?")
            await socket.send_str("a" * 25)
            errors, sounds = [], []
            while len(sounds) < 25:
                came = await socket.receive(timeout=20)
                if isinstance(came.data, str):
                    errors.append(json.loads(came.data))
                else:
                    sounds.append(np.frombuffer(came.data, "<i2", 640, 4) / 32768)
            return errors, np.concatenate(sounds)

    errors, heard = asyncio.run(talk())
    assert errors == [{"error": "text: got '?', expected words"}]
    assert (heard == 0.25).sum() == 6400


def test_faces_are_counted_and_come_back(engine):
    async def talk():
        async with serving(engine, faces=1) as client:
            async with client.ws_connect("/face") as first:
                await first.receive_json()
                async with client.ws_connect("/face") as second:
                    refused = await second.receive(timeout=20)
                await receive(first, 1)
            for _ in range(100):
                async with client.ws_connect("/face") as third:
                    came = await third.receive(timeout=20)
                if came.type == aiohttp.WSMsgType.TEXT:
                    return refused
                await asyncio.sleep(0.05)

    refused = asyncio.run(talk())
    assert refused is not None and refused.data == 1013 and "--faces" in refused.extra


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "192.0.2.7:8000"}, 200),  # an address, which no site can let mean another machine
        ({"Host": "Localhost"}, 200),
        ({"Origin": "https://shop.example"}, 200),
        ({"Origin": "http://shop.example"}, 403),
        ({"Host": "rebound.example:8000"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:9000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "[::1"}, 400),
        ({"Origin": "http://[::1"}, 400),
    ],
)
def test_other_sites_may_not_ask(engine, headers, status):
    async def ask():
        async with serving(engine, origins=["https://shop.example"]) as client:
            got = [(await client.get(path, headers=headers)).status for path in ("/", "/page.js", "/sentence.flac")]
            try:
                async with client.ws_connect("/face", headers=headers):
                    got.append(200)
            except aiohttp.WSServerHandshakeError as error:
                got.append(error.status)
            return got

    assert asyncio.run(ask()) == [status] * 4


def test_an_engine_that_fails_is_told_and_frees_the_face(engine, monkeypatch):
    def fail(*args):
        raise BackendError("the card fell off the bus")

    async def talk():
        async with serving(engine) as client:
            with monkeypatch.context() as broken:
                broken.setattr(Session, "frame", fail)
                async with client.ws_connect("/face") as socket:
                    await socket.receive_json()
                    told, closed = await socket.receive_json(timeout=20), await socket.receive(timeout=20)
            await asyncio.sleep(0.1)
            async with client.ws_connect("/face") as socket:
                await socket.receive_json()
                await receive(socket, 1)
            return told, closed

    told, closed = asyncio.run(talk())
    assert told == {"error": "the card fell off the bus"} and closed.data == 1011


@pytest.mark.parametrize("failing", ["twin", "live"])
def test_a_face_that_cannot_be_opened_is_told_and_is_free_again(engine, monkeypatch, failing):
    """Opening takes a while on a card: other pages are served meanwhile."""
    began, ends = threading.Event(), threading.Event()

    def fail(*args, **options):
        began.set()
        ends.wait(20)
        raise BackendError("no memory is left on the card")

    async def talk():
        async with serving(engine) as client:
            with monkeypatch.context() as broken:
                broken.setattr(Session, failing, fail)
                asyncio.get_running_loop().call_later(10, ends.set)
                async with client.ws_connect("/face") as socket:
                    await until(began.is_set)
                    status = (await client.get("/page.js")).status
                    meanwhile = not ends.is_set()
                    ends.set()
                    told, closed = await socket.receive_json(timeout=20), await socket.receive(timeout=20)
            await asyncio.sleep(0.1)
            async with client.ws_connect("/face") as socket:
                await socket.receive_json()
                await receive(socket, 1)
            return status, meanwhile, told, closed.data

    assert asyncio.run(talk()) == (200, True, {"error": "no memory is left on the card"}, 1011)


@pytest.mark.parametrize("failing", ["edgetalk.session.Session.frame", "edgetalk.speech.say_cancellably"])
def test_an_error_that_nobody_expects_ends_the_conversation(engine, monkeypatch, caplog, failing):
    def fail(*args):
        raise ZeroDivisionError("nobody expects it")

    monkeypatch.setattr(failing, fail)

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.receive_json()
            await socket.send_str("words")
            while True:
                came = await socket.receive(timeout=20)
                if came.type != aiohttp.WSMsgType.BINARY:
                    return came

    assert asyncio.run(talk()).data == 1011
    assert "nobody expects it" in caplog.text


def test_many_pages_leave_threads_for_files_and_words(engine, monkeypatch):
    """asyncio has few threads, of which a page that held one for good would leave too few."""

    async def say(text):
        return await asyncio.to_thread(np.full, 6400, 0.25, np.float32)

    monkeypatch.setattr("edgetalk.speech.say_cancellably", say)

    async def talk():
        with ThreadPoolExecutor(1) as only:
            asyncio.get_running_loop().set_default_executor(only)
            async with serving(engine, faces=2) as client, client.ws_connect("/face", compress=15) as one:
                async with client.ws_connect("/face", compress=15) as other:
                    for socket in (one, other):
                        await socket.receive_json()
                        await socket.send_str("words")
                    heard = [np.concatenate([sound for sound, _ in await receive(each, 25)]) for each in (one, other)]
                    file = await asyncio.wait_for(client.get("/page.js"), 20)
                    return heard, file.status

    heard, status = asyncio.run(talk())
    assert [(sound == 0.25).sum() for sound in heard] == [6400, 6400] and status == 200


@contextlib.asynccontextmanager
async def deaf(engine):
    """A server, the Page of it, and the socket of a client that has its one face and reads nothing of what comes."""
    from aiohttp import web

    from edgetalk.page import Page

    with Session(engine) as session:
        page = Page(session, lambda one: one.live())
        runner = web.AppRunner(page.application(), shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with sockets.create_connection(runner.addresses[0]) as client:
            asked = "GET /face HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"
            asked += "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""
            client.sendall("\r\n".join(asked).encode())
            while page._free:
                await asyncio.sleep(0.02)
            yield runner, page, client


def test_a_page_that_reads_no_more_loses_its_face(engine, monkeypatch):
    from edgetalk import page as pages

    real = pages.web.WebSocketResponse
    monkeypatch.setattr(pages.web, "WebSocketResponse", lambda **options: real(**options | {"heartbeat": 0.6}))
    monkeypatch.setattr(pages, "message", lambda frame, sound: bytes(1 << 22))
    monkeypatch.setattr(pages, "LAST", 0.2)

    async def wait():
        async with deaf(engine) as (runner, page, _):
            for _ in range(200):
                await asyncio.sleep(0.05)
                if page._free:
                    break
            freed = page._free
            await runner.cleanup()
            return freed

    assert asyncio.run(wait()) == 1


def test_a_page_that_reads_no_more_does_not_keep_the_server_from_ending(engine, monkeypatch):
    monkeypatch.setattr("edgetalk.page.message", lambda frame, sound: bytes(1 << 22))
    monkeypatch.setattr("edgetalk.page.LAST", 0.2)

    async def end():
        async with deaf(engine) as (runner, _, _):
            await asyncio.sleep(0.3)  # now it has been sent more than fits on the way
            await asyncio.wait_for(runner.cleanup(), 20)

    asyncio.run(end())


def test_a_page_may_go_while_words_are_looked_for(engine, monkeypatch, caplog):
    async def say(text):
        await asyncio.sleep(0.5)
        raise InputError("text: got none that can be spoken")

    monkeypatch.setattr("edgetalk.speech.say_cancellably", say)

    async def go():
        async with deaf(engine) as (runner, page, client):
            client.sendall(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hm")
            await asyncio.sleep(0.2)
            client.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))  # as if it were killed
            client.close()
            for _ in range(100):
                await asyncio.sleep(0.05)
                if page._free:
                    break
            await runner.cleanup()

    asyncio.run(go())
    assert not caplog.text


def test_a_host_without_an_address_is_one_line(engine, capsys, monkeypatch):
    def unknown(*args, **options):
        raise sockets.gaierror(sockets.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(sockets, "getaddrinfo", unknown)
    assert cli.main(["live", str(engine), "--host", "nowhere.example"]) == 1
    told = capsys.readouterr().err
    assert "nowhere.example, port 8000: Name or service not known; give" in told and told.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_told_before_the_engine_is_opened(tmp_path, capsys, host):
    with sockets.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert cli.main(["live", str(tmp_path / "none.xml"), "--host", host, "--port", str(port)]) == 1
    told = capsys.readouterr().err
    assert told.endswith(
        f"cannot listen at {host}, port {port}: Address already in use; give another --host or --port\n"
    )
    assert told.count("\n") == 1


NOWHERE = ["--host", "192.0.2.1"]  # where no server can listen: what is not refused ends all the same


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--faces", "0"], "faces: got 0, expected 1 or more"),
        (["--port", "70000"], "port: got 70000, expected 0 to 65535"),
        (["--fps", "0"], "fps: got 0"),
        (["--host", ""], "host: got none"),
        (["--origin", "shop.example"], "origin: got shop.example, expected the start of a site's address"),
        (["--origin", "http://[::1"], "origin: got http://[::1, expected the start of a site's address"),
        (["--origin", "https://shop.example:x", *NOWHERE], "origin: got https://shop.example:x, expected"),
        (
            ["--name", "https://kiosk.example", *NOWHERE],
            "name: got 'https://kiosk.example', expected a host name alone, as",
        ),
        (["--name", "a.example", "--name", "kiosk.example:8000", *NOWHERE], "name: got 'kiosk.example:8000', expected"),
        (["--name", "", *NOWHERE], "name: got '', expected"),
        (["--name", "bücher.example", *NOWHERE], "name: got bücher.example, expected ASCII, as browsers send it: xn--"),
        (["--origin", "https://bücher.example", *NOWHERE], "origin: got https://bücher.example, expected ASCII, as"),
        (["--source", "nobody.png", "--port", "0"], "nobody.png"),
        (["--motion", "film.mp4", "--face-models", "nowhere", "--port", "0"], "film.mp4"),
        (
            NOWHERE,
            "cannot listen at 192.0.2.1, port 8000: Cannot assign requested address; give another",
        ),
    ],
)
def test_wrong_arguments_are_one_line(engine, capsys, arguments, message):
    assert cli.main(["live", str(engine), *arguments]) == 1
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "told, meant",
    [
        ("https://shop.example", "https://shop.example"),
        ("HTTPS://Shop.example:443/", "https://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://192.0.2.7:8080", "http://192.0.2.7:8080"),
        ("null", "null"),
    ],
)
def test_an_origin_is_what_browsers_make_of_it(told, meant):
    assert origin_of(told) == meant


def test_a_network_that_cannot_keep_up_is_told():
    slow = SimpleNamespace(fps=Fraction(50), step=lambda: time.sleep(0.03))
    told = (
        r"a picture took (\d\d+) ms just now, and another is due every 20 ms, so some will be left out; "
        "if other programs run, end them; else take "
    )
    took, rate = re.fullmatch(rf"{told}amnet-lite(?:, or a lower rate: --fps (\d+))?", too_slow(slow, "amnet")).groups()
    assert int(took) >= 30 and (int(took) > 80 if rate is None else 10 <= int(rate) < 1000 / int(took))
    assert re.fullmatch(rf"{told}a (?:lower rate: --fps \d+|faster machine)", too_slow(slow, "amnet-lite"))
    slow.step = lambda: time.sleep(0.09)  # at a rate that leaves room for this, lips do not seem to speak
    assert re.fullmatch(f"{told}amnet-lite", too_slow(slow, "amnet"))
    assert re.fullmatch(f"{told}a faster machine", too_slow(slow, "amnet-lite"))
    slow.fps = Fraction(1, 10)
    assert too_slow(slow, "amnet") == ""


@contextlib.contextmanager
def command(engine, *options):
    """`edgetalk live` as a process, and the address that it tells."""
    run = [sys.executable, "-m", "edgetalk.cli", "live", str(engine), "--port", "0", *options]

    def heed():  # a background job ignores one, nohup the other
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        try:
            yield process, process.stdout.readline().split()[0]
        finally:
            process.kill()


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_while_a_page_is_open_and_words_are_spoken(engine, programs, number, status):
    async def open_page(url, process):
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{url}/face") as socket:
            await socket.receive_json()
            await receive(socket, 2)
            await socket.send_str("words")
            await until(lambda: begun(programs) == 1)
            process.send_signal(number)
            for _ in range(500):  # 20 seconds of pictures
                came = await socket.receive(timeout=20)
                if came.type != aiohttp.WSMsgType.BINARY:
                    break
            return came

    with command(engine) as (process, url):
        came = asyncio.run(open_page(url, process))
        assert process.wait(20) == status
        assert process.stderr.read().count("\n") == 1
    assert (came.data, came.extra) == (1001, "edgetalk live has ended") and not at_work(programs)


WATCH = """
    var blocks = 0, tracks = [], begun_at;
    const sent = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) { blocks += data instanceof ArrayBuffer; return sent.call(this, data); };
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      const stream = await ask(wanted);
      tracks.push(...stream.getTracks());
      return stream;
    };
    0"""
RESAMPLED = """(async (rate, hertz) => {  // of a tone: RMS, zeros crossed in a second, count
    const context = new OfflineAudioContext(1, rate, rate);
    await context.audioWorklet.addModule('microphone.js');
    const node = new AudioWorkletNode(context, 'microphone', { numberOfOutputs: 0 });
    let given = [];
    node.port.onmessage = ({ data }) => given.push(...new Int16Array(data));
    const tone = new OscillatorNode(context, { frequency: hertz });
    tone.connect(node);
    tone.start();
    await context.startRendering();
    await new Promise((done) => setTimeout(done, 100));
    const settled = given.slice(1600);
    const crossed = settled.filter((sample, i) => i && sample >= 0 && settled[i - 1] < 0).length;
    const power = settled.reduce((sum, sample) => sum + sample * sample, 0) / settled.length;
    return [Math.sqrt(power) / 32768, crossed / settled.length * 16000, given.length];
  })"""
WAITS = """(() => {  // of a page whose connection ends once, and then eight times because the server fails
    const [later, waits] = [setTimeout, []];
    setTimeout = (act, wait) => waits.push(wait);
    for (const code of [1006, ...Array(8).fill(1011)]) socket.onclose({ code, reason: "" });
    setTimeout = later;
    apart = "";
    return waits;
  })()"""
FLOOD = """new Promise((done) => canvas.toBlob(async (blob) => {
      const data = new Uint8Array(4 + 1280 + blob.size).fill(1);
      new DataView(data.buffer).setUint32(0, 640, true);
      data.set(new Uint8Array(await blob.arrayBuffer()), 1284);
      for (let i = 0; i < 150; i++) receive(data.buffer);
      done(decoded);
    }, "image/jpeg"))"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH")
def test_the_page_in_a_browser(engine, tmp_path):
    """Pictures are drawn, a click brings sound, the face hears the microphone, and hush and errors arrive."""

    async def browse(url):
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        options += [f"--user-data-dir={tmp_path / 'browser'}", "about:blank"]
        browser = await asyncio.create_subprocess_exec(BROWSER, *options, stderr=asyncio.subprocess.PIPE)
        try:
            while not (found := re.search(r"ws://([^/]+)/", (await browser.stderr.readline()).decode())):
                assert browser.returncode is None
            async with aiohttp.ClientSession() as client:
                opened = await (await client.put(f"http://{found[1]}/json/new?{url}")).json()
                async with client.ws_connect(opened["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    await visit(socket)
        finally:
            browser.kill()
            await browser.wait()

    async def visit(socket):
        number = 0

        async def value(expression):
            nonlocal number
            number += 1
            asked = {"expression": expression, "userGesture": True, "awaitPromise": True, "returnByValue": True}
            await socket.send_json({"id": number, "method": "Runtime.evaluate", "params": asked})
            while (came := await socket.receive_json(timeout=20)).get("id") != number:
                pass
            return came["result"]["result"].get("value")

        async def comes(expression):
            """Wait until the expression holds."""
            end = time.monotonic() + 30
            while not await value(expression):
                assert time.monotonic() < end, (expression, await value("statusLine?.textContent"))
                await asyncio.sleep(0.05)

        middle = "canvas.getContext('2d').getImageData(0, 0, 32, 32).data.join()"
        await comes("document.readyState === 'complete' && canvas.width === 32")
        await comes("shown > 0")
        before = await value(middle)
        await comes(f"{middle} !== '{before}'")
        assert await value("audio === undefined")  # not before the visitor clicks
        await value("document.querySelector('#sentence').click()")
        await comes("audio?.state === 'running' && next > audio.currentTime && due.length > 0")
        await comes("next > audio.currentTime + 0.02")
        hushing = "document.querySelector('#hush').click(); next === 0 && hushed > 0 && due.length === 0"
        assert await value(hushing), "silent here at once, not after the server"
        await comes("hushed === -Infinity")  # its silence has come: what follows is heard again
        await value("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))")
        for rate in 16000, 44100, 48000:  # Firefox hears at the device's
            for hertz, wanted in (440, 0.707), (6000, 0.707), (12000, 0.0):
                rms, crossed, count = await value(f"{RESAMPLED}({rate}, {hertz})")
                assert rms == pytest.approx(wanted, abs=0.02) and 15_000 < count <= 16_000, (rate, hertz)
                assert wanted == 0 or crossed == pytest.approx(hertz, rel=0.01)
        # The microphone is off again where it cannot be used, on once if it is asked for twice, and heard once.
        await value(WATCH)
        await value("audio.audioWorklet.addModule = async () => { throw new Error('no worklet'); }")
        await value("microphone.click()")
        await comes("problem === 'no worklet' && tracks.every((track) => track.readyState === 'ended')")
        await value("delete audio.audioWorklet.addModule")
        for clicks in 2, 1:
            await value("microphone.click();" * clicks)
            await comes("microphone.getAttribute('aria-pressed') === 'true' && loudness.gain.value === 0")
            await value("[blocks, begun_at] = [0, audio.currentTime]")
            await comes("audio.currentTime > begun_at + 0.8")
            assert 0.5 < await value("blocks * 0.04 / (audio.currentTime - begun_at)") < 1.5
            await value("microphone.click()")
            await comes("microphone.getAttribute('aria-pressed') === 'false' && loudness.gain.value === 1")
            assert await value("tracks.every((track) => track.readyState === 'ended')")
        # Neither what is broken nor what waits long freezes the face.
        await value("receive(Uint8Array.from([1, 0, 0, 0, 9, 9, 9]).buffer)")
        await value("decoded.catch(() => 0).then(() => { due.length = 0; })")
        await comes("due.length > 0")
        await comes("due.length && next < audio.currentTime + 1")
        assert await value(f"{FLOOD}.then(() => due[0].at < audio.currentTime + 2 && due.length <= KEPT)")
        await value("audio.suspend()")
        before = await value(middle)
        await comes(f"{middle} !== '{before}'")
        await value("audio.resume()")
        await value("document.querySelector('form').text.value = '?'; document.querySelector('form button').click()")
        await comes("statusLine.textContent.startsWith(\"text: got '?', expected words\")")
        shape = "[canvas.clientWidth / canvas.clientHeight, canvas.clientHeight / innerHeight]"
        for width, height in (64, 36), (36, 64):  # of a film, whole in the window
            size = f"{{width: {width}, height: {height}}}"
            ratio, share = await value(f"told(JSON.stringify({size})); {shape}")
            assert ratio == pytest.approx(width / height, rel=0.02) and share < 0.66
        await value("socket.close()")
        await comes("apart === 'no connection'")
        await comes("socket.readyState === WebSocket.OPEN && apart === ''")
        assert await value(WAITS) == [1000, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
        await comes("pause === SOON")
        await value("connect = () => {}; told(JSON.stringify({error: 'the card fell off the bus'})); socket.close()")
        await comes("statusLine.textContent === 'no connection: the card fell off the bus'")
        assert await value("statusLine.getAttribute('aria-live')") == "polite"

    with command(engine) as (_, url):
        asyncio.run(browse(url))


def test_another_site_may_not_frame_the_page(engine):
    async def ask():
        async with serving(engine, origins=["https://shop.example"]) as client:
            return (await client.get("/")).headers["Content-Security-Policy"]

    assert asyncio.run(ask()).endswith("; frame-ancestors 'self' https://shop.example")


def test_a_server_for_the_network_answers_to_its_own_names_and_those_it_was_told():
    names = names_of("0.0.0.0", {"localhost"})
    assert {"localhost", sockets.gethostname()} <= names and "rebound.example" not in names
    assert names_of("localhost", {"localhost", "::1"}) == {"localhost", "::1"}


def test_more_than_ten_minutes_that_wait_are_refused(engine, monkeypatch):
    monkeypatch.setattr("edgetalk.page.LONGEST", 15)

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.receive_json()
            for _ in range(3):
                await socket.send_bytes(np.full(160000, 9000, "<i2").tobytes())
            while not isinstance(came := (await socket.receive(timeout=20)).data, str):
                pass
            await socket.send_str("")
            await socket.send_bytes(np.full(3200, 3001, "<i2").tobytes())
            return json.loads(came), await receive(socket, 25)

    told, after = asyncio.run(talk())
    assert "are waiting to be said; wait, or hush the face" in told["error"]
    assert sum((sound == 3001 / 32768).sum() for sound, _ in after) == 3200


def test_what_waits_behind_words_counts_to_the_ten_minutes(engine, programs, monkeypatch):
    monkeypatch.setattr("edgetalk.page.LONGEST", 15)

    async def talk():
        async with serving(engine) as client, client.ws_connect("/face") as socket:
            await socket.send_str("words")
            await until(lambda: begun(programs) == 1)
            for value in (9000, 9001, 9002):
                await socket.send_bytes(np.full(160000, value, "<i2").tobytes())
            told = await asyncio.wait_for(error_of(socket), 20)
            await socket.send_str("")
            await socket.send_bytes(np.full(3200, 3001, "<i2").tobytes())
            return told, await receive(socket, 25)

    told, after = asyncio.run(talk())
    assert "are waiting to be said; wait, or hush the face" in told
    assert sum((sound == 3001 / 32768).sum() for sound, _ in after) == 3200


def test_to_know_its_files_the_page_loads_neither_renderer_nor_encoder():
    code = "import sys, edgetalk.page; sys.exit(bool({'edgetalk.render', 'edgetalk.writer', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_every_file_of_the_page_is_there():
    from edgetalk.page import FILES

    assert [path.name for path in FILES.values() if not Path(path).is_file()] == []
