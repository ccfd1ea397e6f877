"""The training loop that every recipe shares: slices of minutes, exact resume, averaged weights, a page to look at.

A run is a folder: `state.safetensors` (all tensors and the step, renamed when whole), `log.jsonl` (a line of losses per
interval, and of what was measured on held-out pictures), `sheets/` (pictures), `index.html` (curves of the log and the
last sheets, self-contained). What belongs to a step is derived from the seed and the step's number alone, so a run that
was killed goes on as if it had not been.
Several GPUs: start the same command with torchrun, where the recipe averages its gradients (amnet.py does); each
process draws its own share.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgetalk.errors import InputError, ModelError
from edgetalk.files import replacing
from edgetalk.signals import held_back

from .networks.tensors import write_tensors
from .terms import joined


class Recipe(Protocol):
    """What a family of networks tells the loop."""

    config: Mapping[str, Any]
    """Plain values that name the run; a run resumes only under an equal configuration."""

    defaults: Mapping[str, Any]
    """Values that `config` has where nothing else is asked for: a run from before there was such a field had them."""

    terms: Mapping[str, str]
    """What filmed people agreed to, as in terms.py, for the checkpoint; resuming adds what the run has learnt from."""

    @property
    def steps(self) -> int:
        """Steps of the whole schedule, as far as those that were taken can tell where a clock ends it."""

    shown: str
    """What a sheet shows beside or above each other, for its caption."""

    def step(self, number: int) -> dict[str, Tensor]:
        """Take one optimiser step and return its losses, 0-d, still on the device."""

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a resumed run needs, by name; the loop saves it and copies it back in place."""

    def checkpoint(self, run: Path, step: int) -> None:
        """Write what `step` steps have made of the network into the folder `run`, for all but the loop."""

    def sheet(self, path: Path) -> Mapping[str, float] | None:
        """Write a picture of what the network makes now; return what was measured of it on held-out ones, by name."""


def worker() -> tuple[int, int]:
    """Return this process's rank and the number of processes; joins torchrun's group on the first call."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first of torchrun's processes through the block, then the others, which find the files it has made."""
    rank, processes = worker()
    if rank:
        agreed(0.0)
    yield
    if not rank and processes > 1:
        agreed(0.0)


def refuse_several() -> None:
    """Raise InputError where torchrun has started several processes; for recipes that average no gradients."""
    if (processes := worker()[1]) > 1:
        raise InputError(
            f"torchrun: got {processes} processes, expected one, since this recipe averages no gradients; start "
            "the command without it"
        )


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over torchrun's processes; nothing to do where there is one."""
    if worker()[1] == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message instead of hundreds
    torch.distributed.all_reduce(flat)
    flat /= worker()[1]
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def agreed(value: float) -> float:
    """Return what the first process holds: clocks read by each would let them part, and wait for each other."""
    if worker()[1] == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)
    torch.distributed.broadcast(told, 0)
    return float(told)


