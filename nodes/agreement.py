"""Nodes that measure how well views agree."""

from __future__ import annotations

from comfy_api.latest import io

from ..geometry.agreement import agreement
from ..geometry.figures.agreement_picture import worst_pair_picture
from ..host.display import shown_in_node
from ..host.tensors import to_intermediate
from .remedies import speaks_as
from .schema import MVCameras, schema


class OverlapPSNR(io.ComfyNode):
    """Overlap PSNR: how well neighbouring views agree where they overlap."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionOverlapPSNR",
            display_name="Overlap PSNR",
            description="Measures how well neighbouring views agree where they overlap, as the paper does, and shows "
            "the two that agree least.",
            search_aliases=["consistency", "metric", "quality", "compare", "measure", "seams"],
            inputs=[
                io.Image.Input("images", tooltip="One image per camera, of any size with the cameras' aspect."),
                MVCameras.Input("cameras", tooltip="The cameras that saw the images."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="psnr",
                    tooltip="In dB, over all pixels that neighbours share. Higher is better; 100 at most.",
                ),
                io.String.Output(
                    display_name="table", tooltip="A line for all pairs, then one per pair of neighbours, worst first."
                ),
                io.Image.Output(
                    display_name="worst_pair",
                    tooltip="The two views that agree least, and a map of how much they differ.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    @speaks_as("Overlap PSNR")
    def execute(cls, images, cameras) -> io.NodeOutput:
        found = agreement(images, cameras)
        picture, table = worst_pair_picture(images, cameras, found), found.table()
        return io.NodeOutput(found.psnr, table, to_intermediate(picture), ui=shown_in_node(table, picture, cls))
