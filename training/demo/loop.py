"""The loop that all trainings share: steps, figures as it goes, state saved and found again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from . import files
from .optimiser import Optimiser, cosine

_log = logging.getLogger(__name__)


class Task(Protocol):
    """What is trained."""

    optimiser: Optimiser

    def loss(self, random: torch.Generator, step: int) -> torch.Tensor:
        """The loss of one batch, all of it drawn from `random`."""

    def look(self, step: int) -> str:
        """Figures of held-out data, called with the running mean of the weights; also draws contact sheets."""


@dataclass(frozen=True)
class Pace:
    """steps: of the whole training. warm_up: steps until the full learning rate. Times in seconds."""

    steps: int
    warm_up: int
    save_every: float = 240.0
    look_every: float = 300.0
    say_every: float = 60.0


def train(task: Task, path: Path, pace: Pace, seed: int) -> None:
    """Trains up to `pace.steps`, from the state at `path` on if there is one. Ctrl-C and SIGTERM save it.

    What is drawn depends on the seed and the step alone: a run that was interrupted ends like one that was not.
    """
    random = torch.Generator()
    state = files.load(path)
    if state is None:
        random.manual_seed(seed)
    else:
        task.optimiser.load_state_dict(state["optimiser"])
        random.set_state(state["random"])
        _log.info("going on from step %d of %d", task.optimiser.steps, pace.steps)
    optimiser, clocks, losses, begun = task.optimiser, _Clocks(pace), [], time.monotonic()
    first = optimiser.steps
    try:
        while optimiser.steps < pace.steps:
            loss = task.loss(random, optimiser.steps)
            loss.backward()
            norm = optimiser.step(cosine(optimiser.steps, pace.steps, pace.warm_up))
            losses.append(loss.item())
            if clocks.due("say"):
                each = (time.monotonic() - begun) / (optimiser.steps - first)
                mean, left = sum(losses) / len(losses), (pace.steps - optimiser.steps) * each / 60
                losses.clear()
                _log.info(
                    "step %d of %d, loss %.4f, gradient %.2f, %.3f s a step, %.0f min left",
                    *(optimiser.steps, pace.steps, mean, norm, each, left),
                )
            if clocks.due("look"):
                _look(task)
            if clocks.due("save"):
                _save(path, optimiser, random)
    except (KeyboardInterrupt, SystemExit):
        _save(path, optimiser, random)
        _log.info("stopped and saved at step %d of %d", optimiser.steps, pace.steps)
        raise
    _look(task)
    _save(path, optimiser, random)


def _look(task: Task) -> None:
    with task.optimiser.averaged():
        _log.info("step %d: %s", task.optimiser.steps, task.look(task.optimiser.steps))


def _save(path: Path, optimiser: Optimiser, random: torch.Generator) -> None:
    files.save(path, {"optimiser": optimiser.state_dict(), "random": random.get_state()})


class _Clocks:
    """Which of saving, looking and saying is due."""

    def __init__(self, pace: Pace) -> None:
        self._every = {"save": pace.save_every, "look": pace.look_every, "say": pace.say_every}
        self._last = dict.fromkeys(self._every, time.monotonic())

    def due(self, what: str) -> bool:
        due = time.monotonic() - self._last[what] >= self._every[what]
        if due:
            self._last[what] = time.monotonic()
        return due
