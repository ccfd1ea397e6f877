"""What takes turns in processes of their own (worker.py): each function opens something and returns its work.

A work makes one frame of the bundled sentence in uint8, with a new sound window, pose and blink each time. Beside it
comes what there is to tell. Imports stand in the functions: what one contestant imports is not in another's memory.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Work = Callable[[], Any]
Told = dict[str, Any]

FRAMES = 50  # of the bundled sentence, said again and again


def step(engine: str, threads: int, slower: float = 0.0) -> tuple[Work, Told]:
    """Our step on a prepared face; `slower` is the part of each step's time that is then wasted, to test the gate."""
    import edgetalk
    from edgetalk import Session, benchmark

    start = time.perf_counter()
    session = Session(engine, threads=threads)
    opened = time.perf_counter() - start
    feeds = itertools.cycle(itertools.islice(benchmark.controls(session, benchmark.sentence(4.0)), FRAMES))

    def work() -> None:
        start = time.perf_counter()
        session.step(*next(feeds))
        end = time.perf_counter()
        end += slower * (end - start)
        while slower and time.perf_counter() < end:
            pass

    return work, {"device": session.device, "code": edgetalk.__file__, "opened_s": opened}


def live(engine: str, threads: int) -> tuple[Work, Told]:
    """The first frame of a live stream; the first one ever of its process is told."""
    from edgetalk import Session, benchmark

    session = Session(engine, threads=threads)
    return lambda: benchmark.first_of_stream(session), {"first_s": benchmark.first_of_stream(session)}


def talk(engine: str, threads: int, seconds: float, out: str) -> tuple[Work, Told]:
    """A whole film of the bundled sentence, as `edgetalk talk` makes it."""
    import soundfile

    from edgetalk.benchmark import sentence
    from edgetalk.cli import main

    soundfile.write(f"{out}.wav", sentence(seconds), 16000)
    arguments = ["talk", engine, "--audio", f"{out}.wav", "--threads", str(threads), "-o", f"{out}.mp4"]
    return lambda: main(arguments), {}


def reference(threads: int) -> tuple[Work, Told]:
    """Work that no change of ours can make faster or slower: four convolutions of the step's size, in bf16 if it can.

    It leans on the processor and its memory as the step does, so what slows one slows the other.
    """
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    values = picture = ops.parameter([1, 152, 64, 64], np.float32)
    for _ in range(4):
        weight = rng.normal(size=(152, 152, 3, 3), scale=0.02).astype(np.float32)
        values = ops.relu(ops.convolution(values, weight, [1, 1], [1, 1], [1, 1], [1, 1]))
    core = openvino.Core()
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if able else "f32",
    }
    request = core.compile_model(openvino.Model([values], [picture]), "CPU", config).create_infer_request()
    feed = [rng.normal(size=(1, 152, 64, 64)).astype(np.float32)]
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True), {}


def drive(feeds: str) -> tuple[np.ndarray, Iterator[tuple[np.ndarray, ...]]]:
    """Return what by_hand.py wrote for all alike: the picture uint8 (S, S, 3), and mel, pose, blink without end."""
    held = np.load(feeds)
    return held["source"], itertools.cycle(list(zip(held["mel"], held["pose"], held["blink"], strict=True)))


def in_torch(checkpoint: str | Path, picture: np.ndarray, threads: int, compiled: bool = False) -> Callable[..., Any]:
    """Return what makes a frame of mel, pose and blink in PyTorch, or with what torch.compile makes of the network.

    As the checkpoint's user would run it, whole: the picture, uint8 (S, S, 3), goes in with each frame's controls.
    """
    import torch

    from edgetalk.train.networks.amnet import as_bytes
    from edgetalk.train.networks.checkpoint import load_checkpoint

    torch.set_num_threads(threads)
    network = load_checkpoint(checkpoint).network.eval()
    source = torch.tensor(picture)[None].permute(0, 3, 1, 2).float() / 127.5 - 1

    def forward(*inputs: torch.Tensor) -> torch.Tensor:
        return as_bytes(network(source, *inputs)[0]).permute(0, 2, 3, 1)

    call = torch.compile(forward) if compiled else forward

    def step(*controls: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return call(*(torch.from_numpy(value)[None] for value in controls))[0].numpy()

    return step


def eager(checkpoint: str, feeds: str, threads: int, compiled: bool = False) -> tuple[Work, Told]:
    """The whole network in PyTorch; see in_torch."""
    import torch

    picture, controls = drive(feeds)
    step = in_torch(checkpoint, picture, threads, compiled)
    return lambda: step(*next(controls)), {"version": torch.__version__.partition("+")[0]}


def onnxruntime(model: str, feeds: str, threads: int) -> tuple[Work, Told]:
    """The exported whole network in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would eat into others' turns
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    picture, controls = drive(feeds)
    names = ("mel", "pose", "blink")

    def work() -> np.ndarray:
        inputs = {name: value[None] for name, value in zip(names, next(controls), strict=True)}
        return session.run(["frame"], {"source": picture[None], **inputs})[0][0]

    return work, {"version": onnxruntime.__version__}


def openvino(model: str, feeds: str, threads: int, precision: str | None = None) -> tuple[Work, Told]:
    """The exported whole network in OpenVINO, in the precision that it takes by itself where none is given."""
    import openvino

    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", config | ({"INFERENCE_PRECISION_HINT": precision} if precision else {}))
    request = compiled.create_infer_request()
    picture, controls = drive(feeds)
    names = ("mel", "pose", "blink")

    def work() -> np.ndarray:
        inputs = {name: value[None] for name, value in zip(names, next(controls), strict=True)}
        return request.infer({"source": picture[None], **inputs})["frame"][0]

    taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return work, {"version": openvino.__version__.partition("-")[0], "precision": taken}


def ours(engine: str, feeds: str, threads: int) -> tuple[Work, Told]:
    """The step, on the avatar beside the engine."""
    from edgetalk import Session, __version__

    session = Session(engine, threads=threads)
    _, controls = drive(feeds)
    return lambda: session.step(*next(controls)), {"version": __version__, "precision": session.metadata.precision}
