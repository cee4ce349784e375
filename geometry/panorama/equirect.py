"""The equirectangular panorama: where its pixels look, and the views cut out of it.

A panorama's grid coordinates are longitude / pi and -latitude / (pi / 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from ..cameras import Cameras
from ..grid import grid_from_pixels, grid_from_world, pixel_centres
from ..input_error import InputError
from ..pictures import averaged, check_pictures, halved, halvings, to_planes
from .shape import not_two_to_one

BLOCK = 2**17  # samples read at once: bounds memory, and such blocks stay in the processor's cache


def equirect_angles(width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Longitudes (width,) and latitudes (height,) of a panorama's pixel centres, radians, float64."""
    return math.pi * pixel_centres(width), -math.pi / 2 * pixel_centres(height)


def equirect_directions(width: int, height: int, rows: slice = slice(None)) -> torch.Tensor:
    """(height, width, 3) unit world directions of a panorama's pixel centres, or of some of its rows; float64."""
    longitude, latitude = equirect_angles(width, height)
    latitude = latitude[rows]
    level = latitude.cos()[:, None]
    up = latitude.sin()[:, None].expand(-1, width)
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


def _halved_panoramas(planes: torch.Tensor, scale: float) -> torch.Tensor:
    """(B, C, H, 2 H) panoramas halved for `scale`, as long as H is even: what is left is averaged as it is read."""
    height = planes.shape[-2]
    return halved(planes, min(halvings(scale), (height & -height).bit_length() - 1))


def equirect_to_views(
    equirect: torch.Tensor,
    cameras: Cameras,
    mask: torch.Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts the cameras' views out of P panoramas.

    equirect: (P, H, 2 H, C) in 0..1. mask: (P, H, 2 H) or (1, H, 2 H), read like a colour; none counts as ones.
    progress: is told how many of all views are cut. It may raise, to stop.
    Returns views (P * V, h, w, 3) and masks (P * V, h, w), float32, panorama by panorama, on the panorama's device.

    Where a view is coarser than the panorama at its centre, the panorama is averaged over the view's pixel: halved
    first, then read at every panorama pixel left. Longitudes wrap, and beyond a pole lies the other side's meridian.
    Raises InputError as `check_panoramas` does, and for cameras in different places.
    """
    check_panoramas(equirect, mask)
    if not cameras.in_one_point:
        raise InputError(
            "only views taken from one point can be cut from a panorama, but these cameras stand in different places",
            "one_point",
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
        if progress is not None:
            progress(view + 1, cameras.views)
    return views.flatten(0, 1), masks.flatten(0, 1)


def turn_panoramas(equirect: torch.Tensor, source_from_new: torch.Tensor) -> torch.Tensor:
    """(P, H, 2 H, C) panoramas in which direction d shows what direction `source_from_new` d showed before.

    source_from_new: (3, 3) rotation. Returns float32. A turn to the side by whole columns changes no pixel's colour;
    else panoramas are read bilinearly.
    """
    panoramas, height, width, _ = equirect.shape
    columns = torch.atan2(source_from_new[0, 2], source_from_new[2, 2]).item() * width / (2 * math.pi)
    if abs(source_from_new[1, 1].item() - 1) < 1e-12 and abs(columns - round(columns)) < 1e-6:
        return equirect.float().roll(-round(columns), dims=2)
    source = _padded(equirect.movedim(-1, 1).float().flatten(0, 1)[None])
    turned = torch.empty_like(source[..., 1:-1, 1:-1])
    step = max(1, BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        directions = equirect_directions(width, height, rows) @ source_from_new.mT
        x, y = (part.float().to(source.device) for part in _grid_from_directions(directions))
        turned[..., rows, :] = _read(source, x, y)
    return turned[0].unflatten(0, (panoramas, -1)).movedim(1, -1)


def check_panoramas(
    equirect: torch.Tensor, mask: torch.Tensor | None = None, name: str = "panorama", mask_name: str = "mask"
) -> None:
    """Raises InputError for P panoramas and a mask that do not fit each other, or are none.

    equirect: (P, H, 2 H, C). mask: (P, H, 2 H) or (1, H, 2 H). `name` and `mask_name` are what users know them by.
    """
    check_pictures(equirect, name)
    panoramas, height, width = equirect.shape[:3]
    if width != 2 * height:
        raise not_two_to_one(width, height, f"an equirectangular {name}")
    if mask is None:
        return
    if mask.shape not in ((panoramas, height, width), (1, height, width)):
        fact = f"the {mask_name} must be {(panoramas, height, width)} like the panorama, not {tuple(mask.shape)}"
        if mask.shape[-2:] == (height, width):
            raise InputError(fact, "one_or_each")
        raise InputError(fact, "unpainted_mask" if mask.shape[-2:] == (64, 64) else "mask_size")
    if not torch.isfinite(mask.sum(dtype=torch.float32)):
        raise InputError(f"there are NaN or infinite numbers in the {mask_name}", "nan_mask")


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
