"""The host's classes as the trainer of the demo model needs them: bare modules and a tokenizer. After start_host."""

from __future__ import annotations

import functools

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.text_encoders.sd2_clip import SD2Tokenizer

from mvdiffusion_pack.caa.weights.kinds import Widths
from mvdiffusion_pack.host.inject import RUN, Site, put_sites, run_site, unet_widths


class HostModules:
    """Modules on the CPU in fp32; their weights are whatever was in memory."""

    def autoencoder(self, arguments: dict) -> torch.nn.Module:
        return AutoencoderKL(**arguments)

    def unet(self, arguments: dict) -> torch.nn.Module:
        return UNetModel(**arguments)

    def put_sites(self, unet: torch.nn.Module) -> Widths:
        """Gives a UNet the places of blocks; the widths that these are to have."""
        put_sites(unet)
        return unet_widths(unet)

    def options(self, run: object) -> dict:
        """What a UNet with places is told of a run, which is called at each of them; None: none."""
        return {RUN: run, "patches": {"forward_timestep_embed_patch": [(Site, run_site)]}}

    def tokens(self, text: str) -> list[int]:
        """The 77 tokens of a prompt's first section."""
        return [token for token, _ in self._tokenizer.tokenize_with_weights(text)["h"][0]]

    @functools.cached_property
    def _tokenizer(self) -> SD2Tokenizer:
        return SD2Tokenizer()
