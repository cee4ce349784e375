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

TIMED = 20  # steps after which their number is known
AGAIN = 0.4  # of the learning rate, at the begin of a further part

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
    """How long a training goes on.

    usual: steps of the whole training, where neither is asked for. warm_up: steps until the full learning rate.
    asked: steps instead. seconds: about how long instead; the first steps turn it into steps. A training that goes on
    keeps the steps that it had, unless others are asked for. Where it had made them all, a further part begins, whose
    rate falls from AGAIN. Times in seconds.
    """

    usual: int
    warm_up: int
    asked: int | None = None
    seconds: float | None = None
    save_every: float = 240.0
    look_every: float = 300.0
    say_every: float = 60.0


def train(task: Task, path: Path, pace: Pace, seed: int) -> None:
    """Trains from the state at `path` on, if there is one, to the end. Ctrl-C and SIGTERM save it.

    What is drawn depends on the seed and the step alone: a run that was interrupted ends like one that was not.
    """
    run = _Run(task, path, pace, seed)
    try:
        while run.steps is None or task.optimiser.steps < run.steps:
            run.step()
    except (KeyboardInterrupt, SystemExit):
        run.save()
        _log.info("stopped and saved at step %d of %s", task.optimiser.steps, run.steps)
        raise
    if run.went:
        run.look()
        run.save()


class _Run:
    """One call of `train`. went: steps that it has made. begun: the step at which the present part began."""

    def __init__(self, task: Task, path: Path, pace: Pace, seed: int) -> None:
        self.task, self.path, self.pace, self.went, self.begun = task, path, pace, 0, 0
        self.steps = pace.asked or (None if pace.seconds else pace.usual)
        self._random, self._losses = torch.Generator().manual_seed(seed), []
        state = files.load(path)
        if state is not None:
            task.optimiser.load_state_dict(state["optimiser"])
            self._random.set_state(state["random"])
            self.begun = task.optimiser.steps if task.optimiser.steps == state["steps"] else state.get("begun", 0)
            self.steps = pace.asked or state["steps"]
            _log.info("going on from step %d of %s", task.optimiser.steps, self.steps)
        self._clocks, self._begun = _Clocks(pace), time.monotonic()

    def step(self) -> None:
        optimiser = self.task.optimiser
        loss = self.task.loss(self._random, optimiser.steps)
        loss.backward()
        # Before the number of steps is known the rate still rises.
        factor = cosine(optimiser.steps - self.begun, (self.steps or 10**9) - self.begun, self.pace.warm_up)
        norm = optimiser.step(factor * (AGAIN if self.begun else 1))
        self._losses.append(loss.item())
        self.went += 1
        each = (time.monotonic() - self._begun) / self.went
        if self.steps is None and self.went == TIMED:
            self.steps = max(TIMED, round(self.pace.seconds / each))
            _log.info("%.2f s a step: %d steps in %.0f min", each, self.steps, self.pace.seconds / 60)
        if self._clocks.due("say"):
            left = ((self.steps or 0) - optimiser.steps) * each / 60
            mean = sum(self._losses) / len(self._losses)
            self._losses.clear()
            said = "step %d of %s, loss %.4f, gradient %.2f, %.3f s a step, %.0f min left"
            _log.info(said, optimiser.steps, self.steps, mean, norm, each, left)
        if self._clocks.due("look"):
            self.look()
        if self._clocks.due("save"):
            self.save()

    def look(self) -> None:
        with self.task.optimiser.averaged():
            _log.info("step %d: %s", self.task.optimiser.steps, self.task.look(self.task.optimiser.steps))

    def save(self) -> None:
        state = {"optimiser": self.task.optimiser.state_dict(), "random": self._random.get_state()}
        files.save(self.path, {**state, "steps": self.steps, "begun": self.begun})


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
