"""The demo model in process: what most host tests sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Demo:
    """The demo MODEL with its blocks, CLIP, VAE, cameras of four 64 x 64 views, and conditionings."""

    model: Any
    clip: Any
    vae: Any
    cameras: Any
    positive: list
    negative: list
    steps: int = 2

    def sample(self, model=None, **changes) -> torch.Tensor:
        """The latents of Multi-View KSampler."""
        from mvdiffusion_pack.nodes.sampling import MultiViewKSampler

        settings = dict(
            model=model if model is not None else self.model,
            cameras=self.cameras,
            positive=self.positive,
            negative=self.negative,
            seed=7,
            steps=self.steps,
            cfg=3.0,
            sampler_name="ddim",
            scheduler="ddim_uniform",
            denoise=1.0,
            panoramas=1,
        )
        return MultiViewKSampler.execute(**(settings | changes)).args[0]["samples"]

    def load(self) -> None:
        """Loads the MODEL as the host does before sampling: with its sites in the UNet."""
        import comfy.model_management

        comfy.model_management.load_models_gpu([self.model])

    @property
    def without_blocks(self):
        """A MODEL of the same UNet that no node of this pack has touched."""
        return plain(self.model)


def plain(model):
    """A MODEL of the same UNet that no node of this pack has touched."""
    import comfy.model_patcher

    return comfy.model_patcher.ModelPatcher(model.model, model.load_device, model.offload_device)


def demo(kind: str = "panorama") -> Demo:
    """Made by the pack's own nodes."""
    from mvdiffusion_pack.nodes.cameras import PanoramaCameras
    from mvdiffusion_pack.nodes.loaders import LoadDemoModel
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    model, clip, vae = LoadDemoModel.execute(kind).args
    cameras, _ = PanoramaCameras.execute("ring", 4, 120.0, 64, 64, 0.0, 0.0).args
    positive, negative = (MultiViewTextEncode.execute(clip, cameras, text, "").args[0] for text in ("a room", ""))
    return Demo(model, clip, vae, cameras, positive, negative)


def host_node(node_class, **inputs):
    """The first output of a host node, whichever of the host's two node styles this version writes it in."""
    if hasattr(node_class, "define_schema"):
        output = node_class.execute(**inputs)
        return (output if isinstance(output, tuple) else output.args)[0]
    return getattr(node_class(), node_class.FUNCTION)(**inputs)[0]


def zeros(views: int, height: int, width: int) -> dict:
    """A LATENT of zeros."""
    return {"samples": torch.zeros((views, 4, height, width))}


def with_control(conditioning, control, hints: torch.Tensor):
    """Conditioning with a ControlNet and one hint per view, as the host's Apply ControlNet gives it."""
    import nodes

    settings = (control, hints, 1.0, 0.0, 1.0)
    return nodes.ControlNetApplyAdvanced().apply_controlnet(conditioning, conditioning, *settings)[0]
