"""Checkpoints of WavSyncSwap and its identity extractor with seeded random weights and statistics."""

import torch

from edgetalk.train.networks import arcface, store
from edgetalk.train.networks.wavsyncswap import Config, WavSyncSwap

WIDTH, VECTOR = 0.125, 32
SKIPS = {96: (16, 16, 8), 192: (16, 16, 8, 8)}


def unsettle(network, seed):
    """Give batch norms statistics and weights as training leaves them, so that folding them wrongly shows."""
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.1),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=random) * (high - low) + low)
    return network.eval()


def write(folder, preset="default", size=96, width=WIDTH):
    """Write wavsyncswap.safetensors and identity.safetensors; return the networks as they are stored, in halves."""
    torch.manual_seed(5)
    config = Config(size, width, identity=VECTOR, skips=SKIPS[size] if preset == "default" else ())
    network = unsettle(WavSyncSwap(config), 6)
    network.head[2].weight.data *= 4  # pictures with contrast, in which an error shows
    store.save(folder / "wavsyncswap.safetensors", "wavsyncswap", network, config)
    own = arcface.Config(width=0.0625, blocks=(1, 1, 1, 1), size=112, identity=VECTOR)
    store.save(folder / "identity.safetensors", "arcface", unsettle(arcface.ArcFace(own), 7), own)
    return (
        store.load(folder / "wavsyncswap.safetensors", "wavsyncswap")[0],
        store.load(folder / "identity.safetensors", "arcface")[0],
    )
