"""What the host ships that changes a MODEL or conditionings: the rows of docs/compatibility.md, as its nodes do it."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from comfy_nodes import demo, host_node, plain, with_control
from controls import control_lora, control_net, t2i_adapter


class NotThereError(Exception):
    """This host lacks the node."""


@dataclass(frozen=True)
class Given:
    """What a row may change, and how many views there are."""

    model: Any
    positive: list
    negative: list
    views: int


Row = Callable[[Given], dict]  # the changed inputs of sampling


def node(module: str, name: str):
    """A node's class in the host's comfy_extras; in its nodes.py where module is empty."""
    try:
        return getattr(importlib.import_module(f"comfy_extras.nodes_{module}" if module else "nodes"), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise NotThereError(f"{name} is not in this ComfyUI") from error


def patch(module: str, name: str, **settings) -> Row:
    """A node that takes a MODEL and gives one."""
    return lambda given: {"model": host_node(node(module, name), model=given.model, **settings)}


def random(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def lora_of(model) -> dict[str, torch.Tensor]:
    """A LoRA on attention layers of the whole UNet, in diffusers' names as trainers write them."""
    import comfy.lora

    generator = torch.Generator().manual_seed(5)
    lora = {}
    for name, key in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        if name.startswith("lora_unet_") and name.endswith("_to_q"):
            out, width = model.model.state_dict()[key].shape
            lora[f"{name}.lora_up.weight"] = torch.randn((out, 2), generator=generator)
            lora[f"{name}.lora_down.weight"] = torch.randn((2, width), generator=generator) * 0.1
    return lora


def lora(given: Given) -> dict:
    import comfy.sd

    return {"model": comfy.sd.load_lora_for_models(given.model, None, lora_of(given.model), 1.0, 0.0)[0]}


def bypass_lora(given: Given) -> dict:
    import comfy.sd

    if not hasattr(comfy.sd, "load_bypass_lora_for_models"):
        raise NotThereError("LoRAs beside the weights are not in this ComfyUI")
    return {"model": comfy.sd.load_bypass_lora_for_models(given.model, None, lora_of(given.model), 1.0, 0.0)[0]}


def hook_lora(given: Given) -> dict:
    import comfy.hooks

    hooks = comfy.hooks.create_hook_lora(lora_of(given.model), 1.0, 0.0)
    return {"positive": comfy.hooks.set_hooks_for_conditioning(given.positive, hooks)}


def another_model(kind: str):
    """A MODEL of the same structure with other weights."""
    model = demo(kind).without_blocks
    generator = torch.Generator().manual_seed(3)
    for weight in model.model.diffusion_model.parameters():
        weight.data = weight + 0.1 * weight.std(correction=0) * torch.randn(weight.shape, generator=generator)
    return model


def merged(given: Given) -> dict:
    second = another_model({4: "panorama", 5: "depth"}[given.model.model.diffusion_model.in_channels])
    class_ = node("model_merging", "ModelMergeSimple")
    return {"model": host_node(class_, model1=given.model, model2=second, ratio=0.5)}


def hypernetwork(given: Given) -> dict:
    """Of the keys and values that are as wide as the prompts and the first features."""
    load = node("hypernetwork", "load_hypernetwork_patch")

    def linear(seed: int) -> dict[str, torch.Tensor]:
        return {"linear.0.weight": random(64, 64, seed=seed) / 64, "linear.0.bias": random(64, seed=seed) / 8}

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/style.pt"
        torch.save({64: [linear(1), linear(2)]}, path)
        made = load(path, 1.0)
    model = given.model.clone()
    model.set_model_attn1_patch(made)
    model.set_model_attn2_patch(made)
    return {"model": model}


def control(make: Callable) -> Row:
    """A hint per view."""
    return lambda given: {"positive": with_control(given.positive, make(given.model), random(given.views, 64, 64, 3))}


