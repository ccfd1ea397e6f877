"""The rivals' networks have the published counts and make frames of the published size."""

import pytest
import torch

MILLIONS = {"Wav2Pix": "24.771", "MakeItTalk": "74.828", "APB2Face": "16.696"}  # AMNet, Table II


@pytest.fixture(scope="module")
def peers():
    from bench.peers import PEERS

    return PEERS


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_are_those_of_the_table(name, peers):
    with torch.device("meta"):
        network = peers[name].network()
    assert f"{peers[name].counted(network) / 1e6:.3f}" == MILLIONS[name]


def test_what_the_counts_hold(peers):
    """The parts that the table's figures were found to be made of."""
    with torch.device("meta"):
        whole = {name: peer.network() for name, peer in peers.items()}

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(whole["MakeItTalk"].picture) == 69_861_312 and count(whole["MakeItTalk"].content) == 1_965_677
    assert count(whole["MakeItTalk"].speaker) == 3_000_908
    assert count(whole["Wav2Pix"]) == 24_736_768
    assert count(whole["APB2Face"]) == 16_696_451


@pytest.mark.parametrize("name", MILLIONS)
def test_one_frame(name, peers):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, inputs = peers[name].network(), peers[name].inputs(torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made = network(*inputs.values())
    picture = made[-1] if isinstance(made, tuple) else made
    size = {"Wav2Pix": 128}.get(name, 256)
    assert picture.shape == (1, 3, size, size) == (1, 3, peers[name].SIZE, peers[name].SIZE)
    assert picture.abs().max() <= 1
