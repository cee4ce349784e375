"""The three kinds of published weights, and how a file is told to be one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ...geometry.input_error import InputError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """What distinguishes one kind of weights; everything else about the blocks is the same.

    name: also the value of `kind` in the metadata of slim files.
    scene: the kind of scene that they know, `Scene.kind`.
    base: the model whose UNet the published weights belong to, for people to read.
    in_channels: inputs of the UNet that the blocks were trained with.
    middle: where the middle block's CAA sits: 'inside' (between its first residual layer and its attention) or 'end'.
    code_dims: how many coordinates the position code has: 2 displacements, or 1 difference of depths.
    residual: a residual block follows each attention block.
    condition: the file holds the branches of the image condition (interpolation between key frames).
    tuned: the UNet in the file was trained together with the blocks; else it is SD 2's own.
    """

    name: str
    scene: str
    base: str
    in_channels: int
    middle: str
    code_dims: int
    residual: bool
    condition: bool
    tuned: bool

    @property
    def attention_prefix(self) -> str:
        """Where `transformer.*` and `pe.*` stand within a block's keys."""
        return "attn1." if self.residual else ""


@dataclass(frozen=True)
class Widths:
    """Channels of the blocks, level by level: SD 2's are (320, 640, 1280, 1280), 1280, (1280, 1280, 640, 320)."""

    encoder: tuple[int, ...]
    mid: int
    decoder: tuple[int, ...]

    def by_block(self) -> dict[str, int]:
        """{'encoder.0': width, ..., 'mid': width, 'decoder.0': width, ...}"""
        encoder = {f"encoder.{level}": width for level, width in enumerate(self.encoder)}
        decoder = {f"decoder.{level}": width for level, width in enumerate(self.decoder)}
        return {**encoder, "mid": self.mid, **decoder}


_AROUND = {
    "scene": "panorama",
    "middle": "inside",
    "code_dims": 2,
    "residual": False,
    "condition": False,
    "tuned": False,
}
PANORAMA = Kind("panorama", base="SD 2 (512-base)", in_channels=4, **_AROUND)
OUTPAINTING = Kind("outpainting", base="SD 2 inpainting (512)", in_channels=9, **_AROUND)
DEPTH = Kind(
    "depth",
    scene="sequence",
    base="SD 2 depth",
    in_channels=5,
    middle="end",
    code_dims=1,
    residual=True,
    condition=True,
    tuned=True,
)
KINDS = {kind.name: kind for kind in (PANORAMA, OUTPAINTING, DEPTH)}


def caa_prefix(keys: Iterable[str]) -> str | None:
    """What stands before `cp_blocks_` in a file's keys: `mv_base_model.` in the authors', nothing in slim ones.

    None: the file holds no CAA blocks.
    """
    for key in keys:
        prefix, found, _ = key.partition("cp_blocks_")
        if found:
            return prefix
    return None


def identify(shapes: Shapes, metadata: Mapping[str, str]) -> Kind:
    """The kind of weights in a file with these keys and shapes (as they stand in it) and this safetensors metadata.

    Slim files hold no UNet: theirs is the kind that the metadata names, and without metadata panorama rather than
    outpainting. Raises InputError, which says what the file is instead.
    """
    prefix = caa_prefix(shapes)
    if prefix is None:
        raise _what_else(shapes)
    residual = any(key.startswith(f"{prefix}cp_blocks_") and ".resnet." in key for key in shapes)
    kinds = [kind for kind in KINDS.values() if kind.residual == residual]
    conv_in = shapes.get(f"{prefix}unet.conv_in.weight")
    said = ""
    if conv_in is not None:
        said = f"a UNet whose first layer is {list(conv_in)}"
        kinds = [kind for kind in kinds if conv_in[1:2] == (kind.in_channels,)]
    elif "kind" in metadata:
        said = f"the kind '{metadata['kind']}' in its metadata"
        kinds = [kind for kind in kinds if kind.name == metadata["kind"]]
    if not kinds:
        blocks = "depth" if residual else "panorama"
        raise InputError(f"the file holds {blocks} blocks beside {said}, which do not belong together", "get_again")
    return kinds[0]


class _Other(NamedTuple):
    """What people choose by mistake: a pattern in its keys, what it is, and the name of what to do with it."""

    keys: str
    fact: str
    remedy: str


_SINGLE_VIEW = _Other(
    r"^mv_base_model\.",
    "holds no CAA blocks (depth_single_view is such a file, made before they are trained)",
    remedy="multi_view_checkpoint",
)
_OTHERS = (  # the first that matches is taken, so the special ones lead
    _Other(
        r"lora_(up|down|A|B|a|b)\b|\.lora\.|hada_w1|lokr_w1", "is a LoRA, not MVDiffusion weights", remedy="load_lora"
    ),
    _Other(
        r"^control_model\.|controlnet_|zero_convs\.|input_hint_block\.",
        "is a ControlNet, not MVDiffusion weights",
        remedy="load_controlnet",
    ),
    _SINGLE_VIEW,
    _Other(
        r"diffusion_model\.|^input_blocks\.|^(unet\.)?down_blocks\.",
        "is a plain Stable Diffusion model without CAA blocks",
        remedy="load_checkpoint",
    ),
    _Other(
        r"^(vae\.|first_stage_model\.)?(en|de)coder\.(conv_in|mid|down|up)",
        "is a VAE alone, not MVDiffusion weights",
        remedy="load_vae",
    ),
    _Other(
        r"text_model\.|transformer\.resblocks\.|^encoder\.block\.0\.layer",
        "is a text encoder alone, not MVDiffusion weights",
        remedy="load_clip",
    ),
)


def _what_else(shapes: Shapes) -> InputError:
    """What a file without CAA blocks is."""
    if not shapes:
        return InputError("the file holds no named tensors", "choose_weights")
    single_view = r"^(mv_base_model\.)?unet\.conv_in\.weight$"
    if any(re.search(single_view, key) and shapes[key][1:2] == (5,) for key in shapes):
        return InputError(f"the file {_SINGLE_VIEW.fact}", _SINGLE_VIEW.remedy)
    for other in _OTHERS:
        if any(re.search(other.keys, key) for key in shapes):
            return InputError(f"the file {other.fact}", other.remedy)
    first = ", ".join(list(shapes)[:3])
    fact = f"the file is not MVDiffusion's (no key has cp_blocks_ in it; its first keys are {first})"
    return InputError(fact, "choose_weights")
