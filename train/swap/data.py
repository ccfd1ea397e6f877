"""Data for WavSyncSwap as training reads it: spoken clips with the pixel-exact truth of their swap, and stills.

A folder of them is drawn (drawn.py) or cut out of films (films.py), which have no truth of a swap; `Swaps` keeps it on
a device. The commands that make such folders are in command.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetalk.errors import InputError, word
from edgetalk.files import sha256
from edgetalk.mel import RANGE, windows
from edgetalk.metadata import AudioSpec
from edgetalk.npz import read_npz
from edgetalk.train.networks import ears

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 96
FPS = Fraction(25)
CLIP_FRAMES = 50  # frames per clip: two seconds
SPEC, SYNC_SPEC = ears.WAVSYNCSWAP, ears.SYNCNET
"""What generator and lip-sync expert hear."""

LOOKS, POSES = 3, 4  # stills of a person: outfits, and pictures in each
FIRST = {"train": 0, "valid": 500_000, "test": 1_000_000}
"""Seeds of persons from here on: those of "valid" and "test" are never trained on. The sentences of "valid" are unseen
and in known voices, those of "test" are unseen and in an unseen voice."""
STILLS_PER_JOB = 8
RECORD = "films.json"
"""What a whole set of filmed people has beside its clips: who is in it, and how it was divided."""
SPOKEN = "speech"
"""What a drawn clip keeps of the file of its sentences, its `fingerprint`; clips from before have none."""


@dataclass(frozen=True)
class Utterance:
    """A spoken sentence as far as drawing and listening need it."""

    mel: np.ndarray
    """(M, 80) uint8, log-mel in [-4, 4] as 0–255."""
    phones: tuple[tuple[float, float, str], ...]
    """Start and end in seconds, viseme."""
    samples: int
    """Length at 16 kHz."""
    split: str
    """A key of FIRST."""

    def heard(self, spec: AudioSpec, frames: int) -> np.ndarray:
        """Return the mel windows of the first `frames` video frames, (frames, 16, 80) float32."""
        return windows(self.mel.astype(np.float32) * (2 * RANGE / 255) - RANGE, frames, spec, FPS)


def read_speech(path: Path) -> list[Utterance]:
    """Return what write_speech wrote. Raises InputError where the file holds something else."""
    told = f"{path} is no speech for swaps; write it with: python -m edgetalk.train.swap speech -o speech.npz"
    file = read_npz(path, told)
    try:
        mels = np.split(file["mel"], np.cumsum(file["mel_counts"])[:-1])
        phones = np.split(file["phones"], np.cumsum(file["phone_counts"])[:-1])
        return [
            Utterance(mel, tuple((float(a), float(b), str(v)) for a, b, v in spoken), int(n), str(split))
            for mel, spoken, n, split in zip(mels, phones, file["samples"], file["split"], strict=True)
        ]
    except (KeyError, ValueError) as error:
        raise InputError(told) from error


def fingerprint(speech_file: Path) -> np.ndarray:
    """Return the sha256 of a file of speech, (32,) uint8."""
    return np.frombuffer(bytes.fromhex(sha256(speech_file)), np.uint8)


def check_spoken(folder: Path, speech_file: Path) -> np.ndarray:
    """Return the fingerprint of a file of speech; InputError where the clips in `folder` were drawn with another one.

    The first clip that tells of its file stands for all: nothing is drawn beside clips of another.
    """
    given = fingerprint(speech_file)
    for path in sorted(folder.glob("*-clip-*.npz")):
        with contextlib.suppress(InputError):  # of a damaged one: told where the clip itself is read
            told = read_npz(path, f"{path} is no clip, or it is damaged; remove it and draw it again", [SPOKEN])
            if SPOKEN in told:
                break
    else:
        return given
    _check_same(told[SPOKEN], given, folder, speech_file)
    return given


def _check_same(found: np.ndarray, given: np.ndarray, folder: Path, speech_file: Path) -> None:
    if not np.array_equal(found, given):
        raise InputError(
            f"{folder}: got {speech_file}, expected the speech that its clips were drawn with, whose sha256 begins "
            f"with {found.tobytes().hex()[:8]}; give that file with --speech, or take another folder"
        )


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a whole set of filmed people, None where the folder holds none; InputError if damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        if record["format"] == 1 and record["asked"]["terms"] and record["people"]:
            return record
        raise KeyError("format")
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no record of filmed people, or it is damaged; make the set again") from None


def _digest(record: dict[str, Any]) -> str:
    """Return a short sha256 of a record but for its terms."""
    told = {name: value for name, value in record["asked"].items() if name != "terms"}
    return hashlib.sha256(json.dumps([told, record["people"]], sort_keys=True).encode()).hexdigest()[:16]


class Swaps:
    """Drawn or filmed pictures on a device, as uint8, grown by `refresh` while drawing goes on.

    Frames of clip c are rows c * CLIP_FRAMES … of `own` and `swap`; stills of a person are the rows that `rows` lists.
    What has not been drawn yet is no error before it is asked for. Filmed people bring their sound, have no `swap`, and
    are all there; `speech_file` is None for them. Where the folder `run` holds a run that goes on, they begin with the
    files that it had, in its order. Raises InputError where the folder is of the other kind, was drawn with another
    file of speech, or lacks some of these.
    """

    def __init__(
        self,
        folder: Path,
        speech_file: Path | None,
        device: str,
        split: str = "train",
        clips: bool = True,
        stills: bool = True,
        limit: int | None = None,
        run: Path | None = None,
    ) -> None:
        self.limit = limit  # clips at most
        self.folder, self.device, self.split = Path(folder), device, split
        self.kinds = [kind for kind, wanted in (("still", stills), ("clip", clips)) if wanted]
        record = read_record(self.folder)
        self.filmed = record is not None
        """Whether they are of filmed people."""
        self.terms: dict[str, str] = {} if record is None else record["asked"]["terms"]
        """What filmed people agreed to; it goes into every checkpoint."""
        self.digest = "" if record is None else _digest(record)
        """A short sha256 of what says who and what is kept for tests; while drawing goes on it stays what it is."""
        self.strangers = FIRST["valid"] if record is None else sum(bool(p["train"]) for p in record["people"].values())
        """The first number of persons whom training does not see."""
        if self.filmed and speech_file is not None:
            raise InputError(f"{folder}: holds filmed people, whose sound is in their clips; leave --speech out")
        if not self.filmed and speech_file is None:
            raise InputError(
                f"{folder}: has no {RECORD}, expected a whole set of filmed people; give the command that makes it "
                "again, or for a drawn set its sentences with --speech"
            )
        self.speech_file = speech_file
        self.speech = [] if speech_file is None else read_speech(speech_file)
        self.spoken = None if speech_file is None else check_spoken(self.folder, speech_file)
        if self.spoken is not None:  # drawn persons for tests are always others
            self.digest = self.spoken.tobytes().hex()[:16]
        self.rows: dict[int, np.ndarray] = {}
        self.seen: dict[str, None] = {}  # names of files in the order in which they came
        self.people: set[int] = set()  # of whom there are stills
        self.waiting: dict[str, list[int]] = {}  # clips that show others
        self.arrays: dict[str, list] = {}
        before = _seen_by(run)
        self.whole = self.filmed or bool(before)
        """Whether nothing has to be waited for: films are there, and so is what a run had."""
        self.ordered = before is not None
        if missing := [name for name in before or () if not (self.folder / name).exists()]:
            raise InputError(
                f"{self.folder}: got no {missing[0]}, expected all {len(before or ())} files of the run in {run}; "
                "give the data it began with, or choose another folder with -o"
            )
        self.refresh(before or ())

    @property
    def order(self) -> dict[str, Tensor]:
        """The names of its files in the order in which they came, as a run's state keeps them: clips go by number.

        Nothing for a run that was begun before they were kept: it goes on in the order of names.
        """
        import torch

        return {"files": torch.tensor(list("\n".join(self.seen).encode()), dtype=torch.uint8)} if self.ordered else {}

    def refresh(self, order: Sequence[str] = ()) -> int:
        """Take in what has been drawn since, or the files called `order`, in that order; return their number.

        A clip for training waits for the stills of the two whom it shows, where stills are wanted too.
        """
        import torch

        waiting, taken = self.split == "train" and "still" in self.kinds and not (self.filmed or order), 0
        names = order or sorted(path.name for path in self.folder.glob(f"{self.split}-*.npz"))
        for kind in self.kinds:  # stills first
            paths = [self.folder / name for name in names if f"-{kind}-" in name]
            paths = paths[: self.limit if kind == "clip" else None]
            ready = lambda path: self.people.issuperset(self.waiting.get(path.name, ()))  # noqa: E731
            new = [path for path in paths if path.name not in self.seen and ready(path)]
            with ThreadPoolExecutor(4) as pool:
                for path, arrays in zip(new, pool.map(_read, new), strict=True):
                    if (spoken := arrays.pop(SPOKEN, None)) is not None and self.speech_file is not None:
                        _check_same(spoken[0], self.spoken, self.folder, self.speech_file)  # drawn since it was opened
                    if kind == "still":
                        self.people.update(arrays["person"].tolist())
                    elif waiting and not self.people.issuperset(shown := arrays["meta"][0, :2].tolist()):
                        self.waiting[path.name] = shown
                        continue
                    taken += 1
                    self.seen[path.name] = None
                    if kind == "clip":
                        arrays |= self._sound_of(arrays["meta"])
                    for name, array in arrays.items():
                        self.arrays.setdefault(f"{kind}_{name}", []).append(torch.from_numpy(array))
        if taken:
            for name, parts in self.arrays.items():
                joined = parts[0] if len(parts) == 1 else torch.cat([p.to(self.device) for p in parts])
                self.arrays[name] = [joined.to(self.device)]
            if "still_person" in self.arrays:
                self.rows = rows_by_person(self["still_person"].cpu().numpy())
        return taken

    def _sound_of(self, meta: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is heard in a clip, and for a test in another; the source of a filmed one."""
        said, first, other = map(int, meta[0, 2:])
        if self.filmed:
            return self._paired(said, other) if self.split == "test" else {}
        return self._heard("", said, first) | (self._heard("other_", other, 0) if self.split == "test" else {})

    def _heard(self, prefix: str, utterance: int, first: int) -> dict[str, np.ndarray]:
        if not 0 <= utterance < len(self.speech):  # a clip that does not tell what it was drawn with
            raise InputError(
                f"{self.folder}: got {len(self.speech)} sentences in {self.speech_file}, expected the speech that its "
                f"clips were drawn with, which has {utterance + 1} or more; give that file with --speech"
            )
        spoken = self.speech[utterance]
        return {
            f"{prefix}mel": spoken.heard(SPEC, first + CLIP_FRAMES)[None, first:].astype(np.float16),
            f"{prefix}sync": spoken.heard(SYNC_SPEC, first + CLIP_FRAMES)[None, first:].astype(np.float16),
        }

    def _paired(self, source: int, other: int) -> dict[str, np.ndarray]:
        """Return the first frame of one filmed test clip, and what is heard in another."""
        first, sounding = (_read(self.folder / f"test-clip-{number:05d}.npz") for number in (source, other))
        return {"source": first["own"][:, 0], "other_mel": sounding["mel"], "other_sync": sounding["sync"]}

    def __getitem__(self, name: str):
        """The tensor of that name: "still_frames", "still_person", "clip_own" (clips, CLIP_FRAMES, 96, 96, 3), …

        Raises InputError where no such file has been drawn, and where it is asked of filmed people what is not known.
        """
        if name not in self.arrays:
            kind, _, field = name.partition("_")
            if self.filmed:
                raise InputError(
                    f"{self.folder}: got filmed people, expected some that have {field!r} in a {kind} of "
                    f"{self.split!r}; take drawn ones: python -m edgetalk.train.swap draw"
                )
            raise InputError(
                f"{self.folder}: got no file {self.split}-{kind}-*.npz, expected some that hold {field!r}; draw them "
                f"with: python -m edgetalk.train.swap draw --speech {word(self.speech_file)} "
                f"-o {word(self.folder)}"
            )
        return self.arrays[name][0]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @property
    def renderings(self) -> tuple[str, ...]:
        """What each clip shows: its person, and where they are drawn the source in his place; see `clip_meta`."""
        return ("own",) if self.filmed else ("own", "swap")

    @property
    def clips(self) -> int:
        return len(self["clip_own"]) if "clip_own" in self else 0


