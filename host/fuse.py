"""Views that fuse: in every step each takes over what the others predict where they show the same.

The host's PREDICT_NOISE wrapper is where any guider hands its prediction of the clean latents over to any sampler:
after guidance and whatever other nodes do to it, and after the windows of a sequence were put together.

A latent pixel stands for a block of pixels, and a block that has moved by half its side is another latent: latents that
are read between their pixels show less detail. So the last steps can share pictures instead, by way of a VAE.
"""

from __future__ import annotations

import logging
import math

import comfy.model_management
import torch
from einops import rearrange

from ..caa.attention.bags import weighted_sums
from ..caa.attention.kept import KEPT
from ..geometry.fusing import PictureReads, SharedReads, picture_reads, shared_pictures, shared_reads
from ..geometry.scene import Scene
from ..geometry.shared_noise import SharedNoise
from .progress import interruptible
from .quirks import hands_predictions_over
from .setup import NOISES, Fusing

logger = logging.getLogger("MVDiffusion")
NODE = "Fuse Views"
FUSER = "mvdiffusion_fuser"  # the transformer option that holds the fuser of a sampling run
AT_ONCE = 2**28  # bytes that may be copied at once where embedding_bag is missing
PICTURES = 0.8  # of the steps: from there on pictures are shared in place of latents, where there is a VAE


class Fuser:
    """Fuses the views of one sampling run.

    sigmas: the noise levels of its steps. guider: the host's, which samples it.
    """

    def __init__(self, scene: Scene, fusing: Fusing, sigmas: torch.Tensor, guider) -> None:
        self._scene, self._strength, self._vae, self._guider = scene, fusing.strength, fusing.vae, guider
        self._format = guider.model_patcher.get_model_object("latent_format")
        # The host's shares of the schedule, as its ControlNets take them; some samplers begin above its first level.
        level = guider.model_patcher.get_model_object("model_sampling").percent_to_sigma
        self._first = level(fusing.start) if fusing.start > 0 else math.inf
        self._last = level(fusing.end)
        # Of a run that stops before the end, the steps that are in the last part of the schedule.
        steps = len(sigmas) - 1
        ends = steps > 0 and sigmas[-1] == 0
        self._pictures = float(sigmas[min(round(PICTURES * steps), steps - 1)]) if ends else level(PICTURES)
        self._reads: dict[tuple, SharedReads | None] = {}
        self._picture_reads: PictureReads | None = None

    def __call__(self, denoised: torch.Tensor, sigma: float) -> torch.Tensor:
        """(P V, C, h, w) or (P V, C, 1, h, w) predictions at a noise level, with those of other views in them."""
        if not self._last <= sigma <= self._first:
            return denoised
        reads = self._reads_at(denoised.shape[-2], denoised.shape[-1], denoised.device)
        if reads is None:
            return denoised
        by_pictures = self._vae is not None and sigma <= self._pictures
        fused = self._shared_as_pictures(denoised) if by_pictures else self._shared(denoised, reads)
        return denoised.float().lerp(fused, self._strength).to(denoised.dtype)

    def _shared(self, denoised: torch.Tensor, reads: SharedReads) -> torch.Tensor:
        flat = denoised.flatten(1, -3).float()
        pixels = rearrange(flat, "(p v) c h w -> (v h w) (p c)", v=self._scene.views).contiguous()
        shared = weighted_sums(pixels, reads.pixel, reads.weight, reads.ends, AT_ONCE)
        shape = {"v": self._scene.views, "h": flat.shape[2], "c": flat.shape[1]}
        return rearrange(shared, "(v h w) (p c) -> (p v) c h w", **shape).reshape(denoised.shape)

    def _shared_as_pictures(self, denoised: torch.Tensor) -> torch.Tensor:
        """By way of pictures. They are encoded one by one, since a VAE of videos takes a batch for one video."""
        images = self._vae.decode(self._format.process_out(denoised.float()))
        comfy.model_management.throw_exception_if_processing_interrupted()
        planes = images.flatten(0, -4).movedim(-1, 1).to(denoised.device, torch.float32)
        if self._picture_reads is None:
            size = planes.shape[-2:]
            reads = KEPT.made(self._scene, ("pictures", *size), lambda: picture_reads(self._scene, *size))
            self._picture_reads = reads.to(planes.device)
        scenes = planes.split(self._scene.views)
        shared = torch.cat([shared_pictures(views, self._picture_reads) for views in scenes])
        pictures = interruptible(shared.movedim(1, -1).clamp(0, 1))
        encoded = torch.cat([self._vae.encode(picture[None]) for picture in pictures])
        # Where memory is short the host unloads models for a VAE, even the one that is sampled.
        comfy.model_management.load_models_gpu([self._guider.model_patcher, *self._guider.loaded_models])
        return self._format.process_in(encoded).reshape(denoised.shape).to(denoised.device, torch.float32)

    def _reads_at(self, height: int, width: int, device: torch.device) -> SharedReads | None:
        """Made once for a size of latents."""
        key = height, width, device
        if key not in self._reads:
            reads = KEPT.made(self._scene, ("latents", height, width), lambda: shared_reads(self._scene, height, width))
            if reads is None:
                logger.warning("Fuse Views: none of these %d views shows what another shows.", self._scene.views)
            self._reads[key] = None if reads is None else reads.to(device)
        return self._reads[key]


def check_fusing(fusing: Fusing, latent_format) -> None:
    """Raises ValueError for inputs of Fuse Views that are out of range, and for the VAE of another model."""
    for name in ("strength", "start", "end"):
        number = getattr(fusing, name)
        if not 0 <= number <= 1:
            raise ValueError(f"{NODE}: {name} must lie between 0 and 1, not {number:g}.")
    if fusing.start > fusing.end:
        raise ValueError(
            f"{NODE}: start is {fusing.start:g} and end {fusing.end:g}, so there is nothing between them: start must "
            "not be greater than end."
        )
    if fusing.noise not in NOISES:
        raise ValueError(f"{NODE}: noise must be {' or '.join(NOISES)}, not '{fusing.noise}'.")
    made, taken = getattr(fusing.vae, "latent_channels", None), latent_format.latent_channels
    if made not in (None, taken):
        raise ValueError(
            f"{NODE}: the vae makes latents of {made} channels, and this MODEL's have {taken}: connect the VAE that "
            "was loaded with it."
        )


def check_guider(guider) -> None:
    """Raises ValueError for a guider whose predictions no wrapper sees."""
    if not hands_predictions_over(guider):
        raise ValueError(
            f"{NODE}: the guider {type(guider).__name__} hands its predictions to the sampler past ComfyUI's wrappers, "
            "so views could not share them: use CFG Guider, Basic Guider or another of ComfyUI's guiders."
        )


def agreeing_noise(noise: torch.Tensor, scene: Scene) -> torch.Tensor:
    """(P V, C, ..., h, w) noise, drawn anew once for each of P scenes; as it is where there is none to begin with."""
    if not noise.any():
        return noise
    size = noise.shape[-2:]
    shared = KEPT.made(scene, ("noise", *size), lambda: SharedNoise.of(scene, *size))
    scenes = noise.flatten(1, -3).split(scene.views)
    return torch.cat([shared.draw(own) for own in scenes]).reshape(noise.shape).to(noise)


def fuse(executor, x, timestep, model_options={}, seed=None):  # noqa: B006
    """The host's PREDICT_NOISE wrapper."""
    denoised = executor(x, timestep, model_options, seed)
    fuser = model_options.get("transformer_options", {}).get(FUSER)
    return denoised if fuser is None else fuser(denoised, float(timestep.max()))
