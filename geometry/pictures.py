"""Pictures as tensors: whether they are any, their planes, averaged to fewer pixels, and read between their pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from .cameras import Cameras
from .input_error import InputError, counted
from .threads import SERIAL

if TYPE_CHECKING:
    from .scene import Scene


def check_pictures(pictures: torch.Tensor, name: str = "picture") -> None:
    """Raises InputError for pictures, called `name`, that are not (B, h, w, C >= 3), are empty, or hold NaN."""
    if pictures.ndim != 4 or pictures.shape[-1] < 3:
        raise InputError(f"the {name} must be (batch, height, width, 3 or 4 channels), not {tuple(pictures.shape)}")
    if pictures.numel() == 0:
        raise InputError(f"there is nothing in the {name}, {tuple(pictures.shape)}", "empty_pictures")
    if not torch.isfinite(pictures[..., :3].sum(dtype=torch.float32)):
        raise InputError(f"there are NaN or infinite numbers in the {name}", "nan_pictures")


def same_proportions(width: int, height: int, cameras: Cameras | Scene) -> bool:
    """Whether pictures of a size have the proportions of the cameras' views, as well as whole pixels allow."""
    return abs(width * cameras.height - height * cameras.width) <= max(cameras.width, cameras.height) / 2


def view_planes(images: torch.Tensor, cameras: Cameras | Scene) -> torch.Tensor:
    """P * V images, panorama by panorama, as (V, P * 3, h, w) float32: of each view, all panoramas' colours.

    images: (P * V, h, w, 3 or 4), any floating type, any size of the cameras' aspect. Alpha is dropped. What is
        returned may be their own memory: it is for reading only.
    Raises InputError for images that do not fit the cameras or hold NaN.
    """
    check_pictures(images, "images")
    count, height, width, _ = images.shape
    if count % cameras.views:
        problem = "too few images" if count < cameras.views else "the images are not a multiple of the cameras"
        raise InputError(f"{problem}: {counted(count, 'image')}, {counted(cameras.views, 'camera')}")
    if not same_proportions(width, height, cameras):
        raise InputError(
            f"the images are {width} x {height} pixels, which is not the aspect of the cameras' "
            f"{cameras.width} x {cameras.height}"
        )
    planes = images[..., :3].movedim(-1, 1).float()
    return planes.unflatten(0, (-1, cameras.views)).transpose(0, 1).flatten(1, 2)


def empty_picture(device: torch.device, *shape: int) -> torch.Tensor:
    """Float32 memory for a picture, which is not filled.

    On CPUs it is NumPy's, which asks Linux for huge pages: the first write then takes a quarter of the time.
    """
    if device.type != "cpu":
        return torch.empty(shape, device=device)
    return torch.from_numpy(np.empty(shape, np.float32))


def to_planes(pictures: torch.Tensor) -> torch.Tensor:
    """(B, h, w, C >= 3) in any floating type to (B, 3, h, w) float32; alpha is dropped."""
    return pictures[..., :3].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def halvings(scale: float) -> int:
    """How often pictures are halved for `scale` source pixels per target pixel to fall below 2.

    Below 2 a bilinear read passes over no pixel.
    """
    return max(0, math.floor(math.log2(scale)))


def halved(pictures: torch.Tensor, times: int) -> torch.Tensor:
    """(B, C, h, w) pictures of any size halved `times` times by averaging: grid coordinates stay as they are.

    Odd sides are first stretched by a pixel. That is for pictures with ends, not over a panorama's wrap.
    """

    def resized(size: list[int]) -> torch.Tensor:
        return F.interpolate(pictures, size=size, mode="bilinear", align_corners=False)

    for _ in range(times):
        half = [math.ceil(side / 2) for side in pictures.shape[-2:]]
        if any(side % 2 for side in pictures.shape[-2:]):
            pictures = resized([2 * side for side in half])
        pictures = resized(half)  # exact means of four, and with the channels last faster than pooling
    return pictures


def averaged(samples: torch.Tensor, per_pixel: int) -> torch.Tensor:
    """(..., C, h, w) means of `per_pixel` squared samples (..., C, per_pixel * h, per_pixel * w) each."""
    return samples if per_pixel == 1 else F.avg_pool2d(samples, per_pixel)


def read_continued(pictures: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(B, C, rows, columns) colours of (B, C, h, w) pictures at (2, rows, columns) grid coordinates, which it changes.

    Bilinear. Outside, the nearest border pixel's centre is read: in place of padding_mode="border", which MPS lacks.
    """
    height, width = pictures.shape[-2:]
    grid[0].clamp_(1 / width - 1, 1 - 1 / width)
    grid[1].clamp_(1 / height - 1, 1 - 1 / height)
    return read(pictures, grid.permute(1, 2, 0))


def read(pictures: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(B, C, rows, columns) colours of (B, C, h, w) pictures at (rows, columns, 2) grid coordinates.

    Bilinear; black outside.
    """
    if len(pictures) == 1 and grid.device.type == "cpu" and grid.numel() > SERIAL:
        # Threads share out a batch only: it is made of the rows.
        return _read(pictures.expand(len(grid), -1, -1, -1), grid[:, None]).transpose(0, 2)
    return _read(pictures, grid.expand(len(pictures), -1, -1, -1))


def _read(pictures: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
