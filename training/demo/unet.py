"""The UNet's training, with the text encoder: one body for all kinds, each with a first convolution of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn

from . import diffusion
from .fused import fuse, host_attention
from .kinds import CHANNELS, draw_kind, draw_views, extra_channels
from .latents import Latents
from .machine import Machine
from .optimiser import Optimiser
from .text import END, TextEncoder, Words, with_strangers

BATCH, RATE, MEAN_DECAY, WEIGHT_DECAY = 96, 1.5e-3, 0.999, 0.01
WITHOUT_CAPTION, SHORTENED = 0.1, 0.15  # shares of views
HELD_OUT_VIEWS, DRAWN = 192, 32
BINS = (0, 200, 400, 600, 800, 1000)  # timesteps between which held-out losses are told apart
CFG, SAMPLER_STEPS = 3.0, 25


class Shared(nn.Module):
    """The host's UNet `body` with one first convolution per kind; it samples as any of them."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        first = body.input_blocks[0][0]
        width = first.out_channels
        self.first = nn.ModuleDict({kind: nn.Conv2d(count, width, 3, padding=1) for kind, count in CHANNELS.items()})
        body.input_blocks[0][0] = nn.Identity()
        self.body = body

    def forward(
        self,
        kind: str,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        further: Mapping[str, object] = MappingProxyType({}),
    ) -> torch.Tensor:
        """The noise in (N, channels of the kind, h, w) at (N,) timesteps; context: (N, 77, width of the text).

        further: what else the host's UNet is told.
        """
        options = {"optimized_attention_override": host_attention, **further}
        return self.body(self.first[kind](x), timesteps, context, transformer_options=options)


class HeldOut(NamedTuple):
    """Views with their timesteps and noise drawn once."""

    clean: torch.Tensor
    rows: torch.Tensor
    depth: torch.Tensor
    timesteps: torch.Tensor
    noise: torch.Tensor

    @classmethod
    def of(cls, data: Latents, count: int) -> HeldOut:
        random = torch.Generator().manual_seed(0)
        places = torch.randperm(data.clean.shape[0] * 16, generator=random)[:count]
        rooms, views = places // 16, places % 16
        clean = data.clean[rooms, views].float()
        noise = torch.randn(clean.shape, generator=random)
        return cls(
            clean,
            data.rows[rooms, views, 0].long(),
            data.depth[rooms, views].float(),
            diffusion.stratified(len(clean), random),
            noise,
        )


class UnetTask:
    """Trains `shared` and `text` on single views of all kinds."""

    def __init__(
        self,
        shared: Shared,
        text: TextEncoder,
        words: Words,
        machine: Machine,
        data: Latents,
        held_out: Latents,
        grey: torch.Tensor,
        empty: Sequence[int],
        captions: Sequence[Sequence[str]],
        draw: Callable[[int, torch.Tensor, list[str]], None],
    ) -> None:
        """grey: (4, h, w) latents of a grey picture. empty: (77,) the rows of no caption. captions: of held-out rooms.

        draw: makes the contact sheet of a step from (N, 4, h, w) latents and their captions.
        """
        self.machine, self.data, self.grey, self.draw = machine, data, grey, draw
        self.shared, self.text = machine.place(fuse(shared)), machine.place(text)
        self.optimiser = self._optimiser([*self.shared.parameters(), *self.text.parameters()])
        self.empty, self.end = torch.tensor(empty), words.rows([END])[0]
        self.held_out = HeldOut.of(held_out, HELD_OUT_VIEWS)
        places = [(room, room % 16) for room in range(min(DRAWN, len(captions)))]
        self.drawn = torch.stack([held_out.rows[place][0] for place in places]).long()
        self.captions = [captions[room][view] for room, view in places]
        self.weights = diffusion.weights()

    def _optimiser(self, parameters: Sequence[nn.Parameter]) -> Optimiser:
        tables = list(self.text.embeddings.parameters())
        return Optimiser(parameters, RATE, MEAN_DECAY, tables=tables, weight_decay=WEIGHT_DECAY)

    def loss(self, random: torch.Generator, step: int) -> torch.Tensor:
        kind = draw_kind(random)
        rooms, views = draw_views(BATCH, self.data, kind, random)
        clean = self.data.clean[rooms, views].float()
        timesteps, noise = diffusion.stratified(BATCH, random), torch.randn(clean.shape, generator=random)
        short = (torch.rand(BATCH, generator=random) < SHORTENED).long()
        rows = with_strangers(self.data.rows[rooms, views, short].long(), self.end, random)
        rows[torch.rand(BATCH, generator=random) < WITHOUT_CAPTION] = self.empty
        extra = extra_channels(kind, self.data, self.grey, rooms, views, random)
        x = torch.cat((diffusion.noisy(clean, noise, timesteps), extra), 1)
        error = (self._noise(kind, x, timesteps, rows) - noise.to(self.machine.device)).square().mean((1, 2, 3))
        return (error * self.weights[timesteps].to(error)).mean()

    def look(self, step: int) -> str:
        held = self.held_out
        said = []
        x = diffusion.noisy(held.clean, held.noise, held.timesteps)
        with torch.no_grad():
            for kind, extra in (("panorama", x[:, :0]), ("depth", held.depth[:, None])):
                inputs = torch.cat((x, extra), 1)
                noise = torch.cat(
                    [
                        self._noise(kind, *part).cpu()
                        for part in zip(inputs.split(64), held.timesteps.split(64), held.rows.split(64), strict=True)
                    ]
                )
                error = (noise - held.noise).square().mean((1, 2, 3)) * self.weights[held.timesteps]
                said.append(f"{kind} {error.mean():.4f} ({_by_time(error, held.timesteps)})")
            self.draw(step, self.samples(self.drawn), self.captions)
        return "held-out loss (by timestep) " + ", ".join(said)

    def samples(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, 4, h, w) latents painted after captions, as panorama, with seed 0."""
        start = torch.randn(len(rows), *self.held_out.clean.shape[1:], generator=torch.Generator().manual_seed(0))
        both = torch.cat((rows, self.empty.expand(len(rows), -1)))

        def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            noise = self._noise("panorama", latents.repeat(2, 1, 1, 1), timesteps.repeat(2), both).cpu()
            wanted, unwanted = noise.chunk(2)
            return unwanted + CFG * (wanted - unwanted)

        with torch.no_grad():
            return diffusion.ddim(predict, start, SAMPLER_STEPS)

    def _noise(
        self,
        kind: str,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        rows: torch.Tensor,
        further: Mapping[str, object] = MappingProxyType({}),
    ) -> torch.Tensor:
        """float32 noise that is predicted of (N, channels, h, w) float32, on the machine.

        further: what else the host's UNet is told.
        """
        device = self.machine.device
        context = self.text(rows.to(device))
        return self.shared(kind, self.machine.tensor(x), timesteps.to(device), context, further).float()


def _by_time(error: torch.Tensor, timesteps: torch.Tensor) -> str:
    bins = [(timesteps >= low) & (timesteps < high) for low, high in itertools.pairwise(BINS)]
    return " ".join(f"{error[bin_].mean():.3f}" for bin_ in bins)
