"""The training loop: draws samples, learns, tells how it goes, keeps its state."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.amp import GradScaler

from .averaged import Averaged
from .distributed import World
from .learner import Blocks, TunedUNet
from .objective import Noised, Objective, drawn
from .resuming import load_moments, moments, resumable
from .samples import Source
from .settings import Settings
from .state import SaveError, States, read_tensors, write_tensors

MOMENTS = "moments.safetensors"
SMOOTHED = 20  # last steps whose mean time tells how much is left


class LossError(RuntimeError):
    """The loss or its gradients became NaN or infinite; the message says at which step and sample."""


@dataclass(frozen=True)
class Progress:
    """How a run goes. loss: of the last step. seconds: a step's. left: seconds to the end, without validation."""

    step: int
    steps: int
    loss: float
    seconds: float
    left: float


@dataclass(frozen=True)
class Watch:
    """Who looks on. after_step: told of each step, by the main process. stopping: whether to stop after this step.

    validate: called with the step where a validation is due, by the main process, with the averaged weights in place.
    """

    after_step: Callable[[Progress], None] = lambda progress: None
    stopping: Callable[[], bool] = lambda: False
    validate: Callable[[int], None] = lambda step: None


class Trainer:
    """One run, new or resumed.

    learner: what learns; `objective` computes its losses on samples of `source`.
    about: what else identifies the run, by the names that people know; a resumed run must have the same.
    Raises InputError, one sentence, for a state of another configuration, or one that cannot be read.
    """

    def __init__(
        self,
        learner: Blocks | TunedUNet,
        objective: Objective,
        source: Source,
        settings: Settings,
        states: States,
        world: World | None = None,
        watch: Watch | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        self.learner, self.objective, self.source = learner, objective, source
        self.settings, self.states = settings, states
        self.world, self.watch = world or World(), watch or Watch()
        self.about = {**settings.fixed(), **source.about(), **(about or {})}
        self.step, self.losses, self._seconds = 0, [], []
        self._share = self.world.share(settings.batch, settings.accumulation)
        self._weights = dict(learner.module.named_parameters())
        self._optimizer = torch.optim.AdamW(
            self._weights.values(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._scaler = GradScaler(objective.device.type, enabled=settings.dtype == "fp16")
        info = self.world.told(resumable(states, self.about) if self.world.main else None)
        state = states.newest() if info and self.world.main else None
        if state:
            learner.module.load_state_dict(learner.read(state / learner.file))
        self._wrapped = self.world.wrap(objective, learner.some_unused)  # all processes have the weights from here on
        self.average = Averaged(learner.module, settings.ema) if settings.ema else None
        if info:
            self._resume(info, state)

    @property
    def trained(self) -> Mapping[str, torch.Tensor]:
        """The weights that the run has come to: their average where there is one."""
        return self.average.tensors if self.average else self._weights

    def run(self) -> None:
        """Trains to the last step; saves the state then, in between, and whenever the run is stopped.

        Raises LossError, with the last saved state as it was, and whatever stops it from outside, with the state saved;
        SaveError, before the first step, where no state could be saved.
        """
        if self.world.main and self.step < self.settings.steps:
            self.states.check_writable()
        try:
            if self.step == 0 and self.settings.validate_every:  # new blocks change nothing: the base by itself
                self.validate()
            while self.step < self.settings.steps:
                begin = time.monotonic()
                stop = self._one_step()
                self._tell(time.monotonic() - begin)
                last = self.step == self.settings.steps
                if last or stop or self._due(self.settings.save_every):
                    self.save()
                if last or self._due(self.settings.validate_every):
                    self.validate()
                if stop:
                    return
        except (LossError, SaveError):
            raise
        except BaseException:
            # Weights change in the optimizer's step alone: whatever stopped the run, they are those after `self.step`.
            self.save()
            raise

    def save(self) -> None:
        """Writes the state, by the main process. Raises SaveError where the disk does not take it."""
        if not self.world.main:
            return
        files = {
            self.learner.file: self.learner.written(self._weights),
            MOMENTS: write_tensors(moments(self._optimizer, self._weights)),
        }
        if self.average:
            files[self.learner.averaged_file] = self.learner.written(self.average.tensors)
        info = {"about": self.about, "losses": self.losses, "scaler": self._scaler.state_dict()}
        self.states.save(self.step, info, files)

    def validate(self) -> None:
        """Lets the main process's watch validate."""
        if self.world.main:
            with self.average.in_place() if self.average else contextlib.nullcontext():
                self.watch.validate(self.step)

    def _one_step(self) -> bool:
        """Learns from one batch; whether any process is to stop."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step)
        self._optimizer.zero_grad(set_to_none=True)
        loss, names = self._gradients()
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), self.settings.max_norm or math.inf)
        if not self._scaler.is_enabled() and not torch.isfinite(norm):  # the scaler leaves out such steps
            self._refuse("gradients", names)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.step += 1
        self.losses.append(loss)
        if self.average:
            self.average.update(self.step)
        return bool(self.world.sum(torch.tensor(float(self.watch.stopping()), device=self._meeting)))

    def _gradients(self) -> tuple[float, list[str]]:
        """Adds up the gradients of a step; its loss, and the names of this process's samples.

        Raises LossError where the loss is no finite number: nothing is learnt from it.
        """
        total, names, odd = torch.zeros((), dtype=torch.float64), [], []
        passes = self._passes()
        for numbers in passes:
            batch = [self._drawn(number) for number in numbers]
            alone = self.world.size > 1 and numbers is not passes[-1]
            with self._wrapped.no_sync() if alone else contextlib.nullcontext():
                losses = self._wrapped(batch)
                # The processes' gradients are averaged, and a step's loss is the mean over all of its samples.
                self._scaler.scale(losses.sum() * (self.world.size / self.settings.batch)).backward()
            losses = losses.detach().cpu().double()
            total += losses.sum()
            names += [at.sample.name for at in batch]
            odd += [name for name, loss in zip(names[-len(batch) :], losses, strict=True) if not loss.isfinite()]
        mean = self.world.sum(total.to(self._meeting)).item() / self.settings.batch
        if not math.isfinite(mean):
            self._refuse("loss", odd)
        return mean, names

    def _passes(self) -> list[Sequence[int]]:
        """The samples of this step that this process takes, by their numbers in the step, pass by pass."""
        alike = len(self._share) // self.settings.accumulation if self.source.alike else 1
        return [self._share[first : first + alike] for first in range(0, len(self._share), alike)]

    def _drawn(self, number: int) -> Noised:
        number += self.step * self.settings.batch
        return drawn(self.source, number, self.settings, self.objective.schedule.levels)

    def _refuse(self, what: str, names: list[str]) -> None:
        """Raises LossError."""
        names = [name for some in self.world.gathered(names) for name in some]
        state = self.states.newest()
        kept = f"the last saved state is {state.name}" if state else "no state had been saved yet"
        raise LossError(
            f"the {what} of step {self.step + 1} became NaN or infinite at {', '.join(names)}: {kept}; lower the "
            "learning rate, or train in bf16 or fp32 if this was fp16."
        )

    def _resume(self, info: dict, state) -> None:
        """Takes over everything but the weights. state: its folder, in the main process alone."""
        self.step, self.losses = info["step"], info["losses"]
        self._scaler.load_state_dict(info["scaler"])
        saved = read_tensors(state / MOMENTS) if state else None
        load_moments(self._optimizer, self._weights, saved, self.world)
        if self.average:
            averaged = self.learner.read(state / self.learner.averaged_file) if state else {}
            for name, tensor in self.average.tensors.items():
                if state:
                    tensor.copy_(averaged[name])
                self.world.spread(tensor)

    def _tell(self, seconds: float) -> None:
        self._seconds = [*self._seconds[1 - SMOOTHED :], seconds]
        mean = sum(self._seconds) / len(self._seconds)
        left = mean * (self.settings.steps - self.step)
        if self.world.main:
            self.watch.after_step(Progress(self.step, self.settings.steps, self.losses[-1], mean, left))

    def _due(self, every: int) -> bool:
        return bool(every) and self.step % every == 0

    @property
    def _meeting(self) -> torch.device:
        """Where numbers are that processes exchange: NCCL takes none from the CPU."""
        return self.objective.device if self.world.size > 1 else torch.device("cpu")
