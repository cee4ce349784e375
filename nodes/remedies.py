"""What people read when geometry or weights refuse their input: the node's title, the fact, and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from ..geometry.input_error import InputError

_MATRIX = "the depth camera's matrix (fx 0 cx, 0 fy cy, 0 0 1)"
_WEIGHTS = "put the authors' .ckpt or a .safetensors file in its place"

# By name: what follows the fact, with the punctuation that leads to it.
REMEDIES = {
    # Pictures, masks and panoramas
    "empty_pictures": ": at least one picture is needed",
    "nan_pictures": ": if a VAE made them, start ComfyUI with --fp32-vae",
    "nan_mask": ": fix the node that it comes from",
    "mask_size": ": scale it to the panorama's size",
    "unpainted_mask": ": scale it to the panorama's size (Load Image gives 64 x 64 where no mask was painted)",
    "two_to_one": ": connect a panorama, such as that of Stitch Equirect; Load Panorama puts a cropped one's file in "
    "its place",
    "scale_to_two_to_one": ": scale it to that with Upscale Image, without crop",
    "pad_to_two_to_one": ": if it is a strip all around, pad it to 2:1 above and below, or open its file with Load "
    "Panorama, which does that",
    "no_coverage": ": it must be 1 where the panorama has a picture, as Stitch Equirect's is. Leave it out for a whole "
    "panorama",
    "one_or_each": ": give one, or one for each",
    "too_fine": ": choose a width instead of 0",
    # Files of panoramas
    "choose_picture": ": choose another picture",
    "place_unknown": ". Panoramas are twice as wide as high, strips all around even wider, half spheres square. For a "
    "plain photo use Load Image and Source Image to Views",
    "write_gpano_again": ": save it with the metadata (GPano) of this picture, or without any",
    "equirectangular_only": ": convert it to an equirectangular one",
    "scale_it_down": ": scale it down",
    # Photos
    "views_and_mask": ": connect both, from an earlier Source Image to Views or from Equirect to Views, or neither",
    "own_mask": ": connect the mask that came with them",
    "same_cameras": ": make them with the same cameras",
    "beside_views": "; change its yaw, pitch or fov, or the cameras",
    "between_view_pixels": ": use a larger fov or larger cameras",
    "between_pixels": ": use a larger source_fov or width",
    "between_view_and_panorama": ": use a larger width, or a larger fov in Panorama Cameras",
    # Cameras of panoramas
    "one_point": ": use Panorama Cameras",
    "square_faces": ": make width and height equal",
    "one_camera": ". Use two or more",
    "no_neighbours": ". Choose ring, sphere or rings in Panorama Cameras",
    "nothing_overlaps_panorama": ". Use a larger fov or more views in Panorama Cameras",
    # Depth sequences
    "nothing_overlaps_sequence": ", at a depth that agrees within 0.5 m. Check that the depth is in metres and belongs "
    "to these poses, or use frames that are closer to each other",
    "cameras_with_depth": ": connect the cameras of Depth Cameras",
    "one_image_per_camera": ": connect one image per camera, and the cameras that the images were sampled with",
    "one_prompt_per_camera": ": give one per camera",
    "few_frames": ": lower start or stride, or choose another sequence",
    "few_frames_in_folder": ": fix these, lower start or stride, or raise max_frames",
    "few_pictures": ": lower min_confidence, start or stride, or give Depth Anything 3 pictures that show more of the "
    "same",
    "lower_start": ": lower start",
    "lone_keyframes": ": use a smaller stride or a larger keyframe_overlap, or check that depth and pose are right",
    "crop_pictures": ". Crop the pictures to what the depth maps show",
    "estimate_poses": ": connect two pictures or more to Run Depth Anything 3, set its mode to multiview, and load "
    "depth_anything_3_base.safetensors or depth_anything_3_small.safetensors, which estimate poses",
    "no_folder": ": choose another sequence, or put it there",
    "metres_per_unit": ": give how many metres a unit of depth is, such as 0.001 for millimetres, or 0",
    "units_per_metre": ": write 1000 for millimetres",
    "timed_lines": ": write a time in seconds, a space, and the file or pose of that time",
    "calibration": ": write fx fy cx cy of the depth camera there",
    "tum_matrix": f", and TUM's own folders hold none: write {_MATRIX} to the latter, 525 0 319.5, 0 525 239.5, 0 0 1 "
    "for a Kinect that nobody calibrated",
    "transforms": ": export it again, or write it as nerfstudio's documentation says",
    "undistort": ": the views must come from a pinhole camera. Undistort pictures and depth maps, and write the new "
    "intrinsics there",
    "sixteen_bits": ": write depth maps as 16-bit PNG files that hold millimetres",
    "one_size": ": make them one size",
    "write_matrix": f": write {_MATRIX} there",
    "write_matrix_at_size": f". Write {_MATRIX} at that size there",
    # Training
    "no_panoramas": ": connect panoramas, twice as wide as high, or set source to rendered rooms",
    "scale_or_pad": ": scale what is nearly 2:1 to exactly that, and pad strips above and below",
    "write_captions": ": say what it shows in 1 line, or in a line per view",
    "from_one_node": ": connect images and cameras of one Depth Cameras node",
    "cameras_of_panorama": ": use Panorama Cameras",
    "cameras_of_sequence": ": use Depth Cameras, which know depth",
    "blocks_of_model": ": connect one from Load MVDiffusion",
    "choose_start": ": choose another, or new blocks",
    "set_back": ": set that back to go on with it, or begin another run",
    "another_run": ": begin another run",
    "remove_state": ": remove that step's folder, and begin anew",
    # Files of weights
    "get_again": ": get the file again",
    "replace_file": f"; {_WEIGHTS}",
    "git_lfs_pull": f": fetch that with `git lfs pull`, or {_WEIGHTS}",
    "choose_weights": ": choose MVDiffusion weights instead",
    "multi_view_checkpoint": ": choose the authors' multi-view checkpoint instead",
    "load_checkpoint": ": load it with Load Checkpoint, and pass its MODEL through Load MVDiffusion with a file of "
    "MVDiffusion weights",
    "load_base": ": load SD 2 with Load Checkpoint, and pass its MODEL through Load MVDiffusion with this file",
    "depth_base": ": take SD 2 depth, or all of this file with Load MVDiffusion Checkpoint",
    "load_lora": ": apply it to the MODEL with Load LoRA instead",
    "load_controlnet": ": load it with Load ControlNet Model instead",
    "load_vae": ": load it with Load VAE instead",
    "load_clip": ": load it with Load CLIP instead",
}


def speaks_as(title: str) -> Callable:
    """Of a node's execute: what is at fault is said with the node's title before it and the remedy behind it."""

    def decorate(execute: Callable) -> Callable:
        @wraps(execute)
        def spoken(*args, **inputs):
            try:
                return execute(*args, **inputs)
            except InputError as error:
                raise ValueError(sentence(title, error)) from error

        return spoken

    return decorate


def sentence(title: str, error: InputError) -> str:
    """'Overlap PSNR: there is one camera, ... Use two or more.'"""
    return f"{title}: {said(error)}"


def said(error: InputError) -> str:
    """'there is one camera, ... Use two or more.'"""
    return f"{str(error).removesuffix('.')}{REMEDIES[error.remedy] if error.remedy else ''}."
