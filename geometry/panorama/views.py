"""Pictures that were taken with cameras: whether they fit, and in the order in which they are compared and joined."""

from __future__ import annotations

import torch

from ..cameras import Cameras
from .equirect import check_pictures


def view_planes(images: torch.Tensor, cameras: Cameras, node: str) -> torch.Tensor:
    """P * V images, panorama by panorama, as (V, P * 3, h, w) float32: of each view, all panoramas' colours.

    images: (P * V, h, w, 3 or 4), any floating type, any size of the cameras' aspect. Alpha is dropped. What is
        returned may be their own memory: it is for reading only.
    Raises ValueError, in a sentence that names `node`, for images that do not fit the cameras or hold NaN.
    """
    check_pictures(images, f"images of {node}")
    count, height, width, _ = images.shape
    if count % cameras.views:
        problem = "too few images" if count < cameras.views else "the images are no multiple of the cameras"
        raise ValueError(f"{node}: {problem}: {count} images, {cameras.views} cameras.")
    if abs(width * cameras.height - height * cameras.width) > max(cameras.width, cameras.height) / 2:
        raise ValueError(
            f"{node}: the images are {width} x {height} pixels, which is not the aspect of the cameras' "
            f"{cameras.width} x {cameras.height}."
        )
    planes = images[..., :3].movedim(-1, 1).float()
    return planes.unflatten(0, (-1, cameras.views)).transpose(0, 1).flatten(1, 2)
