"""The host's VAE and CLIP as `training` calls them."""

from __future__ import annotations

import torch

from ...training.samples import Text


class HostCodec:
    """A `Codec` of a MODEL's latent format, its CLIP and VAE. What it gives are normal tensors on the CPU.

    size: width and height of views, which SDXL's UNet is told.
    """

    def __init__(self, model, clip, vae, size: tuple[int, int]) -> None:
        self._model, self._clip, self._vae, self._size = model, clip, vae, size
        self._format = model.get_model_object("latent_format")

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 4, h, w) float32 as the UNet is fed, of (N, H, W, 3)."""
        with torch.inference_mode():
            latents = self._format.process_in(self._vae.encode(pictures[..., :3]).float())
        return latents.to("cpu", copy=True)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(N, H, W, 3) float32 in 0..1."""
        with torch.inference_mode():
            pictures = self._vae.decode(self._format.process_out(latents))
        return pictures.to("cpu", torch.float32, copy=True).clamp(0, 1)

    def text(self, prompt: str) -> Text:
        """One row."""
        with torch.inference_mode():
            tokens, options = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(prompt))[0]
            width, height = self._size
            further = self._model.model.encode_adm(**options, device=tokens.device, width=width, height=height)
        further = {} if further is None else {"y": further.to("cpu", torch.float32, copy=True)}
        return Text(tokens.to("cpu", torch.float32, copy=True), further)