def gligen(given: Given) -> dict:
    """One thing in the middle of each view."""
    import comfy.gligen
    import comfy.ldm.modules.attention
    import comfy.model_patcher

    blocks = comfy.ldm.modules.attention.BasicTransformerBlock
    unet, width = given.model.model.diffusion_model, given.positive[0][0].shape[2]
    dims = [block.norm1.weight.shape[0] for block in unet.modules() if isinstance(block, blocks)]
    fusers = [comfy.gligen.GatedSelfAttentionDense(dim, width, 2, dim // 2) for dim in dims]
    made = comfy.gligen.Gligen(fusers, comfy.gligen.PositionNet(width, width), width).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    made.load_state_dict({k: 0.5 * torch.randn(w.shape, generator=generator) for k, w in made.state_dict().items()})
    cpu = torch.device("cpu")
    boxes = [(random(1, width), 4, 4, 2, 2)]  # as GLIGENTextBoxApply gives them
    entry = ("position", comfy.model_patcher.ModelPatcher(made, cpu, cpu), boxes)
    return {"positive": [[text, options | {"gligen": entry}] for text, options in given.positive]}


def cached(name: str) -> Row:
    """EasyCache or LazyCache, over as many steps as it takes to leave some out."""
    made = patch("easycache", name, reuse_threshold=10.0, start_percent=0.0, end_percent=1.0, verbose=False)
    return lambda given: made(given) | {"steps": 6}


def easy_cache(given: Given) -> dict:
    if not hasattr(node("easycache", "EasyCacheHolder"), "can_apply_cache_diff"):
        raise NotThereError("EasyCache of this ComfyUI takes one picture only")
    return cached("EasyCacheNode")(given)


def apg(given: Given) -> dict:
    """Two steps: after one the node takes the next run for the same one, and adds what it has kept of this."""
    return patch("apg", "APG", eta=0.5, norm_threshold=2.0, momentum=0.3)(given) | {"steps": 2}


def perp_neg(given: Given) -> dict:
    class_ = node("perpneg", "PerpNeg")
    return {"model": host_node(class_, model=given.model, empty_conditioning=other(given.negative), neg_scale=1.0)}


def tonemap(given: Given) -> dict:
    node("post_processing", "Blend")  # which nodes_latent imports, and which imports that
    operation = host_node(node("latent", "LatentOperationTonemapReinhard"), multiplier=0.5)
    return patch("latent", "LatentApplyOperationCFG", operation=operation)(given)


def context_windows(given: Given) -> dict:
    from comfy.context_windows import IndexListContextHandler

    model = given.model.clone()
    model.model_options["context_handler"] = IndexListContextHandler(None, None, context_length=2)
    return {"model": model}


def second_gpu(given: Given) -> dict:
    """What the multi-GPU node adds; the node itself asks for cards."""
    model = given.model.clone()
    model.set_additional_models("multigpu", [plain(given.model)])
    return {"model": model}


def differential(given: Given) -> dict:
    """Views of grey masks over noise."""
    changed = patch("differential_diffusion", "DifferentialDiffusion")(given)
    latent = {"samples": random(given.views, 4, 8, 8), "noise_mask": random(given.views, 64, 64, seed=6)}
    return changed | {"latent_image": latent}


def other(conditioning: list) -> list:
    """Other prompts in the place of the same number."""
    return [[text.flip(1) + 0.5, options] for text, options in conditioning]


def per_view(given: Given, *, negated: bool = False) -> list:
    """A prompt per view."""
    ((text, options),) = given.positive
    rows = text + random(given.views, 1, text.shape[2])
    return [[-rows if negated else rows, options]]


def prompts(name: str, **settings) -> Row:
    """A node that joins two conditionings of a prompt per view."""

    def changed(given: Given) -> dict:
        first, second = per_view(given), per_view(given, negated=True)
        class_ = node("", name)
        names = [key for key in class_.INPUT_TYPES()["required"] if key not in settings]
        return {"positive": host_node(class_, **dict(zip(names, (first, second), strict=True)), **settings)}

    return changed


def timestep_range(given: Given) -> dict:
    class_ = node("", "ConditioningSetTimestepRange")
    early = host_node(class_, conditioning=given.positive, start=0.0, end=0.5)
    late = host_node(class_, conditioning=other(given.positive), start=0.5, end=1.0)
    return {"positive": early + late}


def masked(given: Given) -> dict:
    """A mask per view, and another prompt beside it."""
    settings = dict(mask=random(given.views, 64, 64), set_cond_area="default", strength=1.0)
    return {
        "positive": host_node(node("", "ConditioningSetMask"), conditioning=given.positive, **settings)
        + other(given.positive)
    }


def area(given: Given) -> dict:
    settings = dict(width=32, height=32, x=0, y=0, strength=1.0)
    return {"positive": host_node(node("", "ConditioningSetArea"), conditioning=given.positive, **settings)}


SHRINK = dict(start_percent=0.0, end_percent=1.0, downscale_method="bicubic", upscale_method="bicubic")
ATTENTION = dict(q=1.2, k=1.1, v=0.9, out=1.1)

ROWS: dict[str, Row] = {
    "LoRA": lora,
    "LoRA, bypass": bypass_lora,
    "LoRA, hook": hook_lora,
    "Hypernetwork": hypernetwork,
    "Model merging": merged,
    "UNet Self Attention Multiply": patch("attention_multiply", "UNetSelfAttentionMultiply", **ATTENTION),
    "UNet Cross Attention Multiply": patch("attention_multiply", "UNetCrossAttentionMultiply", **ATTENTION),
    "ModelSamplingDiscrete": patch("model_advanced", "ModelSamplingDiscrete", sampling="eps", zsnr=True),
    "ControlNet": control(control_net),
    "Control-LoRA": control(control_lora),
    "T2I-Adapter": control(t2i_adapter),
    "GLIGEN": gligen,
    "FreeU": patch("freelunch", "FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2),
    "FreeU V2": patch("freelunch", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "Deep Shrink": patch(
        "model_downscale",
        "PatchModelAddDownscale",
        block_number=3,
        downscale_factor=2.0,
        downscale_after_skip=True,
        **SHRINK,
    ),
    "HyperTile": patch("hypertile", "HyperTile", tile_size=32, swap_size=1, max_depth=0, scale_depth=False),
    "Token Merging": patch("tomesd", "TomePatchModel", ratio=0.3),
    "Perturbed Attention Guidance": patch("pag", "PerturbedAttentionGuidance", scale=3.0),
    "Self-Attention Guidance": patch("sag", "SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
    "Normalized Attention Guidance": patch("nag", "NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
    "Perp-Neg": perp_neg,
    "RescaleCFG": patch("model_advanced", "RescaleCFG", multiplier=0.7),
    "RenormCFG": patch("lumina2", "RenormCFG", cfg_trunc=100.0, renorm_cfg=0.5),
    "CFG-Zero Star": patch("cfg", "CFGZeroStar"),
    "CFGNorm": patch("cfg", "CFGNorm", strength=0.9),
    "APG": apg,
    "TCFG": patch("tcfg", "TCFG"),
    "Mahiro": patch("mahiro", "Mahiro"),
    "FreSca": patch("fresca", "FreSca", scale_low=0.8, scale_high=1.3, freq_cutoff=2),
    "Epsilon Scaling": patch("eps", "EpsilonScaling", scaling_factor=1.05),
    "Temporal Score Rescaling": patch("eps", "TemporalScoreRescaling", tsr_k=0.9, tsr_sigma=1.0),
    "Latent Apply Operation CFG": tonemap,
    "Video Linear CFG Guidance": patch("video_model", "VideoLinearCFGGuidance", min_cfg=1.0),
    "Video Triangle CFG Guidance": patch("video_model", "VideoTriangleCFGGuidance", min_cfg=1.0),
    "LazyCache": cached("LazyCacheNode"),
    "EasyCache": easy_cache,
    "Conditioning Average": prompts("ConditioningAverage", conditioning_to_strength=0.4),
    "Conditioning Concat": prompts("ConditioningConcat"),
    "Conditioning Combine": prompts("ConditioningCombine"),
    "Timestep ranges": timestep_range,
    "Conditioning Set Mask": masked,
    "Conditioning Set Area": area,
    "Differential Diffusion": differential,
    "Context Windows": context_windows,
    "Multi-GPU": second_gpu,
}
