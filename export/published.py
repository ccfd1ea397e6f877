"""Checkpoints that others have published: read without running what is in them, and told by the names they hold.

A file is read with `weights_only=True` or as safetensors, never unpickled; what needs more is refused with the way
out. Prefixes of DataParallel are taken off and halves widened. Names and shapes are held against the network's, and
what does not fit is named. Left out: the networks, and how a family's names map onto ours (export/FAMILY.py).
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgetalk.errors import ModelError, word
from edgetalk.train.networks import store

Tensors = dict[str, Tensor]

SHOWN = 3
"""How many names a message shows before it says how many more there are."""
COUNTER = "num_batches_tracked"
"""Batch norm's count of training batches; older files lack it and nothing here needs it."""
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Entries of a file under which publishers keep the state dict, beside the epoch, the optimiser and the like."""


class Licence(NamedTuple):
    """Terms that the authors of published weights have set."""

    text: str
    """"" where they state none, and who exports has to say."""
    use: str
    """"any" or "non-commercial"."""


LICENCES = {
    "wav2lip": Licence("Wav2Lip's weights: research and personal use, no commercial use", "non-commercial"),
    "syncnet": Licence("Wav2Lip's weights: research and personal use, no commercial use", "non-commercial"),
    "simswap": Licence("CC BY-NC 4.0", "non-commercial"),
    "amnet": Licence("", "non-commercial"),
    "arcface": Licence("", "non-commercial"),
}
"""Of the weights, by family. APB2FaceV2 (amnet) states none; those of ArcFace differ from file to file."""


def of_films(terms: dict[str, str]) -> Licence | None:
    """Return the terms of the films that a checkpoint was trained on; None where they set none."""
    licence, use = terms.get("licence", ""), terms.get("use", "any")
    return Licence(licence or "as agreed with the filmed people", use) if licence or use != "any" else None


def faces(terms: dict[str, str]) -> str:
    """Return whose faces a network learnt from that was trained here: films bring who agreed to them."""
    return "" if terms.get("consent") else "drawn"


OF_OURS = ("wav2lip", "simswap", "syncnet", "arcface")
"""Families that are trained here, too, as baselines and experts; those files are none that others have published."""
SIGNATURES = {
    "wav2lip": "face_encoder_blocks.0.0.conv_block.0.weight",
    "syncnet": "face_encoder.0.conv_block.0.weight",
    "simswap": "BottleNeck.0.style1.linear.weight",
    "arcface": "layer1.0.bn1.weight",
    "amnet": "ada_convs.0.weight_conv.0.weight",
}
"""A name that files of one family hold and those of the others do not."""


def is_torch(path: str | Path) -> bool:
    """Return whether the file begins as what torch.save writes; False where there is none."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with the length of its header, whose first byte may be any, and the header's brace.
    return head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")


def read(path: str | Path) -> Any:
    """Return what a .pth, .pt, .tar or .safetensors file holds: tensors and plain containers of them, on the CPU.

    Raises FileNotFoundError, and ModelError where the file is damaged or could only be read by running it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{":  # a header of JSON behind its length: nothing that torch writes begins so
        return _read_safetensors(path)
    if head and not is_torch(path):
        raise ModelError(
            f"{path.name} is no checkpoint that PyTorch wrote, it begins with {head[:8]!r}; look at what it is"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise ModelError(
            f"{path.name} holds Python objects{what} and not weights alone, and reading them would run code from the "
            "file; where you trust it, load it with torch and the code it came with, and save its state_dict()"
        ) from None
    except Exception as error:  # the older format has no checksum: what is damaged fails wherever it is noticed
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path.name} is a TorchScript archive, which holds code; where you trust it, save its "
                "weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
            ) from None
        raise ModelError(f"{path.name} is damaged or no checkpoint ({_reason(error)}); copy it again") from None


def _reason(error: Exception) -> str:
    """The first sentence of an error of torch.load; of those that Python raises on the way, their kind alone."""
    if not isinstance(error, (RuntimeError, EOFError, OSError)):
        return f"its parts do not fit together, {type(error).__name__}"
    return re.split(r"\.?\s*\n|\. ", str(error).strip())[0].rstrip(".") or "it ends early"


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (own := store.family(path)) in OF_OURS:
        raise ModelError(
            f"{path.name} holds {own!r} of edgetalk's own training, which sees other colours, crops and sound than "
            "what is published under that name; compare it with: edgetalk score wavsyncswap, and export a wavsyncswap"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path.name} is no whole safetensors file ({error}); copy it again") from None


def check_ours(path: Path, family: str) -> None:
    """Raise ModelError where a file is a checkpoint of AMNet or WavSyncSwap that was trained here, and not `family`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError):  # which is said where it is read
        return
    own = "amnet" if "variant" in header and "persons" in header else header.get("family")
    if own in ("amnet", "wavsyncswap") and own != family:
        raise ModelError(
            f"{path.name} is a checkpoint of {own}, expected {family}; export it as that: "
            f"edgetalk export {own} --checkpoint {word(path.name)} -o {own}.onnx"
        )


