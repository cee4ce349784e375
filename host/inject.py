"""CAA blocks in the host's UNet: where they sit, and how they get there and out again without a trace.

At each place stands a `Site`: a layer without parameters that passes its input through. The host calls `run_site` in
its stead (a forward_timestep_embed patch), which finds the run, and in the run the block, in the transformer options.
The image condition of depth weights has sites of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from torch import nn

from ..caa.weights.kinds import Widths
from .quirks import in_use_by_another

RUN = "mvdiffusion_run"  # the transformer option that holds the sampling run
DOWN, UP = "condition_downblocks.{}", "condition_upblocks.{}"  # sites named as the weights of their branches


class Site(nn.Module):
    """A place for one CAA block or branch. By itself, and in runs that do not know it, it changes nothing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


# Compiled, the run would become constants of the graph: the host drops all guards on transformer options.
@torch.compiler.disable
def run_site(site: Site, x: torch.Tensor, emb, context, transformer_options: dict, *args) -> torch.Tensor:
    """The host's handler for layers of class `Site`: (batch, C, h, w) features in and out."""
    run = transformer_options.get(RUN)
    return x if run is None else run.apply(site.name, x)


@dataclass(frozen=True)
class Place:
    """A site's name, the layers it stands among, how many of them come before it, and the width of its features."""

    name: str
    layers: nn.Sequential
    index: int
    width: int


def places(unet: UNetModel) -> list[Place]:
    """All places that any kind of weights uses, derived from the UNet's blocks; sites already there are not counted.

    encoder.i: before the downsampler of level i, at the head of its input block, so that the skip connection carries
        the value without CAA; the last level's at the head of the middle block.
    mid_inside: after the middle block's first residual layer. mid_end: at the middle block's end.
    decoder.j: before the upsampler of level j; the last level's at the end of the last output block.
    condition_downblocks.i: where level i begins, so that its skip connections carry the branch; the last one once more
        before the middle block, seen by no skip connection, unless the last level is wider than what it is fed.
    condition_upblocks.j: before level j's first skip connection: after the middle block, and after the upsamplers.
    Where several share a place they stand in this order.
    """
    first = unet.input_blocks[0]
    found = [Place(DOWN.format(0), first, len(_layers(first)), unet.model_channels)]
    level, fed = 0, unet.model_channels
    for block in unet.input_blocks:
        for index, layer in enumerate(_layers(block)):
            if isinstance(layer, Downsample):
                found.append(Place(f"encoder.{level}", block, index, layer.channels))
                level, fed = level + 1, layer.out_channels
                found.append(Place(DOWN.format(level), block, index + 1, fed))
    middle = _layers(unet.middle_block)
    width = middle[0].out_channels
    found.append(Place(f"encoder.{level}", unet.middle_block, 0, middle[0].channels))
    if middle[0].channels == fed:
        found.append(Place(DOWN.format(level), unet.middle_block, 0, fed))
    found.append(Place("mid_inside", unet.middle_block, 1, width))
    found.append(Place("mid_end", unet.middle_block, len(middle), width))
    found.append(Place(UP.format(0), unet.middle_block, len(middle), width))
    level = 0
    for block in unet.output_blocks:
        for index, layer in enumerate(_layers(block)):
            if isinstance(layer, Upsample):
                found.append(Place(f"decoder.{level}", block, index, layer.channels))
                level += 1
                found.append(Place(UP.format(level), block, index + 1, layer.out_channels))
    last = unet.output_blocks[-1]
    found.append(Place(f"decoder.{level}", last, len(_layers(last)), _layers(last)[0].out_channels))
    return found


def unet_widths(unet: UNetModel) -> Widths:
    """The widths of the CAA blocks that fit the UNet."""
    width = {place.name: place.width for place in places(unet)}
    levels = range(sum(name.startswith("encoder.") for name in width))
    return Widths(
        encoder=tuple(width[f"encoder.{level}"] for level in levels),
        mid=width["mid_inside"],
        decoder=tuple(width[f"decoder.{level}"] for level in levels),
    )


def inject(patcher) -> None:
    """Puts the sites into the UNet of a ModelPatcher, unless they are there already."""
    put_sites(patcher.model.diffusion_model)


def put_sites(unet: UNetModel) -> None:
    """Puts the sites into a UNet, unless they are there already.

    Rebuilding `_modules` in order gives them named keys: insert() would renumber their siblings, and LoRAs and saved
    checkpoints would then name the wrong layers.
    """
    if any(isinstance(layer, Site) for layer in unet.middle_block):
        return
    # From the end, so that indices stay true; the later of two at one place first, so that the earlier gets before it.
    for place in reversed(sorted(places(unet), key=lambda place: place.index)):
        entries = list(place.layers._modules.items())
        entries.insert(place.index, ("mvdiffusion_" + place.name.replace(".", "_"), Site(place.name)))
        place.layers._modules = type(place.layers._modules)(entries)


def eject(patcher) -> None:
    """Takes all sites out of the UNet of a ModelPatcher; harmless where there are none.

    All clones share one UNet, and the host ejects when a clone dies: not while another one is being sampled.
    """
    if in_use_by_another(patcher):
        return
    unet = patcher.model.diffusion_model
    for layers in (*unet.input_blocks, unet.middle_block, *unet.output_blocks):
        for key in [key for key, layer in layers._modules.items() if isinstance(layer, Site)]:
            del layers._modules[key]


def _layers(block: nn.Sequential) -> list[Any]:
    return [layer for layer in block if not isinstance(layer, Site)]
