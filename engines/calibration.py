"""Samples of a graph's inputs: from a calibration file, or made up from a seed where none is given.

A calibration file is an .npz with one array per input of the graph, the samples along the first axis: `mel`
(N, T, F), `pose` (N, 3), `blink` (N, 2). What the step takes of the source graph, this computes from the arrays of its
inputs: `source` uint8 (N, S, S, 3), or `target`, `reference` and `identity`. An array with a part of N samples, such
as one picture of each person, is gone through again and again. Floats may be of any width. A graph that takes several
samples at once is fed with as many in a row; what is left over at the end is left away.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgetalk.errors import InputError
from edgetalk.npz import HELD_OUT, read_npz

from .onnx_file import Feeds, Runner

RANGES = {"mel": (-4.0, 4.0), "pose": (-0.3, 0.3), "blink": (0.0, 1.0)}
"""Of the made-up samples; other float inputs lie between -1 and 1."""


def load(path: str | os.PathLike[str], graph: Runner, source: Runner | None) -> list[Feeds]:
    """Return the feeds of `graph`, of its batch each; `source` computes what the file has not.

    The feeds of `source` are among them where the file has these.

    Raises FileNotFoundError, or InputError naming the array that is missing, misshapen or not finite.
    """
    name = Path(path).name
    told = f"calibration: {name} is no .npz file or not a whole one; write one with: edgetalk data calibration"
    arrays = read_npz(path, told)
    wanted = dict(graph.inputs)
    if source is not None and not set(source.outputs) <= set(arrays):
        wanted = {key: spec for key, spec in wanted.items() if key not in source.outputs} | source.inputs
    checked = {key: _checked(arrays.get(key), spec, key, name) for key, spec in wanted.items()}
    count = max(len(array) for array in checked.values())
    if any(count % len(array) for array in checked.values()):
        got = ", ".join(f"{key} {len(array)}" for key, array in checked.items())
        raise InputError(f"calibration: {name} has {got} samples, expected equally many or a part that divides {count}")
    if count < (size := batch(graph)):
        raise InputError(f"calibration: {name} has {count} samples, expected at least the {size} that a run takes")
    return _feeds(checked, count, graph, source)


def batch(graph: Runner) -> int:
    """Return how many samples a run of the graph takes; 1 where it takes any number."""
    return max([1, *(spec.shape[0] for spec in graph.inputs.values())])


def made_up(count: int, graph: Runner, source: Runner | None, picture: np.ndarray | None = None) -> list[Feeds]:
    """Return `count` seeded feeds of `graph`, uniform over the inputs' ranges: no speech, but the same anywhere.

    The source is `picture` uint8 (S, S, 3), or seeded noise where there is none.
    """
    random = np.random.default_rng(0)
    count *= batch(graph)
    wanted = dict(graph.inputs)
    if source is not None:
        wanted = {key: spec for key, spec in wanted.items() if key not in source.outputs} | source.inputs
    arrays = {}
    for key, spec in sorted(wanted.items()):
        shape = (count, *spec.shape[1:])
        low, high = RANGES.get(key, (-1.0, 1.0))
        if key == "source" and picture is not None and picture.shape == shape[1:]:
            arrays[key] = picture[None]
        elif spec.dtype == np.uint8:
            arrays[key] = random.integers(0, 256, shape, np.uint8)
        else:
            arrays[key] = random.uniform(low, high, shape).astype(spec.dtype)
        if key == "identity":
            arrays[key] /= np.linalg.norm(arrays[key], axis=1, keepdims=True)
    return _feeds(arrays, count, graph, source)


def split(samples: list[Feeds]) -> tuple[list[Feeds], list[Feeds]]:
    """Return the samples to calibrate with and those held out for the gate; the same one where there is but one."""
    return [s for i, s in enumerate(samples) if i % HELD_OUT] or samples, samples[::HELD_OUT]


def _checked(array: np.ndarray | None, spec: tuple[np.dtype, tuple[int, ...]], key: str, name: str) -> np.ndarray:
    dtype, shape = spec
    if array is None:
        raise InputError(f"calibration: {name} has no array {key!r}; write one with: edgetalk data calibration")
    fits = array.dtype == dtype or (array.dtype.kind == "f" and dtype.kind == "f")
    if not fits or array.shape[1:] != shape[1:] or not len(array):
        expected = ", ".join(["N", *map(str, shape[1:])])
        raise InputError(f"calibration: {key} in {name} is {array.dtype} {array.shape}, expected {dtype} ({expected})")
    array = array.astype(dtype, copy=False)
    if not np.isfinite(array).all():
        raise InputError(f"calibration: {key} in {name} has values that are no finite numbers; write the file again")
    return array


def _feeds(arrays: Feeds, count: int, graph: Runner, source: Runner | None) -> list[Feeds]:
    features: dict[bytes, Feeds] = {}  # what the source graph makes of each different source
    samples, size = [], batch(graph)
    for first in range(0, count - size + 1, size):
        sample = {key: _row(array, first, size) for key, array in arrays.items()}
        if source is not None and set(source.inputs) <= set(sample):
            key = b"".join(sample[name].tobytes() for name in source.inputs)
            if key not in features:
                features[key] = source(sample)
            sample |= features[key]
        known = set(graph.inputs) | set(source.inputs if source is not None else ())
        samples.append({key: value for key, value in sample.items() if key in known})
    return samples


def _row(array: np.ndarray, first: int, size: int) -> np.ndarray:
    """Return `size` samples from `first` on, behind the last one again the first; a view where that does not happen."""
    first %= len(array)
    row = array[first : first + size]
    return row if len(row) == size else array[np.arange(first, first + size) % len(array)]
