"""Nodes that bring panoramas into a graph: from files, and turned to where they should look."""

from __future__ import annotations

from comfy_api.latest import io

from ..geometry.cameras import rotation_from_angles
from ..geometry.panorama.coverage import panoramas_and_coverage
from ..geometry.panorama.panorama_files import read_panorama
from ..geometry.panorama.placing import turned
from ..host.fingerprints import fingerprint
from ..host.folders import picture_names, picture_path
from ..host.tensors import mask_to_intermediate, to_intermediate
from .remedies import speaks_as
from .schema import schema


class LoadPanorama(io.ComfyNode):
    """Load Panorama: a file as a whole panorama, with what it covers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionLoadPanorama",
            display_name="Load Panorama",
            description="Loads a 360-degree picture, whole or cropped, as a panorama twice as wide as high. Its "
            "metadata (GPano) say where a part lies and which way is north; without them its shape does.",
            search_aliases=["360", "photo sphere", "equirectangular", "gpano", "open", "import", "upload"],
            inputs=[
                io.Combo.Input(
                    "image",
                    options=picture_names(),
                    upload=io.UploadType.image,
                    image_folder=io.FolderType.input,
                    tooltip="A picture in ComfyUI/input: from Save Panorama, a 360-degree camera, a phone's photo "
                    "sphere, or any picture of panoramic shape.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="equirect", tooltip="The whole panorama; black where the file has none."),
                io.Mask.Output(display_name="coverage", tooltip="1 where the file has a picture, 0 elsewhere."),
            ],
        )

    @classmethod
    def validate_inputs(cls, image) -> bool | str:
        # A linked input is None here, and not known yet.
        return True if image is None or picture_path(image) else _no_picture(image)

    @classmethod
    def fingerprint_inputs(cls, image, **_) -> str:
        return fingerprint(picture_path(name) or name for name in (picture_names() if image is None else [image]))

    @classmethod
    @speaks_as("Load Panorama")
    def execute(cls, image) -> io.NodeOutput:
        path = picture_path(image)
        if path is None:
            raise ValueError(_no_picture(image))
        equirect, coverage = read_panorama(path)
        return io.NodeOutput(to_intermediate(equirect[None]), mask_to_intermediate(coverage[None]))


def _no_picture(name: str) -> str:
    return f"Load Panorama: there is no picture '{name}' in ComfyUI/input: upload it, or put it there and press R."


class RotatePanorama(io.ComfyNode):
    """Rotate Panorama: turns a panorama, or levels it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionRotatePanorama",
            display_name="Rotate Panorama",
            description="Turns a panorama so that its middle looks where you say: to another side, or level.",
            search_aliases=["360", "level", "horizon", "tilt", "north", "heading", "roll", "straighten"],
            inputs=[
                io.Image.Input("equirect", tooltip="Panoramas, twice as wide as high."),
                _angle("yaw", 360, "How far to the right of the old middle the new one looks, in degrees."),
                _angle("pitch", 180, "How far above the old middle the new one looks, in degrees; below, if negative."),
                _angle("roll", 180, "How far the new view is turned clockwise about its middle, in degrees."),
                io.Mask.Input(
                    "coverage",
                    optional=True,
                    tooltip="1 where the panorama has a picture: it is turned, too. Leave it out for a whole panorama.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="equirect", tooltip="The panoramas, turned."),
                io.Mask.Output(display_name="coverage", tooltip="Their coverage, turned; ones where none was given."),
            ],
        )

    @classmethod
    @speaks_as("Rotate Panorama")
    def execute(cls, equirect, yaw, pitch, roll, coverage=None) -> io.NodeOutput:
        pictures, coverage = panoramas_and_coverage(equirect, coverage)
        pictures, coverage = turned(pictures, rotation_from_angles(yaw, pitch, roll), coverage)
        return io.NodeOutput(to_intermediate(pictures), mask_to_intermediate(coverage))


def _angle(name: str, most: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=0.0, min=-float(most), max=float(most), step=0.1, tooltip=tooltip)
