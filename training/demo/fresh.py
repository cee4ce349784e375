"""The host's modules made ready for training: weights drawn, and layers that are torch's own."""

from __future__ import annotations

import torch
from torch import nn

ADDED = ("proj_out", "out_layers.3")  # what adds to a residual stream: nothing at first


def fresh(module: nn.Module, seed: int) -> nn.Module:
    """The module, in place, with weights of its own in place of what the host left there: it loads all, and draws none.

    The host's layers become torch's, which they are but for loading and casting.
    """
    random = torch.Generator().manual_seed(seed)
    for name, layer in module.named_modules():
        for own in (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm):
            if isinstance(layer, own):
                layer.__class__ = own
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 0.0 if name.endswith(ADDED) or name == "out.2" else layer.weight[0].numel() ** -0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=random)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module.requires_grad_()
