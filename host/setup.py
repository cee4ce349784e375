"""What the nodes have told a MODEL: it travels in the MODEL's transformer options until a run begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..caa.attention.tables import WAYS
from ..geometry.scene import Scene
from ..geometry.sequence.windows import Window

KEY = "mvdiffusion"  # of everything that this pack adds to a MODEL
NOISES = "own", "shared"  # of each view, or drawn once for the scene


@dataclass(frozen=True)
class Fusing:
    """How views take over what others predict.

    strength: 0..1. start, end: as shares of the schedule. noise: one of NOISES. vae: by which the last steps share
    pictures; None: all share latents.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    noise: str = NOISES[0]
    vae: Any = None


@dataclass(frozen=True, eq=False)
class Setup:
    """What the nodes have told a MODEL.

    strength: of its CAA blocks; None: it has none. attention: how they attend, one of WAYS.
    prediction: what their base predicted when they were trained, 'eps' or 'v'. cameras: those of its views.
    windows: the views that are denoised together; none: all. known: (V, C, h, w) latents between which views are made:
    the first and the last view of each window know theirs. None: nothing is known.
    fusing: how views take over what others predict. None: they do not.
    """

    strength: float | None = None
    attention: str = WAYS[0]
    prediction: str = "eps"
    cameras: Scene | None = None
    windows: tuple[Window, ...] = ()
    known: torch.Tensor | None = None
    fusing: Fusing | None = None

    def __deepcopy__(self, memo) -> Setup:
        """Itself: 0.3.64 and 0.8 copy a MODEL's options deeply for each clone, and with them a VAE and all depth."""
        return self


def setup_of(model) -> Setup:
    """The `Setup` of a ModelPatcher or a guider; an empty one where no node of this pack has touched it."""
    return model.model_options["transformer_options"].get(KEY, Setup())


def change_setup(model, **changes) -> None:
    """Changes fields of a ModelPatcher's `Setup`, in place: call it on a clone."""
    model.model_options["transformer_options"][KEY] = replace(setup_of(model), **changes)
