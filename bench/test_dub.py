"""How much of the network's rate a dubbed film of 720 rows gets: decode, crop, paste and encode take the rest.

The network is WavSyncSwap of full width with random weights, source graph and step for every frame, in int8; film and
network take turns in one run. Its own rate is the better of two ways: one frame in all threads, two frames side by
side. The film is drawn and its track is exact, so nothing is tracked; the face's crop is 410 pixels wide.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.fixtures import Ratios, Rounds
from edgetalk import benchmark as works
from edgetalk.arrays import Array, Picture
from edgetalk.dubbing import STAGES, dub
from edgetalk.face import read_track, write_track
from edgetalk.painter import Painter
from edgetalk.planes import crop
from edgetalk.reader import Reader
from edgetalk.writer import Writer

SECONDS, TURNS, RUNS = 4.0, 3, 100
SIZE, PLACE, SIDE = (1280, 720), (400, 200), 480  # of the film, and where in it the drawn scene is, at what size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """target.mp4 of 1280x720, its track, and int8 engines of wavsyncswap."""
    import cv2

    from edgetalk.engines import build
    from edgetalk.export import to_onnx
    from edgetalk.train.networks import arcface, store
    from edgetalk.train.networks.wavsyncswap import WavSyncSwap
    from edgetalk.train.swap.scene import write_scene
    from edgetalk.train.swap.schedule import PRESETS, arrangement

    folder = tmp_path_factory.mktemp("dub")
    write_scene(folder / "scene", seconds=SECONDS)
    scene, (left, top) = Reader(folder / "scene/target.mp4"), PLACE
    with Writer(folder / "target.mp4", SIZE, scene.fps) as writer:
        for picture in scene:
            whole = cv2.blur(cv2.resize(picture, (SIZE[0], SIZE[0]))[: SIZE[1]], (13, 13))
            whole[top : top + SIDE, left : left + SIDE] = cv2.resize(
                picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA
            )
            writer.write(whole.astype(np.uint8, copy=False))
    faces, scale = read_track(folder / "scene/target.track.npz").faces, SIDE / scene.size[0]
    moved = [f and dataclasses.replace(f, points=(f.points * scale + PLACE).astype(np.float32)) for f in faces]
    write_track(folder / "target.track.npz", moved, scene.fps, SIZE)

    torch.manual_seed(0)
    config = arrangement(dataclasses.replace(PRESETS["default"], width=1.0))
    small = arcface.Config(width=0.0625, blocks=(1, 1, 1, 1))
    store.save(folder / "wavsyncswap.safetensors", "wavsyncswap", WavSyncSwap(config).eval(), config)
    store.save(folder / "identity.safetensors", "arcface", arcface.ArcFace(small).eval(), small)
    to_onnx(folder / "wavsyncswap.safetensors", folder / "wavsyncswap.onnx", family="wavsyncswap")
    with Painter(folder / "wavsyncswap.onnx") as painter:
        crops = np.stack(cut_out(painter, folder)[::20])
    random = np.random.default_rng(1)
    vectors = random.normal(size=(len(crops), config.identity)).astype(np.float32)
    np.savez(
        folder / "calibration.npz",
        target=crops,
        reference=crops[::-1],
        identity=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        mel=random.uniform(-4, 4, (len(crops), 16, 80)).astype(np.float32),
    )
    calibration = folder / "calibration.npz"
    build(folder / "wavsyncswap.onnx", folder / "wavsyncswap.xml", precision="int8", calibration=calibration)
    return folder


def cut_out(painter: Painter, folder: Path) -> list[Picture]:
    """Return the crop of every frame."""
    faces = read_track(folder / "target.track.npz").faces
    pictures = zip(Reader(folder / "target.mp4").planes(), faces, strict=True)
    cuts = [crop(planes, painter.matrix(face.points), painter.size) for planes, face in pictures if face is not None]
    return [cut for cut in cuts if cut is not None]


def network_rate(painters: list[Painter], crops: list[Picture], mel: Array, runs: int) -> float:
    """Frames per second of source graph and step alone, as many at a time as there are painters."""

    def work(painter: Painter) -> None:
        for i in range(runs // len(painters)):
            painter.paint(crops[i % len(crops)], mel, crops[0])

    threads = [threading.Thread(target=work, args=(painter,)) for painter in painters]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs // len(painters) * len(painters) / (time.perf_counter() - started)


def test_delivered_rate_at_720p(
    folder: Path, threads: int, rounds: Rounds, hold_ratios: Ratios, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, pcm, mel = folder / "wavsyncswap.xml", works.sentence(SECONDS), np.zeros((16, 80), np.float32)
    alone: dict[int, list[float]] = {1: [], 2: []}
    delivered: list[float] = []
    ways = {n: [Painter(engine, threads=threads, streams=n) for _ in range(n)] for n in alone}
    identity = np.full((1, 512), 512**-0.5, np.float32)
    for painter in (*ways[1], *ways[2]):
        painter.wear(identity)
    crops = cut_out(ways[1][0], folder)
    for _ in range(rounds(TURNS)):
        for n, painters in ways.items():
            network_rate(painters, crops, mel, n)
            alone[n].append(network_rate(painters, crops, mel, rounds(RUNS)))
        last = dub(engine, folder / "target.mp4", pcm, folder / "out.mp4", identity=identity, threads=threads)
        delivered.append(last.rate)
    best = max(np.median(rates) for rates in alone.values())
    with capsys.disabled():
        means = ", ".join(f"{name} {1000 * np.sum(getattr(last, name)) / last.frames:.1f}" for name in STAGES)
        told = " and ".join(f"{np.median(rates):.1f}" for rates in alone.values())
        print(f"\n{told} frames/s by the network, {np.median(delivered):.1f} delivered; ms per frame: {means}")
    done = Reader(folder / "out.mp4")
    assert (done.size, done.fps, last.frames, last.painted) == (SIZE, Fraction(25), 100, 100)
    hold_ratios({"dub at 720p: delivered of the network's rate": float(np.median(delivered) / best)}, "dub at 720p: .+")
