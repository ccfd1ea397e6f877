"""What parts of a network are given, make, hold and cost, measured by running it with hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgetalk.train.networks.amnet import GeometricController
from edgetalk.train.networks.wavsyncswap import Filling


class Block:
    """What was seen of a part: shapes without the batch, parameters, multiply-adds of one sample."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.parameters = sum(p.numel() for p in {p for module in modules for p in module.parameters()})
        self.inputs: list[tuple[int, ...]] = []
        self.output: tuple[int, ...] = ()
        self.macs = 0


def multiply_adds(layer: nn.Module, given: Tensor, made: Tensor) -> int:
    """Return those of one layer itself, 0 where it is no product; taps on the margin are counted, as is usual."""
    if isinstance(layer, nn.Conv2d):
        return made.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):
        return given.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return made.numel() * layer.in_features
    if isinstance(layer, GeometricController):  # what it predicts, used at every place
        return made.numel() * layer.channels // layer.groups * layer.kernel**2
    if isinstance(layer, Filling):
        return made.shape[1] * layer.weight.numel()
    return 0


@torch.no_grad()
def measure(parts: Mapping[str, nn.Module | list[nn.Module]], run: Callable[[], Any]) -> dict[str, Block]:
    """Return what `run`, a pass of one sample, does in each of the `parts`, by their names.

    A part of several modules is given what its first call is given, and makes what its last call makes.
    """
    blocks, hooks = {}, []
    for name, part in parts.items():
        modules = part if isinstance(part, list) else [part]
        block = blocks[name] = Block(modules)

        def seen(module: nn.Module, given: tuple, made: Tensor, block: Block = block) -> None:
            block.inputs = block.inputs or [tuple(t.shape[1:]) for t in given if isinstance(t, Tensor)]
            block.output = tuple(made.shape[1:])

        def counted(module: nn.Module, given: tuple, made: Tensor, block: Block = block) -> None:
            block.macs += multiply_adds(module, given[0], made)

        hooks += [module.register_forward_hook(seen) for module in modules]
        hooks += [layer.register_forward_hook(counted) for module in modules for layer in module.modules()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return blocks
