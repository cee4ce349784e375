"""The equirectangular panorama: where its pixels look, and the views cut out of it.

A panorama's grid coordinates are longitude / pi and -latitude / (pi / 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from ..cameras import Cameras
from ..grid import grid_from_pixels, grid_from_world, pixel_centres
from ..input_error import InputError
from ..pictures import averaged, check_pictures, empty_picture, halved, halvings, read
from ..threads import SERIAL
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
    column, row = _grid_from_directions(*directions.unbind(-1))
    column = column * pixels_from_grid[0, 0].item() + pixels_from_grid[0, 2].item()
    row = row * pixels_from_grid[1, 1].item() + pixels_from_grid[1, 2].item()
    return torch.stack((column, row), dim=-1)


def _grid_from_directions(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """(2, ...) grid coordinates in a panorama of world directions of any length, (...) each."""
    grid = x.new_empty(2, *x.shape)
    torch.atan2(x, z, out=grid[0]).div_(math.pi)
    torch.atan2(y, torch.hypot(x, z), out=grid[1]).div_(math.pi / 2)
    return grid


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
    first, then read as often per side as panorama pixels are left in one of the view's, rounded. Longitudes wrap, and
    beyond a pole lies the other side's meridian.
    Raises InputError as `check_panoramas` does, and for cameras in different places.
    """
    check_panoramas(equirect, mask)
    if not cameras.in_one_point:
        raise InputError(
            "only views taken from one point can be cut from a panorama, but these cameras stand in different places",
            "one_point",
        )
    panoramas, focal = equirect.shape[0], cameras.intrinsics[:, 0, 0]
    views = empty_picture(equirect.device, panoramas, cameras.views, cameras.height, cameras.width, 3)
    masks = views.new_ones(views.shape[:-1])
    scale = equirect.shape[2] / (2 * math.pi * focal.max().item())
    planes = _halved_panoramas(equirect[..., :3].movedim(-1, 1).float(), scale)
    if mask is not None:
        mask_planes = _halved_panoramas(mask.to(planes)[:, None], scale)
        planes = torch.cat((planes, mask_planes.expand(panoramas, -1, -1, -1)), dim=1)
    source = padded_panoramas(planes)
    for view, world_from_grid in enumerate(torch.linalg.inv(grid_from_world(cameras))):
        samples = max(1, round(planes.shape[-1] / (2 * math.pi * focal[view].item())))
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
    source = padded_panoramas(equirect.movedim(-1, 1))
    turned = torch.empty_like(source[..., 1:-1, 1:-1])
    step = max(1, BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        directions = equirect_directions(width, height, rows) @ source_from_new.mT
        grid = _grid_from_directions(*directions.unbind(-1))
        turned[..., rows, :] = _read(source, grid.float().to(source.device))
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


def padded_panoramas(planes: torch.Tensor) -> torch.Tensor:
    """(1, B * C, H + 2, W + 2) float32 of (B, C, H, W) panoramas, with a pixel around.

    At the sides that is the far edge's column, beyond the poles the pole's row turned by 180 degrees.
    """
    panoramas, channels, height, width = planes.shape
    padded = empty_picture(planes.device, panoramas, channels, height + 2, width + 2)
    inner = padded[..., 1:-1]
    inner[..., 1:-1, :] = planes
    inner[..., 0, :], inner[..., -1, :] = (inner[..., row, :].roll(width // 2, -1) for row in (1, -2))
    padded[..., 0], padded[..., -1] = inner[..., -1], inner[..., 0]
    return padded.flatten(0, 1)[None]


def resize_panoramas(planes: torch.Tensor, width: int) -> torch.Tensor:
    """(B, C, H, 2 H) panoramas at another width, averaged where that is coarser, over the wrap too."""
    if planes.shape[-1] == width:
        return planes
    source = padded_panoramas(_halved_panoramas(planes, planes.shape[-1] / width))
    return read_panoramas(source, width, slice(None)).unflatten(0, planes.shape[:2])


def read_panoramas(source: torch.Tensor, width: int, rows: slice, columns: slice = slice(None)) -> torch.Tensor:
    """(B * C, rows, columns) of `padded_panoramas` at another width, read at each of their pixels at least."""
    samples = max(1, math.ceil((source.shape[-1] - 2) / width - 1e-6))
    x, y = (
        pixel_centres(samples * size, slice(samples * first, samples * last)).float().to(source.device)
        for size, part in ((width, columns), (width // 2, rows))
        for first, last, _ in [part.indices(size)]
    )
    bands = [
        averaged(_read(source, torch.stack(torch.meshgrid(x, band, indexing="xy"))), samples)
        for band in y.split(samples * max(1, BLOCK // (samples * len(x))))
    ]
    return torch.cat(bands, dim=-2)[0]


def _read(source: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) colours at (2, h, w) grid coordinates, which it changes, of `padded_panoramas`."""
    height, width = source.shape[-2:]
    grid[0] *= (width - 2) / width
    grid[1] *= (height - 2) / height
    return read(source, grid.permute(1, 2, 0))


def _cut(
    source: torch.Tensor, world_from_grid: torch.Tensor, width: int, height: int, samples: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yields (rows, (C, rows, width)) of one view of padded panoramas, `samples` squared points per pixel averaged.

    Rays are float64 along the view's axes and float32 in their sums: 1e-3 pixels in a panorama 16384 wide.
    """
    right, down, forward = world_from_grid.mT[..., None, None, None, None]
    # The first point of every pixel, the second, ...: (3, points down, points across, rows, columns)
    columns = pixel_centres(samples * width).view(width, samples).mT[:, None]
    rows = pixel_centres(samples * height).view(height, samples).mT[:, None, :, None]
    along_row = (right * columns).float().to(source.device)
    along_column = (down * rows + forward).float().to(source.device)

    block = SERIAL // 3 if source.device.type == "cpu" else BLOCK  # directions are three numbers
    step = max(1, block // (samples * samples * width))
    for top in range(0, height, step):
        part = slice(top, min(top + step, height))
        directions = along_row + along_column[..., part, :]
        points = _read(source, _grid_from_directions(*directions.flatten(1, 3)))[0]
        yield part, points if samples == 1 else points.unflatten(1, (samples * samples, -1)).mean(1)
