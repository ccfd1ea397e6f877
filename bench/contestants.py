"""What takes turns in processes of their own (worker.py): each function opens something and returns its work.

A work makes one frame of the bundled sentence in uint8, with a new sound window, pose and blink each time. Beside it
comes what there is to tell. Imports stand in the functions: what one contestant imports is not in another's memory.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Work = Callable[[], Any]
Told = dict[str, Any]

FRAMES = 50  # of the bundled sentence, said again and again


def step(engine: str, threads: int, slower: float = 0.0) -> tuple[Work, Told]:
    """Our step on a prepared face; `slower` is the part of each step's time that is then wasted, to test the gate."""
    import edgetalk
    from edgetalk import Session, benchmark

    session = Session(engine, threads=threads)
    feeds = itertools.cycle(itertools.islice(benchmark.controls(session, benchmark.sentence(4.0)), FRAMES))

    def work() -> None:
        start = time.perf_counter()
        session.step(*next(feeds))
        end = time.perf_counter()
        end += slower * (end - start)
        while slower and time.perf_counter() < end:
            pass

    return work, {"device": session.device, "code": edgetalk.__file__}


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
