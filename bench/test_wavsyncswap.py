"""WavSyncSwap beside the cascade that it replaces: contestants take turns within one run, see test_ratio.py.

At full width it has to reach its aims (aims.py), but for the unprepared network's, which is told alone.

Weights are random, since speed does not depend on them; the arrangement is preset `default` at full width and at the
width that is trained here. A step runs with a prepared film; the unprepared network is source engine and step for
every frame. Networks alone: tracking, pasting and video are left out for all alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.fixtures import Aim, Benchmark, Feeds, Report, Rounds
from bench.turns import in_turns, milliseconds, ratio
from edgetalk import Session
from edgetalk.arrays import Array, Picture
from edgetalk.avatar import Avatar, Film, halved
from edgetalk.backends import open_engine
from edgetalk.engines import gate
from edgetalk.metadata import Metadata

TURNS, WARM_UP = 30, 3
FPS = 25
FRAMES = 8  # of the film
WIDTHS = (1.0, 0.4375)

Network = Callable[[Array], Any]
"""What makes a frame of a mel window."""


def soft(count: int, seed: int) -> Picture:
    """Pictures (count, 96, 96, 3) without hard edges."""
    import cv2

    random = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(random.normal(size=(96, 96, 3)), (0, 0), 4) for _ in range(count)]
    return np.stack([np.clip(p / p.std() * 50 + 128, 0, 255).astype(np.uint8) for p in noise])


def drive(count: int) -> Feeds:
    """What the graphs take: target, reference, identity, mel."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(count, 512)).astype(np.float32)
    return {
        "target": soft(count, 2),
        "reference": soft(1, 3),
        "identity": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "mel": random.uniform(-4, 4, (count, 16, 80)).astype(np.float32),
    }


@pytest.fixture(scope="module", params=WIDTHS, ids=lambda width: f"width-{width}")
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Folder with the network's ONNX files, its int8 engines, and the width."""
    from edgetalk.engines import build
    from edgetalk.export import to_onnx
    from edgetalk.train.networks import arcface, store
    from edgetalk.train.networks.wavsyncswap import WavSyncSwap
    from edgetalk.train.swap.schedule import PRESETS, arrangement

    folder = tmp_path_factory.mktemp("wavsyncswap")
    torch.manual_seed(0)
    config = arrangement(replace(PRESETS["default"], width=request.param))
    small = arcface.Config(width=0.0625, blocks=(1, 1, 1, 1))
    store.save(folder / "wavsyncswap.safetensors", "wavsyncswap", WavSyncSwap(config).eval(), config)
    store.save(folder / "identity.safetensors", "arcface", arcface.ArcFace(small).eval(), small)
    for name, whole in (("wavsyncswap", False), ("whole", True)):
        to_onnx(folder / "wavsyncswap.safetensors", folder / f"{name}.onnx", family="wavsyncswap", whole=whole)
    samples: dict[str, Any] = drive(5)
    np.savez(folder / "calibration.npz", **samples)
    calibration = folder / "calibration.npz"
    build(folder / "wavsyncswap.onnx", folder / "wavsyncswap.xml", precision="int8", calibration=calibration)
    return folder, request.param


@pytest.fixture(scope="module")
def film(models: tuple[Path, float]) -> Avatar:
    """An avatar of FRAMES frames, by the f32 source graph."""
    folder, _ = models
    given = drive(FRAMES)
    shot = Film(
        target=given["target"],
        matrices=np.zeros((FRAMES, 2, 3), np.float32),
        at=np.arange(FRAMES, dtype=np.float32),
        identity=given["identity"][:1],
        size=(96, 96),
        fps=Fraction(25),
    )
    source, made = open_engine(folder / "wavsyncswap-source.onnx"), []
    for i in range(FRAMES):
        pictures: Feeds = {"target": shot.target[i : i + 1], "reference": shot.reference[i : i + 1]}
        made.append(halved(source.run(pictures | {"identity": shot.identity}), "source"))
    features = {name: np.concatenate([one[name] for one in made]) for name in made[0]}
    step = open_engine(folder / "wavsyncswap.onnx")
    weights = Metadata.from_json(step.metadata, "wavsyncswap.onnx").source
    return Avatar(shot.target[0], features, np.zeros((FRAMES, 4), np.float32), "wavsyncswap", weights, film=shot)


@pytest.fixture(scope="module")
def eager(models: tuple[Path, float], film: Avatar, threads: int) -> tuple[Network, Network]:
    """In PyTorch, fp32: the cascade at 96, always of full width, and this network whole."""
    from bench.systems import Cascade
    from edgetalk.train.networks import simswap, store, wav2lip

    torch.set_num_threads(threads)
    folder, _ = models
    network, _ = store.load(folder / "wavsyncswap.safetensors", "wavsyncswap")
    cascade = Cascade(wav2lip.Wav2Lip().eval(), simswap.SimSwap().eval(), 96).eval()
    shot = film.film
    assert shot is not None
    pictures = [torch.from_numpy(p[:1].copy()).permute(0, 3, 1, 2) / 255 for p in (shot.target, shot.reference)]
    vector = torch.from_numpy(shot.identity)

    def by_cascade(mel: Array) -> Any:
        with torch.inference_mode():
            return cascade(pictures[0], torch.from_numpy(mel)[None], vector)

    def by_network(mel: Array) -> Any:
        with torch.inference_mode():
            return network(*pictures, vector, torch.from_numpy(mel)[None])

    return by_cascade, by_network


