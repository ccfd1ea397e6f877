"""Files that are no checkpoint of the family asked for, or would run code: one line each, and nothing is run."""

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgetalk.cli import main
from edgetalk.errors import ModelError
from edgetalk.export import published, to_onnx
from edgetalk.export.exporter import FAMILIES
from edgetalk.train.networks import store
from edgetalk.train.networks.simswap import SimSwap
from edgetalk.train.networks.syncnet import SyncNet
from edgetalk.train.networks.wav2lip import Wav2Lip

from . import by_name


@pytest.fixture(scope="module")
def good():
    return by_name.weights(by_name.wav2lip_shapes(0.5))


class Trap:
    """Unpickled, it would leave a folder behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def without(tensors, *names):
    return {name: value for name, value in tensors.items() if name not in names}


LAST = "output_block.1.bias"
FIRST = "face_encoder_blocks.0.0.conv_block.0.weight"
BAD = {
    "a trap": (
        lambda path, good: torch.save({"state_dict": good, "hook": Trap(path.parent / "sprung")}, path),
        "holds Python objects (posix.mkdir) and not weights alone, and reading them would run code",
    ),
    "a trap of old": (
        lambda path, good: path.write_bytes(pickle.dumps(Trap(path.parent / "sprung"), 4)),
        "holds Python objects and not weights alone",
    ),
    "a pickled network": (
        lambda path, good: torch.save(nn.Linear(2, 2), path),
        "(torch.nn.modules.linear.Linear) and not weights alone, and reading them would run code "
        "from the file; where you trust it, load it with torch and the code it came with, and save "
        "its state_dict()",
    ),
    "TorchScript": (
        lambda path, good: torch.jit.script(nn.Linear(2, 2)).save(str(path)),
        "is a TorchScript archive, which holds code; where you trust it, save its weights alone: "
        "torch.save(torch.jit.load(FILE).state_dict(), NEW)",
    ),
    "none": (None, "no checkpoint at"),
    "empty": (lambda path, good: path.write_bytes(b""), "is damaged or no checkpoint (it ends early)"),
    "text": (
        lambda path, good: path.write_text("hello"),
        "is no checkpoint that PyTorch wrote, it begins with b'hello'",
    ),
    "cut": (
        lambda path, good: torch.save({"state_dict": good}, path) or os.truncate(path, 9000),
        "is damaged or no checkpoint",
    ),
    "safetensors, cut": (
        lambda path, good: path.write_bytes((99).to_bytes(8, "little") + b'{"a":'),
        "is no whole safetensors file",
    ),
    "a tensor": (
        lambda path, good: torch.save(torch.zeros(3), path),
        "holds a Tensor, expected the weights of wav2lip",
    ),
    "nothing": (lambda path, good: torch.save({}, path), "holds nothing, expected the weights of wav2lip"),
    "an optimiser": (
        lambda path, good: torch.save({"optimizer": {"lr": 1}, "epoch": 3}, path),
        "holds optimizer, epoch, expected the weights of wav2lip by their names",
    ),
    "another family": (
        lambda path, good: torch.save(by_name.weights(by_name.simswap_shapes(0.25, blocks=1)), path),
        "is a checkpoint of simswap (it has BottleNeck.0.style1.linear.weight), expected wav2lip; "
        "use: edgetalk export simswap",
    ),
    "AMNet's": (
        lambda path, good: torch.save({"netG": {"ada_convs.0.weight_conv.0.weight": torch.zeros(1)}}, path),
        "is a checkpoint of amnet",
    ),
    "a tensor missing": (
        lambda path, good: torch.save(without(good, LAST), path),
        "does not fit Wav2Lip: 1 missing (output_block.1.bias); give the checkpoint of the published",
    ),
    "tensors missing": (
        lambda path, good: torch.save({k: v for k, v in good.items() if "decoder" not in k}, path),
        "(face_decoder_blocks.0.0.conv_block.0.weight, face_decoder_blocks.0.0.conv_block.0.bias, "
        "face_decoder_blocks.0.0.conv_block.1.weight and 105 more)",
    ),
    "a tensor too many": (
        lambda path, good: torch.save(good | {"more.weight": torch.zeros(1)}, path),
        "1 not expected (more.weight)",
    ),
    "a shape": (
        lambda path, good: torch.save(good | {LAST: torch.zeros(4)}, path),
        "1 of another shape (output_block.1.bias (4,) for (3,))",
    ),
    "the shape that tells the width": (
        lambda path, good: torch.save(good | {"face_encoder_blocks.6.1.conv_block.0.weight": torch.zeros(5)}, path),
        "of another shape",
    ),
    "not finite": (
        lambda path, good: torch.save(good | {FIRST: good[FIRST] / 0}, path),
        f"is damaged: 1 not finite ({FIRST})",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("kind", BAD)
def test_one_line_and_no_file(kind, good, tmp_path, capfd):
    make, message = BAD[kind]
    path, out = tmp_path / "wav2lip_gan.pth", tmp_path / "out"
    out.mkdir()
    if make:
        make(path, good)
    assert main(["export", "wav2lip", "--checkpoint", str(path), "-o", str(out / "wav2lip.onnx")]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert list(out.iterdir()) == []
    assert not (tmp_path / "sprung").exists()


def test_traps_would_spring(tmp_path):
    """The files above are what they claim to be: read as pickles they run."""
    make, _ = BAD["a trap"]
    make(tmp_path / "file.pth", {})
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert (tmp_path / "sprung").is_dir()


def test_every_family_has_terms_and_a_signature():
    assert set(published.LICENCES) == set(published.SIGNATURES) == set(FAMILIES) - {"wavsyncswap"}  # never published
    shapes = {
        "wav2lip": by_name.wav2lip_shapes(),
        "syncnet": by_name.syncnet_shapes(),
        "arcface": by_name.iresnet_shapes((3, 4, 14, 3)),
        "simswap": by_name.simswap_shapes(),
        "amnet": by_name.amnet_shapes()[0],
    }
    for family, name in published.SIGNATURES.items():
        assert [other for other, names in shapes.items() if name in names] == [family]


@pytest.mark.parametrize("first", [b"PK", b"\x80\x32"])
def test_a_safetensors_file_is_known_whatever_its_header_is_long(first, tmp_path):
    """Its first bytes are that length; by chance they are those of a zip archive or of a pickle."""
    size = int.from_bytes(first, "little")
    header = b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
    path = tmp_path / "chance.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + header.ljust(size) + b"\x01\x02")
    assert load_file(path)["a"].tolist() == [1, 2]
    assert not published.is_torch(path) and published.read(path)["a"].tolist() == [1, 2]
    for legacy in (False, True):
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=not legacy)
        assert published.is_torch(path)


@pytest.mark.parametrize(("family", "network"), [("wav2lip", Wav2Lip), ("simswap", SimSwap), ("syncnet", SyncNet)])
def test_weights_of_our_own_training_are_not_taken_for_published_ones(tmp_path, family, network):
    """They have the names of the published ones, but see RGB, other crops, and a Wav2Lip other windows of sound."""
    path = tmp_path / f"{family}.safetensors"
    store.save(path, family, network(0.125), {"width": 0.125})
    with pytest.raises(ModelError, match=f"^{family}.safetensors holds '{family}' of edgetalk's own training"):
        to_onnx(path, tmp_path / "made.onnx", family=family)
    assert not list(tmp_path.glob("*.onnx"))
