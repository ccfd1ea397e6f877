"""What a smaller AMNet takes from a trained one: its first weights, and pictures to learn from.

`inherit` copies the weights of the channels that weigh most; `Teacher` makes the trained network's frames of a data
set. Which architecture is worth it is found by train/lite/search.py; the training itself is train/amnet/recipe.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetalk.errors import InputError
from edgetalk.train.amnet.data import Footage
from edgetalk.train.networks.amnet import AMNet, Convolution, Reenactor, Residual, Upsampling, as_bytes, from_bytes
from edgetalk.train.networks.checkpoint import Checkpoint

NEW = -1
"""In a list of channels: one that the teacher does not have."""


class Map(NamedTuple):
    """What passes between two layers of the student."""

    name: str
    """Of the teacher's map that it is a part of; empty where it is none."""
    channels: list[int]
    """Which of that map's."""

    def within(self, name: str) -> list[int]:
        """Its channels as those of the teacher's map `name`."""
        return self.channels if self.name == name else [NEW] * len(self.channels)


class Teacher:
    """A trained AMNet that draws a data set's persons as they shall look; each frame once, when it is asked for.

    Its source pictures are those of its checkpoint, whatever the student is given: what a person shall look like
    does not depend on them. It hears the clean sound.
    """

    def __init__(self, checkpoint: Checkpoint, footage: Footage):
        missing = [person for person in footage.persons if person not in checkpoint.sources]
        if missing or checkpoint.audio != footage.spec:
            has = ", ".join(checkpoint.sources) or "none"
            raise InputError(
                f"teacher: got a checkpoint of the persons {has}, expected one that was trained on those of "
                f"{footage.name} ({', '.join(footage.persons)}) with the same audio front end"
            )
        self.network = checkpoint.network.to(footage.device, memory_format=torch.channels_last)
        self.footage = footage
        pictures = torch.stack([checkpoint.sources[person] for person in footage.persons]).to(footage.device)
        with torch.no_grad():
            given = from_bytes(pictures.permute(0, 3, 1, 2))
            self.appearance = torch.cat([self.network.reenactor.source(one[None]) for one in given])
        self._pictures = torch.zeros_like(footage.frames)
        self._drawn = torch.zeros(len(footage.frames), dtype=torch.bool, device=footage.device)

    @torch.no_grad()
    def draw(self, index: Tensor) -> Tensor:
        """Return its pictures (B, 3, S, S) in [-1, 1] of the frames `index` (B,), at the size of the footage."""
        new = index[~self._drawn[index]].unique()
        if len(new):
            self._pictures[new] = self._frames(new)
            self._drawn[new] = True
        return from_bytes(self._pictures[index].permute(0, 3, 1, 2))

    def _frames(self, index: Tensor) -> Tensor:
        footage = self.footage
        f_geo = self.network.fuser(footage.windows(index), footage.pose[index], footage.blink[index])
        made = self.network.reenactor.step(self.appearance[footage.person[index]], f_geo).float()
        size = footage.frames.shape[1]
        if made.shape[-1] != size:
            made = F.interpolate(made, (size, size), mode="bilinear", antialias=True)
        return as_bytes(made).permute(0, 2, 3, 1)


def take_fuser(network: AMNet, teacher: AMNet) -> None:
    """Give `network` the fuser and the landmark layer of a larger one, which are of one shape in all of them."""
    network.fuser.load_state_dict(teacher.fuser.state_dict())
    network.landmark_layer.load_state_dict(teacher.landmark_layer.state_dict())


