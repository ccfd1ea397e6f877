"""What the benches share: the model under test, the frames it should make, the ratios that this device is held to.

    pytest bench/                           measure, and hold the ratios against this device's baseline
    pytest bench/ --save-ratios             make the ratios that were measured the baseline of this device
    pytest bench/test_gate.py --base main   is this checkout slower than that revision?
    pytest bench/ --benchmark-disable       run everything a few times, as a test of the benches

Nothing is ever held against a time, which depends on who else is at work: only ratios of times that were taken in
turns, in bench/baselines/<device>/ratios.json, which are of the bundled models on all cores. A test that has nothing
to hold its ratios against, or cannot decide, is skipped and says so. What is wanted stands in bench/aims.py and is
told as reached or NOT; where an aim has to be reached, times and sizes are held on an idle machine alone, and so are
other limits.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetalk import Session, benchmark
from edgetalk.arrays import Array, Picture
from edgetalk.avatar import Avatar
from edgetalk.bundled import MODELS
from edgetalk.commands.doctor import features
from edgetalk.overlap import cores
from edgetalk.windows import sound_windows

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # bench is no installed package
from bench.aims import AIMS  # noqa: E402
from bench.fixtures import Aim, Control, Feeds, Hold, Judge, Open, Ratios, Report, Rounds, Run  # noqa: E402
from bench.machine import IDLE, Others  # noqa: E402
from bench.page import write_json  # noqa: E402

SLACK = 0.9  # a ratio below this part of the baseline's fails
THREADS = cores()
FRAMES = 20  # of the bundled sentence, from where it is loud: what works are timed on and judged by
START = 25
RATIOS = pytest.StashKey[dict[str, float]]()
GOT = pytest.StashKey[dict[str, float]]()  # by the name of an aim
OTHERS = pytest.StashKey[Others]()
BUDGET = pytest.StashKey[list[str]]()
PICTURES = pytest.StashKey[list[str]]()


def device_name() -> str:
    """Return a folder name for this machine: the board's, or the processor's name, family and arithmetic; and cores.

    Virtual machines name processors of four generations alike, of which the first has no VNNI and is a third as fast.
    """
    board = Path("/proc/device-tree/model")
    text = board.read_text(errors="replace").strip("\0") if board.exists() else ""
    if not text:
        told = Path("/proc/cpuinfo").read_text()
        model, family = (re.search(rf"^{key}\s*: (.+)$", told, re.MULTILINE) for key in ("model name", "cpu family"))
        words = [model[1] if model else os.uname().machine, family[1] if family else ""]
        text = " ".join([*words, *(able.split()[0] for able in features())])
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(R\)|\(TM\)| CPU| Processor", "", text).lower()).strip("-")
    return f"{name}-{cores()}-cores"


BASELINES = HERE / "baselines" / device_name()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("edgetalk")
    group.addoption("--models", type=Path, default=MODELS, help="folder with amnet.onnx, amnet.xml …")
    group.addoption("--checkpoint", type=Path, default=HERE.parent / "train/checkpoints/amnet.safetensors")
    group.addoption("--calibration", type=Path, default=HERE.parent / "train/checkpoints/calibration.npz")
    group.addoption("--folded", type=Path, metavar="FILE", help="built with --fold-statistics (default: built now)")
    group.addoption("--threads", type=int, default=THREADS, help="for every contestant (default: all cores)")
    group.addoption("--save-ratios", action="store_true", help="as the baseline of this device")
    group.addoption("--told", type=Path, metavar="FILE", help="write what was measured of the aims there, as JSON")
    group.addoption("--base", metavar="REVISION", help="build that this checkout must not be slower than")


def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    if option.save_ratios and (other := [*others_than_the_bundled(option), *other_threads(option)]):
        raise pytest.UsageError(
            f"--save-ratios: baselines are of the bundled models on all cores; leave out {other[0]}"
        )
    config.stash[RATIOS] = {}
    config.stash[GOT] = {}
    config.stash[OTHERS] = Others()
    config.stash[BUDGET] = []
    config.stash[PICTURES] = []


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    import openvino

    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    machine_info.update(
        device=device_name(),
        openvino=openvino.__version__,
        governor=governor.read_text().strip() if governor.exists() else "not told",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ratios, others = config.stash[RATIOS], config.stash[OTHERS].share()
    if others > IDLE and not config.option.benchmark_disable:
        terminalreporter.section("busy machine")
        terminalreporter.write_line(
            f"other programs took {others:.0%} of the processor: ratios hold, times are not to be quoted"
        )
    if got := config.stash[GOT]:
        terminalreporter.section("aims")
        for name, value in got.items():
            terminalreporter.write_line(AIMS[name].told(value))
        if config.option.told:
            config.option.told.write_text(json.dumps(got))
    if config.stash[BUDGET]:
        terminalreporter.section("budget")
        for line in config.stash[BUDGET]:
            terminalreporter.write_line(line)
    if config.stash[PICTURES]:
        terminalreporter.section("what was timed, against the f32 graph")
        for line in config.stash[PICTURES]:
            terminalreporter.write_line(line)
    if ratios:
        terminalreporter.section("ratios, timed in turns in one run")
        before = known_ratios()
        for name, ratio in ratios.items():
            was = f"   (baseline {before[name]:.2f})" if name in before else ""
            terminalreporter.write_line(f"{name:<72} {ratio:6.2f} times{was}")


@pytest.fixture
def baseline(request: pytest.FixtureRequest) -> dict[str, float]:
    """The ratios that this device is held to: none with other threads than those of the baseline."""
    return {} if other_threads(request.config.option) else known_ratios()


def others_than_the_bundled(option: argparse.Namespace) -> list[str]:
    """Return the option that chooses other engines than those that the baseline is of."""
    return [f"--models {option.models}"] if option.models.resolve() != MODELS.resolve() else []


def other_threads(option: argparse.Namespace) -> list[str]:
    """Return the option that chooses other threads than those that the baseline is of."""
    return [f"--threads {option.threads}"] if option.threads != THREADS else []


def known_ratios() -> dict[str, float]:
    file = BASELINES / "ratios.json"
    return json.loads(file.read_text()) if file.exists() else {}


def save(option: argparse.Namespace, ratios: dict[str, float], own: str = "") -> None:
    """Make ratios part of this device's baseline, in place of those whose names `own` matches; with --save-ratios."""
    if option.save_ratios and not option.benchmark_disable:
        kept = {name: ratio for name, ratio in known_ratios().items() if not re.fullmatch(own, name)}
        write_json(BASELINES / "ratios.json", kept | {name: round(ratio, 4) for name, ratio in ratios.items()})


