"""How soon a live face says, hushes and draws, over its page's own connection: `python -m bench.live [ENGINE]`.

Prints the table of docs/live.md. The server is `edgetalk live` in a process of its own; what is timed is what arrives
here. A quiet machine is needed.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import numpy as np
from aiohttp import ClientSession, ClientWebSocketResponse

from edgetalk.train import program

ROUNDS, WATCHED = 40, 20
LOUD = np.full(48000, 3000, "<i2").tobytes()  # three seconds that are no silence
FRAME = 0.04  # seconds, within which a wish is drawn by chance
Moment = tuple[float, bool]


async def moment(socket: ClientWebSocketResponse) -> Moment:
    """Return when the next message came, and whether anything is heard in it."""
    data = await socket.receive_bytes()
    return time.perf_counter(), bool(np.frombuffer(data, "<i2", int.from_bytes(data[:4], "little"), 4).any())


async def measure(url: str) -> dict[str, list[float]]:
    """Return seconds of every wish and of every picture after another."""
    found: dict[str, list[float]] = {"sound": [], "silence": [], "picture": []}
    async with ClientSession() as client, client.ws_connect(f"{url}/face") as socket:
        await socket.receive_json()

        async def until(heard: bool, wish: Callable[[], Awaitable[None]]) -> float:
            await asyncio.sleep(random.random() * FRAME)
            start = time.perf_counter()
            await wish()
            while (came := await moment(socket))[1] is not heard:
                pass
            return came[0] - start

        for _ in range(ROUNDS):
            for _ in range(WATCHED // 2):
                await moment(socket)
            found["sound"].append(await until(True, lambda: socket.send_bytes(LOUD)))
            before = (await moment(socket))[0]
            for _ in range(WATCHED):
                now = (await moment(socket))[0]
                found["picture"].append(now - before)
                before = now
            found["silence"].append(await until(False, lambda: socket.send_str("")))
    return found


def main() -> None:
    parser = program.parser("bench.live", __doc__)
    parser.add_argument("engine", nargs="?", default="amnet", help="default: the bundled AMNet")
    engine = parser.parse_args().engine
    command = [sys.executable, "-m", "edgetalk.cli", "live", engine, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            if not (told := server.stdout.readline()):
                sys.exit("edgetalk live did not start")
            found = asyncio.run(measure(told.split()[0]))
        finally:
            server.terminate()
    names = {
        "sound": "sound sent → its first sample comes with its picture",
        "silence": "*Hush* sent → silence comes",
        "picture": "picture → next picture, where 40 ms are wanted",
    }
    print("| from … to … | median | 95 % | most | of |\n|---|---:|---:|---:|---:|")
    for key, name in names.items():
        shown = " | ".join(f"{1000 * v:.1f} ms" for v in np.percentile(found[key], (50, 95, 100)))
        print(f"| {name} | {shown} | {len(found[key])} |")


if __name__ == "__main__":
    program.run(main)
