"""A small UNet and autoencoder in the place of a base model: what trains without a host."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from mvdiffusion_pack.caa.weights.kinds import KINDS, Widths
from mvdiffusion_pack.caa.weights.random_weights import fresh_weights
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.training.cache import Cache
from mvdiffusion_pack.training.distributed import World
from mvdiffusion_pack.training.encoding import Encoder
from mvdiffusion_pack.training.learner import Blocks
from mvdiffusion_pack.training.objective import Objective
from mvdiffusion_pack.training.panoramas import Panorama, Panoramas
from mvdiffusion_pack.training.samples import Text
from mvdiffusion_pack.training.schedule import Schedule
from mvdiffusion_pack.training.settings import Settings
from mvdiffusion_pack.training.state import States
from mvdiffusion_pack.training.trainer import Trainer, Watch

WIDTHS = Widths(encoder=(32, 32), mid=32, decoder=(32, 32))
TOKENS, CONTEXT = 3, 8


class Unet(nn.Module):
    """Two levels of convolutions with the places that SD's UNet has."""

    def __init__(self, in_channels: int, seed: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.down = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.middle, self.up = (nn.Conv2d(32, 32, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(64, 4, 3, padding=1)
        self.text, self.time = nn.Linear(CONTEXT, 32), nn.Linear(2, 32)
        generator = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.5 / max(1, weight[0].numel()) ** 0.5, generator=generator)

    def forward(self, x, levels, tokens, run) -> torch.Tensor:
        def at(name: str, h: torch.Tensor) -> torch.Tensor:
            return h if run is None else run.apply(name, h)

        turn = levels.to(x)[:, None] / 100
        told = self.text(tokens.to(x).mean(1)) + self.time(torch.cat((turn.sin(), turn.cos()), dim=1))
        h = at("condition_downblocks.0", self.first(x) + told[:, :, None, None])
        skip = h
        h = at("condition_downblocks.1", F.silu(self.down(at("encoder.0", h))))
        h = F.silu(self.middle(at("mid_inside", at("encoder.1", h))))
        h = at("condition_upblocks.0", at("mid_end", h))
        h = F.interpolate(at("decoder.0", F.silu(self.up(h))), scale_factor=2)
        return self.last(torch.cat((at("decoder.1", at("condition_upblocks.1", h)), skip), dim=1))


class Denoiser:
    """The UNet as training calls it; frozen unless it is to learn."""

    def __init__(self, in_channels: int = 4, dtype: torch.dtype = torch.float32, learns: bool = False) -> None:
        self.unet = Unet(in_channels).to(dtype).requires_grad_(learns)
        self.device, self.dtype = torch.device("cpu"), dtype

    def __call__(self, x, levels, tokens, further, run) -> torch.Tensor:
        return self.unet(x.to(self.dtype), levels, tokens, run).float()


class Codec:
    """Pictures to latents an eighth of their size by averaging; prompts to a few numbers. Counts what it is asked."""

    def __init__(self) -> None:
        self.encoded, self.prompts = 0, []

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pictures)
        small = F.avg_pool2d(pictures.movedim(-1, 1).float(), 8) * 2 - 1
        return torch.cat((small, small.mean(1, keepdim=True)), dim=1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return F.interpolate((latents[:, :3] + 1) / 2, scale_factor=8, mode="bilinear").clamp(0, 1).movedim(1, -1)

    def text(self, prompt: str) -> Text:
        self.prompts.append(prompt)
        generator = torch.Generator().manual_seed(sum(map(ord, prompt)))
        return Text(torch.randn(1, TOKENS, CONTEXT, generator=generator))


CAMERAS = ring(4, 120.0, 64, 64)
SETTINGS = Settings(steps=6, batch=2, seed=1, save_every=0, learning_rate=1e-3)


def picture(seed: int) -> torch.Tensor:
    """(64, 128, 3) soft colours."""
    small = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(small, size=(64, 128), mode="bilinear")[0].movedim(0, -1)


def panoramas(count: int = 3, seed: int = 1, codec: Codec | None = None, **options) -> Panoramas:
    """A source of a few panoramas."""
    known = [Panorama(f"{i}.png", lambda i=i: picture(i), (f"scene {i}",)) for i in range(count)]
    return Panoramas(known, CAMERAS, Encoder(codec or Codec(), Cache()), KINDS["panorama"], seed, **options)


def trainer(folder, source=None, watch: Watch | None = None, world: World | None = None, **changes) -> Trainer:
    """A run of `SETTINGS` with changes, new or resumed."""
    learner = blocks(zero=True)
    objective = Objective(learner.module, Denoiser(), schedule())
    settings = replace(SETTINGS, **changes)
    return Trainer(learner, objective, source or panoramas(), settings, States(folder), world, watch)


def weights(one: Trainer) -> torch.Tensor:
    """All that has been trained, in a row."""
    return torch.cat([weight.detach().flatten().clone() for weight in one.trained.values()])


def schedule(prediction: str = "eps", levels: int = 50) -> Schedule:
    """A few noise levels."""
    return Schedule(torch.linspace(-3, 3, levels).exp(), prediction)


def blocks(kind: str = "panorama", zero: bool = False, seed: int = 0) -> Blocks:
    """Blocks for the small UNet."""
    return Blocks.of(fresh_weights(KINDS[kind], WIDTHS, seed, zero), torch.device("cpu"))
