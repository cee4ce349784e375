"""Prompts, one per view."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.text import encode_views, view_prompts
from .remedies import speaks_as
from .schema import MVCameras, schema


class MultiViewTextEncode(io.ComfyNode):
    """Multi-View Text Encode: one prompt for all views, or a line per view."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionTextEncode",
            display_name="Multi-View Text Encode",
            description="Encodes one prompt for all views, or one line per view in the cameras' order. For several "
            "panoramas at once: a line per view of the first, then of the second, and so on.",
            search_aliases=["prompt", "clip", "per view", "conditioning"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the checkpoint."),
                MVCameras.Input("cameras", tooltip="The cameras that the prompts are for."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="1 line for all views, or as many lines as there are views. Empty lines do not count.",
                ),
                io.String.Input(
                    "prefix",
                    default="",
                    tooltip="Put before every line. The published panorama weights were trained with 'This is one view "
                    "of a scene. '.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="One row per line of text.")],
        )

    @classmethod
    @speaks_as("Multi-View Text Encode")
    def execute(cls, clip, cameras, text, prefix) -> io.NodeOutput:
        return io.NodeOutput(encode_views(clip, view_prompts(text, prefix, cameras.views)))