def state_dict(path: str | Path, family: str) -> Tensors:
    """Return the weights in a file as float32, under their published names without prefix.

    Raises FileNotFoundError, and ModelError where the file holds none, those of another family, or no floats.
    """
    path = Path(path)
    held = _unwrap(read(path))
    if isinstance(held, Mapping) and isinstance(held.get("netG"), Mapping):
        _refuse_family(path, held["netG"], family)
    if not isinstance(held, Mapping) or not _tensors(held):
        names = list(map(str, held))[:SHOWN] if isinstance(held, Mapping) else [f"a {type(held).__name__}"]
        what = ", ".join(names) or "nothing"
        raise ModelError(
            f"{path.name} holds {what}, expected the weights of {family} by their names; "
            "give the file that its authors publish, or its state_dict()"
        )
    if SIGNATURES[family] not in map(_bare, held):
        _refuse_family(path, held, family)  # before what else is odd about it
    return clean(held, path)


def _unwrap(held: Any) -> Any:
    """Return the innermost mapping under the names of WRAPPERS that holds tensors, or the last where none does."""
    if not isinstance(held, Mapping):
        return held
    levels, seen = [held], {id(held)}
    while True:
        inner = [levels[-1][key] for key in WRAPPERS if isinstance(levels[-1].get(key), Mapping)]
        new = [value for value in inner if id(value) not in seen]  # a wrapper may hold itself
        if not new:
            return next((level for level in reversed(levels) if _tensors(level)), levels[-1])
        levels.append(new[0])
        seen.add(id(new[0]))


def clean(held: Mapping[Any, Any], path: str | Path = "the checkpoint") -> Tensors:
    """Return the tensors of a state dict without DataParallel's prefix and batch norm's counters, halves as float32.

    Raises ModelError, which names `path`, where a tensor has no name or holds no dense, real floating numbers.
    """
    tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    if unnamed := [name for name in tensors if not isinstance(name, str)]:
        raise ModelError(
            f"{Path(path).name} holds a tensor under a key of type {type(unnamed[0]).__name__}, "
            "expected the names of weights; give the file that its authors publish, or its state_dict()"
        )
    tensors = {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}
    if others := [f"{name} {kind}" for name, value in tensors.items() if (kind := _other_kind(value))]:
        raise ModelError(
            f"{Path(path).name} holds {_named('of another kind', others)[0]}, expected dense tensors of real "
            "floating numbers; give the file that its authors publish, or save its weights as float32"
        )
    while tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return {name: value.float() for name, value in tensors.items()}


def _bare(name: Any) -> str:
    """Return a tensor's name without DataParallel's prefix."""
    return str(name).removeprefix("module.")


def _other_kind(value: Tensor) -> str:
    """Return what a tensor is that no weight can be, "" where it is dense and of real floating numbers."""
    if value.is_meta or value.is_nested:
        return "meta, without values" if value.is_meta else "nested"
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.")
    kind = str(value.dtype).removeprefix("torch.")
    return "" if value.is_floating_point() and not kind.startswith("float4") else kind  # two of those are in a byte


def fill(network: nn.Module, tensors: Tensors, path: str | Path, names: Mapping[str, str] | None = None) -> nn.Module:
    """Give `tensors` to `network`, which may be on the meta device, and return it in evaluation mode.

    `names` maps the network's names to the published ones, by which a message calls them; left alone they are
    equal. Raises ModelError where a tensor is missing, surplus, of another shape or not finite.
    """
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    names = {name: name for name in expected} if names is None else names
    wanted = {names[name]: value for name, value in expected.items()}
    problems = [
        *_named("missing", [name for name in wanted if name not in tensors]),
        *_named("not expected", [name for name in tensors if name not in wanted]),
        *_named(
            "of another shape",
            [
                f"{name} {tuple(tensors[name].shape)} for {tuple(value.shape)}"
                for name, value in wanted.items()
                if name in tensors and tensors[name].shape != value.shape
            ],
        ),
    ]
    if problems:
        raise ModelError(
            f"{Path(path).name} does not fit {type(network).__name__}: {'; '.join(problems)}; "
            "give the checkpoint of the published arrangement"
        )
    broken = [name for name in wanted if not torch.isfinite(tensors[name]).all()]
    if broken:
        raise ModelError(f"{Path(path).name} is damaged: {_named('not finite', broken)[0]}; copy it again")
    state = {name: tensors[names[name]] for name in expected}
    counters = {name: torch.tensor(0) for name in network.state_dict() if name.endswith(COUNTER)}
    network.load_state_dict(state | counters, assign=True)
    return network.requires_grad_(False).eval()


def width(tensors: Tensors, name: str, full: int) -> float:
    """Return the width of an arrangement, 1 as published, from the outputs of the convolution `name`."""
    weight = tensors.get(name)
    if weight is None or weight.ndim != 4 or weight.shape[0] % 8 or not 0 < weight.shape[0] <= full:
        return 1.0
    return weight.shape[0] / full


def _tensors(held: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in held.values())


def _named(what: str, names: Sequence[str]) -> list[str]:
    """ "3 missing (a, b, c)", or nothing for no names."""
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})"]


def _refuse_family(path: Path, names: Iterable[Any], family: str) -> None:
    """Raise ModelError where the names are those of another family that we know."""
    there = set(map(_bare, names))
    for other, name in SIGNATURES.items():
        if other != family and name in there:
            raise ModelError(
                f"{path.name} is a checkpoint of {other} (it has {name}), expected {family}; "
                f"use: edgetalk export {other}"
            )
