"""What all stages are given: the folder that keeps what they made, the machine, and the host's classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from ...caa.weights.kinds import Widths
from .loop import Pace
from .machine import Machine
from .rooms import Rooms

SIZE, LARGE = 128, 256  # pixels of views


class Host(Protocol):
    """What the host gives: modules, as it builds them, and its tokenizer."""

    def autoencoder(self, arguments: dict) -> nn.Module: ...

    def unet(self, arguments: dict) -> nn.Module: ...

    def put_sites(self, unet: nn.Module) -> Widths:
        """Gives a UNet the places of blocks; the widths that these are to have."""

    def options(self, run: object) -> dict:
        """What a UNet with places is told of a run, which is called at each of them; None: none."""

    def tokens(self, text: str) -> list[int]:
        """The 77 tokens that its SD 2 text model is fed of a prompt."""


@dataclass(frozen=True)
class Context:
    """folder: of all that stages keep. rooms: how many of either size are rendered and used.

    steps, seconds: how long a training goes on, where that was asked for.
    """

    folder: Path
    machine: Machine
    host: Host
    rooms: dict[int, int]
    steps: int | None = None
    seconds: float | None = None

    def pace(self, usual: int, warm_up: int, look_every: float) -> Pace:
        """The pace of a training that usually takes so many steps; look_every: seconds between its figures."""
        return Pace(usual, warm_up, self.steps, self.seconds, look_every=look_every)

    def rooms_of(self, name: str, size: int) -> Rooms:
        """The rooms that are trained on ("rooms"), or those that are not ("held-out")."""
        return Rooms(self.folder / f"{name}-{size}", size)
