"""`edgetalk train wavsyncswap`: everything from drawn clips to a scored WavSyncSwap.

The command does everything within `--minutes`: draws clips and stills from a file of synthesised speech, trains two
pairs of experts on them, one to train against and one to judge, trains the generator while drawing goes on, and scores
it. Each part is a process with a time box and a log; a part that fails leaves the others alone, and what is done
already is not done again. How the generator learns is in swap_recipe.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from .options import add_fields
from .swap_recipe import PRESETS, Config, SwapRecipe, chosen, generator_command


class Part:
    """One part of the work as a process of its own, with a log; it is stopped when its time is over."""

    def __init__(self, name: str, logs: Path, *arguments: object) -> None:
        self.name, self.began = name, time.monotonic()
        self.log = (logs / f"{name}.log").open("ab")
        command = [sys.executable, "-m", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def wait(self, until: float) -> bool:
        """Wait until the monotonic time `until` at most; return whether the part ended well."""
        try:
            status = self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.terminate()
            status = self.process.wait(20)
        print(f"{self.name}: status {status} after {time.monotonic() - self.began:.0f} s", flush=True)
        self.log.close()
        return status == 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `edgetalk train wavsyncswap`."""
    parser.add_argument("--speech", type=Path, required=True,
                        help="sentences written by: python -m edgetalk.train.swap_data speech")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the run; the same command resumes it")
    parser.add_argument("--data", type=Path, help="folder of the drawn clips (default: OUT/data)")
    parser.add_argument("--minutes", type=float, default=480.0, help="time for everything, scores included")
    parser.add_argument("--draw", type=float, default=0.4, help="share of the time in which clips are drawn")
    parser.add_argument("--experts", type=float, default=0.12, help="share of the time for one identity expert")
    parser.add_argument("--score", type=float, default=0.1, help="share of the time kept for the scores")
    parser.add_argument("--people", type=int, default=1000, help="persons with stills")
    parser.add_argument("--test-clips", type=int, default=120)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="drawing processes")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default")
    add_fields(parser, Config, without=["skips", "hidden"], preset=True)


def run(args: argparse.Namespace) -> None:
    """Draw, train experts and generator, and score: OUT/wavsyncswap.safetensors, OUT/experts, OUT/scores."""
    began, total = time.monotonic(), args.minutes * 60
    config = chosen(args, PRESETS[args.preset])
    out, data, experts = args.out, args.data or args.out / "data", args.out / "experts"
    experts.mkdir(parents=True, exist_ok=True)
    here = "edgetalk.train."
    common = ("--data", data, "--speech", args.speech)
    drawing = Part("draw", out, here + "swap_data", "draw", "-o", data, "--speech", args.speech,
                   "--seconds", args.draw * total, "--people", args.people, "--test-clips", args.test_clips,
                   "--valid-clips", args.test_clips // 2, "--workers", args.workers)  # fmt: skip
    patience, stretch = 0.3 * total, args.experts * total

    def expert(name: str, kind: str, seed: int, seconds: float, *more: object) -> Part | None:
        path = experts / f"{name}.safetensors"
        if path.exists():
            return None
        return Part(name, out, here + "experts", kind, *common, "--seconds", seconds, "--seed", seed,
                    "--patience", patience, "-o", path, *more)  # fmt: skip

    people = ("--people", args.people, "--enough", args.people // 2)
    clips = ("--enough", max(20, args.people // 8))
    end = began + total
    first = expert("identity-a", "identity", 1, stretch, "--width", 0.375, *people)
    later = [expert("sync-a", "sync", 1, 2.2 * stretch, "--width", 0.4375, "--grey", *clips),
             expert("sync-b", "sync", 2, 2.2 * stretch, "--width", 0.3125, "--grey", *clips)]  # fmt: skip
    if first:
        first.wait(began + patience + stretch + 60)
    later.append(expert("identity-b", "identity", 2, stretch, "--width", 0.3125, "--size", 96, *people))
    later.append(expert("landmarks", "landmarks", 1, stretch, *clips))
    scoring = max(args.score * total, 20)
    until = time.time() + end - scoring - time.monotonic() - max(8, 0.02 * total)  # for the last save
    settings = out / "config.json"
    settings.write_text(json.dumps(asdict(config)))
    generator = Part("generator", out, here + "wavsyncswap", "--settings", settings, *common, "--experts", experts,
                     "-o", out, "--until", until)  # fmt: skip
    generator.wait(end - scoring)
    for part in [*later, drawing]:
        if part:
            part.wait(end - scoring + 1)
    judged = out / "scores"
    Part("score", out, "edgetalk.cli", "score", "wavsyncswap", *common, "--experts", experts, "--checkpoint",
         out / "wavsyncswap.safetensors", "-o", judged).wait(end)  # fmt: skip
    print(f"{out / 'wavsyncswap.safetensors'}: see {judged / 'wavsyncswap.json'} and the pictures beside it")


def main(arguments: list[str] | None = None) -> None:
    """Train the generator alone; its schedule is a JSON file of Config's fields, or the options."""
    parser = argparse.ArgumentParser(prog="python -m edgetalk.train.wavsyncswap", description=main.__doc__)
    parser.add_argument("--settings", type=Path, help="JSON of all fields, as `edgetalk train wavsyncswap` writes it")
    configure, _ = generator_command(SwapRecipe, PRESETS["default"])
    configure(parser)
    args = parser.parse_args(arguments)
    preset = PRESETS["default"]
    if args.settings:
        told = json.loads(args.settings.read_text())
        preset = Config(**told | {name: tuple(told[name]) for name in ("skips", "hidden")})
    _, train = generator_command(SwapRecipe, preset)
    train(args)


if __name__ == "__main__":
    main()