def compare(option: argparse.Namespace, ratios: dict[str, float], own: str) -> None:
    """Hold ratios against this device's baseline: all of its names that `own` matches have to be among them.

    Other engines than the bundled ones may have other ratios, of which those that the baseline knows are held. Skips
    the test where there is nothing that they could be held against.
    """
    if other := other_threads(option):
        pytest.skip(f"nothing is held with {other[0]}: the baseline is of {THREADS}")
    known = {name: ratio for name, ratio in known_ratios().items() if re.fullmatch(own, name)}
    held = known.keys() & ratios.keys() if others_than_the_bundled(option) else known.keys()
    if not held:
        pytest.skip(f"no baseline of these ratios in {BASELINES}; write one with --save-ratios")
    for name in sorted(held):
        assert name in ratios, f"{name}: not measured, the baseline is {known[name]:.2f}; drop it with --save-ratios"
        assert ratios[name] > SLACK * known[name], (
            f"{name}: {ratios[name]:.2f} times, the baseline is {known[name]:.2f}"
        )


@pytest.fixture
def hold_ratios(request: pytest.FixtureRequest) -> Ratios:
    """Return a function that prints ratios, and saves them as the baseline or holds them against it.

    Its second argument is a pattern of the names that the test measures, whatever engines it finds.
    """
    option = request.config.option

    def hold(ratios: dict[str, float], own: str) -> None:
        assert all(re.fullmatch(own, name) for name in ratios), ratios
        request.config.stash[RATIOS].update(ratios)
        if option.benchmark_disable:
            return
        if option.save_ratios:
            save(option, ratios, own)
        else:
            compare(option, ratios, own)

    return hold


@pytest.fixture
def hold(request: pytest.FixtureRequest) -> Hold:
    """Return a function that tells a figure, and holds it against its limit where the machine was idle."""
    config, others = request.config, Others()

    def check(what: str, value: float, unit: str, limit: float) -> None:
        config.stash[BUDGET].append(f"{what:<64} {value:8.2f} {unit} (at most {limit:g})")
        idle = others.share() <= IDLE and not config.option.benchmark_disable
        assert not idle or value <= limit, f"{what}: {value:.2f} {unit}, expected at most {limit:g}"

    return check


