"""Views joined into an equirectangular panorama."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..cameras import Cameras
from ..input_error import InputError, counted, there_are
from ..pictures import empty_picture, halved, halvings, to_planes, view_planes
from .blends import BLENDS
from .equirect import check_panoramas, resize_panoramas
from .gains import photo_gains, view_gains
from .lattice import half_reach
from .overlay import Overlay, check_overlay, read_photos
from .union import UnionDepth

FADE = math.sin(math.radians(5))  # depth over which the views together fade into what is around them
MOST_WIDTH = 32768  # of a panorama that is made as fine as an overlay


def stitch(
    images: torch.Tensor,
    cameras: Cameras,
    width: int = 4096,
    blend: str = "feather",
    background: torch.Tensor | None = None,
    overlay: Overlay | None = None,
    level: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joins P * V images, panorama by panorama, to P panoramas.

    images: (P * V, h, w, 3 or 4) in 0..1, any floating type, any size of the cameras' aspect. Alpha is dropped.
    width: the panorama's, even; 0 is the native one, with pixels as fine as those in the middle of the finest view or
        photo.
    blend: feather weighs every view by its edge distance (see lattice.py), nearest takes the view with the largest,
        multiband mixes fine detail over narrow seams and colours over wide ones.
    background: (P or 1, H, 2 H, 3 or 4) panoramas that show where no view looks. The views fade into them towards
        their common boundary, not where they merely meet each other.
    overlay: photos that show over views and background. They fade into these; where nothing is below, they end sharply,
        and towards there they become opaque as views would fade.
    level: views are first brought to one brightness and tint, and photos to those of what is below, see gains.py. The
        panoramas are then held to 0..1.
    progress: is told of how many rows the views are joined, and of how many there are. It may raise, to stop.

    Returns panoramas (P, width / 2, width, 3) and coverage (P, width / 2, width), float32 on the images' device.
    Coverage is 1 where a pixel's centre lies in a view or photo, else 0; there the panorama is black or the background.
    Raises InputError for images that do not fit the cameras or hold NaN, for an odd or negative width, for views that
    touch no pixel where nothing else would show, for a background that is no panorama, and for an overlay that fits
    neither or touches no pixel.
    """
    views = view_planes(images, cameras)
    if not cameras.in_one_point:
        raise InputError(
            "only views taken from one point can be joined, but these cameras stand in different places", "one_point"
        )
    if width < 0 or width % 2:
        raise InputError(f"width must be even, or 0 for the native one, not {width}")
    if blend not in BLENDS:
        raise InputError(f"blend must be one of {', '.join(BLENDS)}, not '{blend}'")
    panoramas = images.shape[0] // cameras.views
    native = native_width(cameras, views.shape[-1])
    if overlay is not None:
        check_overlay(overlay, panoramas)
    width = width or (native if overlay is None else _native_with(overlay, native))
    if background is not None:
        background = _fitted_background(background, panoramas, width).to(views)
    fades = background is not None or overlay is not None
    depth = UnionDepth(cameras, width, views.device) if fades else None
    fade = min(FADE, half_reach(cameras))
    equirect = empty_picture(views.device, panoramas, width // 2, width, 3)
    largest = empty_picture(views.device, width // 2, width)
    if level:
        views = views * view_gains(views, cameras)

    def opacity(rows: slice, columns: slice) -> torch.Tensor:
        assert depth is not None  # asked only where something fades
        inside = torch.maximum(largest[rows, columns], depth.read(rows, columns))
        return torch.where(largest[rows, columns] > 0, (inside / fade).clamp_(0, 1), 0)

    for rows, columns, planes, distance in BLENDS[blend](halved(views, halvings(native / width)), cameras, width):
        largest[rows, columns], planes = distance, planes.unflatten(0, (-1, 3))
        if background is not None:
            planes = torch.lerp(background[..., rows, columns], planes, opacity(rows, columns))
        equirect[:, rows, columns] = planes.movedim(1, -1)
        if progress is not None and columns.stop == width:
            progress(rows.stop, width // 2)
    if not fades and not largest.any():  # nothing would show
        raise InputError(
            f"no view touches a pixel of the panorama: its pixels are {float(f'{360 / width:.2g}'):g} degrees apart, "
            f"and the widest view covers {cameras.fov_deg.max().item():.2g} degrees",
            "between_view_and_panorama",
        )
    if level:
        equirect.clamp_(0, 1)
    if overlay is not None:
        gains = photo_gains(overlay, equirect) if level else None
        _lay_photos(overlay, gains, opacity if background is None else None, equirect, largest)
    return equirect, largest.gt_(0).expand(panoramas, -1, -1).contiguous()


def _lay_photos(
    overlay: Overlay,
    gains: torch.Tensor | None,
    below: Callable[[slice, slice], torch.Tensor] | None,
    equirect: torch.Tensor,
    largest: torch.Tensor,
) -> None:
    """Lays photos over panoramas (P, H, 2 H, 3), and adds them to the largest edge distances (H, 2 H), in place.

    gains: (P, 3, 1, 1) factors of the photos; what gets lighter than 1 so is held there.
    below: how much there is, in rows and columns, that photos can fade into; none counts as 1 everywhere. Where it is 0
    photos are opaque up to their edge.
    """
    for rows, columns, photos, distance in read_photos(overlay, equirect.shape[2], equirect.device):
        seen, opacity = (distance > 0).to(photos), overlay.opacity(distance)
        if below is not None:
            opacity = torch.maximum(opacity, 1 - below(rows, columns)) * seen
        if gains is not None:
            photos = (photos * gains).clamp_max_(1)
        equirect[:, rows, columns].lerp_(photos.movedim(1, -1), opacity[..., None])
        largest[rows, columns] = torch.maximum(largest[rows, columns], distance)


def native_width(cameras: Cameras, image_width: int) -> int:
    """The panorama width whose pixels are as fine as those in the middle of the finest view, rounded up to be even.

    2 pi times the focal length in pixels: 1610 for images 512 pixels and 90 degrees wide.
    """
    focal = cameras.intrinsics[:, 0, 0].max().item() * image_width / cameras.width
    return 2 * math.ceil(math.pi * focal - 1e-6)


def _fitted_background(background: torch.Tensor, panoramas: int, width: int) -> torch.Tensor:
    """The background as (P or 1, 3, width / 2, width) float32."""
    check_panoramas(background, name="background")
    if len(background) not in (1, panoramas):
        given = there_are(len(background), "picture")
        raise InputError(f"{given} in background for {counted(panoramas, 'panorama')}", "one_or_each")
    return resize_panoramas(to_planes(background), width)


def _native_with(overlay: Overlay, native: int) -> int:
    """The native width of views together with that of the overlay."""
    width = max(native, native_width(overlay.camera, overlay.pictures.shape[2]))
    if width > MOST_WIDTH:
        raise InputError(
            f"a panorama as fine as the source would be {width} pixels wide, and {MOST_WIDTH} is the most", "too_fine"
        )
    return width
