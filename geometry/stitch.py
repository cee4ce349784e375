"""Views joined into an equirectangular panorama."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch

from .cameras import Cameras
from .equirect import check_panoramas, check_pictures, equirect_angles, halve, resize_panoramas, to_planes
from .multiband import multiband
from .projection import Projection, half_reach, runs

BAND = 96  # rows joined at once: bounds memory, and blocks of this height stay in the processor's cache
FADE = math.sin(math.radians(5))  # edge distance over which the outermost views fade into a background

Weigh = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Bands of rows with their colours (P * 3, rows, width) and the largest edge distance of all views (rows, width), which
# is positive where a view looks; bands without a view are left out.
Joined = Iterator[tuple[slice, torch.Tensor, torch.Tensor]]


def stitch(
    images: torch.Tensor,
    cameras: Cameras,
    width: int = 4096,
    blend: str = "feather",
    background: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joins P * V images, panorama by panorama, to P panoramas.

    images: (P * V, h, w, 3 or 4) in 0..1, any floating type, any size of the cameras' aspect. Alpha is dropped.
    width: the panorama's, even; 0 is the native one, with pixels as fine as those in the middle of the finest view.
    blend: feather weighs every view by its edge distance (see projection.py), nearest takes the view with the largest,
        multiband mixes fine detail over narrow seams and colours over wide ones.
    background: (P or 1, H, 2 H, 3 or 4) panoramas that show where no view looks, and that the views fade into.

    Returns panoramas (P, width / 2, width, 3) and coverage (P, width / 2, width), float32 on the images' device.
    Coverage is 1 where a pixel's centre lies in a view, else 0; there the panorama is black or the background.
    Raises ValueError for images that do not fit the cameras or hold NaN, for an odd or negative width, and for a
    background that is no panorama.
    """
    views = _checked(images, cameras)
    if width < 0 or width % 2:
        raise ValueError(f"The panorama's width must be even, or 0 for the native one, not {width}.")
    if blend not in BLENDS:
        raise ValueError(f"Unknown blend '{blend}': choose one of {', '.join(BLENDS)}.")
    native = native_width(cameras, views.shape[-1])
    width = width or native
    views = halve(views, native / width)
    panoramas = images.shape[0] // cameras.views
    equirect = views.new_zeros(panoramas, width // 2, width, 3)
    coverage = views.new_zeros(panoramas, width // 2, width)
    fade = 0.0
    if background is not None:
        equirect[:] = _fitted_background(background, panoramas, width).to(views).permute(0, 2, 3, 1)
        fade = min(FADE, half_reach(cameras))
    for rows, planes, distance in BLENDS[blend](views, cameras, width):
        coverage[:, rows] = distance > 0
        opacity = (distance / fade).clamp(0, 1) if fade else (distance > 0).to(planes)
        colours = planes.unflatten(0, (panoramas, 3)).permute(0, 2, 3, 1)
        equirect[:, rows] = equirect[:, rows].lerp(colours, opacity[..., None])
    return equirect, coverage


def native_width(cameras: Cameras, image_width: int) -> int:
    """The panorama width whose pixels are as fine as those in the middle of the finest view, rounded up to be even.

    2 pi times the focal length in pixels: 1610 for images 512 pixels and 90 degrees wide.
    """
    focal = cameras.intrinsics[:, 0, 0].max().item() * image_width / cameras.width
    return 2 * math.ceil(math.pi * focal - 1e-6)


def _checked(images: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """The images as (V, P * 3, h, w) float32: of each view, all panoramas' colours."""
    check_pictures(images, "images")
    count, height, width, _ = images.shape
    if count % cameras.views:
        problem = "Too few images to stitch" if count < cameras.views else "The images are no multiple of the cameras"
        raise ValueError(f"{problem}: {count} images, {cameras.views} cameras.")
    if abs(width * cameras.height - height * cameras.width) > max(cameras.width, cameras.height) / 2:
        raise ValueError(
            f"The images are {width} x {height} pixels, which is not the aspect of the cameras' "
            f"{cameras.width} x {cameras.height}."
        )
    if not cameras.in_one_point:
        raise ValueError(
            "Only views taken from one point can be stitched, but these cameras stand in different places."
        )
    return to_planes(images).unflatten(0, (-1, cameras.views)).transpose(0, 1).flatten(1, 2)


def _fitted_background(background: torch.Tensor, panoramas: int, width: int) -> torch.Tensor:
    """The background as (P or 1, 3, width / 2, width) float32."""
    check_panoramas(background, name="background")
    if len(background) not in (1, panoramas):
        raise ValueError(
            f"There are {len(background)} backgrounds for {panoramas} panoramas: give one, or one for each."
        )
    return resize_panoramas(to_planes(background), width)


def _single_band(weigh: Weigh, views: torch.Tensor, cameras: Cameras, width: int) -> Joined:
    """Joins band by band of rows; `weigh` makes a view's weights of its edge distances and the largest of all views."""
    longitude, latitude = equirect_angles(width, width // 2)
    projection = Projection.of(cameras, longitude, latitude, views.device)
    cells = Projection.of(cameras, _cell_middles(longitude), _cell_middles(latitude), "cpu")
    reached = cells.reached(BAND * math.sqrt(0.5) * 2 * math.pi / width)
    for band, top in enumerate(range(0, width // 2, BAND)):
        rows = slice(top, min(top + BAND, width // 2))
        patches = [
            (view, columns, projection.distance(view, rows, columns))
            for view in range(cameras.views)
            for run in runs(reached[view, band])
            for columns in [slice(run.start * BAND, run.stop * BAND)]  # may end beyond the width, as slices can
        ]
        if not patches:
            continue
        largest = views.new_zeros(rows.stop - rows.start, width)
        for _, columns, distance in patches:
            largest[:, columns] = torch.maximum(largest[:, columns], distance)
        total, weights = views.new_zeros(views.shape[1], *largest.shape), torch.full_like(largest, 1e-30)
        for view, columns, distance in patches:
            weight = weigh(distance, largest[:, columns])
            total[..., columns] += projection.sample(views[view], view, rows, columns).mul_(weight)
            weights[:, columns] += weight
        yield rows, total.div_(weights), largest


def _cell_middles(angles: torch.Tensor) -> torch.Tensor:
    """The angle in the middle of every BAND pixels; the last cell may be cut off."""
    return angles[torch.arange(0, len(angles), BAND).add(BAND // 2).clamp_max(len(angles) - 1)]


def _all_bands(views: torch.Tensor, cameras: Cameras, width: int) -> Joined:
    yield slice(0, width // 2), *multiband(views, cameras, width)


BLENDS: dict[str, Callable[[torch.Tensor, Cameras, int], Joined]] = {
    "feather": partial(_single_band, lambda distance, largest: distance.clamp_min(0)),
    "multiband": _all_bands,
    "nearest": partial(_single_band, lambda distance, largest: ((distance == largest) & (distance > 0)).to(distance)),
}
