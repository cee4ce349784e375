"""Nodes that read and write depth sequences: frames with depth and poses."""

from __future__ import annotations

from comfy_api.latest import io

from ..geometry.depth import depth_hints
from ..geometry.figures.depth_picture import depth_picture
from ..geometry.figures.diagram import diagram
from ..geometry.sequence.da3 import MIN_CONFIDENCE
from ..geometry.sequence.scannet import FORMATS
from ..host.sequences import (
    DEMO,
    NONE,
    cameras_of_frames,
    geometry_frames,
    save_sequence,
    sequence_fingerprint,
    sequence_folder,
    sequence_frames,
    sequence_names,
)
from ..host.tensors import to_intermediate
from ..host.text import prompt_lines, prompts_of_lines
from .remedies import speaks_as
from .schema import MVCameras, schema

NOT_LINKED = object()  # a linked input is None in validate_inputs


class DepthCameras(io.ComfyNode):
    """Depth Cameras: the cameras, pictures and prompts of a depth sequence."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionDepthCameras",
            display_name="Depth Cameras",
            description="Reads frames with depth and camera poses (a folder in ScanNet's, TUM's or nerfstudio's "
            "layout) as cameras for MVDiffusion's depth weights, and picks the key frames.",
            search_aliases=["scannet", "tum", "nerfstudio", "rgbd", "depth", "poses", "sequence", "key frames"],
            inputs=[
                io.Combo.Input(
                    "sequence",
                    options=sequence_names(),
                    default=DEMO,
                    tooltip="A folder in ComfyUI/input in ScanNet's, TUM's or nerfstudio's layout, a folder from Save "
                    "Posed Views (marked [output]), or the demo. none: geometry is connected instead.",
                ),
                io.Int.Input(
                    "start",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="How many frames to leave out at the beginning.",
                ),
                io.Int.Input(
                    "stride",
                    default=1,
                    min=1,
                    max=100_000,
                    tooltip="1 takes every frame, 10 every tenth. Video has far more frames than are needed.",
                ),
                io.Int.Input(
                    "max_frames", default=0, min=0, max=100_000, tooltip="How many frames to take at most. 0: all."
                ),
                io.Int.Input(
                    "width",
                    default=256,
                    min=64,
                    max=4096,
                    step=64,
                    tooltip="Width of each view in pixels, a multiple of 64. Frames are cropped to the views' shape.",
                ),
                io.Int.Input(
                    "height",
                    default=192,
                    min=64,
                    max=4096,
                    step=64,
                    tooltip="Height of each view in pixels, a multiple of 64.",
                ),
                io.Float.Input(
                    "min_overlap",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Views that share more than this part of their pictures attend to each other.",
                ),
                io.Float.Input(
                    "keyframe_overlap",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="A frame becomes the next key frame when its overlap with the last one has fallen to this. "
                    "1: every frame is a key frame.",
                ),
                io.Custom("DA3_GEOMETRY").Input(
                    "geometry",
                    optional=True,
                    tooltip="Depth and poses from Depth Anything 3 (multi-view) instead of a sequence; set sequence to "
                    "none.",
                ),
                io.Float.Input(
                    "depth_scale",
                    optional=True,
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.000001,  # the front end rounds to it, and there are units of 1 / 6553.5 m
                    tooltip="Metres per unit of depth, such as 0.001 for millimetres. 0: what the folder's layout has; "
                    "for geometry, chosen so that the median depth is 2 m.",
                ),
                io.Float.Input(
                    "min_confidence",
                    optional=True,
                    default=MIN_CONFIDENCE,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For geometry: depth that is less certain than this counts as missing. 0 keeps all.",
                ),
            ],
            outputs=[
                MVCameras.Output(display_name="cameras", tooltip="The cameras of all frames, with their depth."),
                MVCameras.Output(display_name="keyframe_cameras", tooltip="The cameras of the key frames alone."),
                io.Image.Output(display_name="images", tooltip="The pictures of all frames."),
                io.Image.Output(display_name="keyframe_images", tooltip="The pictures of the key frames alone."),
                io.Image.Output(
                    display_name="depth_preview",
                    tooltip="The depth of all frames: near is bright, missing depth is hatched.",
                ),
                io.String.Output(display_name="prompts", tooltip="A line per frame, for Multi-View Text Encode."),
                io.String.Output(display_name="keyframe_prompts", tooltip="A line per key frame."),
                io.Image.Output(
                    display_name="cameras_preview", tooltip="The path of the cameras and where they look, from above."
                ),
                io.Image.Output(
                    display_name="depth_hints",
                    tooltip="The depth of all frames in grey, near is white: for a depth ControlNet.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, sequence, width, height, geometry=NOT_LINKED) -> bool | str:
        try:
            if sequence is not None:
                _check_source(sequence, geometry is not NOT_LINKED)
            _check_size(64 if width is None else width, 64 if height is None else height)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, sequence, **_) -> str:
        return sequence_fingerprint(sequence)

    @classmethod
    @speaks_as("Depth Cameras")
    def execute(
        cls,
        sequence,
        start,
        stride,
        max_frames,
        width,
        height,
        min_overlap,
        keyframe_overlap,
        geometry=None,
        depth_scale=0.0,
        min_confidence=MIN_CONFIDENCE,
    ) -> io.NodeOutput:
        _check_source(sequence, geometry is not None)
        _check_size(width, height)
        if sequence == NONE:
            frames = geometry_frames(geometry, depth_scale, min_confidence, start, stride, max_frames)
        else:
            frames = sequence_frames(sequence, start, stride, max_frames, depth_scale)
        cameras, images, prompts = cameras_of_frames(frames, width, height, min_overlap, keyframe_overlap)
        keyframes = list(cameras.keyframes)
        return io.NodeOutput(
            cameras,
            cameras.subset(keyframes),
            to_intermediate(images),
            to_intermediate(images[keyframes]),
            to_intermediate(depth_picture(cameras.depth, cameras.names)),
            prompt_lines(prompts),
            prompt_lines([prompts[view] for view in keyframes]),
            to_intermediate(diagram(cameras)),
            to_intermediate(depth_hints(cameras.depth)),
        )


def _check_source(sequence: str, has_geometry: bool) -> None:
    """Raises ValueError where there is nothing to read frames from, or two things."""
    if sequence != NONE:
        sequence_folder(sequence)
        if has_geometry:
            raise ValueError(
                f"Depth Cameras: sequence is '{sequence}' and geometry is connected too: set sequence to none, or "
                "disconnect geometry."
            )
    elif not has_geometry:
        raise ValueError(
            "Depth Cameras: sequence is none, and nothing is connected to geometry: choose a sequence, or connect the "
            "geometry of Depth Anything 3."
        )


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 64 or width % 64 or height % 64:
        raise ValueError(f"Depth Cameras: width and height must be multiples of 64, not {width} x {height}.")


class SavePosedViews(io.ComfyNode):
    """Save Posed Views: pictures with their depth and poses, as a folder that other programs read."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionSaveSequence",
            display_name="Save Posed Views",
            description="Saves pictures with depth and camera poses in ScanNet's layout, for programs that build 3D "
            "scenes from them and for Depth Cameras.",
            search_aliases=["scannet", "export", "rgbd", "poses", "sequence"],
            inputs=[
                io.Image.Input("images", tooltip="One image per camera, of any size with the cameras' aspect."),
                MVCameras.Input("cameras", tooltip="The cameras of Depth Cameras that the images were sampled with."),
                io.String.Input(
                    "folder",
                    default="posed_views",
                    tooltip="Name of a new folder in the output folder; if it exists, a number is added.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    optional=True,
                    tooltip="Format of the pictures. jpeg: small, and what ScanNet has. png: lossless.",
                ),
                io.String.Input(
                    "prompts",
                    optional=True,
                    force_input=True,
                    tooltip="A line per camera to save with the pictures, such as the prompts of Depth Cameras.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    @speaks_as("Save Posed Views")
    def execute(cls, images, cameras, folder, format="jpeg", prompts="") -> io.NodeOutput:
        path = save_sequence(folder, cameras, images, format, prompts_of_lines(prompts))
        return io.NodeOutput(ui={"text": [str(path)]})
