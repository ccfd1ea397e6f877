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
from dataclasses import asdict
from pathlib import Path

from edgetalk.errors import BackendError
from edgetalk.train import program
from edgetalk.train.options import add_fields, check_bounds

from .data import Swaps
from .recipe import SwapRecipe, generator_command
from .schedule import PRESETS, Config, chosen, of_films, read_schedule

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
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="drawing processes")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default", help=PRESET_HELP)
    add_fields(parser, Config, without=["skips", "hidden", "images"], presets=PRESETS)  # the clock ends it


def run(args: argparse.Namespace) -> None:
    """Draw, train experts and generator, and score: OUT/wavsyncswap.safetensors, OUT/experts, OUT/scores.

    Raises BackendError, when all is over, where a part failed, and InputError where the data cannot be trained on so.
    """
    began, total = time.monotonic(), args.minutes * 60
    config = chosen(args, PRESETS[args.preset])
    check_bounds(args, BOUNDS, ["minutes"])
    out, data, experts = args.out, args.data or args.out / "data", args.out / "experts"
    filmed = args.speech is None
    Swaps(data, args.speech, "cpu", clips=False, stills=False)  # refuses now what every part would fail with
    config = of_films(config, data) if filmed else config
    experts.mkdir(parents=True, exist_ok=True)
    here = "edgetalk.train."
    parts: list[Part] = []
    common = ("--data", data) if filmed else ("--data", data, "--speech", args.speech)
    with contextlib.ExitStack() as opened:  # what ends the command ends its parts

        def start(name: str, *arguments: object, made: Path | None = None) -> Part:
            part = opened.enter_context(contextlib.closing(Part(name, out, *arguments, made=made)))
            parts.append(part)
            opened.callback(lambda: [one.stop() for one in parts])  # all of them, before any is waited for
            return part

        drawing = None if filmed else start(
            "draw", here + "swap", "draw", "-o", data, "--speech", args.speech, "--seconds", args.draw * total,
            "--people", args.people, "--test-clips", args.test_clips, "--valid-clips", max(1, args.test_clips // 2),
            "--workers", args.workers, made=data)  # fmt: skip
        patience, stretch = 0.3 * total, args.experts * total

        def expert(name: str, kind: str, seed: int, seconds: float, *more: object) -> Part | None:
            path = experts / f"{name}.safetensors"
            if path.exists():
                return None
            return start(name, here + "experts", kind, *common, "--seconds", seconds, "--seed", seed,
                         "--patience", patience, "-o", path, *more)  # fmt: skip

        people = ("--people", args.people, "--enough", args.people // 2)
        clips = ("--enough", max(20, args.people // 8))
        end, failed = began + total, []
        first = expert("identity-a", "identity", 1, stretch, "--width", 0.375, *people)
        later = [expert("sync-a", "sync", 1, 2.2 * stretch, "--width", 0.4375, "--grey", *clips),
                 expert("sync-b", "sync", 2, 2.2 * stretch, "--width", 0.3125, "--grey", *clips)]  # fmt: skip
        if first and not first.wait(began + patience + stretch + 60):
            failed.append(first)
        later.append(expert("identity-b", "identity", 2, stretch, "--width", 0.3125, "--size", 96, *people))
        if not filmed:
            later.append(expert("landmarks", "landmarks", 1, stretch, *clips))
        scoring = max(args.score * total, 20)
        until = time.time() + end - scoring - time.monotonic() - max(8, 0.02 * total)  # for the last save
        settings = out / "config.json"
        settings.write_text(json.dumps(asdict(config)))
        checkpoint, judged = out / "wavsyncswap.safetensors", out / "scores"
        generator = start("generator", here + "swap.wavsyncswap", "--settings", settings, *common, "--experts", experts,
                          "-o", out, "--until", until, made=checkpoint)  # fmt: skip
        failed += [part for part in (generator, *later, drawing)
                   if part and not part.wait(end - scoring + (part is not generator))]  # fmt: skip
        if checkpoint.exists():
            score = start("score", "edgetalk.cli", "score", "wavsyncswap", *common, "--experts", experts,
                          "--checkpoint", checkpoint, "-o", judged)  # fmt: skip
            failed += [] if score.wait(end) else [score]
        if failed:
            names, logs = (", ".join(map(str, told)) for told in zip(*((p.name, p.path) for p in failed), strict=True))
            raise BackendError(f"{out}: {names} failed, expected all parts to end well; read {logs}, then give the "
                               "same command again to go on")  # fmt: skip
        print(f"{checkpoint}: see {judged / 'wavsyncswap.json'} and the pictures beside it")


def main(arguments: list[str] | None = None) -> None:
    """Train the generator alone; its schedule is a JSON file of Config's fields, or the options."""
    parser = argparse.ArgumentParser(prog="python -m edgetalk.train.swap.wavsyncswap", description=main.__doc__)
    parser.add_argument("--settings", type=Path, help="JSON of all fields, as `edgetalk train wavsyncswap` writes it")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default", help=PRESET_HELP)
    configure, _ = generator_command(SwapRecipe, PRESETS["default"])
    configure(parser)
    args = parser.parse_args(arguments)
    preset = PRESETS[args.preset]
    if args.settings:
        preset = read_schedule(args.settings)
    _, train = generator_command(SwapRecipe, preset)
    train(args)


if __name__ == "__main__":
    program.run(main)
