"""`edgetalk train wavsyncswap`: everything from drawn clips, or filmed ones, to a scored WavSyncSwap.

The command does everything within `--minutes`: draws clips and stills from a file of synthesised speech, trains two
pairs of experts on them, one to train against and one to judge, trains the generator while drawing goes on, and scores
it. Filmed people (`--data` without `--speech`) are there already, and nothing tells a landmark judge of them. Each part
is a process with a time box and a log; a part that fails leaves the others alone, and what is done already is not done
again. How the generator learns is in recipe.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgetalk.errors import BackendError
from edgetalk.files import replacing
from edgetalk.train import program
from edgetalk.train.networks import store
from edgetalk.train.options import add_fields, check_bounds

from .data import Swaps
from .recipe import SwapRecipe, configure_generator, run_generator
from .schedule import PRESETS, Config, chosen, expert_losses, of_films, read_schedule

HERE = "edgetalk.train."

PRESET_HELP = "values of all that is not given: for drawn faces (default), or Eq. 5 as the paper prints it"

LOOK = 30.0
"""Seconds between two looks into the log of a part that is waited for."""
GRACE = 20.0
"""Seconds in which a part that is stopped may end by itself."""
BOUNDS = dict.fromkeys(("draw", "experts", "score"), (0, 1)) | {
    "people": (2, math.inf), "test_clips": (1, math.inf), "workers": (1, math.inf)
}  # fmt: skip
"""What options of the whole command may be, least and most."""


class Part:
    """One part of the work as a process of its own, with a log; it is stopped when its time is over.

    Where `made` is there, stopping it is no failure: drawing and generator make what they can in their time.
    """

    def __init__(self, name: str, logs: Path, *arguments: object, made: Path | None = None) -> None:
        self.name, self.made, self.began = name, made, time.monotonic()
        self.path = logs / f"{name}.log"
        self.log = self.path.open("ab")
        command = [sys.executable, "-m", *map(str, arguments)]
        # In a session of its own: the terminal's Ctrl-C beside the SIGTERM of `close` would be a second signal, which
        # does not wait until all is saved.
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, until: float) -> bool:
        """Wait until the monotonic time `until` at most; return whether the part did its work.

        Tells the last line of its log meanwhile, whenever there is another one: a part may take hours.
        """
        shown = ""
        while (left := until - time.monotonic()) > 0 and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(min(LOOK, left))
            if self.process.poll() is None and (line := self._last_line()) != shown:
                print(f"{self.name}: {line}", flush=True)
                shown = line
        stopped = self.process.poll() is None
        self.close()
        status = self.process.returncode
        print(f"{self.name}: status {status} after {time.monotonic() - self.began:.0f} s", flush=True)
        return status == 0 or (stopped and self.made is not None and self.made.exists())

    def stop(self) -> None:
        """Let it save what it has and end, without waiting for that."""
        if self.process.poll() is None:
            self.process.terminate()

    def close(self) -> None:
        """Stop it where it still runs, and wait until it has saved what it has."""
        self.stop()
        try:
            self.process.wait(GRACE)
        except BaseException as error:  # Ctrl-C once more, too: nobody else can reach it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        finally:
            self.log.close()

    def _last_line(self) -> str:
        """Return the log's last line with something in it; a progress bar rewrites its own with carriage returns."""
        with self.path.open("rb") as log:
            log.seek(max(0, self.path.stat().st_size - 4096))
            lines = log.read().decode("utf-8", "replace").replace("\r", "\n").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Parts(contextlib.ExitStack):
    """The parts of one command, whose logs lie in one folder; what ends the block ends them.

    All of them are told to stop before any is waited for.
    """

    def __init__(self, logs: Path) -> None:
        super().__init__()
        self.logs, self.parts, self.failed = logs, list[Part](), list[Part]()

    def start(self, name: str, *arguments: object, made: Path | None = None) -> Part:
        """Start a part and return it."""
        part = self.enter_context(contextlib.closing(Part(name, self.logs, *arguments, made=made)))
        self.parts.append(part)
        self.callback(lambda: [one.stop() for one in self.parts])
        return part

    def wait(self, part: Part | None, until: float) -> None:
        """Wait for a part, if there is one, until the monotonic time `until`, and note where it failed."""
        if part is not None and not part.wait(until):
            self.failed.append(part)

    def check(self) -> None:
        """Raise BackendError, which names all parts that failed and their logs, where some did."""
        if self.failed:
            names = ", ".join(part.name for part in self.failed)
            logs = ", ".join(str(part.path) for part in self.failed)
            raise BackendError(
                f"{self.logs}: {names} failed, expected all parts to end well; read {logs}, then give the same command "
                "again to go on"
            )


