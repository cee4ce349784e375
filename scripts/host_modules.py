"""The host's classes as the trainer of the demo model needs them: bare modules and a tokenizer. After start_host."""

from __future__ import annotations

import functools

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.text_encoders.sd2_clip import SD2Tokenizer


class HostModules:
    """Modules on the CPU in fp32; their weights are whatever was in memory."""

    def autoencoder(self, arguments: dict) -> torch.nn.Module:
        return AutoencoderKL(**arguments)

    def unet(self, arguments: dict) -> torch.nn.Module:
        return UNetModel(**arguments)

    def tokens(self, text: str) -> list[int]:
        """The 77 tokens of a prompt's first section."""
        return [token for token, _ in self._tokenizer.tokenize_with_weights(text)["h"][0]]

    @functools.cached_property
    def _tokenizer(self) -> SD2Tokenizer:
        return SD2Tokenizer()
