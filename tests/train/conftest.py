"""A tiny data set of two drawn announcers in memory, for tests of what reads one."""

import numpy as np
import pytest
import torch

from edgetalk.metadata import AudioSpec
from edgetalk.train.amnet.data import Footage
from edgetalk.train.announcers import CAST, Announcer, Controls
from edgetalk.train.announcers.visemes import SHAPES
from edgetalk.train.networks import landmarks


def parameters(module: torch.nn.Module) -> int:
    """How many values training would change."""
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def small_judge(monkeypatch):
    """Landmark judges made here see half the side through half the channels; the bundled one is not to be read then."""
    monkeypatch.setattr(landmarks, "SIDE", 64)
    monkeypatch.setattr(landmarks, "WIDTHS", (16, 32, 64, 192))


@pytest.fixture(scope="session")
def footage() -> Footage:
    """Two persons at 64×64; of each one training clip and two test clips of 8 frames, the last with a new voice."""
    torch.set_num_threads(1)
    clip = 8
    rng = np.random.default_rng(0)
    persons, clips = ("ada", "dan"), 6
    count = clips * clip
    shapes = np.stack(list(SHAPES.values()))
    controls = [Controls(shapes[rng.integers(len(shapes))], rng.normal(0, 0.1, 3), rng.random(2)) for _ in range(count)]
    number = np.arange(count) // clip  # of the clip
    person = number % 2
    announcers = [Announcer(CAST[name], size=64) for name in persons]
    tensor = lambda values: torch.from_numpy(np.stack(values))  # noqa: E731
    spec = AudioSpec()
    mels = 4 * clip  # per clip
    return Footage(
        name="drawn",
        device=torch.device("cpu"),
        spec=spec,
        frames=tensor([announcers[p].draw(c) for p, c in zip(person, controls, strict=True)]),
        person=torch.from_numpy(person),
        persons=persons,
        landmarks=tensor([announcers[p].landmarks(c) for p, c in zip(person, controls, strict=True)]),
        pose=tensor([c.pose for c in controls]).float(),
        blink=tensor([c.blink for c in controls]).float(),
        mel=torch.from_numpy(rng.normal(0, 1, (1, 1 + clips * mels, spec.features))).half(),
        first=torch.from_numpy(1 + number * mels),
        count=torch.full((count,), mels),
        start=torch.from_numpy(np.arange(count) % clip * 3 - 23),
        train=torch.arange(2 * clip),
        test=torch.arange(2 * clip, count),
        voice=torch.from_numpy((number >= 4).astype(np.int64)),
        voices=("a", "b"),
    )