def wait_for(data: Swaps, ready, patience: float) -> None:
    """Refresh `data` until `ready(data)` or until `patience` seconds have passed, where it is not whole already."""
    until = time.monotonic() + (0 if data.whole else patience)
    while not ready(data) and time.monotonic() < until:
        time.sleep(1)
        data.refresh()


def pictures(frames: Tensor) -> Tensor:
    """uint8 (…, H, W, 3) -> float (N, 3, H, W) in [0, 1], channels last in memory."""
    return frames.flatten(0, -4).permute(0, 3, 1, 2).float().div_(255)


def louder(mel: Tensor, strength: float = 1.0) -> Tensor:
    """Change the level of mel windows (N, T, F) by up to 8 dB and raise a random noise floor, each by `strength`."""
    import torch

    shape = (len(mel), 1, 1)
    gain = 0.64 * strength * (2 * torch.rand(shape, device=mel.device) - 1)
    floor = -4 + strength * (1.2 * torch.rand(shape, device=mel.device).square() + 0.1 * torch.randn_like(mel))
    return torch.maximum((mel + gain).clamp(-4, 4), floor)


def _seen_by(run: Path | None) -> list[str] | None:
    """Return the files that a run had when it was saved, none where it begins; None of one that did not keep them."""
    from safetensors import SafetensorError, safe_open

    if run is None or not (path := run / "state.safetensors").exists():
        return []
    with contextlib.suppress(SafetensorError), safe_open(path, "np") as file:  # resuming tells that it is damaged
        return bytes(file.get_tensor("files")).decode().split("\n") if "files" in file.keys() else None  # noqa: SIM118
    return []


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a clip, each with an axis for the clips, or of stills; InputError where it is damaged."""
    arrays = read_npz(
        path, f"{path} is damaged; remove it and draw it again, or make the set of filmed people anew in another folder"
    )
    return {name: array[None] for name, array in arrays.items()} if "meta" in arrays else arrays


def rows_by_person(persons: np.ndarray) -> dict[int, np.ndarray]:
    """Return the rows at which each person stands."""
    order = np.argsort(persons, kind="stable")
    names, starts = np.unique(persons[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
