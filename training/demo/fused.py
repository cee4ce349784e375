"""GroupNorm with SiLU in one operation, and how the host's modules get it: training in bf16 waits for norms otherwise."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import nn

from .compiled import kernels

CHANNELS_LAST = torch.channels_last


class FusedNorm(nn.GroupNorm):
    """The host's GroupNorm with the SiLU that follows it: (N, C, H, W) to the same."""

    silu = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype is torch.bfloat16 and x.device.type == "cpu" and x.shape[1] % 32 == 0 and kernels() is not None:
            return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps, self.silu)
        y = F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        return F.silu(y) if self.silu else y


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, groups: int, eps: float, silu: bool) -> torch.Tensor:
        x, weight32, bias32 = x.contiguous(memory_format=CHANNELS_LAST), weight.float(), bias.float()
        y = torch.empty_like(x, memory_format=CHANNELS_LAST)
        mean, rstd = torch.empty(2, x.shape[0], groups)
        tensors = [x, weight32, bias32, y, mean, rstd]
        _call("group_norm_forward", tensors, [*_sizes(x, groups), ctypes.c_float(eps), ctypes.c_int(silu)])
        ctx.save_for_backward(x, weight32, bias32, mean, rstd)
        ctx.groups, ctx.silu, ctx.dtype = groups, silu, weight.dtype
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, bias, mean, rstd = ctx.saved_tensors
        dy = dy.to(torch.bfloat16).contiguous(memory_format=CHANNELS_LAST)
        dx = torch.empty_like(x, memory_format=CHANNELS_LAST)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        tensors = [x, dy, weight, bias, mean, rstd, dx, d_weight, d_bias]
        _call("group_norm_backward", tensors, [*_sizes(x, ctx.groups), ctypes.c_int(ctx.silu)])
        return dx, d_weight.to(ctx.dtype), d_bias.to(ctx.dtype), None, None, None


def _sizes(x: torch.Tensor, groups: int) -> list[ctypes.c_long]:
    count, channels, height, width = x.shape
    return [ctypes.c_long(size) for size in (count, height * width, channels, groups)]


def _call(name: str, tensors: list[torch.Tensor], numbers: list) -> None:
    getattr(kernels(), name)(*(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors), *numbers)


def fuse(module: nn.Module) -> nn.Module:
    """Gives a UNet or autoencoder of the host fused norms, in place; the names of its parameters stay."""
    for parent in list(module.modules()):
        children = list(parent.named_children())
        for place, (name, child) in enumerate(children):
            if not isinstance(child, nn.GroupNorm):
                continue
            child.__class__ = FusedNorm
            after = children[place + 1][1] if place + 1 < len(children) else None
            if isinstance(parent, nn.Sequential) and isinstance(after, nn.SiLU):
                child.silu = True
                parent._modules[children[place + 1][0]] = nn.Identity()
            elif name in ("norm1", "norm2"):  # of the autoencoder's residual blocks: `swish` follows both
                child.silu = True
        if isinstance(getattr(parent, "swish", None), nn.SiLU):
            parent.swish = nn.Identity()
    return module