@pytest.fixture
def aim(request: pytest.FixtureRequest) -> Aim:
    """Return a function that tells what was measured of an aim by its name: as reached or NOT, at the end.

    With `held` it must be reached: a ratio always, a time or a size where the machine was idle.
    """
    config, others = request.config, Others()

    def check(name: str, value: float, held: bool = False) -> None:
        config.stash[GOT][name] = round(value, 4)
        counts = AIMS[name].unit == "times" or others.share() <= IDLE
        if held and counts and not config.option.benchmark_disable:
            assert AIMS[name].reached(value), AIMS[name].told(value)

    return check


@pytest.fixture
def report_ratio(request: pytest.FixtureRequest) -> Report:
    """Return a function that prints a ratio, and saves it where --save-ratios was given."""

    def report(name: str, ratio: float) -> None:
        request.config.stash[RATIOS][name] = ratio
        save(request.config.option, {name: ratio})

    return report


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> Rounds:
    """Return how often to measure: `rounds(200)` is 200, or 3 with --benchmark-disable."""
    few = request.config.option.benchmark_disable
    return lambda count: min(count, 3) if few else count


@pytest.fixture(scope="session")
def models(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.option.models
    if not (folder / "amnet.onnx").is_file():
        pytest.skip(f"there is no amnet.onnx in {folder}; export and build a model first")
    return folder


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.config.option.threads)


@pytest.fixture(scope="session")
def opened(models: Path, threads: int) -> Iterator[Open]:
    """Return a function that opens an engine, once for the whole run."""
    sessions: dict[Path, Session] = {}

    def open_once(engine: Path) -> Session:
        if engine not in sessions:
            sessions[engine] = Session(engine, avatar=models / "amnet.avatar", threads=threads)
        return sessions[engine]

    yield open_once
    for session in sessions.values():
        session.close()


@pytest.fixture(scope="session")
def pcm() -> Array:
    return benchmark.sentence(10.0)


@pytest.fixture(scope="session")
def bf16(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bf16 engine, which nobody ships, built now."""
    from edgetalk.engines import build

    path = tmp_path_factory.mktemp("bf16") / "amnet.xml"
    build(models / "amnet.onnx", path, precision="bf16")
    return path


@pytest.fixture(scope="session")
def controls(models: Path, opened: Open, pcm: Array) -> list[Control]:
    """What step takes for FRAMES frames: a list of (mel, pose, blink)."""
    session = opened(models / "amnet.onnx")
    return list(benchmark.controls(session, pcm))[START : START + FRAMES]


@pytest.fixture(scope="session")
def avatar(models: Path, opened: Open) -> Avatar:
    return opened(models / "amnet.onnx").avatar


@pytest.fixture(scope="session")
def onnx_run(models: Path) -> Run:
    """Return a function that runs an f32 ONNX file in ONNX Runtime, the reference that shares no code with us."""
    import onnxruntime

    def run(name: str, feeds: Sequence[Feeds]) -> list[Feeds]:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # nothing may run on while we time
        session = onnxruntime.InferenceSession(models / name, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return [dict(zip(names, session.run(None, feed), strict=True)) for feed in feeds]

    return run


@pytest.fixture(scope="session")
def expected(onnx_run: Run, avatar: Avatar, controls: list[Control]) -> tuple[Any, ...]:
    """Reference frames uint8 (FRAMES, S, S, 3) and landmarks float32 (FRAMES, 106, 2) of `controls`."""
    features = onnx_run("amnet-source.onnx", [{"source": avatar.source[None]}])[0]
    feeds = [{**features, "mel": mel[None], "pose": pose[None], "blink": blink[None]} for mel, pose, blink in controls]
    results = onnx_run("amnet.onnx", feeds)
    return tuple(np.concatenate([result[name] for result in results]) for name in ("frame", "landmarks"))


@pytest.fixture(scope="session")
def judge(request: pytest.FixtureRequest, expected: tuple[Any, ...]) -> Judge:
    """Return a function that tells what frames of `controls` keep, and holds it against the gate of their precision."""
    from edgetalk.engines import gate

    def check(name: str, frames: Sequence[Picture], precision: str) -> None:
        figures = gate.compare(expected[0], np.stack(frames), expected[1])
        kept = f"SSIM {figures['ssim']:.4f}, {figures['psnr']:.1f} dB, {figures['mouth_psnr']:.1f} dB at the mouth"
        request.config.stash[PICTURES].append(f"{name:<24} {kept}")
        gate.check(figures, precision, "the engine that was timed")

    return check


@pytest.fixture(scope="session")
def fps(models: Path, opened: Open) -> Fraction:
    return opened(models / "amnet.onnx").fps


@pytest.fixture(scope="session")
def whole_windows(pcm: Array, models: Path, opened: Open, fps: Fraction) -> list[Array]:
    return list(sound_windows(pcm, opened(models / "amnet.onnx").audio, fps))
