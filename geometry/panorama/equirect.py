"""The equirectangular panorama: where its pixels look, and the views cut out of it.

Beside pixels this package uses *grid* coordinates, those of torch's grid_sample with align_corners=False: a picture
spans -1..1 from edge to edge in both axes, at every resolution. In a panorama they are longitude / pi and
-latitude / (pi / 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from ..cameras import Cameras

BLOCK = 2**17  # samples read at once: bounds memory, and such blocks stay in the processor's cache


def grid_from_pixels(width: int, height: int) -> torch.Tensor:
    """(3, 3) float64, takes pixels (x, y, 1) to grid coordinates: the one place that knows of half a pixel."""
    return torch.tensor(
        [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]], dtype=torch.float64
    )


def grid_from_world(cameras: Cameras) -> torch.Tensor:
    """(V, 3, 3) float64, takes directions to homogeneous grid coordinates of each view; the third is the depth z.

    Nothing here depends on the views' resolution: images of any size are read at the same grid coordinates.
    """
    return grid_from_pixels(cameras.width, cameras.height) @ cameras.intrinsics @ cameras.rotation.mT


def pixel_centres(size: int, part: slice = slice(None)) -> torch.Tensor:
    """(n,) float64 grid coordinates of a picture's `size` columns or rows, or of a part of them."""
    grid = grid_from_pixels(size, size)
    return torch.arange(*part.indices(size), dtype=torch.float64) * grid[0, 0] + grid[0, 2]


