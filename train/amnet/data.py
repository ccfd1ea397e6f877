"""A data set as tensors on the training device: frames as uint8, sound as log-mel, batches by index.

Everything lies in the device's memory, so a batch costs a few gathers and no worker processes. Drawing and reading
of the files is in dataset.py.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgetalk.errors import InputError
from edgetalk.mel import silence, window_starts
from edgetalk.metadata import AudioSpec
from edgetalk.train.networks.amnet import from_bytes
from edgetalk.train.networks.landmarks import inner_opening

from .augment import mel_versions


class Batch(NamedTuple):
    """What a step is trained on; B samples on the training device."""

    source: Tensor  # (B, 3, S, S) float32 in [-1, 1], channels last
    true: Tensor  # (B, 3, S, S) likewise: what the network shall make
    mel: Tensor  # (B, T, F) float32
    pose: Tensor  # (B, 3) radians
    blink: Tensor  # (B, 2) in [0, 1]
    landmarks: Tensor  # (B, 106, 2) fractions of width and height
    index: Tensor  # (B,) which frames of the data set


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device: got {name!r}, but this PyTorch sees no CUDA device; use --device cpu")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(name)
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"device: got {name!r}, expected auto, cpu, cuda, or one GPU of several such as cuda:1")
    torch.backends.cudnn.benchmark = True  # shapes never change, so the search for the fastest kernel pays
    return torch.device(name)


def _resized(frames: np.ndarray, size: int) -> np.ndarray:
    """Frames (N, R, R, 3) at another size: averaged by area, or enlarged bilinearly."""
    import cv2

    if frames.shape[1] == size:
        return np.ascontiguousarray(frames)
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for i, frame in enumerate(frames):
        cv2.resize(frame, (size, size), dst=out[i], interpolation=cv2.INTER_AREA)
    return out


@dataclass
class Footage:
    """Frames, labels and sound of a data set on one device."""

    name: str
    device: torch.device
    spec: AudioSpec
    frames: Tensor  # (N, S, S, 3) uint8
    person: Tensor  # (N,) int64, index into `persons`
    persons: tuple[str, ...]
    landmarks: Tensor  # (N, 106, 2) float32
    pose: Tensor  # (N, 3) float32
    blink: Tensor  # (N, 2) float32
    mel: Tensor  # (versions, M, F) float16: all clips one after the other, silence in row 0
    first: Tensor  # (N,) int64: row of the first mel frame of the clip's sound, which may begin before its pictures
    count: Tensor  # (N,) int64: mel frames of the clip
    start: Tensor  # (N,) int64: where the frame's window starts, relative to the clip's first mel frame
    train: Tensor  # (…) int64 on the CPU: training frames
    test: Tensor  # (…) int64 on the CPU: held-out frames
    voice: Tensor  # (N,) int64, index into `voices`
    voices: tuple[str, ...]
    terms: Mapping[str, str] = field(default_factory=dict)
    """What filmed people agreed to, see dataset.Dataset."""
    digest: str = ""
    """Which data they are, and which of them are held out, see dataset.Script; empty where that is not known."""

    def __post_init__(self) -> None:
        train = self.train.to(self.device)
        self._by_person = train[torch.argsort(self.person[train], stable=True)]
        self._sizes = torch.bincount(self.person[train], minlength=len(self.persons))
        self._begins = torch.cumsum(self._sizes, 0) - self._sizes
        self.neutral = self._most_neutral()
        self._rarity = self._rare_faces().cpu()

    @property
    def trained(self) -> list[int]:
        """Numbers of the persons of whom there are training frames."""
        return self._sizes.nonzero().flatten().tolist()

    def held_out(self) -> Tensor:
        """Return the held-out frames, (…) int64 on the device; InputError where the set has none."""
        if not len(self.test):
            raise InputError(
                f"data set {self.name}: got no held-out frames, expected some to measure on; make a set of more frames"
            )
        return self.test.to(self.device)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        size: int = 256,
        versions: int = 1,
        device: str = "auto",
        seed: int = 0,
        spec: AudioSpec | None = None,
        pictures: bool = True,
    ) -> Footage:
        """Read the data set in `folder` (see dataset.py) and hear its clips in `versions` versions.

        Without `pictures` frames are of size 0: there is nothing to see, only what φ is trained on.
        """
        from .dataset import FPS, SAMPLES, load

        spec = spec or AudioSpec()
        where = pick_device(device)
        data = load(Path(folder), pictures)
        if pictures and data.size < size:
            warnings.warn(
                f"{folder}: has pictures of {data.size} pixels, enlarged to {size}, which makes them no finer; give "
                f"--size {data.size}, or make the set with --size {size}",
                stacklevel=2,
            )
        sounds = [np.concatenate([clip.before, clip.pcm, clip.after]) for clip in data.clips]
        jobs = [(pcm, spec, versions, seed * 100_003 + i) for i, pcm in enumerate(sounds)]
        with ThreadPoolExecutor() as pool:  # numpy lets other threads run; processes would ask for a guarded main
            tracks = list(pool.map(lambda job: mel_versions(*job), jobs))
        counts = np.array([track.shape[1] for track in tracks])
        firsts = 1 + np.cumsum(counts) - counts
        quiet = np.broadcast_to(silence(spec).astype(np.float16), (versions, 1, spec.features))
        shown = data.frame + np.array([len(clip.before) // SAMPLES for clip in data.clips])[data.clip]  # in the sound
        starts = window_starts(int(shown.max()) + 1, spec, Fraction(FPS))
        as_tensor = lambda array, kind: torch.from_numpy(np.ascontiguousarray(array)).to(where, kind)  # noqa: E731
        return cls(
            name=data.name,
            device=where,
            spec=spec,
            frames=torch.from_numpy(_resized(data.frames, size if pictures else 0)).to(where),
            person=as_tensor(data.person.astype(np.int64), torch.int64),
            persons=data.persons,
            landmarks=as_tensor(data.landmarks, torch.float32),
            pose=as_tensor(data.pose, torch.float32),
            blink=as_tensor(data.blink, torch.float32),
            mel=as_tensor(np.concatenate([quiet, *tracks], 1), torch.float16),
            first=as_tensor(firsts[data.clip], torch.int64),
            count=as_tensor(counts[data.clip], torch.int64),
            start=as_tensor(starts[shown], torch.int64),
            train=torch.from_numpy(np.flatnonzero(data.train)),
            test=torch.from_numpy(np.flatnonzero(~data.train)),
            voice=as_tensor(data.voice.astype(np.int64), torch.int64),
            voices=data.voices,
            terms=data.terms,
            digest=data.digest,
        )

    def windows(self, index: Tensor, version: Tensor | int = 0) -> Tensor:
        """Return the mel windows (B, T, F) float32 of the frames `index` (B,), heard in `version` (B,)."""
        rows = self._rows(index)
        if isinstance(version, int):
            return self.mel[version][rows].float()
        return self.mel[version[:, None], rows].float()

    def overlapping(self, index: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
        """Return mel (R, F) float32 and rows (B, T) int64; mel[rows] is windows(index, version), whose rows repeat."""
        places, rows = torch.unique(version[:, None] * self.mel.shape[1] + self._rows(index), return_inverse=True)
        return self.mel.flatten(0, 1)[places].float(), rows

    def _rows(self, index: Tensor) -> Tensor:
        rows = self.start[index][:, None] + torch.arange(self.spec.window, device=self.device)
        count = self.count[index][:, None]
        return torch.where((rows >= 0) & (rows < count), rows + self.first[index][:, None], 0)

    def pictures(self, index: Tensor) -> Tensor:
        """Return frames `index` (B,) as (B, 3, S, S) float32 in [-1, 1], channels last in memory."""
        return from_bytes(self.frames[index].permute(0, 3, 1, 2))

    def batch(self, index: Tensor, source: Tensor, version: Tensor | int = 0) -> Batch:
        """Return frames `index` (B,) with the frames `source` (B,) as source pictures."""
        return Batch(
            self.pictures(source),
            self.pictures(index),
            self.windows(index, version),
            self.pose[index],
            self.blink[index],
            self.landmarks[index],
            index,
        )

    def draw_runs(self, among: Tensor, runs: int, length: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `runs` stretches of the frames `among`, `length` each, and a version of the sound for each stretch.

        Two (runs × length,) int64 on the device.
        """
        nth = torch.randint(max(1, len(among) - length + 1), (runs,), generator=rng)[:, None] + torch.arange(length)
        version = torch.randint(len(self.mel), (runs,), generator=rng).repeat_interleave(length)
        return among[nth.clamp(max=len(among) - 1).flatten()].to(self.device), version.to(self.device)

    def draw_frames(self, among: Tensor, size: int, rng: torch.Generator, rare: float = 0.0) -> tuple[Tensor, Tensor]:
        """Draw `size` of the frames `among` and a version of the sound for each; two (size,) int64 on the device.

        Each is drawn for its rare face with probability `rare`, see `_rare_faces`, otherwise evenly.
        """
        nth = torch.randint(len(among), (size,), generator=rng)
        if rare:
            reached = self._rarity[among].cumsum(0)
            chance = torch.rand((2, size), generator=rng, dtype=torch.float64)
            odd = torch.searchsorted(reached, chance[0] * reached[-1], right=True).clamp(max=len(among) - 1)
            nth = torch.where(chance[1] < rare, odd, nth)
        index = among[nth]
        version = torch.randint(len(self.mel), (size,), generator=rng)
        return index.to(self.device, non_blocking=True), version.to(self.device, non_blocking=True)

    def draw(self, among: Tensor, size: int, rng: torch.Generator, neutral: float, rare: float = 0.0) -> Batch:
        """Draw `size` frames, each with a source picture of the same person and a random version of its sound.

        The source is the person's most neutral frame with probability `neutral`, else a random training frame;
        `rare` is that of `draw_frames`.
        """
        index, version = self.draw_frames(among, size, rng, rare)
        chance = torch.rand((2, size), generator=rng).to(self.device, non_blocking=True)
        person = self.person[index]
        nth = self._begins[person] + (chance[0] * self._sizes[person]).long()
        other = self._by_person[nth.clamp(max=len(self._by_person) - 1)]
        return self.batch(index, torch.where(chance[1] < neutral, self.neutral[person], other), version)

    def examples(self, count: int, among: Tensor | None = None) -> Batch:
        """Return `count` held-out frames spread over the persons, their neutral frames as sources, sound clean."""
        among = self.held_out().cpu() if among is None else among
        person = self.person[among].cpu()
        chosen: list[int] = []
        present = person.unique().tolist()
        for i in range(count):
            own = among[person == present[i % len(present)]]
            chosen.append(int(own[(i // len(present) + 1) * len(own) // (count // len(present) + 2)]))
        index = torch.tensor(chosen, device=self.device)
        return self.batch(index, self.neutral[self.person[index]])

    def longest_clip(self, among: Tensor) -> Tensor:
        """Return those of the frames `among` (N,) that are of the longest clip there, in their order."""
        clips, sizes = self.first[among].unique(return_counts=True)
        return among[self.first[among] == clips[sizes.argmax()]]

    def neutral_pictures(self) -> list[Tensor]:
        """Return each person's most neutral frame, uint8 (S, S, 3) RGB on the CPU."""
        return [self.frames[i].cpu() for i in self.neutral]

    def _rare_faces(self) -> Tensor:
        """Return by how much more often each frame is drawn for what few show, (N,) float64.

        A third of what is drawn by it are eyes that close, a third winks, a third mouths that open: squares of how
        closed the eyes are, of how unlike each other, and of how far the lips are apart, each of mean 1/3 over training
        frames.
        """
        lids, opening = self.blink.double(), inner_opening(self.landmarks).double()
        shown = torch.stack([lids.square().sum(1), (lids[:, 0] - lids[:, 1]).square(), opening.square()])
        return (shown / shown[:, self.train.to(self.device)].mean(1, keepdim=True).clamp(min=1e-12)).mean(0)

    def _most_neutral(self) -> Tensor:
        """Return for each person the frame that looks ahead, eyes open, mouth closed."""
        unrest = self.pose.abs().sum(1) + self.blink.sum(1) + 20 * inner_opening(self.landmarks)
        unseen = torch.ones_like(self.person, dtype=torch.bool)
        unseen[self.train.to(self.device)] = False
        unrest[unseen] += 100  # a held-out frame only of a person that is held out
        best = [int(torch.where(self.person == p, unrest, torch.inf).argmin()) for p in range(len(self.persons))]
        return torch.tensor(best, device=self.device)
