"""Nodes that sample many views together."""

from __future__ import annotations

import comfy.samplers
import nodes as host_nodes
from comfy_api.latest import io

from ..geometry.scene import Scene
from ..geometry.sequence.windows import Window, sliding_windows
from ..host.begin import empty_latent, with_cameras
from ..host.checks import check_noise_mask, check_panoramas_of, check_window
from ..host.interpolation import Settings, interpolate
from .remedies import speaks_as
from .schema import MVCameras, schema


def panoramas_input() -> io.Int.Input:
    """How many scenes a batch holds."""
    return io.Int.Input(
        "panoramas",
        default=1,
        min=1,
        max=64,
        tooltip="How many panoramas (or sequences) to make at once; the batch holds all views of the first, then "
        "those of the second.",
    )


def _settings() -> list[io.Int.Input | io.Float.Input | io.Combo.Input]:
    """The inputs that the host's KSampler has, too, with what was published as defaults."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The seed of the noise; each view gets its own.",
        ),
        io.Int.Input("steps", default=50, min=1, max=10000, tooltip="Denoising steps; published: 50."),
        io.Float.Input(
            "cfg",
            default=9.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Classifier-free guidance; published: 9.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=comfy.samplers.KSampler.SAMPLERS,
            default="ddim",
            tooltip="The sampling algorithm; published: ddim.",
        ),
        io.Combo.Input(
            "scheduler",
            options=comfy.samplers.KSampler.SCHEDULERS,
            default="ddim_uniform",
            tooltip="How noise levels are spread over the steps; published: ddim_uniform.",
        ),
    ]


def _windows(window: int, without: str = "all of them") -> list[io.Int.Input]:
    """`window`, with its default, and `overlap`. without: what is denoised together where `window` is 0."""
    return [
        io.Int.Input(
            "window",
            default=window,
            min=0,
            max=4096,
            optional=True,
            tooltip=f"For depth sequences: how many views are denoised together; published: 12. 0: {without}.",
        ),
        io.Int.Input(
            "overlap",
            default=2,
            min=0,
            max=4095,
            optional=True,
            tooltip="How many views a window shares with the next one; their predictions are averaged in every step.",
        ),
    ]


def _sliding(node: str, cameras: Scene, window: int, shared: int) -> list[Window]:
    """The windows of a run; none where all views are denoised together. Raises ValueError for those of a panorama."""
    check_window(node, window, shared)
    if not window or window >= cameras.views:
        return []
    if cameras.closed:
        raise ValueError(
            f"{node}: window is {window}, but a {cameras.scene_noun}'s {cameras.views} views close a circle and are "
            "denoised together: set window to 0."
        )
    return sliding_windows(cameras.views, window, shared)


class ApplyCameras(io.ComfyNode):
    """Apply Cameras: any sampler then samples all views together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionApplyCameras",
            display_name="Apply Cameras",
            description="Tells a MODEL which cameras see the views of its batch, so that KSampler, "
            "SamplerCustomAdvanced or any other sampler samples all views together. Use this node's LATENT, or one of "
            "the same shape.",
            search_aliases=["multi-view", "custom sampler"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL from Load MVDiffusion."),
                MVCameras.Input("cameras", tooltip="The cameras of the views."),
                panoramas_input(),
                *_windows(0),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL, for any sampler."),
                io.Latent.Output(display_name="latent", tooltip="Empty latents, one per view."),
            ],
        )

    @classmethod
    @speaks_as("Apply Cameras")
    def execute(cls, model, cameras, panoramas, window=0, overlap=2) -> io.NodeOutput:
        windows = _sliding("Apply Cameras", cameras, window, overlap)
        return io.NodeOutput(with_cameras(model, cameras, windows), empty_latent(model, cameras, panoramas))


class MultiViewKSampler(io.ComfyNode):
    """Multi-View KSampler: Apply Cameras and the host's KSampler in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionKSampler",
            display_name="Multi-View KSampler",
            description="Denoises all views of the cameras together: Apply Cameras followed by ComfyUI's KSampler.",
            search_aliases=["sampler", "panorama", "denoise", "generate"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A MODEL from Load MVDiffusion; without its blocks the views do not agree."
                ),
                MVCameras.Input("cameras", tooltip="The cameras of the views."),
                io.Conditioning.Input("positive", tooltip="What the views show: 1 row, or one per view."),
                io.Conditioning.Input("negative", tooltip="What the views should not show: 1 row, or one per view."),
                *_settings(),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1: starts from latent_image and changes it only in part.",
                ),
                panoramas_input(),
                io.Latent.Input(
                    "latent_image",
                    optional=True,
                    tooltip="Latents to start from, one per view of each panorama. Without them: empty ones.",
                ),
                *_windows(0),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="One latent per view; decode with VAE Decode.")],
        )

    @classmethod
    @speaks_as("Multi-View KSampler")
    def execute(
        cls,
        model,
        cameras,
        positive,
        negative,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        denoise,
        panoramas,
        latent_image=None,
        window=0,
        overlap=2,
    ) -> io.NodeOutput:
        windows = _sliding("Multi-View KSampler", cameras, window, overlap)
        latent = latent_image
        if latent is None:
            latent = empty_latent(model, cameras, panoramas)
        else:
            check_panoramas_of(latent, cameras, panoramas)
            check_noise_mask(latent, cameras)
        return io.NodeOutput(
            *host_nodes.common_ksampler(
                with_cameras(model, cameras, windows),
                seed,
                steps,
                cfg,
                sampler_name,
                scheduler,
                positive,
                negative,
                latent,
                denoise=denoise,
            )
        )


class InterpolateKeyframes(io.ComfyNode):
    """Interpolate Keyframes: the frames between key frames of a depth sequence."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionInterpolate",
            display_name="Interpolate Keyframes",
            description="Makes the frames between the key frames of a depth sequence, so that they agree with those on "
            "either side. The key frames stay as they are.",
            search_aliases=["in-between", "frames", "video", "depth sequence", "sampler"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL with MVDiffusion's depth weights."),
                MVCameras.Input("cameras", tooltip="`cameras` of Depth Cameras: the cameras of all frames."),
                io.Latent.Input("keyframes", tooltip="The key frames, one latent each, from Multi-View KSampler."),
                io.Conditioning.Input(
                    "positive", tooltip="What the frames show: 1 row, one per key frame, or one per frame."
                ),
                io.Conditioning.Input("negative", tooltip="What the frames should not show: rows as in positive."),
                *_settings(),
                *_windows(12, "each gap as a whole"),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="One latent per frame; decode with VAE Decode.")],
        )

    @classmethod
    @speaks_as("Interpolate Keyframes")
    def execute(
        cls,
        model,
        cameras,
        keyframes,
        positive,
        negative,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        window=12,
        overlap=2,
    ) -> io.NodeOutput:
        settings = Settings(seed, steps, cfg, sampler_name, scheduler)
        return io.NodeOutput(interpolate(model, cameras, keyframes, positive, negative, settings, window, overlap))
