"""The recorded cases' small model, built from the host's own classes."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from published_files import golden_weights, write_published
from safetensors.torch import load_file

from mvdiffusion_pack.caa.weights.checkpoint import CAAWeights, read_caa
from mvdiffusion_pack.geometry.panorama_views import PanoramaViews
from mvdiffusion_pack.geometry.posed import PosedViews
from mvdiffusion_pack.host.sd2 import narrower

GOLDEN = Path(__file__).parent / "golden"


@functools.cache
def case(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a recorded case."""
    return load_file(GOLDEN / f"{name}_case.safetensors")


def case_cameras(name: str, size: int = 128) -> PanoramaViews:
    """The cameras of a recorded panorama case."""
    rotation = case(name)["R"][0]
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(len(rotation), 1, 1)
    cam_to_world[:, :3, :3] = rotation
    return PanoramaViews(case(name)["K"][0], cam_to_world, size, size, (len(rotation),))


def depth_cameras(name: str = "depth") -> PosedViews:
    """The cameras of a recorded depth case."""
    data = case(name)
    depth = data["depths"][0]
    views, height, width = depth.shape
    return PosedViews(data["K"].repeat(views, 1, 1), data["poses"][0], width, height, depth=depth)


def golden_model(name: str = "pano", in_channels: int = 4, dtype: torch.dtype = torch.float32):
    """A MODEL without CAA: the recorded UNet ('pano', 'outpaint') in the host's SD 2 class."""
    import comfy.model_patcher
    import comfy.supported_models
    import comfy.utils

    config = comfy.supported_models.SD20({**narrower(32, 32), "in_channels": in_channels})
    config.unet_config["num_head_channels"] = 32
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, device=torch.device("cpu"))
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    weights = golden_weights(name)
    unet = {
        host_name: weights[f"mv_base_model.unet.{diffusers_name}"]
        for diffusers_name, host_name in names.items()
        if f"mv_base_model.unet.{diffusers_name}" in weights
    }
    model.diffusion_model.load_state_dict(unet, strict=True)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


@functools.cache
def golden_caa(name: str = "pano") -> CAAWeights:
    """The recorded CAA weights, read from a file of the published layout."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "golden.ckpt"
        write_published(path, golden_weights(name))
        weights = read_caa(path)
        tensors = {key: tensor.clone() for key, tensor in weights.tensors.items()}
    return CAAWeights(weights.kind, weights.widths, tensors, weights.frequencies, weights.base)
