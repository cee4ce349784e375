"""Views joined into an equirectangular panorama."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .blends import BLENDS, Joined
from .cameras import Cameras
from .equirect import check_panoramas, check_pictures, halve, halved, resize_panoramas, to_planes
from .projection import half_reach

FADE = math.sin(math.radians(5))  # edge distance over which the outermost views fade into a background
MOST_BORDER = 45.0  # degrees; a photo's middle stays opaque anyway
MOST_WIDTH = 32768  # of a panorama that is made as fine as an overlay


@dataclass(frozen=True, eq=False)
class Overlay:
    """Photos that are laid over panoramas at their own resolution.

    pictures: (P or 1, H, W, 3 or 4) in 0..1. Alpha is dropped.
    camera: the one camera that saw them, in one point with the panorama's.
    border_deg: over how many degrees from their edges they fade into what lies below; at most half of the way to their
        middle, which stays opaque. 0 is a hard edge.
    """

    pictures: torch.Tensor
    camera: Cameras
    border_deg: float = 5.0


def stitch(
    images: torch.Tensor,
    cameras: Cameras,
    width: int = 4096,
    blend: str = "feather",
    background: torch.Tensor | None = None,
    overlay: Overlay | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joins P * V images, panorama by panorama, to P panoramas.

    images: (P * V, h, w, 3 or 4) in 0..1, any floating type, any size of the cameras' aspect. Alpha is dropped.
    width: the panorama's, even; 0 is the native one, with pixels as fine as those in the middle of the finest view or
        photo.
    blend: feather weighs every view by its edge distance (see projection.py), nearest takes the view with the largest,
        multiband mixes fine detail over narrow seams and colours over wide ones.
    background: (P or 1, H, 2 H, 3 or 4) panoramas that show where no view looks, and that the views fade into.
    overlay: photos that show over views and background. They fade into these; where nothing is below, they end sharply.

    Returns panoramas (P, width / 2, width, 3) and coverage (P, width / 2, width), float32 on the images' device.
    Coverage is 1 where a pixel's centre lies in a view or photo, else 0; there the panorama is black or the background.
    Raises ValueError for images that do not fit the cameras or hold NaN, for an odd or negative width, for a background
    that is no panorama, and for an overlay that fits neither.
    """
    views = _checked(images, cameras)
    if width < 0 or width % 2:
        raise ValueError(f"The panorama's width must be even, or 0 for the native one, not {width}.")
    if blend not in BLENDS:
        raise ValueError(f"Unknown blend '{blend}': choose one of {', '.join(BLENDS)}.")
    panoramas = images.shape[0] // cameras.views
    native = native_width(cameras, views.shape[-1])
    if overlay is not None:
        _check_overlay(overlay, panoramas)
    width = width or (native if overlay is None else _native_with(overlay, native))
    views = halve(views, native / width)
    equirect = views.new_zeros(panoramas, width // 2, width, 3)
    coverage = views.new_zeros(panoramas, width // 2, width)
    fade, everywhere = 0.0, background is not None
    if everywhere:
        equirect[:] = _fitted_background(background, panoramas, width).to(views).permute(0, 2, 3, 1)
        fade = min(FADE, half_reach(cameras))
    _paint(BLENDS[blend](views, cameras, width), fade, everywhere, equirect, coverage)
    if overlay is not None:
        fade = min(math.sin(math.radians(overlay.border_deg)), half_reach(overlay.camera))
        _paint(_photos(overlay, width, views), fade, everywhere, equirect, coverage)
    return equirect, coverage


def _paint(joined: Joined, fade: float, everywhere: bool, equirect: torch.Tensor, coverage: torch.Tensor) -> None:
    """Lays bands over panoramas (P, H, 2 H, 3) and adds them to their coverage (P, H, 2 H), both in place.

    Over an edge distance of `fade` they fade into what is there: `everywhere` something, else where coverage is.
    """
    for rows, planes, distance in joined:
        opacity = seen = (distance > 0).to(planes)
        if fade:
            opacity = (distance / fade).clamp(0, 1)
            opacity = opacity if everywhere else torch.where(coverage[:, rows] > 0, opacity, seen)
        coverage[:, rows] = torch.maximum(coverage[:, rows], seen)
        colours = planes.unflatten(0, (-1, 3)).permute(0, 2, 3, 1)
        equirect[:, rows] = equirect[:, rows].lerp(colours, opacity[..., None])


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


def _check_overlay(overlay: Overlay, panoramas: int) -> None:
    check_pictures(overlay.pictures, "source")
    if len(overlay.pictures) not in (1, panoramas):
        raise ValueError(
            f"There are {len(overlay.pictures)} sources for {panoramas} panoramas: give one, or one for each."
        )
    if not 0 <= overlay.border_deg <= MOST_BORDER:
        raise ValueError(f"The source's border must be 0 to {MOST_BORDER:g} degrees wide, not {overlay.border_deg}.")


def _native_with(overlay: Overlay, native: int) -> int:
    """The native width of views together with that of the overlay."""
    width = max(native, native_width(overlay.camera, overlay.pictures.shape[2]))
    if width > MOST_WIDTH:
        raise ValueError(
            f"A panorama as fine as the source would be {width} pixels wide: choose a width of at most {MOST_WIDTH} in "
            "place of 0."
        )
    return width


def _photos(overlay: Overlay, width: int, views: torch.Tensor) -> Joined:
    """The overlay's photos as bands, on the views' device: one view, which is the nearest wherever it looks."""
    photos = overlay.pictures[..., :3].to(views).movedim(-1, 1)
    finer = native_width(overlay.camera, photos.shape[-1]) / width
    if finer >= 2:
        photos = halved(photos, math.floor(math.log2(finer)))
    return BLENDS["nearest"](photos.flatten(0, 1)[None], overlay.camera, width)
