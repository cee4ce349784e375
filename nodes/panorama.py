"""Nodes between views and the equirectangular panorama."""

from __future__ import annotations

from comfy_api.latest import io

from ..geometry.equirect import equirect_to_views
from ..geometry.stitch import stitch
from ..host.run import to_intermediate
from .schema import MVCameras, schema


class StitchEquirect(io.ComfyNode):
    """Stitch Equirect: views to a 360-degree picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionStitchEquirect",
            display_name="Stitch Equirect",
            description="Joins the views into an equirectangular 360-degree panorama, twice as wide as high.",
            search_aliases=["360", "equirectangular", "join", "blend", "panorama"],
            inputs=[
                io.Image.Input("images", tooltip="One image per camera, of any size of the cameras' aspect."),
                MVCameras.Input("cameras", tooltip="The cameras that saw the images."),
                io.Int.Input(
                    "width",
                    default=4096,
                    min=0,
                    max=32768,
                    step=2,
                    tooltip="Width of the panorama; its height is half of it. 0: as fine as the images.",
                ),
                io.Combo.Input(
                    "blend",
                    options=["feather", "multiband", "nearest"],
                    tooltip="feather: views fade into each other. multiband: as feather for large shapes, sharp for "
                    "detail; hides differences in brightness best. nearest: the view that sees a point best.",
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="A panorama to show where no view looks; the views fade into it. None: black.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="equirect", tooltip="The panorama; where no view looks, black or the background."
                ),
                io.Mask.Output(display_name="coverage", tooltip="1 where a view looks, 0 elsewhere."),
            ],
        )

    @classmethod
    def execute(cls, images, cameras, width, blend, background=None) -> io.NodeOutput:
        equirect, coverage = stitch(images, cameras, width, blend, background)
        return io.NodeOutput(to_intermediate(equirect), to_intermediate(coverage))


class EquirectToViews(io.ComfyNode):
    """Equirect to Views: cuts a 360-degree picture into views."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionEquirectToViews",
            display_name="Equirect to Views",
            description="Cuts an equirectangular panorama into the views of the cameras, without aliasing.",
            search_aliases=["360", "equirectangular", "perspective", "crop", "extract"],
            inputs=[
                io.Image.Input("equirect", tooltip="Panoramas, twice as wide as high."),
                MVCameras.Input("cameras", tooltip="The cameras to cut for; any size and number."),
                io.Mask.Input("mask", optional=True, tooltip="A mask of the panorama, cut in the same way."),
            ],
            outputs=[
                io.Image.Output(display_name="views", tooltip="One image per camera, panorama by panorama."),
                io.Mask.Output(display_name="masks", tooltip="The mask per view; all ones where no mask was given."),
            ],
        )

    @classmethod
    def execute(cls, equirect, cameras, mask=None) -> io.NodeOutput:
        views, masks = equirect_to_views(equirect, cameras, mask)
        return io.NodeOutput(to_intermediate(views), to_intermediate(masks))