def test_step(benchmark: Benchmark, models: tuple[Path, float], film: Avatar, threads: int, rounds: Rounds) -> None:
    folder, _ = models
    with Session(folder / "wavsyncswap.xml", avatar=film, threads=threads) as session:
        heard = itertools.cycle(drive(20)["mel"])
        benchmark.extra_info.update(device=session.device, size=session.size)
        benchmark.pedantic(lambda: session.step(next(heard)), rounds=rounds(200), warmup_rounds=rounds(20))


def test_ratios(
    models: tuple[Path, float],
    film: Avatar,
    eager: tuple[Network, Network],
    threads: int,
    rounds: Rounds,
    report_ratio: Report,
    aim: Aim,
) -> None:
    folder, width = models
    by_cascade, by_network = eager
    whole = open_engine(folder / "whole.onnx", precision="f32", threads=threads)
    source = open_engine(folder / "wavsyncswap-source.xml", threads=threads)
    step = open_engine(folder / "wavsyncswap.xml", threads=threads)
    exact = Session(folder / "wavsyncswap.onnx", avatar=film, threads=threads)
    small = Session(folder / "wavsyncswap.xml", avatar=film, threads=threads)
    shot = film.film
    assert shot is not None
    pictures: Feeds = {"target": shot.target[:1], "reference": shot.reference[:1], "identity": shot.identity}

    def unprepared(mel: Array) -> Picture:
        return step.run(source.run(pictures) | {"mel": mel[None]})["frame"][0]

    contestants: dict[str, Network] = {
        "cascade": by_cascade,
        "eager": by_network,
        "whole": lambda mel: whole.run(pictures | {"mel": mel[None]})["frame"][0],
        "unprepared": unprepared,
        "f32": exact.step,
        "int8": small.step,
    }
    heard = drive(20)["mel"]
    mels = itertools.cycle(heard)

    def one(work: Network) -> None:
        work(next(mels))

    taken = in_turns(
        {name: partial(one, work) for name, work in contestants.items()}, rounds(TURNS), block=1, warm_up=WARM_UP
    )
    for mel in heard[:4]:  # who is fast makes the right frames
        wanted = whole.run(pictures | {"mel": mel[None]})["frame"][0].astype(int)
        exact._at = small._at = 0
        assert np.abs(exact.step(mel) - wanted).max() <= 2
        for made in (unprepared(mel), small.step(mel)):
            figures = gate.compare(wanted[None].astype(np.uint8), made[None].copy())
            gate.check(figures, "int8", "the engine that was timed")
    for what, pair in {
        "int8 step against the cascade at 96 in PyTorch eager": ("cascade", "int8"),
        "int8 step against its whole in PyTorch eager": ("eager", "int8"),
        "int8 step against the f32 step": ("f32", "int8"),
        "int8 unprepared against the cascade in PyTorch eager": ("cascade", "unprepared"),
        "int8 unprepared against OpenVINO f32, whole": ("whole", "unprepared"),
    }.items():
        report_ratio(f"WavSyncSwap, width {width:g}: {what}", ratio(*(taken[name] for name in pair)))
    if width == 1:  # the narrower one is for curiosity
        aim("swap-unprepared", 1e3 / milliseconds(taken["unprepared"]))
        aim("swap-cascade", ratio(taken["cascade"], taken["int8"]), held=True)
        aim("swap", milliseconds(taken["int8"]) / 1e3 * FPS, held=True)
    for session in (exact, small):
        session.close()


def test_a_whole_pipeline_is_as_much_faster_as_in_the_paper(
    threads: int, rounds: Rounds, aim: Aim, tmp_path: Path
) -> None:
    """bench/dubs.py in short: in PyTorch, where both are whole networks, and with our engines."""
    from bench import dubs

    seconds = rounds(12) / FPS
    dubs.scene(tmp_path, seconds)
    runs = dubs.clips(tmp_path, seconds, threads, dubs.engines(tmp_path))
    cascade, ours = dubs.PIPELINES
    taken: dict[tuple[str, str], list[float]] = {
        key: [] for key in itertools.product(dubs.PIPELINES, ("eager", "int8"))
    }
    for _ in range(rounds(3)):
        for key, factors in taken.items():
            factors.append(runs[key]())
    for name, column in (("pipeline-eager", "eager"), ("pipeline", "int8")):
        aim(name, float(np.median(np.divide(taken[cascade, column], taken[ours, column]))), held=True)