def generator(seed: int, step: int) -> torch.Generator:
    """Return the random numbers of one step of this process: a function of seed, step and rank alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + worker()[0])


def run_beside(made: Path) -> Path:
    """Return the folder of a run that ends in the one file `made`."""
    return made.with_suffix(".run")


class Average:
    """Exponential moving average of a network's weights, kept in float32 beside it."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.live = [t for t in network.state_dict().values() if t.is_floating_point()]
        self.names = [n for n, t in network.state_dict().items() if t.is_floating_point()]
        self.slow = [t.detach().clone() for t in self.live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the live weights; the first steps move faster, so that the start is soon forgotten."""
        torch._foreach_lerp_(self.slow, self.live, 1 - min(self.decay, (1 + step) / (10 + step)))

    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.slow, strict=True))


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return Adam's moments and step counts by name; creates them where no step was taken yet."""
    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        state = optimiser.state[parameter]
        if not state:
            on_device = parameter.device if optimiser.defaults.get("fused") else "cpu"
            state["step"] = torch.zeros((), device=on_device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"{prefix}.{number}.{name}": value for name, value in state.items()}
    return tensors


def _save(recipe: Recipe, run: Path, step: int) -> None:
    """Write the state of the run; ModelError where it is not finite, and what was saved before stays."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in recipe.tensors().items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(
                f"{run}: {name} is not finite at step {step}, so it was not saved; lower the learning rate"
            )
    header = {"format": "1", "step": str(step), "config": json.dumps(dict(recipe.config), sort_keys=True)}
    header["terms"] = json.dumps(dict(recipe.terms))
    write_tensors(run / "state.safetensors", tensors, header)


def _resume(recipe: Recipe, run: Path) -> int:
    from safetensors import SafetensorError, safe_open

    path = run / "state.safetensors"
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            before, now = json.loads(header.get("config", "{}")), json.loads(json.dumps(dict(recipe.config)))
            before = json.loads(json.dumps(dict(recipe.defaults))) | before
            changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
            if changed:
                told = ", ".join(f"{k} {before.get(k)} → {now.get(k)}" for k in changed[:4])
                raise ModelError(f"{run} holds a run of another configuration ({told}); choose another folder with -o")
            with torch.no_grad():
                for name, tensor in recipe.tensors().items():
                    tensor.copy_(file.get_tensor(name))
            recipe.terms = joined([json.loads(header.get("terms", "{}")), recipe.terms])  # older runs have none
            return int(header["step"])
    except ModelError:  # a ValueError, but nothing that is damaged
        raise
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); delete it to start the run anew") from error


def _shorten(log: Path, step: int) -> None:
    """Take out of a log what was told behind `step`: a run that was killed takes those steps again."""
    lines = log.read_text().splitlines() if log.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    if kept != lines:
        with replacing(log) as part:
            part.write_text("".join(f"{line}\n" for line in kept))


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
    from .page import write_page

    chief = worker()[0] == 0
    run.mkdir(parents=True, exist_ok=True)
    (run / "sheets").mkdir(exist_ok=True)
    begin = step = _resume(recipe, run)
    if chief:
        _shorten(run / "log.jsonl", begin)
    start = saved = drawn = logged = time.monotonic()
    sums: dict[str, list[Tensor]] = {}
    count = 0

    def means() -> dict[str, float]:
        """Return the mean losses since the last line of the log; ModelError where one is not a number."""
        found = {name: round(float(torch.stack(values).mean()), 5) for name, values in sums.items()}
        if not all(value == value for value in found.values()):
            raise ModelError(f"{run}: a loss is not a number at step {step}: {found}; lower the learning rate")
        return found

    def keep(draw: bool) -> None:
        if chief:
            means()  # the next line of the log may be far, and what is saved takes the place of something whole
            _save(recipe, run, step)
            recipe.checkpoint(run, step)
            if draw and (measured := recipe.sheet(run / "sheets" / f"{step:07d}.jpg")):
                told = {name: round(value, 5) for name, value in measured.items()}
                with (run / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": step, **told}) + "\n")
                show(f"step {step}  " + "  ".join(f"{name} {value:.4f}" for name, value in told.items()))
            write_page(run, dict(recipe.config), recipe.shown)

    def in_time() -> bool:
        return minutes is None or agreed(time.monotonic() - start) < minutes * 60

    whole = True  # whether what there is has been left by whole steps
    try:
        while step < recipe.steps and in_time():
            with held_back("ends after this step, then saves; once more ends at once, with what was saved before"):
                whole = False
                for name, loss in recipe.step(step).items():
                    sums.setdefault(name, []).append(loss.detach())
                step += 1
                count += 1
                whole = True
            now = time.monotonic()
            if chief and (now - logged > 10 or step == recipe.steps):
                lost = means()
                speed = count / (time.monotonic() - logged)
                with (run / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": step, "steps_per_s": round(speed, 3), **lost}) + "\n")
                left = (recipe.steps - step) / max(speed, 1e-9)
                told = "  ".join(f"{name} {value:.4f}" for name, value in lost.items())
                show(f"step {step}/{recipe.steps}  {told}  {speed:.2f} steps/s  {left / 60:.1f} min left")
                sums, count, logged = {}, 0, now
            if now - saved > save_every:
                keep(draw := now - drawn > sheet_every)
                saved, drawn = time.monotonic(), time.monotonic() if draw else drawn
    except KeyboardInterrupt:
        if whole:
            keep(draw=False)
        raise
    if step > begin:
        keep(draw=True)
    elif chief and step:  # nothing was left to do, but its checkpoint may be gone
        recipe.checkpoint(run, step)
    return step
