"""The mean of two checkpoints: of every weight and statistic, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from edgetalk.errors import ModelError
from edgetalk.train.networks import store, wavsyncswap
from edgetalk.train.swap import soup


def generator(path, seed, images, width=0.125, **record):
    torch.manual_seed(seed)
    config = wavsyncswap.Config(width=width)
    network = wavsyncswap.WavSyncSwap(config)
    for name, tensor in network.named_buffers():
        if "running" in name:  # of batch norms: as training leaves them, another in each network
            tensor.uniform_(0.5, 1.5)
    store.save(path, "wavsyncswap", network, config, images=images, clips=3, **record)
    return store.load(path, "wavsyncswap")[0].state_dict()


def test_every_weight_is_the_mean_and_the_record_that_of_more_pictures(tmp_path):
    one, other = generator(tmp_path / "a", 1, 10), generator(tmp_path / "b", 2, 30)
    soup.mix(tmp_path / "b", tmp_path / "a", tmp_path / "c")
    mixed, record = store.load(tmp_path / "c", "wavsyncswap")
    for name, tensor in mixed.state_dict().items():
        wanted = (one[name] + other[name]) / 2 if tensor.is_floating_point() else one[name]
        assert torch.allclose(tensor, wanted, atol=2e-3), name
        assert "running" not in name or not torch.allclose(one[name], other[name], atol=0.1)
    assert (record["images"], record["clips"], sorted(record["mean_of"])) == (30, 3, [10, 30])


def test_the_mean_keeps_what_the_people_of_both_agreed_to(tmp_path):
    """Of two runs that went on from one, the shorter one on films."""
    ada = {"consent": "ada", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    dan = {"consent": "dan", "licence": "", "use": "any"}
    both = {"consent": "ada; dan", "licence": "CC BY-NC 4.0", "use": "non-commercial"}
    generator(tmp_path / "ada", 1, 10, terms=ada), generator(tmp_path / "dan", 2, 30, terms=dan)
    generator(tmp_path / "drawn", 3, 20)
    for one, other, wanted in (("ada", "drawn", ada), ("drawn", "ada", ada), ("ada", "dan", both)):
        soup.mix(tmp_path / one, tmp_path / other, tmp_path / "c")
        assert store.load(tmp_path / "c", "wavsyncswap")[1]["terms"] == wanted
    soup.mix(tmp_path / "drawn", tmp_path / "drawn", tmp_path / "c")
    assert "terms" not in store.load(tmp_path / "c", "wavsyncswap")[1]


def test_other_arrangements_are_refused(tmp_path):
    generator(tmp_path / "a", 1, 10), generator(tmp_path / "b", 2, 30, width=0.25)
    with pytest.raises(ModelError, match="arranged differently"):
        soup.mix(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        soup.mix(tmp_path / "a", tmp_path / "none", tmp_path / "c")
    assert not (tmp_path / "c").exists()
