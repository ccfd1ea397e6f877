"""Files that are no checkpoint of the family asked for, or would run code: one line each, and nothing is run."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
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


def save_old(held, path):
    """Write as torch did before version 1.6, without a zip archive's checksums."""
    torch.save(held, path, _use_new_zipfile_serialization=False)


def ring(held):
    """A wrapper that is its own model."""
    held["model"] = held
    return held


LAST = "output_block.1.bias"
SIGNATURE = published.SIGNATURES["arcface"]
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
    "an older format, cut": (
        lambda path, good: save_old(good, path) or os.truncate(path, 16),
        "is damaged or no checkpoint (its parts do not fit together, IndexError); copy it again",
    ),
    "keys that are numbers": (
        lambda path, good: torch.save({0: good[FIRST]}, path),
        "wav2lip_gan.pth holds a tensor under a key of type int, expected the names of weights; give the file that its "
        "authors publish, or its state_dict()",
    ),
    "keys that are numbers beside the names": (
        lambda path, good: torch.save(good | {(1, 2): good[FIRST]}, path),
        "holds a tensor under a key of type tuple, expected the names of weights",
    ),
    "whole numbers": (
        lambda path, good: torch.save({name: value.long() for name, value in good.items()}, path),
        f"of another kind ({FIRST} int64, ",
    ),
    "a wrapper that holds itself": (
        lambda path, good: torch.save(ring({"model": None, "epoch": 3}), path),
        "holds model, epoch, expected the weights of wav2lip by their names",
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


def test_a_checkpoint_of_our_own_is_told_by_its_family(swaps, checkpoint, tmp_path):
    """Whatever else is odd about it, such as the pictures in AMNet's."""
    swaps.write(tmp_path)
    for path, own in ((checkpoint, "amnet"), (tmp_path / "wavsyncswap.safetensors", "wavsyncswap")):
        for family in {*FAMILIES} - {own}:
            with pytest.raises(ModelError) as told:
                to_onnx(path, tmp_path / "made.onnx", family=family)
            assert str(told.value) == (
                f"{path.name} is a checkpoint of {own}, expected {family}; export it as that: "
                f"edgetalk export {own} --checkpoint {path.name} -o {own}.onnx"
            )


def test_another_family_is_named_whatever_its_tensors_are(tmp_path):
    held = by_name.weights(by_name.simswap_shapes(0.25, blocks=1)) | {"step": torch.tensor(7)}
    torch.save({f"module.{name}": value for name, value in held.items()}, tmp_path / "file.pth")
    with pytest.raises(ModelError, match="file.pth is a checkpoint of simswap"):
        published.state_dict(tmp_path / "file.pth", "wav2lip")


def test_damage_to_the_older_format_is_told_in_one_sentence(tmp_path):
    """Cut anywhere, or with any byte of its pickles changed; what still reads is left to the checks of names."""
    path = tmp_path / "old.pth"
    save_old({"state_dict": {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}, "epoch": 3}, path)
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :] for i in range(len(whole)) for flip in (1, 16)]
    told = set()
    for data in damaged:
        path.write_bytes(data)
        try:
            published.read(path)
        except ModelError as error:
            assert str(error).startswith("old.pth ") and str(error).count("\n") == 0
            told.add(re.sub(r".*, (\w+)\); copy it again$", r"\1", str(error)))
    assert {"IndexError", "error", "AssertionError"} <= told


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_damage(stop, tmp_path, monkeypatch):
    def load(*args, **kwargs):
        raise stop

    torch.save({}, tmp_path / "file.pth")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(stop):
        published.read(tmp_path / "file.pth")


KINDS = {
    "int64": lambda: torch.ones(2, 3).long(),
    "bool": lambda: torch.ones(2, 3).bool(),
    "complex64": lambda: torch.ones(2, 3).to(torch.complex64),
    "sparse_coo": lambda: torch.ones(2, 3).to_sparse(),
    "sparse_csr": lambda: torch.ones(2, 3).to_sparse_csr(),
    "qint8": lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
    "meta, without values": lambda: torch.ones(2, 3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "float4_e2m1fn_x2": lambda: torch.ones(2, 3).byte().view(torch.float4_e2m1fn_x2),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_other_tensors_than_of_dense_floats_are_refused(kind, tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"model": {SIGNATURE: torch.ones(1), "a.weight": KINDS[kind]()}, "best": KINDS[kind]()}, path)
    with pytest.raises(ModelError) as told:
        published.state_dict(path, "arcface")
    assert str(told.value) == (
        f"file.pth holds 1 of another kind (a.weight {kind}), expected dense tensors of real floating numbers; "
        "give the file that its authors publish, or save its weights as float32"
    )


@pytest.mark.parametrize("kind", ["int64", "bool", "complex64", "float4_e2m1fn_x2"])
def test_they_are_refused_in_safetensors_too(kind, tmp_path):
    save_file({SIGNATURE: torch.ones(1), "a.weight": KINDS[kind]()}, tmp_path / "file.safetensors")
    with pytest.raises(ModelError, match=f"1 of another kind \\(a.weight {kind}\\)"):
        published.state_dict(tmp_path / "file.safetensors", "arcface")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_counters_and_other_floats_are_read(dtype, tmp_path):
    held = {SIGNATURE: torch.full((2,), 1.5, dtype=dtype), "bn1.num_batches_tracked": torch.tensor(7)}
    torch.save({f"module.{name}": value for name, value in held.items()}, tmp_path / "file.pth")
    tensors = published.state_dict(tmp_path / "file.pth", "arcface")
    assert list(tensors) == [SIGNATURE]
    assert tensors[SIGNATURE].dtype == torch.float32 and tensors[SIGNATURE].tolist() == [1.5, 1.5]


def itself():
    """Wrappers that hold themselves, and the weights further down."""
    held = {"epoch": 3}
    held |= {"state_dict": held, "model": {"model": {SIGNATURE: torch.ones(1)}}}
    return held


WRAPPED = {
    "a loose tensor": lambda: {"state_dict": {SIGNATURE: torch.ones(1)}, "best_loss": torch.tensor(0.1)},
    "loose ones at each level": lambda: {
        "model": {"state_dict": {SIGNATURE: torch.ones(1)}, "loss": torch.tensor(0.1)},
        "step": torch.tensor(3),
    },
    "a description called model": lambda: {SIGNATURE: torch.ones(1), "model": {"name": "iresnet50"}},
    "itself": itself,
}


@pytest.mark.parametrize("beside", WRAPPED)
def test_weights_are_found_under_a_wrapper(beside, tmp_path):
    torch.save(WRAPPED[beside](), tmp_path / "file.pth")
    assert list(published.state_dict(tmp_path / "file.pth", "arcface")) == [SIGNATURE]
