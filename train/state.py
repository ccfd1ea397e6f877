"""The state of a run, `state.safetensors` in its folder: all that going on needs, the step and the configuration."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from edgetalk.errors import ModelError

from .networks.tensors import write_tensors
from .recipe import Recipe
from .terms import joined


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


def _optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
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


def tensors_of(**parts: nn.Module | Average | torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all tensors of the parts of a run, each called PART.NAME."""
    tensors: dict[str, Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, torch.optim.Optimizer):
            tensors |= _optimiser_tensors(part, name)
        else:
            own = part.tensors() if isinstance(part, Average) else part.state_dict()
            tensors |= {f"{name}.{inner}": tensor for inner, tensor in own.items()}
    return tensors


def save(recipe: Recipe, run: Path, step: int) -> None:
    """Write the state of the run; ModelError where it is not finite, and what was saved before stays."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in recipe.tensors().items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(
                f"{run}: {name} is not finite at step {step}, so it was not saved; lower the learning rate"
            )
    header = {"format": "1", "step": str(step), "config": json.dumps(dict(recipe.config), sort_keys=True)}
    header |= {"terms": json.dumps(dict(recipe.terms)), "data": recipe.digest}
    write_tensors(run / "state.safetensors", tensors, header)


def resume(recipe: Recipe, run: Path) -> int:
    """Copy the saved state back in place and return the step reached, 0 where the run has none.

    ModelError where the state is damaged, or of another configuration or other data; runs from before there were
    digests say nothing of their data.
    """
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
            seen = header.get("data", "")
            if seen and recipe.digest and seen != recipe.digest:
                raise ModelError(
                    f"{run} holds a run on data whose digest is {seen}, got data with {recipe.digest}, of which it may "
                    "have learnt what is for tests now; give the data it began with, or choose another folder with -o"
                )
            with torch.no_grad():
                for name, tensor in recipe.tensors().items():
                    tensor.copy_(file.get_tensor(name))
            recipe.terms = joined([json.loads(header.get("terms", "{}")), recipe.terms])  # older runs have none
            return int(header["step"])
    except ModelError:  # a ValueError, but nothing that is damaged
        raise
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); delete it to start the run anew") from error
