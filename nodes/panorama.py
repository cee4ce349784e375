"""Nodes between photos, views and the equirectangular panorama."""

from __future__ import annotations

from comfy_api.latest import io

from ..geometry.panorama.blends import BLENDS
from ..geometry.panorama.equirect import equirect_to_views
from ..geometry.panorama.source import source_camera, source_to_views
from ..geometry.panorama.stitch import Overlay, stitch
from ..geometry.pictures import check_pictures
from ..host.progress import progress_bar
from ..host.tensors import mask_to_intermediate, to_intermediate
from .remedies import speaks_as
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
                io.Image.Input("images", tooltip="One image per camera, of any size with the cameras' aspect."),
                MVCameras.Input("cameras", tooltip="The cameras that saw the images."),
                io.Int.Input(
                    "width",
                    default=4096,
                    min=0,
                    max=32768,
                    step=2,
                    tooltip="Width of the panorama; its height is half of that. 0: as fine as the images and the "
                    "source.",
                ),
                io.Combo.Input(
                    "blend",
                    options=list(BLENDS),
                    tooltip="feather: views fade into each other. multiband: soft for large shapes, sharp for detail; "
                    "hides differences in brightness best. nearest: each point from the view that sees it best.",
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="A panorama to show where no view looks; the views fade into it. Without one: black.",
                ),
                io.Image.Input(
                    "source",
                    optional=True,
                    tooltip="A photo to lay over the panorama at its own resolution, usually the one given to Source "
                    "Image to Views.",
                ),
                io.Float.Input(
                    "source_yaw",
                    optional=True,
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=0.1,
                    tooltip="How far the source is turned to the right from view 0, in degrees.",
                ),
                io.Float.Input(
                    "source_pitch",
                    optional=True,
                    default=0.0,
                    min=-90.0,
                    max=90.0,
                    step=0.1,
                    tooltip="How far the source looks up from where view 0 looks (down, if negative), in degrees.",
                ),
                io.Float.Input(
                    "source_roll",
                    optional=True,
                    default=0.0,
                    min=-180.0,
                    max=180.0,
                    step=0.1,
                    tooltip="How far the camera was tilted when the source was taken, in degrees clockwise.",
                ),
                io.Float.Input(
                    "source_fov",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=179.0,
                    step=0.1,
                    tooltip="Horizontal field of view of the source in degrees. 0: that of view 0.",
                ),
                io.Float.Input(
                    "border",
                    optional=True,
                    default=5.0,
                    min=0.0,
                    max=45.0,
                    step=0.5,
                    tooltip="Over how many degrees from its edges the source fades into the panorama. 0: a sharp edge.",
                ),
                io.Boolean.Input(
                    "level",
                    optional=True,
                    default=False,
                    label_on="on",
                    label_off="off",
                    tooltip="Brings views to one brightness and tint before they are joined, and the source to that of "
                    "the panorama under it.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="equirect", tooltip="The panorama; black or the background where nothing looks."
                ),
                io.Mask.Output(display_name="coverage", tooltip="1 where a view or the source looks, 0 elsewhere."),
            ],
        )

    @classmethod
    @speaks_as("Stitch Equirect")
    def execute(
        cls,
        images,
        cameras,
        width,
        blend,
        background=None,
        source=None,
        source_yaw=0.0,
        source_pitch=0.0,
        source_roll=0.0,
        source_fov=0.0,
        border=5.0,
        level=False,
    ) -> io.NodeOutput:
        overlay = None
        if source is not None:
            check_pictures(source, "source")
            size = source.shape[2], source.shape[1]
            camera = source_camera(*size, cameras, source_yaw, source_pitch, source_roll, source_fov)
            overlay = Overlay(source, camera, border)
        equirect, coverage = stitch(images, cameras, width, blend, background, overlay, level, progress_bar())
        return io.NodeOutput(to_intermediate(equirect), mask_to_intermediate(coverage))


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
    @speaks_as("Equirect to Views")
    def execute(cls, equirect, cameras, mask=None) -> io.NodeOutput:
        views, masks = equirect_to_views(equirect, cameras, mask, progress_bar())
        return io.NodeOutput(to_intermediate(views), mask_to_intermediate(masks))


class SourceImageToViews(io.ComfyNode):
    """Source Image to Views: what a photo gives of the views, and what is left to generate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionSourceImage",
            display_name="Source Image to Views",
            description="Puts a photo into every view that it touches and masks the rest, for ComfyUI's "
            "InpaintModelConditioning. Put several in a row for several photos.",
            search_aliases=["outpaint", "inpaint", "photo", "image to panorama", "360", "project"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="A photo of any size and shape, not stretched. Several photos make several panoramas.",
                ),
                MVCameras.Input("cameras", tooltip="The cameras that the views are sampled with."),
                io.Float.Input(
                    "yaw",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=0.1,
                    tooltip="How far the photo is turned to the right from view 0, in degrees. 0: straight at view 0.",
                ),
                io.Float.Input(
                    "pitch",
                    default=0.0,
                    min=-90.0,
                    max=90.0,
                    step=0.1,
                    tooltip="How far the photo looks up from where view 0 looks (down, if negative), in degrees.",
                ),
                io.Float.Input(
                    "roll",
                    default=0.0,
                    min=-180.0,
                    max=180.0,
                    step=0.1,
                    tooltip="How far the camera was tilted when the photo was taken, in degrees clockwise.",
                ),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=179.0,
                    step=0.1,
                    tooltip="Horizontal field of view of the photo in degrees; 65 to 75 for most phones held sideways. "
                    "0: that of view 0.",
                ),
                io.Image.Input(
                    "views",
                    optional=True,
                    tooltip="Views to put the photo over, from another Source Image to Views or from Equirect to "
                    "Views. Connect mask as well. Without them: grey.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The mask of those views, 1 where they are to be generated. Connect views as well.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="views", tooltip="One image per camera: the photo where it looks, grey elsewhere."
                ),
                io.Mask.Output(
                    display_name="mask", tooltip="0 where a photo gives the view, 1 where it is to be generated."
                ),
            ],
        )

    @classmethod
    @speaks_as("Source Image to Views")
    def execute(cls, image, cameras, yaw, pitch, roll, fov, views=None, mask=None) -> io.NodeOutput:
        check_pictures(image, "image")
        source = source_camera(image.shape[2], image.shape[1], cameras, yaw, pitch, roll, fov)
        views, mask = source_to_views(image, cameras, source, views, mask)
        return io.NodeOutput(to_intermediate(views), mask_to_intermediate(mask))