@torch.no_grad()
def inherit(small: Reenactor, large: Reenactor) -> None:
    """Give `small` the weights of the layers of `large` that do the same work, of the channels that weigh most.

    A channel weighs as much as the weights that read it. Layers answer to each other by the size of their maps in
    stem and header, and by their order among the cells of a kind (the pointwise ones counted from the end). What
    has no counterpart keeps its first weights, as do channels beyond those that the large network has.
    """
    pick = _Picker(_importance(large))
    given = Map("picture", [0, 1, 2])
    for i, layer in enumerate(small.stem):
        made = pick(f"stem.{i}", layer[0].out_channels)
        if made.name:
            _copy(layer[0].weight, large.stem[i][0].weight, made.channels, given.channels)
        given = made
    pairs = _counterparts(small, large)
    for i, cell in enumerate(small.cells):
        mate = pairs[i]
        channels = small.architecture.cells[i].channels
        keeps = isinstance(cell, Residual) and isinstance(cell.skip, nn.Identity)
        made = given if keeps and given.name else pick("trunk" if mate is None else _stream(large, mate), channels)
        if mate is not None:
            before = f"stem.{len(large.stem) - 1}" if mate == 0 else _stream(large, mate - 1)
            behind = made.within(_stream(large, mate))
            _copy_cell(cell, large.cells[mate], f"cell.{mate}", pick, given.within(before), behind)
            for part in ("weight", "bias"):
                ours, theirs = getattr(small.controllers[i], part), getattr(large.controllers[mate], part)
                ours[0].load_state_dict(theirs[0].state_dict())
                if small.architecture.kernel == large.architecture.kernel == 1:
                    _copy(ours[2].weight, theirs[2].weight, behind, list(range(ours[2].in_features)))
                    _copy(ours[2].bias, theirs[2].bias, behind)
        given = made
    last = _stream(large, len(large.cells) - 1)
    sizes = {large.architecture.reduction // 2 ** (i + 1): i for i in range(len(large.architecture.header))}
    for i, layer in enumerate(small.header[:-1]):
        mate = sizes.get(small.architecture.reduction // 2 ** (i + 1), NEW)
        made = pick(last if mate == NEW else f"header.{mate}", layer[0].out_channels)
        if mate != NEW:
            before = last if mate == 0 else f"header.{mate - 1}"
            _copy(layer[0].weight, large.header[mate][0].weight, given.within(before), made.channels)
        given = made
    ours, theirs = small.header[-1].weight, large.header[-1].weight
    if small.architecture.shuffle == large.architecture.shuffle:
        _copy(ours, theirs, [0, 1, 2], given.within(f"header.{len(large.architecture.header) - 1}"))


class _Picker:
    """Which channels of a map a narrower one keeps, in their order; a wider one has NEW ones behind them."""

    def __init__(self, weigh: dict[str, Tensor]):
        self.order = {name: values.argsort(descending=True).tolist() for name, values in weigh.items()}

    def __call__(self, name: str, channels: int) -> Map:
        kept = sorted(self.order.get(name, [])[:channels])
        return Map(name if kept else "", kept + [NEW] * (channels - len(kept)))


def _readers(weight: Tensor, transposed: bool = False) -> Tensor:
    """How much each input channel of a convolution weighs, of mean 1."""
    values = weight.square().sum((1, 2, 3) if transposed else (0, 2, 3))
    return values / values.mean()


def _importance(large: Reenactor) -> dict[str, Tensor]:
    """Return how much the channels of each map weigh: of the stem's layers, within cells, behind them, the header's.

    Cells with an identity as their skip share one map, the trunk, and so do all others of its width.
    """
    weigh: dict[str, Tensor] = {}
    following = [*large.stem[1:], large.cells[0]]
    for i, reader in enumerate(following):
        weigh[f"stem.{i}"] = sum(_readers(conv.weight) for conv in _first(reader))
    width = large.architecture.cells[0].channels
    weigh["trunk"] = torch.zeros(width)
    for i, cell in enumerate(large.cells):
        if isinstance(cell, Residual):
            for j, inner in enumerate(cell.body[1:]):
                conv = inner[0]
                weigh[f"cell.{i}.{j}"] = (
                    _readers(conv.weight) if conv.groups == 1 else _readers(cell.body[j + 2][0].weight)
                )
        if i + 1 < len(large.cells):
            read = sum(_readers(conv.weight) for conv in _first(large.cells[i + 1]))
        else:
            read = _readers(large.header[0][0].weight, transposed=True)
        name = _stream(large, i)
        weigh[name] = weigh.get(name, torch.zeros(len(read))) + read
    for i, reader in enumerate(large.header[1:]):
        convolution = reader if isinstance(reader, nn.Conv2d) else reader[0]
        weigh[f"header.{i}"] = _readers(convolution.weight, isinstance(reader, Upsampling))
    return weigh


def _first(reader: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that read what a layer or cell is given."""
    if isinstance(reader, Convolution):
        return [reader[0]]
    skip = [] if isinstance(reader.skip, nn.Identity) else [reader.skip[0]]
    return [reader.body[0][0], *skip]


def _stream(large: Reenactor, cell: int) -> str:
    """The name of the map behind a cell."""
    same = large.architecture.cells[cell].channels == large.architecture.cells[0].channels
    return "trunk" if same else f"behind.{cell}"


def _counterparts(small: Reenactor, large: Reenactor) -> list[int | None]:
    """For each cell of `small` the cell of `large` that it starts from, None where there is none."""
    pairs: list[int | None] = [None] * len(small.cells)
    for kind in {cell.kind for cell in small.architecture.cells}:
        ours = [i for i, cell in enumerate(small.architecture.cells) if cell.kind == kind]
        theirs = [i for i, cell in enumerate(large.architecture.cells) if cell.kind == kind]
        if kind == "pointwise":
            ours.reverse()
            theirs.reverse()
        for mine, other in zip(ours, theirs, strict=False):
            pairs[mine] = other
    return pairs


def _copy_cell(ours: nn.Module, theirs: nn.Module, name: str, pick: _Picker, given: list[int], made: list[int]) -> None:
    if isinstance(ours, Convolution):
        _copy(ours[0].weight, theirs[0].weight, made, given)
        return
    now = given
    for j, (layer, mate) in enumerate(zip(ours.body, theirs.body, strict=True)):
        ends = j + 1 == len(ours.body)
        behind = made if ends else pick(f"{name}.{j}", layer[0].out_channels).channels
        _copy(layer[0].weight, mate[0].weight, behind, now if layer[0].groups == 1 else [0])
        now = behind
    if isinstance(ours.skip, Convolution) and isinstance(theirs.skip, Convolution):
        _copy(ours.skip[0].weight, theirs.skip[0].weight, made, given)


def _copy(ours: Tensor, theirs: Tensor, rows: list[int], columns: list[int] | None = None) -> None:
    """Copy theirs[rows][:, columns] into `ours`, where neither is NEW; of a larger kernel its middle."""
    if ours.dim() == 4:
        margin = (theirs.shape[-1] - ours.shape[-1]) // 2
        if margin < 0:
            return
        theirs = theirs[:, :, margin : margin + ours.shape[-1], margin : margin + ours.shape[-1]]
    to = torch.tensor([i for i, row in enumerate(rows) if row != NEW], dtype=torch.long)
    of = torch.tensor([row for row in rows if row != NEW], dtype=torch.long)
    if columns is None:
        ours[to] = theirs[of]
        return
    to_columns = torch.tensor([i for i, column in enumerate(columns) if column != NEW], dtype=torch.long)
    of_columns = torch.tensor([column for column in columns if column != NEW], dtype=torch.long)
    if len(to) and len(to_columns):
        ours[to[:, None], to_columns] = theirs[of[:, None], of_columns]
