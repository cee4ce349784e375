"""What a resumed run takes over besides its weights, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..geometry.input_error import InputError
from .distributed import World
from .settings import differences
from .state import States

PARTS = "exp_avg", "exp_avg_sq", "step"  # AdamW's, of each weight


def resumable(states: States, about: Mapping[str, object]) -> dict | None:
    """What the newest state says; None where there is none.

    Raises InputError, one sentence, where it was saved with another configuration, or cannot be read.
    """
    info = states.info()
    if info is None:
        return None
    # What is compared has been through JSON, which knows no tuples.
    now = {name: list(value) if isinstance(value, tuple) else value for name, value in about.items()}
    if found := differences(info["about"], now):
        raise InputError(
            f"the run in {states.folder} was begun with another configuration ({'; '.join(found)})", "set_back"
        )
    return info


def moments(optimizer: torch.optim.AdamW, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """AdamW's memory by 'weight:part'; weights that have had no gradient yet have none."""
    return {
        f"{name}:{part}": optimizer.state[weight][part]
        for name, weight in weights.items()
        for part in PARTS
        if weight in optimizer.state
    }


def load_moments(
    optimizer: torch.optim.AdamW,
    weights: Mapping[str, torch.Tensor],
    saved: Mapping[str, torch.Tensor] | None,
    world: World,
) -> None:
    """Gives AdamW its memory back, in all processes; `saved` is read by the main one alone."""
    names = world.told(sorted({key.rsplit(":", 1)[0] for key in saved}) if saved is not None else None)
    for name in names:
        weight = weights[name]
        for part in PARTS:
            like = torch.zeros((), dtype=torch.float32) if part == "step" else torch.zeros_like(weight)
            if saved is not None:
                like.copy_(saved[f"{name}:{part}"])
            there = like.to(weight.device)  # what processes exchange is on their card; AdamW counts on the CPU
            world.spread(there)
            optimizer.state[weight][part] = there.to(like.device)
