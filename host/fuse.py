"""Views that fuse: in every step each takes over what the others predict where they show the same.

The host's PREDICT_NOISE wrapper is where any guider hands its prediction of the clean latents over to any sampler:
after guidance and whatever other nodes do to it, and after the windows of a sequence were put together.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange

from ..caa.attention.bags import weighted_sums
from ..geometry.fusing import SharedReads, shared_reads
from ..geometry.scene import Scene
from ..geometry.shared_noise import SharedNoise
from .setup import Fusing

FUSER = "mvdiffusion_fuser"  # the transformer option that holds the fuser of a sampling run
AT_ONCE = 2**28  # bytes that may be copied at once where embedding_bag is missing


class Fuser:
    """Fuses the views of one sampling run."""

    def __init__(self, scene: Scene, fusing: Fusing, model_sampling) -> None:
        self._scene, self._strength = scene, fusing.strength
        # The host's shares of the schedule, as its ControlNets take them; some samplers begin above its first level.
        self._first = model_sampling.percent_to_sigma(fusing.start) if fusing.start > 0 else math.inf
        self._last = model_sampling.percent_to_sigma(fusing.end)
        self._reads: dict[tuple, SharedReads | None] = {}

    def __call__(self, denoised: torch.Tensor, sigma: float) -> torch.Tensor:
        """(P V, C, h, w) or (P V, C, 1, h, w) predictions at a noise level with those of other views in them."""
        if not self._last <= sigma <= self._first:
            return denoised
        reads = self._reads_at(*denoised.shape[-2:], denoised.device)
        if reads is None:
            return denoised
        views, size = self._scene.views, denoised.shape[-2:]
        flat = denoised.reshape(len(denoised), -1, *size).float()
        pixels = rearrange(flat, "(p v) c h w -> (v h w) (p c)", v=views).contiguous()
        shared = weighted_sums(pixels, reads.pixel, reads.weight, reads.ends, AT_ONCE)
        fused = rearrange(shared, "(v h w) (p c) -> (p v) c h w", v=views, h=size[0], c=flat.shape[1])
        return flat.lerp(fused, self._strength).reshape(denoised.shape).to(denoised.dtype)

    def _reads_at(self, height: int, width: int, device: torch.device) -> SharedReads | None:
        """Made once for a size of latents."""
        key = height, width, device
        if key not in self._reads:
            reads = shared_reads(self._scene, height, width)
            self._reads[key] = None if reads is None else reads.to(device)
        return self._reads[key]


def agreeing_noise(noise: torch.Tensor, scene: Scene) -> torch.Tensor:
    """(P V, C, ..., h, w) noise, drawn anew once for each of P scenes; as it is where there is none to begin with."""
    if not noise.any():
        return noise
    shared, size = SharedNoise.of(scene, *noise.shape[-2:]), noise.shape[-2:]
    scenes = noise.reshape(-1, scene.views, noise.shape[1], *size)
    return torch.cat([shared.draw(own) for own in scenes]).reshape(noise.shape).to(noise)


def fuse(executor, x, timestep, model_options={}, seed=None):  # noqa: B006
    """The host's PREDICT_NOISE wrapper."""
    denoised = executor(x, timestep, model_options, seed)
    fuser = model_options.get("transformer_options", {}).get(FUSER)
    return denoised if fuser is None else fuser(denoised, float(timestep.max()))
