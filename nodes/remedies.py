"""What people read when geometry or weights refuse their input: the node's title, the fact, and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from ..geometry.input_error import InputError

REMEDIES = {
    "empty_pictures": ": at least one picture is needed",
    "nan_pictures": ": if a VAE made them, start ComfyUI with --fp32-vae",
    "one_camera": ". Use two or more",
    "no_neighbours": ". Choose ring, sphere or rings in Panorama Cameras",
    "nothing_overlaps_panorama": ". Use a larger fov or more views in Panorama Cameras",
    "nothing_overlaps_sequence": ", at a depth that agrees within 0.5 m. Check that the depth is in metres and belongs "
    "to these poses, or use frames that are closer to each other",
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
    return f"{title}: {str(error).removesuffix('.')}{REMEDIES[error.remedy] if error.remedy else ''}."
