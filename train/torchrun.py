"""Several processes that train one network, each on a GPU of its own, as torchrun starts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from edgetalk.errors import InputError


def worker() -> tuple[int, int]:
    """Return this process's rank and the number of processes; joins torchrun's group on the first call."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first of torchrun's processes through the block, then the others, which find the files it has made."""
    rank, processes = worker()
    if rank:
        agreed(0.0)
    yield
    if not rank and processes > 1:
        agreed(0.0)


def refuse_several() -> None:
    """Raise InputError where torchrun has started several processes; for recipes that average no gradients."""
    if (processes := worker()[1]) > 1:
        raise InputError(
            f"torchrun: got {processes} processes, expected one, since this recipe averages no gradients; start "
            "the command without it"
        )


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over torchrun's processes; nothing to do where there is one."""
    if worker()[1] == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message instead of hundreds
    torch.distributed.all_reduce(flat)
    flat /= worker()[1]
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def agreed(value: float) -> float:
    """Return what the first process holds: clocks read by each would let them part, and wait for each other."""
    if worker()[1] == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)
    torch.distributed.broadcast(told, 0)
    return float(told)


def generator(seed: int, step: int) -> torch.Generator:
    """Return the random numbers of one step of this process: a function of seed, step and rank alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + worker()[0])
