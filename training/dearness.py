"""Is encoding dear? If not, views are cut anew for each start yaw; if so, the latents of a few yaws are kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from .objective import Objective, drawn
from .panoramas import ANY, FEW, Panoramas
from .settings import Settings

DEAR = 0.25  # of a step's time, from which on encoding the views of one is dear


def yaws_to_keep(source: Panoramas, objective: Objective, settings: Settings) -> tuple[int, str]:
    """ANY or FEW, and a sentence that says which and why. Measured on the first sample; nothing is learnt from it."""
    levels = objective.schedule.levels
    noised = drawn(source, 0, settings, levels)
    encoding = _seconds(lambda: drawn(source, 0, settings, levels))

    def step() -> None:
        loss = objective([noised]).sum()
        loss.backward()
        next(weight.grad for weight in objective.parameters() if weight.grad is not None).sum().item()  # waits for it
        objective.zero_grad(set_to_none=True)

    step()
    learning = _seconds(step)
    share = encoding / learning
    measured = f"cutting and encoding its views takes {encoding:.2f} s per panorama, learning {learning:.2f} s"
    if share > DEAR:
        return FEW, f"{measured}: latents of {FEW} start yaws of each panorama are kept."
    return ANY, f"{measured}: views are cut anew for each start yaw."


def _seconds(do: Callable[[], object]) -> float:
    begin = time.monotonic()
    do()
    return time.monotonic() - begin