@dataclass(frozen=True)
class Budget:
    """How long the parts may take, in seconds, and when they have to be over, by time.monotonic()."""

    began: float
    total: float
    draw: float
    """Share of the total, as `experts` and `score` are."""
    experts: float
    score: float

    @property
    def end(self) -> float:
        return self.began + self.total

    @property
    def drawing(self) -> float:
        return self.draw * self.total

    @property
    def patience(self) -> float:
        """How long an expert waits for what is drawn."""
        return 0.3 * self.total

    @property
    def expert(self) -> float:
        """Training time of an identity expert and of the landmark judge."""
        return self.experts * self.total

    @property
    def sync_expert(self) -> float:
        return 2.2 * self.expert

    @property
    def scored_from(self) -> float:
        """When the scores begin."""
        return self.end - max(self.score * self.total, 20)

    def until(self) -> float:
        """Return when the generator has to end, by time.time(); there is time left for its last save."""
        return time.time() - time.monotonic() + self.scored_from - max(8, 0.02 * self.total)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `edgetalk train wavsyncswap`."""
    parser.add_argument("--speech", type=Path,
                        help="sentences to draw clips of, written by: python -m edgetalk.train.swap speech; "
                             "without it --data holds filmed people")  # fmt: skip
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, help="folder of the run; the same command resumes it"
    )
    parser.add_argument("--data", type=Path, help="folder of the clips (default, where they are drawn: OUT/data)")
    parser.add_argument("--minutes", type=float, default=480.0, help="time for everything, scores included")
    parser.add_argument("--draw", type=float, default=0.4, help="share of the time in which clips are drawn")
    parser.add_argument("--experts", type=float, default=0.12, help="share of the time for one identity expert")
    parser.add_argument("--score", type=float, default=0.1, help="share of the time kept for the scores")
    parser.add_argument("--people", type=int, default=1000, help="persons with stills")
    parser.add_argument("--test-clips", type=int, default=120, help="clips that are drawn for the scores")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="drawing processes (default: one for each core)"
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default", help=PRESET_HELP)
    add_fields(parser, Config, without=["skips", "hidden", "images"], presets=PRESETS)  # the clock ends it


def run(args: argparse.Namespace) -> None:
    """Draw, train experts and generator, and score: OUT/wavsyncswap.safetensors, OUT/experts, OUT/scores.

    Warns where the generator was trained without an expert. Raises BackendError, when all is over, where a part failed,
    and InputError where the data cannot be trained on so.
    """
    budget = Budget(time.monotonic(), args.minutes * 60, args.draw, args.experts, args.score)
    config = chosen(args, PRESETS[args.preset])
    check_bounds(args, BOUNDS, ["minutes"])
    out, data, filmed = args.out, args.data or args.out / "data", args.speech is None
    Swaps(data, args.speech, "cpu", clips=False, stills=False)  # refuses now what every part would fail with
    config = of_films(config, data) if filmed else config
    checkpoint, experts, judged = out / "wavsyncswap.safetensors", out / "experts", out / "scores"
    experts.mkdir(parents=True, exist_ok=True)
    common = ("--data", data) if filmed else ("--data", data, "--speech", args.speech)
    settings = out / "config.json"
    with Parts(out) as parts:
        drawing = None if filmed else _start_drawing(parts, args, data, budget)
        later = _start_experts(parts, args, experts, common, budget)
        with replacing(settings) as written:
            written.write_text(json.dumps(asdict(config)))
        generator = parts.start("generator", HERE + "swap.wavsyncswap", "--settings", settings, *common, "--experts",
                                experts, "-o", out, "--until", budget.until(), made=checkpoint)  # fmt: skip
        for part in (generator, *later, drawing):
            parts.wait(part, budget.scored_from + (part is not generator))
        if checkpoint.exists():
            score = parts.start("score", "edgetalk.cli", "score", "wavsyncswap", *common, "--experts", experts,
                                "--checkpoint", checkpoint, "-o", judged)  # fmt: skip
            parts.wait(score, budget.end)
            _warn_of_missing_experts(checkpoint, config, experts)
        parts.check()
        print(f"{checkpoint}: see {judged / 'wavsyncswap.json'} and the pictures beside it")


def _start_drawing(parts: Parts, args: argparse.Namespace, data: Path, budget: Budget) -> Part:
    """Start to draw clips and stills into `data`."""
    valid = max(1, args.test_clips // 2)
    return parts.start("draw", HERE + "swap", "draw", "-o", data, "--speech", args.speech, "--seconds", budget.drawing,
                       "--people", args.people, "--test-clips", args.test_clips, "--valid-clips", valid,
                       "--workers", args.workers, made=data)  # fmt: skip


def _start_experts(
    parts: Parts, args: argparse.Namespace, experts: Path, common: Sequence[object], budget: Budget
) -> list[Part]:
    """Train the extractor, without which no generator can begin, then start the other experts and return those.

    Experts that are there already are left as they are.
    """

    def start(name: str, kind: str, seed: int, seconds: float, *more: object) -> list[Part]:
        path = experts / f"{name}.safetensors"
        if path.exists():
            return []
        return [parts.start(name, HERE + "experts", kind, *common, "--seconds", seconds, "--seed", seed,
                            "--patience", budget.patience, "-o", path, *more)]  # fmt: skip

    people = ("--people", args.people, "--enough", args.people // 2)
    clips = ("--enough", max(20, args.people // 8))
    first = start("identity-a", "identity", 1, budget.expert, "--width", 0.375, *people)
    later = start("sync-a", "sync", 1, budget.sync_expert, "--width", 0.4375, "--grey", *clips)
    later += start("sync-b", "sync", 2, budget.sync_expert, "--width", 0.3125, "--grey", *clips)
    for part in first:
        parts.wait(part, budget.began + budget.patience + budget.expert + 60)
    later += start("identity-b", "identity", 2, budget.expert, "--width", 0.3125, "--size", 96, *people)
    if args.speech is not None:
        later += start("landmarks", "landmarks", 1, budget.expert, *clips)
    return later


def _warn_of_missing_experts(checkpoint: Path, config: Config, experts: Path) -> None:
    """Warn where the generator did without a loss of its schedule; those of before do not say what they had."""
    there = json.loads(store.header(checkpoint).get("against", "null"))
    for name, expert in (("L_Id", "identity-a"), ("L_Sync", "sync-a")):
        if there is not None and name in expert_losses(config) and name not in there:
            warnings.warn(
                f"{checkpoint} was trained without {name}, since {experts / expert}.safetensors was missing or below "
                "its floor; read its log, and give a new run more --minutes or another share of --experts",
                stacklevel=2,
            )


def main(arguments: list[str] | None = None) -> None:
    """Train the generator alone; its schedule is a JSON file of Config's fields, or the options."""
    parser = program.parser("edgetalk.train.swap.wavsyncswap", main.__doc__)
    parser.add_argument("--settings", type=Path, help="JSON of all fields, as `edgetalk train wavsyncswap` writes it")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default", help=PRESET_HELP)
    configure_generator(parser, PRESETS["default"])
    args = parser.parse_args(arguments)
    run_generator(args, SwapRecipe, read_schedule(args.settings) if args.settings else PRESETS[args.preset])


if __name__ == "__main__":
    program.run(main)
