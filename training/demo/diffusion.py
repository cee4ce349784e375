"""The noise schedule of Stable Diffusion, what each step of it counts in training, and a small sampler to look with."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

STEPS = 1000
FIRST, LAST = 0.00085, 0.012  # betas; their roots lie evenly between
LEAST_WEIGHT, MOST_WEIGHT = 0.25, 5.0


def kept() -> torch.Tensor:
    """(1000,) float64 how much of the latents' variance is left at each timestep."""
    betas = torch.linspace(FIRST**0.5, LAST**0.5, STEPS, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def weights() -> torch.Tensor:
    """(1000,) what the squared error of predicted noise counts at each timestep.

    Seen as an error of the latents that is the signal-to-noise ratio within bounds: colours are decided where there is
    little signal, which the ratio alone would ignore.
    """
    ratio = kept() / (1 - kept())
    return (ratio.clamp(LEAST_WEIGHT, MOST_WEIGHT) / ratio).float()


def noisy(latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """(N, 4, h, w) latents with the noise that (N,) timesteps have."""
    share = kept().float()[timesteps][:, None, None, None]
    return share.sqrt() * latents + (1 - share).sqrt() * noise


def stratified(count: int, random: torch.Generator) -> torch.Tensor:
    """(count,) timesteps, one from each of `count` equal parts of the schedule, in order."""
    return ((torch.arange(count) + torch.rand(count, generator=random)) / count * STEPS).long().clamp(max=STEPS - 1)


def ddim(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], latents: torch.Tensor, steps: int
) -> torch.Tensor:
    """(N, 4, h, w) sampled from noise `latents`; predict: the noise in latents at (N,) timesteps."""
    shares, times = kept().float(), torch.linspace(STEPS - 1, 0, steps + 1).round().long()
    for now, then in itertools.pairwise(times):
        noise = predict(latents, now.expand(len(latents)))
        clean = (latents - (1 - shares[now]).sqrt() * noise) / shares[now].sqrt()
        latents = shares[then].sqrt() * clean + (1 - shares[then]).sqrt() * noise
    return clean
