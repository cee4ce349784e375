"""Nodes that make cameras."""

from __future__ import annotations

from comfy_api.latest import io

from ..geometry.figures.diagram import diagram
from ..geometry.input_error import InputError
from ..geometry.layouts import LAYOUTS, Wanted
from ..host.tensors import to_intermediate
from .remedies import speaks_as
from .schema import MVCameras, schema


class PanoramaCameras(io.ComfyNode):
    """Panorama Cameras: where the views of a panorama look."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionPanoramaCameras",
            display_name="Panorama Cameras",
            description="Where the views of a panorama look. The published weights were made for a ring of 8 views, 90 "
            "degrees wide, 512 x 512.",
            search_aliases=["360", "equirectangular", "ring", "cubemap", "sphere", "views", "rig"],
            inputs=[
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    tooltip="ring: views spaced evenly around the horizon, each overlapping the two beside it. "
                    "sphere: a ring, plus 3 views up and 3 down; with 8 square views, 90 degrees wide, it covers "
                    "everything. rings: one ring per pitch. cube: six faces, for cutting and joining pictures; they do "
                    "not overlap, so samplers refuse them.",
                ),
                io.Int.Input(
                    "views",
                    default=8,
                    min=1,
                    max=4096,
                    tooltip="Views in the ring, in each of the rings, or in the level ring of a sphere. A cube has 6.",
                ),
                io.Float.Input(
                    "fov",
                    default=90.0,
                    min=1.0,
                    max=179.0,
                    step=0.1,
                    tooltip="Horizontal field of view of each view in degrees. Neighbours should overlap by half. "
                    "A cube's faces are always 90 degrees wide.",
                ),
                io.Int.Input(
                    "width",
                    default=512,
                    min=16,
                    max=8192,
                    step=8,
                    tooltip="Width of each view in pixels; a multiple of 64 if the views are sampled.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=16,
                    max=8192,
                    step=8,
                    tooltip="Height of each view in pixels; a multiple of 64 if the views are sampled.",
                ),
                io.Float.Input(
                    "start_yaw",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=0.1,
                    tooltip="Where view 0 looks, in degrees to the right of the panorama's middle.",
                ),
                io.Float.Input(
                    "pitch",
                    default=0.0,
                    min=-90.0,
                    max=90.0,
                    step=0.1,
                    tooltip="For a ring: how far its views look up (or down, if negative), in degrees.",
                ),
                io.String.Input(
                    "pitches",
                    default="0, 60, -60",
                    optional=True,
                    tooltip="For rings: how far each looks up (or down, if negative), in degrees, separated by commas.",
                ),
            ],
            outputs=[
                MVCameras.Output(display_name="cameras", tooltip="The cameras, for the other MVDiffusion nodes."),
                io.Image.Output(
                    display_name="preview",
                    tooltip="A picture of the cameras: seen from above, and how many views look in each direction.",
                ),
            ],
        )

    @classmethod
    @speaks_as("Panorama Cameras")
    def execute(cls, layout, views, fov, width, height, start_yaw, pitch, pitches="0, 60, -60") -> io.NodeOutput:
        if layout not in LAYOUTS:
            raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, not '{layout}'")
        cameras = LAYOUTS[layout](Wanted(views, fov, width, height, start_yaw, pitch, pitches))
        return io.NodeOutput(cameras, to_intermediate(diagram(cameras)))
