"""The node that makes views agree without weights of their own."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.begin import empty_latent, with_fusing
from ..host.setup import NOISES, Fusing
from .remedies import speaks_as
from .sampling import panoramas_input
from .schema import MVCameras, schema


def _share(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)


class FuseViews(io.ComfyNode):
    """Fuse Views: any sampler then makes the views of any MODEL agree."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionFuse",
            display_name="Fuse Views",
            description="Makes the views of any MODEL agree (SDXL, SD 3, Flux, Qwen-Image ...), without weights made "
            "for it: in every step, what a view predicts becomes what all views that see the same point predict. Does "
            "what Apply Cameras does, too. With MVDiffusion's blocks in the MODEL it comes on top of them.",
            search_aliases=["multidiffusion", "any model", "SDXL panorama", "Flux panorama", "360", "consistency"],
            inputs=[
                io.Model.Input("model", tooltip="Any MODEL, with MVDiffusion's blocks or without."),
                MVCameras.Input("cameras", tooltip="The cameras of the views."),
                panoramas_input(),
                _share("strength", 1.0, "How far a view takes over what all of them predict. 0: not at all."),
                _share("start", 0.0, "From which share of the schedule on views fuse."),
                _share(
                    "end",
                    Fusing.end,
                    "Until which share of the schedule views fuse. Below 1 the last detail belongs to each view.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default=Fusing.noise,
                    optional=True,
                    tooltip="own: each view starts from noise of its own. shared: where views show the same they start "
                    "from the same noise, drawn once for the scene.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The MODEL's VAE: the last fifth of the steps then shares pictures in place of latents, "
                    "which is sharper and agrees far better, and takes a VAE's time in each of these steps.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL, for any sampler."),
                io.Latent.Output(display_name="latent", tooltip="Empty latents, one per view."),
            ],
        )

    @classmethod
    @speaks_as("Fuse Views")
    def execute(cls, model, cameras, panoramas, strength, start, end, noise=Fusing.noise, vae=None) -> io.NodeOutput:
        fusing = Fusing(strength, start, end, noise, vae)
        return io.NodeOutput(with_fusing(model, cameras, fusing), empty_latent(model, cameras, panoramas))
