"""Nodes that show and save panoramas."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..geometry.panorama.coverage import panoramas_and_coverage
from ..host.saving import FORMATS, save_panoramas
from .remedies import speaks_as
from .schema import schema


class PreviewPanorama(io.ComfyNode):
    """Preview Panorama: look around in a panorama, inside the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionPreviewPanorama",
            display_name="Preview Panorama",
            description="Shows a 360-degree panorama that you can look around in: drag to turn, scroll to zoom.",
            search_aliases=["360", "viewer", "equirectangular", "look around", "vr"],
            inputs=[
                io.Image.Input("equirect", tooltip="Panoramas, twice as wide as high."),
                io.Mask.Input(
                    "coverage",
                    optional=True,
                    tooltip="1 where the panorama has a picture; the viewer marks the rest. Leave it out for a whole "
                    "panorama.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    @speaks_as("Preview Panorama")
    def execute(cls, equirect, coverage=None) -> io.NodeOutput:
        pictures, coverage = panoramas_and_coverage(equirect, coverage)
        if coverage is not None:
            pictures = torch.cat((pictures, coverage[..., None]), dim=-1)  # as alpha, which the viewer reads
        return io.NodeOutput(ui=ui.PreviewImage(pictures, cls=cls))


class SavePanorama(io.ComfyNode):
    """Save Panorama: a file that viewers, phones and headsets open as 360 degrees."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionSavePanorama",
            display_name="Save Panorama",
            description="Saves panoramas with the workflow, as Save Image does, and with the metadata (GPano) that "
            "tells photo sites, phones and headsets that it is a 360-degree picture.",
            search_aliases=["360", "export", "photo sphere", "gpano", "xmp", "vr"],
            inputs=[
                io.Image.Input("equirect", tooltip="Panoramas, twice as wide as high."),
                io.String.Input(
                    "filename_prefix",
                    default="panorama",
                    tooltip="Folder and name in the output folder. Tokens are filled in, such as %date:yyyy-MM-dd%, "
                    "%LoadImage.image% and %batch_num%.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    tooltip="png: lossless, and ComfyUI opens the file as a workflow. jpeg: several times smaller, and "
                    "the format that photo sites take.",
                ),
                io.Float.Input(
                    "start_yaw",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=0.1,
                    tooltip="Where viewers look first, in degrees to the right of the panorama's middle.",
                ),
                io.Mask.Input(
                    "coverage",
                    optional=True,
                    tooltip="1 where the panorama has a picture: the file is cropped to that part and says so, and "
                    "viewers show no black poles. Leave it out for a whole panorama.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    @speaks_as("Save Panorama")
    def execute(cls, equirect, filename_prefix, format, start_yaw, coverage=None) -> io.NodeOutput:
        pictures, coverage = panoramas_and_coverage(equirect, coverage)
        return io.NodeOutput(ui=save_panoramas(pictures, coverage, filename_prefix, format, start_yaw, cls=cls))
