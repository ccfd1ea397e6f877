"""What tests share: Ctrl-C, and checkpoints of WavSyncSwap with seeded random weights and statistics."""

import argparse
import os
import signal
from types import SimpleNamespace

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each has a core: threads of its own would wait for those of the others
    os.environ.setdefault("OMP_NUM_THREADS", "1")

WORKERS = 8  # at most, for -n auto: each may take a gigabyte or two
WIDTH, VECTOR, HEAD = 0.125, 32, 0.1
SKIPS = {96: (16, 16, 8), 192: (16, 16, 8, 8)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return min(WORKERS, os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker neighbours, until another one is idle: what tests of a module share is mostly made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(scope="session")
def no_gpu():
    """Skips where there is a GPU: the errors of a machine without one cannot be provoked."""
    from edgetalk.backends import cuda
    from edgetalk.errors import BackendError

    try:
        cuda.open_device()
    except BackendError:
        return
    pytest.skip("this machine has a GPU: the error cannot be provoked")


@pytest.fixture(scope="session")
def tracking_networks():
    """The folder of the networks that find faces; skips where they were not fetched."""
    from edgetalk.errors import BackendError
    from edgetalk.face.models import find_face_models

    try:
        return find_face_models()
    except BackendError:
        pytest.skip("needs the face-tracking networks; run: edgetalk fetch face")


def unsettle(network, seed):
    """Give weights and statistics as training leaves them: what comes in shows in what comes out, through all layers.

    With a network's initial weights sound would not reach the frame, and batch norms would be the identity.
    """
    import torch
    from torch import nn

    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.8, 1.2),
                (module.bias.data, -0.1, 0.1),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=random) * (high - low) + low)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight, stride = module.weight.data, module.stride[0]
            transposed = isinstance(module, nn.ConvTranspose2d)
            seen = weight[0].numel() if not transposed else weight[:, 0].numel() / stride**2
            weight.copy_(torch.randn(weight.shape, generator=random) * (2 / seen) ** 0.5)
    return network.eval()


def write(folder, preset="default", size=96, width=WIDTH, seed=5):
    """Write wavsyncswap.safetensors and identity.safetensors; return the networks as they are stored, in halves."""
    import torch

    from edgetalk.train.networks import arcface, store
    from edgetalk.train.networks.wavsyncswap import Config, WavSyncSwap

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    default = {"skips": SKIPS[size], "hidden": (0.36, 0.42), "matte": True} if preset == "default" else {}
    config = Config(size, width, identity=VECTOR, **default)
    network = unsettle(WavSyncSwap(config), 6)
    network.head[2].weight.data *= HEAD  # soft pictures: the sigmoid hides errors at its ends
    store.save(folder / "wavsyncswap.safetensors", "wavsyncswap", network, config)
    own = arcface.Config(width=0.0625, blocks=(1, 1, 1, 1), size=112, identity=VECTOR)
    store.save(folder / "identity.safetensors", "arcface", unsettle(arcface.ArcFace(own), 7), own)
    return (
        store.load(folder / "wavsyncswap.safetensors", "wavsyncswap")[0],
        store.load(folder / "identity.safetensors", "arcface")[0],
    )


@pytest.fixture(scope="session", autouse=True)
def heed_ctrl_c():
    """Let tests raise it where the suite is a background job, which would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def check_options(monkeypatch):
    """Stops programs where they would read their options; called, checks these and returns how many there were."""
    parsers = []

    def stop(self, *args):
        parsers.append(self)
        raise SystemExit(0)

    def check():
        checked = 0
        for parser in parsers:
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction):
                    parsers.extend(action.choices.values())
                    continue
                assert action.help, (parser.prog, action.dest)
                assert ("-o" in action.option_strings) == ("--output" in action.option_strings), parser.prog
                checked += 1
        return checked

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    return check


@pytest.fixture(scope="session")
def swaps():
    """`write` of random checkpoints, and the length of their identity VECTORs."""
    return SimpleNamespace(write=write, VECTOR=VECTOR)