def equirect_angles(width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Longitudes (width,) and latitudes (height,) of a panorama's pixel centres, radians, float64."""
    return math.pi * pixel_centres(width), -math.pi / 2 * pixel_centres(height)


def equirect_directions(width: int, height: int) -> torch.Tensor:
    """(height, width, 3) unit world directions of a panorama's pixel centres, float64."""
    longitude, latitude = equirect_angles(width, height)
    level = latitude.cos()[:, None]
    up = latitude.sin()[:, None].expand(height, width)
    return torch.stack((level * longitude.sin(), -up, level * longitude.cos()), dim=-1)


def equirect_from_directions(directions: torch.Tensor, width: int) -> torch.Tensor:
    """(..., 2) pixels (x, y) of a panorama `width` wide that (..., 3) world directions of any length meet.

    x lies in -0.5..width - 0.5, y in -0.5..width / 2 - 0.5; straight up and down have the x of their z axis.
    """
    pixels_from_grid = torch.linalg.inv(grid_from_pixels(width, width // 2))
    column, row = _grid_from_directions(directions)
    column = column * pixels_from_grid[0, 0].item() + pixels_from_grid[0, 2].item()
    row = row * pixels_from_grid[1, 1].item() + pixels_from_grid[1, 2].item()
    return torch.stack((column, row), dim=-1)


def _grid_from_directions(directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Grid coordinates (...), (...) in a panorama of (..., 3) world directions."""
    x, y, z = directions.unbind(-1)
    return torch.atan2(x, z) / math.pi, torch.atan2(y, torch.hypot(x, z)) / (math.pi / 2)


def check_pictures(pictures: torch.Tensor, name: str = "picture") -> None:
    """Raises ValueError for pictures, called `name`, that are not (B, h, w, C >= 3), are empty, or hold NaN."""
    if pictures.ndim != 4 or pictures.shape[-1] < 3:
        raise ValueError(f"The {name} must be (batch, height, width, 3 or 4 channels), not {tuple(pictures.shape)}.")
    if pictures.numel() == 0:
        raise ValueError(f"There is nothing in the {name}, {tuple(pictures.shape)}: at least one picture is needed.")
    if not torch.isfinite(pictures[..., :3].sum(dtype=torch.float32)):
        raise ValueError(
            f"There are NaN or infinite numbers in the {name}: if a VAE made them, start ComfyUI with --fp32-vae."
        )


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


def _halved_panoramas(planes: torch.Tensor, scale: float) -> torch.Tensor:
    """(B, C, H, 2 H) panoramas halved for `scale`, as long as H is even: what is left is averaged as it is read."""
    height = planes.shape[-2]
    return halved(planes, min(halvings(scale), (height & -height).bit_length() - 1))


def equirect_to_views(
    equirect: torch.Tensor, cameras: Cameras, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts the cameras' views out of P panoramas.

    equirect: (P, H, 2 H, C) in 0..1. mask: (P, H, 2 H) or (1, H, 2 H), read like a colour; none counts as ones.
    Returns views (P * V, h, w, 3) and masks (P * V, h, w), float32, panorama by panorama, on the panorama's device.

    Where a view is coarser than the panorama at its centre, the panorama is averaged over the view's pixel: halved
    first, then read at every panorama pixel left. Longitudes wrap, and beyond a pole lies the other side's meridian.
    Raises ValueError as `check_panoramas` does, and for cameras in different places.
    """
    check_panoramas(equirect, mask)
    if not cameras.in_one_point:
        raise ValueError(
            "Equirect to Views cuts views that are taken from one point, but these cameras stand in different places: "
            "use Panorama Cameras."
        )
    panoramas, planes = equirect.shape[0], to_planes(equirect)
    views = planes.new_empty(panoramas, cameras.views, cameras.height, cameras.width, 3)
    masks = planes.new_ones(views.shape[:-1])
    if mask is not None:
        planes = torch.cat((planes, mask.to(planes).expand(panoramas, -1, -1)[:, None]), dim=1)
    focal = cameras.intrinsics[:, 0, 0]
    planes = _halved_panoramas(planes, planes.shape[-1] / (2 * math.pi * focal.max().item()))
    source = _padded(planes.flatten(0, 1)[None])
    for view, world_from_grid in enumerate(torch.linalg.inv(grid_from_world(cameras))):
        pixels_per_pixel = planes.shape[-1] / (2 * math.pi * focal[view].item())
        samples = max(1, math.ceil(pixels_per_pixel - 1e-6))  # rounding must not turn one sample into four
        for rows, picture in _cut(source, world_from_grid, cameras.width, cameras.height, samples):
            picture = picture.unflatten(0, (panoramas, -1)).movedim(1, -1)
            views[:, view, rows] = picture[..., :3]
            if mask is not None:
                masks[:, view, rows] = picture[..., 3]
    return views.flatten(0, 1), masks.flatten(0, 1)


def check_panoramas(
    equirect: torch.Tensor, mask: torch.Tensor | None = None, name: str = "panorama", mask_name: str = "mask"
) -> None:
    """Raises ValueError for P panoramas and a mask that do not fit each other, or are none.

    equirect: (P, H, 2 H, C). mask: (P, H, 2 H) or (1, H, 2 H). `name` and `mask_name` are what users know them by.
    """
    check_pictures(equirect, name)
    panoramas, height, width = equirect.shape[:3]
    if width != 2 * height:
        raise ValueError(
            f"An equirectangular {name} is twice as wide as high, not {width} x {height} pixels: connect one of Stitch "
            "Equirect, or pad the picture to 2:1."
        )
    if mask is None:
        return
    if mask.shape not in ((panoramas, height, width), (1, height, width)):
        unpainted = " (Load Image gives 64 x 64 where no mask was painted)" if mask.shape[-2:] == (64, 64) else ""
        raise ValueError(
            f"The {mask_name} must be {(panoramas, height, width)} like the panorama, not {tuple(mask.shape)}: scale "
            f"it to the panorama's size{unpainted}."
        )
    if not torch.isfinite(mask.sum(dtype=torch.float32)):
        raise ValueError(f"There are NaN or infinite numbers in the {mask_name}: mend the node that it comes from.")


def _padded(planes: torch.Tensor) -> torch.Tensor:
    """(1, C, H, W) panoramas with a pixel around: the far edge's column, and the pole's row turned by 180 degrees."""
    half = planes.shape[-1] // 2
    over_top, over_bottom = planes[..., :1, :].roll(half, -1), planes[..., -1:, :].roll(half, -1)
    planes = torch.cat((over_top, planes, over_bottom), dim=-2)
    return torch.cat((planes[..., -1:], planes, planes[..., :1]), dim=-1)


def resize_panoramas(planes: torch.Tensor, width: int) -> torch.Tensor:
    """(B, C, H, 2 H) panoramas at another width, averaged where that is coarser, over the wrap too."""
    if planes.shape[-1] == width:
        return planes
    return read_panoramas(_halved_panoramas(planes, planes.shape[-1] / width), width, slice(None))


def read_panoramas(planes: torch.Tensor, width: int, rows: slice, columns: slice = slice(None)) -> torch.Tensor:
    """(B, C, rows, columns) of (B, C, H, 2 H) panoramas at another width, read at each of their pixels at least."""
    samples = max(1, math.ceil(planes.shape[-1] / width - 1e-6))
    source = _padded(planes.flatten(0, 1)[None])
    x, y = (
        pixel_centres(samples * size, slice(samples * first, samples * last)).float().to(planes.device)
        for size, part in ((width, columns), (width // 2, rows))
        for first, last, _ in [part.indices(size)]
    )
    bands = [
        averaged(_read(source, *torch.meshgrid(x, band, indexing="xy")), samples)
        for band in y.split(samples * max(1, BLOCK // (samples * len(x))))
    ]
    return torch.cat(bands, dim=-2).unflatten(1, planes.shape[:2])[0]


def _read(source: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) colours at (h, w) grid coordinates of a panorama, from its padded (1, C, H + 2, W + 2)."""
    inner_height, inner_width = ((size - 2) / size for size in source.shape[-2:])
    grid = torch.stack((x * inner_width, y * inner_height), dim=-1)[None]
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _cut(
    source: torch.Tensor, world_from_grid: torch.Tensor, width: int, height: int, samples: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yields (rows, (C, rows, width)) of one view of padded panoramas, `samples` squared points per pixel averaged.

    Rays are float64 along the view's axes and float32 in their sums: 1e-3 pixels in a panorama 16384 wide.
    """
    columns, rows = pixel_centres(samples * width), pixel_centres(samples * height)
    along_row = (world_from_grid[:, 0, None, None] * columns).float().to(source.device)
    along_column = world_from_grid[:, 1, None, None] * rows[:, None] + world_from_grid[:, 2, None, None]
    along_column = along_column.float().to(source.device)
    step = max(1, BLOCK // (samples * samples * width))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        directions = along_row + along_column[:, samples * top : samples * bottom]
        picture = _read(source, *_grid_from_directions(directions.movedim(0, -1)))
        yield slice(top, bottom), averaged(picture, samples)[0]
