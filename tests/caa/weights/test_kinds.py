"""Which kind of weights a file holds, and what to say of files that hold none."""

from __future__ import annotations

import pytest
from published_files import manifest, text_encoder_shapes, vae_shapes

from mvdiffusion_pack.caa.weights.kinds import DEPTH, OUTPAINTING, PANORAMA, Widths, identify
from mvdiffusion_pack.caa.weights.shapes import expected_shapes
from mvdiffusion_pack.geometry.input_error import InputError

SD2 = Widths(encoder=(320, 640, 1280, 1280), mid=1280, decoder=(1280, 1280, 640, 320))
SMALL = Widths(encoder=(32, 64, 64, 64), mid=64, decoder=(64, 64, 64, 32))
PUBLISHED = [
    ("pano", PANORAMA, SMALL),
    ("outpaint", OUTPAINTING, SMALL),
    ("depth", DEPTH, SMALL),
    ("pano_sd2", PANORAMA, SD2),
    ("outpaint_sd2", OUTPAINTING, SD2),
    ("depth_sd2", DEPTH, SD2),
]
PREFIX = "mv_base_model."


def slim(name: str) -> dict[str, tuple[int, ...]]:
    """The keys of a slim file: those of the published one without its UNet and prefix."""
    shapes = {key.removeprefix(PREFIX): shape for key, shape in manifest(name).items()}
    return {key: shape for key, shape in shapes.items() if not key.startswith("unet.")}


@pytest.mark.parametrize(("name", "kind", "widths"), PUBLISHED)
def test_published_files_are_recognised(name, kind, widths):
    assert identify(manifest(name), {}) is kind


@pytest.mark.parametrize(("name", "kind", "widths"), PUBLISHED)
def test_expected_shapes_are_those_of_the_published_files(name, kind, widths):
    published = {key.removeprefix("cp_blocks_"): shape for key, shape in slim(name).items()}
    assert expected_shapes(kind, widths) == published


@pytest.mark.parametrize(
    ("name", "metadata", "kind"),
    [
        ("pano", {}, PANORAMA),
        ("pano", {"kind": "panorama"}, PANORAMA),
        ("outpaint", {"kind": "outpainting"}, OUTPAINTING),
        ("depth", {}, DEPTH),
        ("depth", {"kind": "depth"}, DEPTH),
    ],
)
def test_slim_files_are_told_by_blocks_and_metadata(name, metadata, kind):
    assert identify(slim(name), metadata) is kind


def test_the_unet_outweighs_the_metadata():
    assert identify(manifest("outpaint"), {"kind": "panorama"}) is OUTPAINTING


def test_an_extra_prefix_does_not_matter():
    shapes = {f"model.{key}": shape for key, shape in manifest("outpaint").items()}
    assert identify(shapes, {}) is OUTPAINTING


@pytest.mark.parametrize("channels", [4, 8])
def test_depth_blocks_beside_another_unet_are_refused(channels):
    shapes = manifest("depth") | {f"{PREFIX}unet.conv_in.weight": (32, channels, 3, 3)}
    with pytest.raises(InputError, match="depth blocks beside a UNet"):
        identify(shapes, {})


def test_an_unknown_kind_in_the_metadata_is_named():
    with pytest.raises(InputError, match="'video'"):
        identify(slim("pano"), {"kind": "video"})


UNET_KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
LDM_KEY = "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
OTHERS = {
    "kohya LoRA": ({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": (320, 4)}, "is a LoRA", "load_lora"),
    "diffusers LoRA": ({f"unet.{UNET_KEY.removesuffix('.weight')}.lora_A.weight": (4, 320)}, "is a LoRA", "load_lora"),
    "ldm LoRA": (
        {f"diffusion_model.{LDM_KEY.removesuffix('.weight')}.lora_down.weight": (4, 320)},
        "is a LoRA",
        "load_lora",
    ),
    "LyCORIS": ({"lora_unet_down_blocks_0_attentions_0_proj_in.hada_w1_a": (320, 4)}, "is a LoRA", "load_lora"),
    "ldm ControlNet": ({f"control_model.{LDM_KEY}": (320, 320)}, "is a ControlNet", "load_controlnet"),
    "diffusers ControlNet": (
        {"controlnet_down_blocks.0.weight": (320, 320, 1, 1), UNET_KEY: (320, 320)},
        "is a ControlNet",
        "load_controlnet",
    ),
    "SD checkpoint": (
        {f"model.diffusion_model.{LDM_KEY}": (320, 320), "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3)},
        "is a plain Stable Diffusion model",
        "load_checkpoint",
    ),
    "SD depth checkpoint": (
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 5, 3, 3)},
        "is a plain Stable Diffusion model",
        "load_checkpoint",
    ),
    "diffusers UNet": (
        {"conv_in.weight": (320, 4, 3, 3), UNET_KEY: (320, 320)},
        "is a plain Stable Diffusion model",
        "load_checkpoint",
    ),
    "diffusers VAE": (vae_shapes(), "is a VAE alone", "load_vae"),
    "ldm VAE": (
        {"first_stage_model.decoder.up.0.block.0.conv1.weight": (128, 128, 3, 3)},
        "is a VAE alone",
        "load_vae",
    ),
    "HF text encoder": (text_encoder_shapes(), "is a text encoder alone", "load_clip"),
    "OpenCLIP": (
        {"cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (1024,)},
        "is a text encoder alone",
        "load_clip",
    ),
    "T5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)}, "is a text encoder alone", "load_clip"),
    "depth_single_view": (
        {key: shape for key, shape in manifest("depth").items() if key.startswith(f"{PREFIX}unet.")},
        "holds no CAA blocks",
        "multi_view_checkpoint",
    ),
    "depth_single_view, bare": (
        {"unet.conv_in.weight": (320, 5, 3, 3), f"unet.{UNET_KEY}": (320, 320)},
        "holds no CAA blocks",
        "multi_view_checkpoint",
    ),
    "nothing": ({}, "holds no named tensors", "choose_weights"),
    "something": (
        {"a.weight": (1,), "b.weight": (1,), "c": (1,), "d": (1,)},
        "its first keys are a.weight, b.weight, c",
        "choose_weights",
    ),
}


@pytest.mark.parametrize(("shapes", "fact", "remedy"), OTHERS.values(), ids=OTHERS.keys())
def test_other_files_are_named_with_what_to_do(shapes, fact, remedy):
    with pytest.raises(InputError, match=f"^the file .*{fact}[^\n]*$") as raised:
        identify(shapes, {})
    assert raised.value.remedy == remedy
