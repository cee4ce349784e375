"""Views that are denoised together: what the sites in the UNet and its inputs get to know of them.

A sampling run has one `Run` for all its views, or several: windows, whose predictions are averaged where they share
views.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import comfy.model_management
import torch
import torch.nn.functional as F

from ..caa.attention.kept import KEPT
from ..caa.attention.memory import Memory
from ..caa.attention.tables import WAYS, Tables
from ..caa.blocks import CAA
from ..caa.condition import condition_features
from ..geometry.scene import Scene
from ..geometry.sequence.windows import Window
from .inject import RUN

WINDOWS = "mvdiffusion_windows"  # the transformer option that holds the windows of a sampling run


class Allowance:
    """The memory that a sampling run may use, of which the host is asked once, when models are loaded."""

    def __init__(self) -> None:
        self._memory: Memory | None = None

    def on(self, device: torch.device) -> Memory:
        """What may be used on the run's device."""
        if self._memory is None:
            free, cpu = comfy.model_management.get_free_memory, torch.device("cpu")
            self._memory = Memory.within(free(device), device == cpu, free(cpu))
        return self._memory


class Run:
    """V views denoised together: cameras, blocks, and all that follows from them.

    condition: (V, 5, h, w) latents and mask of the known views among them; None: nothing is known, no branch runs.
    """

    def __init__(
        self,
        cameras: Scene,
        caa: CAA | None,
        strength: float | None,
        attention: str = WAYS[0],
        condition: torch.Tensor | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.cameras, self.caa, self.strength, self.attention = cameras, caa, strength, attention
        self.condition = condition
        self._allowance = allowance or Allowance()
        self._tables: dict[tuple[int, int], Tables] = {}
        self._features: dict[tuple[torch.dtype, torch.device], dict[str, torch.Tensor]] = {}

    def tables(self, height: int, width: int, device: torch.device) -> Tables:
        """The tables at one feature size, made when first asked for: models are loaded then, and memory is known.

        They keep what the blocks' weights make, so gradients through a sampler are right for features (and so for a
        LoRA of the UNet), but not for these weights: to_k and to_v get a part of theirs or none. training/ trains them.
        """
        if (height, width) not in self._tables:
            memory = self._allowance.on(device)
            self._tables[height, width] = KEPT.tables(self.cameras, height, width, self.attention, memory, device)
        return self._tables[height, width]

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """What stands at site `name`; (B V, C, h, w) features, views within panoramas.

        A block gives x + strength (block(x) - x), a branch of the image condition x and its part.
        Raises ValueError where the batch is no multiple of the views.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        if name.startswith("condition_"):
            if self.caa is None or self.condition is None:
                return x
            panoramas_in(x.shape[0], self.cameras.views)
            branch = self._branch(self.caa, self.condition, name, x)
            if branch.shape[-2:] != x.shape[-2:]:  # Deep Shrink has made the features smaller
                branch = F.interpolate(branch, size=x.shape[-2:], mode="bilinear", antialias=True)
            return (x.unflatten(0, (-1, self.cameras.views)) + branch).flatten(0, 1)
        found = None if self.caa is None else self.caa.at_site(name)
        if found is None or self.strength == 0:
            return x
        panoramas_in(x.shape[0], self.cameras.views)
        tables = self.tables(x.shape[-2], x.shape[-1], x.device)
        if not tables.correspondences.pairs:
            return x
        block, bands = found
        y = block(x.unflatten(0, (-1, self.cameras.views)), tables, bands).flatten(0, 1)
        return y if self.strength == 1 else x + self.strength * (y - x)

    def _branch(self, caa: CAA, condition: torch.Tensor, name: str, x: torch.Tensor) -> torch.Tensor:
        """(V, C, h, w): what one branch adds. The condition is the same in all steps, and so are its features."""
        key = x.dtype, x.device
        if key not in self._features:
            features = condition_features(caa, condition.to(x))
            size = sum(feature.numel() * feature.element_size() for feature in features.values())
            kept = self._allowance.on(x.device).keep_code(size)
            self._features[key] = features if kept else {name: part.to("cpu") for name, part in features.items()}
        return self._features[key][name].to(x.device)


class Placed(NamedTuple):
    """A window in a batch: its rows, the inputs of its own for them (None: only those of the host), and its run."""

    rows: torch.Tensor
    own_inputs: torch.Tensor | None
    run: Run


class Windows:
    """How the V views of a sampling run are denoised: in windows, which hold all of them, each with its `Run`.

    own_inputs: whether the UNet takes what scenes have for it beside the latents.
    """

    def __init__(self, views: int, parts: Sequence[tuple[Window, Run]], own_inputs: bool) -> None:
        self.views, self.parts, self._own_inputs = views, tuple(parts), own_inputs
        self._placed: dict[tuple, list[Placed]] = {}

    @property
    def one(self) -> bool:
        """Whether one window holds all views, in their order."""
        return len(self.parts) == 1

    def placed(self, latents: torch.Tensor) -> list[Placed]:
        """The windows in a batch of (P V, C, h, w) latents. What follows from the cameras is made once."""
        panoramas, size, device = panoramas_in(len(latents), self.views), latents.shape[-2:], latents.device
        key = panoramas, size, device
        if key not in self._placed:
            first = torch.arange(panoramas)[:, None] * self.views
            self._placed[key] = [
                Placed(
                    (first + torch.tensor(views)).flatten().to(device),
                    _repeated(run.cameras.own_inputs(*size), panoramas, device) if self._own_inputs else None,
                    run,
                )
                for views, run in self.parts
            ]
        return self._placed[key]


def predict(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):  # noqa: B006
    """The host's APPLY_MODEL wrapper: (B V, C, h, w) denoised, window by window.

    Of a view in several windows it is the mean of their predictions: all of them carry one latent.
    """
    windows = transformer_options.get(WINDOWS)
    if windows is None:
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
    placed = windows.placed(x)
    if windows.one:
        ((_, own_inputs, run),) = placed
        c_concat = c_concat if own_inputs is None else own_inputs
        return executor(x, t, c_concat, c_crossattn, control, transformer_options | {RUN: run}, **kwargs)
    given = {"x": x, "t": t, "c_concat": c_concat, "c_crossattn": c_crossattn, "control": control, **kwargs}
    total, count = (
        torch.zeros_like(x, dtype=torch.float32),
        x.new_zeros((len(x), *[1] * (x.ndim - 1)), dtype=torch.float32),
    )
    for rows, own_inputs, run in placed:
        comfy.model_management.throw_exception_if_processing_interrupted()
        part = {name: _rows(value, rows, len(x)) for name, value in given.items()}
        part["c_concat"] = part["c_concat"] if own_inputs is None else own_inputs
        part["transformer_options"] = transformer_options | {RUN: run}
        order = [part.pop(name) for name in ("x", "t", "c_concat", "c_crossattn", "control", "transformer_options")]
        total.index_add_(0, rows, executor(*order, **part).float())
        count[rows] += 1
    return (total / count).to(x.dtype)


def _repeated(inputs: torch.Tensor | None, panoramas: int, device: torch.device) -> torch.Tensor | None:
    return None if inputs is None else inputs.repeat(panoramas, 1, 1, 1).to(device)


def panoramas_in(batch: int, views: int) -> int:
    """How often a batch holds all views. Raises ValueError where it is no multiple of them."""
    if batch % views:
        raise ValueError(
            f"MVDiffusion's blocks got a batch of {batch} for {views} cameras: it must be a multiple of the "
            "views. A node between Apply Cameras and the sampler splits the batch; views are sampled together."
        )
    return batch // views


def _rows(value: Any, rows: torch.Tensor, batch: int) -> Any:
    """Some rows of an input of the host's UNet.

    The host joins what it makes of conditionings along their first dimension: latents, text and all else have a row
    each. So have ControlNet's outputs, which come as {place: [tensors or None]}, and reference latents, a list. What
    has another number of rows is the same for all of them.
    """
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)] if value.ndim and len(value) == batch else value
    if isinstance(value, list | tuple):
        return type(value)(_rows(item, rows, batch) for item in value)
    if isinstance(value, dict):
        return {place: _rows(outputs, rows, batch) for place, outputs in value.items()}
    return value
