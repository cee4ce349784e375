"""Results between nodes: on the device and in the dtype that the host wants them."""

from __future__ import annotations

import comfy.model_management
import torch

from .quirks import intermediate_dtype


def to_intermediate(tensor: torch.Tensor) -> torch.Tensor:
    """A result on the device and in the dtype (from 0.33 on) that the host wants between nodes."""
    return tensor.to(device=comfy.model_management.intermediate_device(), dtype=intermediate_dtype())


def mask_to_intermediate(mask: torch.Tensor) -> torch.Tensor:
    """A MASK on the device that the host wants between nodes; in float32, since its mask nodes take nothing less."""
    return mask.to(device=comfy.model_management.intermediate_device(), dtype=torch.float32)
