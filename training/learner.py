"""What learns: CAA blocks beside a frozen UNet, or (depth's first stage) the UNet itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..caa.blocks import CAA
from ..caa.weights.checkpoint import CAAWeights, read_caa, write_slim
from ..geometry.input_error import InputError
from .state import Write, read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class Blocks:
    """CAA blocks that learn. Their file is one that Load MVDiffusion takes.

    weights: what they began with; what is written has their kind, widths, frequencies and base. module: their layers.
    """

    weights: CAAWeights
    module: CAA
    file = "blocks.safetensors"
    averaged_file = "blocks_average.safetensors"

    @staticmethod
    def of(weights: CAAWeights, device: torch.device) -> Blocks:
        """Blocks that begin with these weights, as float32 layers of plain torch."""
        # Copies: the host's executor reads files in inference mode, and checkpoints keep no such tensors.
        frequencies = {block: bands.clone() for block, bands in weights.frequencies.items()}
        module = CAA(weights.kind, weights.widths, frequencies, nn, torch.float32, device)
        module.load_state_dict({name: tensor.float() for name, tensor in weights.tensors.items()})
        return Blocks(weights, module)

    @property
    def some_unused(self) -> bool:
        """Whether some passes use only a part of the weights: the image condition's run only where views are known."""
        return self.weights.kind.condition

    def written(self, tensors: Mapping[str, torch.Tensor]) -> Write:
        """Writes these weights."""
        return lambda path: write_slim(path, self.trained(tensors), torch.float32)

    def trained(self, tensors: Mapping[str, torch.Tensor]) -> CAAWeights:
        """The weights as they are kept: copies on the CPU."""
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return replace(self.weights, tensors=copies)

    @staticmethod
    def read(path: Path) -> dict[str, torch.Tensor]:
        """The tensors of a file that was written. Raises InputError where it cannot be read."""
        try:
            return read_caa(path).tensors
        except (InputError, OSError) as error:
            raise InputError(f"the saved blocks cannot be read ({error})", "remove_state") from error


@dataclass(frozen=True, eq=False)
class TunedUNet:
    """The UNet, in float32, all of whose weights learn."""

    module: nn.Module
    file = "unet.safetensors"
    averaged_file = "unet_average.safetensors"
    some_unused = False

    @staticmethod
    def written(tensors: Mapping[str, torch.Tensor]) -> Write:
        """Writes these weights."""
        return write_tensors(tensors)

    @staticmethod
    def read(path: Path) -> dict[str, torch.Tensor]:
        """The tensors of a file that was written. Raises InputError where it cannot be read."""
        return read_tensors(path)
