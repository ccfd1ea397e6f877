"""The training loop that every recipe shares: slices of minutes, exact resume, averaged weights, a page to look at.

A run is a folder: `state.safetensors` (all tensors and the step, renamed when whole), `log.jsonl` (a line of losses per
interval, and of what was measured on held-out pictures), `sheets/` (pictures), `index.html` (curves of the log and the
last sheets, self-contained). What belongs to a step is derived from the seed and the step's number alone, so a run that
was killed goes on as if it had not been.
Several GPUs: start the same command with torchrun, where the recipe averages its gradients (amnet/recipe.py does); each
process draws its own share, and the first one writes the folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgetalk.errors import ModelError
from edgetalk.files import replacing
from edgetalk.signals import held_back

from .page import write_page
from .recipe import Recipe
from .state import resume, save
from .torchrun import agreed, worker

TOLD_EVERY = 10.0  # seconds


def train(
    recipe: Recipe,
    run: Path,
    *,
    minutes: float | None = None,
    save_every: float = 120.0,
    sheet_every: float = 600.0,
    show: Callable[[str], None] = print,
) -> int:
    """Run the schedule, or `minutes` of it, from where the folder `run` stands; return the step reached.

    Saves state and checkpoint every `save_every` seconds and draws a sheet every `sheet_every` seconds; a kill loses at
    most that. Ctrl-C lets the step end and saves what it made.
    """
    run.mkdir(parents=True, exist_ok=True)
    (run / "sheets").mkdir(exist_ok=True)
    begin = step = resume(recipe, run)
    writes = worker()[0] == 0
    record = _Record(recipe, run, show)
    if writes:
        record.forget_behind(begin)
    start = saved = drawn = time.monotonic()

    def in_time() -> bool:
        return minutes is None or agreed(time.monotonic() - start) < minutes * 60

    whole = True  # whether what there is has been left by whole steps
    try:
        while step < recipe.steps and in_time():
            with held_back("ends after this step, then saves; once more ends at once, with what was saved before"):
                whole = False
                losses = recipe.step(step)
                if writes:
                    record.add(losses)
                step += 1
                whole = True
            now = time.monotonic()
            if writes and (now - record.told > TOLD_EVERY or step == recipe.steps):
                record.tell(step)
            if now - saved > save_every:
                draw = now - drawn > sheet_every
                if writes:
                    record.keep(step, draw=draw)
                saved, drawn = time.monotonic(), time.monotonic() if draw else drawn
        if writes and step > begin:  # in here, for a signal that comes just before it
            record.keep(step, draw=True)
    except KeyboardInterrupt:
        if writes and whole and record.kept != step:
            record.keep(step, draw=False)
        raise
    if writes and step == begin > 0:  # nothing was left to do, but its checkpoint may be gone
        recipe.checkpoint(run, step)
    return step


class _Record:
    """What a run leaves in its folder."""

    def __init__(self, recipe: Recipe, run: Path, show: Callable[[str], None]) -> None:
        self.told = time.monotonic()
        """When the last line was told."""
        self.kept: int | None = None
        """The step that was saved last."""
        self._recipe, self._run, self._show = recipe, run, show
        self._log = run / "log.jsonl"
        self._losses: dict[str, list[Tensor]] = {}
        self._count = 0  # steps that they are of

    def forget_behind(self, step: int) -> None:
        """Take out of the log what was told behind `step`: a run that was killed takes those steps again."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        if kept != lines:
            with replacing(self._log) as part:
                part.write_text("".join(f"{line}\n" for line in kept))

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count a step."""
        for name, loss in losses.items():
            self._losses.setdefault(name, []).append(loss.detach())
        self._count += 1

    def tell(self, step: int) -> None:
        """Write and show the mean losses since the last such line, and how fast the steps are."""
        means, now = self._means(step), time.monotonic()
        speed = self._count / (now - self.told)
        self._write(step, {"steps_per_s": round(speed, 3), **means})
        steps = self._recipe.steps
        left = (steps - step) / max(speed, 1e-9)
        self._show(f"step {step}/{steps}  {_listed(means)}  {speed:.2f} steps/s  {left / 60:.1f} min left")
        self._losses, self._count, self.told = {}, 0, now

    def keep(self, step: int, *, draw: bool) -> None:
        """Save state and checkpoint, draw a sheet or not, and bring the page up to date."""
        with held_back("saves, then ends; once more ends at once, with what was saved before"):
            self._means(step)  # the next line may be far, and what is saved takes the place of something whole
            save(self._recipe, self._run, step)
            self._recipe.checkpoint(self._run, step)
            self.kept = step
            write_page(self._run, dict(self._recipe.config), self._recipe.shown)
        if not draw:
            return
        if measured := self._recipe.sheet(self._run / "sheets" / f"{step:07d}.jpg"):
            self._write(step, {name: round(value, 5) for name, value in measured.items()})
            self._show(f"step {step}  {_listed(measured)}")
        write_page(self._run, dict(self._recipe.config), self._recipe.shown)

    def _means(self, step: int) -> dict[str, float]:
        """Return the mean losses since the last line; ModelError where one is not a number."""
        means = {name: round(float(torch.stack(values).mean()), 5) for name, values in self._losses.items()}
        if not all(value == value for value in means.values()):
            raise ModelError(f"{self._run}: a loss is not a number at step {step}: {means}; lower the learning rate")
        return means

    def _write(self, step: int, told: Mapping[str, float]) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps({"step": step, **told}) + "\n")


def _listed(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())
