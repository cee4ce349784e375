"""Noise levels and what the UNet predicts at them: those of the MODEL that is trained with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

PREDICTIONS = ("eps", "v")


@dataclass(frozen=True, eq=False)
class Schedule:
    """T noise levels: at level t the UNet is fed (latents + sigma noise) / sqrt(1 + sigma^2) and the number t.

    sigmas: (T,) float32 on the CPU, ascending. prediction: 'eps', the noise, or 'v' (Salimans and Ho, 2022).
    """

    sigmas: torch.Tensor
    prediction: str

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"A UNet predicts one of {', '.join(PREDICTIONS)}, not '{self.prediction}'.")

    @property
    def levels(self) -> int:
        """T."""
        return len(self.sigmas)

    def noised(self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """What the UNet is fed at the levels (N,) of (N, 4, h, w) latents."""
        signal, spread = self._shares(levels, latents)
        return signal * latents + spread * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """(N, 4, h, w), what the UNet should predict there."""
        if self.prediction == "eps":
            return noise
        signal, spread = self._shares(levels, latents)
        return signal * noise - spread * latents

    def denoised(
        self, fed: torch.Tensor, predicted: torch.Tensor, levels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and noise that a prediction stands for, of what the UNet was fed; all (N, 4, h, w)."""
        signal, spread = self._shares(levels, fed)
        if self.prediction == "eps":
            return (fed - spread * predicted) / signal, predicted
        return signal * fed - spread * predicted, signal * predicted + spread * fed

    def _shares(self, levels: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 1, 1, 1) shares of latents and noise in what the UNet is fed; their squares sum to 1."""
        sigmas = self.sigmas.double()[levels.cpu()].view(-1, 1, 1, 1)
        signal = (1 + sigmas.square()).rsqrt()
        return signal.to(like), (sigmas * signal).to(like)
