"""The C kernels as operations of torch, and how the host's modules get them. Where they cannot run, torch's own do."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import nn

from ...caa.blocks import GatedProjection
from .compiled import kernels

CHANNELS_LAST = torch.channels_last
LONGEST = 1024  # keys: MOST of kernels.c


class FusedNorm(nn.GroupNorm):
    """The host's GroupNorm with the SiLU that follows it: (N, C, H, W) to the same."""

    silu = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if _runs(x) and x.shape[1] % 32 == 0:
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


class FusedGate(nn.Module):
    """The host's GEGLU, or the gate of a CAA block, which is told a way: (..., C) to value * gelu(gate)."""

    proj: nn.Linear

    def forward(self, x: torch.Tensor, *_: str) -> torch.Tensor:
        both = self.proj(x)
        if _runs(both):
            return _GatedGelu.apply(both)
        value, gate = both.chunk(2, dim=-1)
        return value * F.gelu(gate)


class _GatedGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, both) -> torch.Tensor:
        both = both.contiguous()
        y = both.new_empty(*both.shape[:-1], both.shape[-1] // 2)
        _call("gated_gelu_forward", [both, y], _rows(y))
        ctx.save_for_backward(both)
        return y

    @staticmethod
    def backward(ctx, dy):
        (both,) = ctx.saved_tensors
        dy, d_both = dy.to(torch.bfloat16).contiguous(), torch.empty_like(both)
        _call("gated_gelu_backward", [both, dy, d_both], _rows(dy))
        return d_both


class _Straight:
    """The host's SpatialTransformer with linear projections, without its change of memory format and back."""

    def forward(self, x: torch.Tensor, context: torch.Tensor, transformer_options: dict) -> torch.Tensor:
        tokens = self.proj_in(self.norm(x).movedim(1, 3).flatten(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, context=context, transformer_options=transformer_options)
        return self.proj_out(tokens).unflatten(1, x.shape[-2:]).movedim(3, 1) + x


def host_attention(_, query, key, value, heads: int, mask=None, **options) -> torch.Tensor:
    """`attend` as the host calls it (its optimized_attention_override); the UNet has no masks."""
    return attend(query, key, value, heads)


def attend(query, key, value, heads: int, causal: bool = False) -> torch.Tensor:
    """Attention of (N, tokens, C) each to the same; causal: tokens see those before them, of as many."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    # A row of shares has to fit into the kernel's own memory.
    if _runs(query) and key.shape[2] <= LONGEST:
        flat = (x.reshape(-1, *x.shape[2:]) for x in (query, key, value))
        seen = _Attention.apply(*flat, causal).view(query.shape)
    else:
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    return seen.transpose(1, 2).flatten(2)


class _Attention(torch.autograd.Function):
    """Of (N, tokens, width) each; torch's own is slow backwards where tokens are few."""

    @staticmethod
    def forward(ctx, query, key, value, causal: bool) -> torch.Tensor:
        factor = ctypes.c_float(query.shape[-1] ** -0.5)
        shares = query @ key.mT
        _call("softmax_forward", [shares], [*_rows(shares), factor, ctypes.c_int(causal)])
        ctx.save_for_backward(query, key, value, shares)
        return shares @ value

    @staticmethod
    def backward(ctx, dy):
        query, key, value, shares = ctx.saved_tensors
        d_value, d_shares = shares.mT @ dy, dy @ value.mT
        factor = ctypes.c_float(query.shape[-1] ** -0.5)
        _call("softmax_backward", [shares, d_shares], [*_rows(shares), factor])
        return d_shares @ key, d_shares.mT @ query, d_value, None


def _runs(x: torch.Tensor) -> bool:
    return x.dtype is torch.bfloat16 and x.device.type == "cpu" and kernels() is not None


def _rows(x: torch.Tensor) -> list[ctypes.c_long]:
    return [ctypes.c_long(x.numel() // x.shape[-1]), ctypes.c_long(x.shape[-1])]


def _sizes(x: torch.Tensor, groups: int) -> list[ctypes.c_long]:
    count, channels, height, width = x.shape
    return [ctypes.c_long(size) for size in (count, height * width, channels, groups)]


def _call(name: str, tensors: list[torch.Tensor], numbers: list) -> None:
    getattr(kernels(), name)(*(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors), *numbers)


def fuse(module: nn.Module) -> nn.Module:
    """Gives a UNet or autoencoder of the host fused norms and gates, in place; the names of its parameters stay."""
    for parent in list(module.modules()):
        if type(parent).__name__ == "GEGLU":
            parent.__class__ = FusedGate
        if type(parent).__name__ == "SpatialTransformer" and parent.use_linear:
            # A subclass: the host asks for the class of what it calls with a context.
            parent.__class__ = type("StraightTransformer", (_Straight, type(parent)), {})
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


def fuse_blocks(module: nn.Module) -> nn.Module:
    """Gives CAA blocks fused norms and gates, in place; whatever follows a norm stays apart from it."""
    for child in module.modules():
        if isinstance(child, nn.GroupNorm):
            child.__class__ = FusedNorm
        if isinstance(child, GatedProjection):
            child.__class__ = FusedGate
    return module
