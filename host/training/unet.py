"""The UNet that blocks are trained with: a copy of its own, of a MODEL's patched weights.

The host's executor runs nodes in torch.inference_mode, and a MODEL's weights may be inference tensors: autograd refuses
to keep those for the gradients. So everything here happens with that mode off (`normal_mode`), and each weight is
copied, which gives a normal tensor. The copy is also what leaves the user's MODEL as it is: sites, checkpointing and
(depth) learning touch this UNet alone, and it is gone with the run. Seen to work on 0.3.64 and 0.33.0, on CPUs; 0.33's
dynamic VRAM hands out the same weights by `get_key_patches`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import comfy.lora
import comfy.model_management
import comfy.ops
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...training.run import Run
from ...training.samples import Further
from ..inject import RUN, Site, put_sites, run_site

PREFIX = "diffusion_model."


@contextlib.contextmanager
def normal_mode() -> Iterator[None]:
    """Tensors made in a with statement can take part in training, also inside of the host's executor."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class TrainingUNet:
    """A MODEL's UNet as `training` calls it. Made and called in `normal_mode`.

    dtype: what it computes in. learns: its own weights are trained, and kept in float32. checkpointing: its layers are
    computed again for the gradients instead of being kept.
    """

    def __init__(
        self, model, dtype: torch.dtype, device: torch.device, checkpointing: bool = False, learns: bool = False
    ) -> None:
        self.device, self._dtype, self._learns = device, dtype, learns
        stored = torch.float32 if learns else dtype
        config = {**model.model.model_config.unet_config, "dtype": stored}
        self.unet = UNetModel(**config, device=torch.device("meta"), operations=comfy.ops.disable_weight_init)
        self.unet.load_state_dict(patched_weights(model, stored, device), assign=True)
        self.unet.requires_grad_(learns).train(learns)
        put_sites(self.unet)
        if checkpointing:
            for blocks in (*self.unet.input_blocks, self.unet.middle_block, *self.unet.output_blocks):
                for layer in blocks:
                    _compute_again(layer)

    def __call__(
        self, x: torch.Tensor, levels: torch.Tensor, tokens: torch.Tensor, further: Further, run: Run | None
    ) -> torch.Tensor:
        """(N, 4, h, w) float32 prediction for (N, k, h, w)."""
        options = {
            RUN: run,
            "patches": {"forward_timestep_embed_patch": [(Site, run_site)]},
            "optimized_attention_override": _attention,
        }
        stored = torch.float32 if self._learns else self._dtype
        given = {name: rows.to(x.device, stored) for name, rows in further.items()}
        with torch.autocast(x.device.type, self._dtype, enabled=stored != self._dtype):
            tokens = tokens.to(x.device, stored)
            predicted = self.unet(x.to(stored), levels.float(), context=tokens, transformer_options=options, **given)
        return predicted.float()


def patched_weights(model, dtype: torch.dtype, device: torch.device) -> dict[str, torch.Tensor]:
    """Copies of a MODEL's UNet weights as they are sampled with: LoRAs and other patches are in them.

    They come in the way in which the host's nodes that merge MODELs get at them, on all versions.
    """
    weights = {}
    for key, ((weight, convert), *patches) in model.get_key_patches(PREFIX).items():
        copied = comfy.model_management.cast_to_device(weight, torch.device("cpu"), torch.float32, copy=True)
        copied = convert(copied, inplace=True)
        if patches:
            copied = comfy.lora.calculate_weight(patches, copied, key)
        weights[key.removeprefix(PREFIX)] = copied.to(device, dtype)
    return weights


def _attention(function, *args, **kwargs) -> torch.Tensor:
    """The host's optimized_attention_override: PyTorch's attention has gradients, not all others do."""
    return attention_pytorch(*args, **kwargs)


def _compute_again(layer: nn.Module) -> None:
    """Lets a layer keep only its inputs for the gradients."""
    forward = layer.forward

    def checkpointed(*args, **kwargs):
        if not torch.is_grad_enabled() or isinstance(layer, Site):
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    layer.forward = checkpointed
