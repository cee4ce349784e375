"""Photos projected into the views that they touch: what is given there, and what is left to generate."""

from __future__ import annotations

import math

import torch

from ..cameras import Cameras, intrinsics_from_fov, rotation_from_angles
from ..input_error import InputError, there_are
from ..pictures import check_pictures, halved
from .reprojection import Reprojection

GREY = 0.5  # of pixels that nothing gives: 0 in the -1..1 of the published model's masked image


def source_camera(
    width: int,
    height: int,
    cameras: Cameras,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    fov_deg: float = 0.0,
) -> Cameras:
    """The one camera of a photo `width` x `height` pixels large that stands where view 0 stands.

    Angles are relative to view 0: yaw turns about the world's vertical, then pitch and roll about the axes of the view
    turned so. In a ring of 8 a yaw of 45 is view 1, also where the ring is pitched. fov_deg is horizontal, over the
    photo's width; 0 stands for that of view 0.
    Raises InputError for a field of view outside (0, 180), for angles that are not finite, and for an empty photo.
    """
    if min(width, height) < 1:
        raise InputError(f"the source needs a positive size, not {width} x {height}")
    if not all(math.isfinite(angle) for angle in (yaw_deg, pitch_deg, roll_deg)):
        raise InputError(
            f"yaw, pitch and roll of the source must be finite, not {yaw_deg}, {pitch_deg} and {roll_deg} degrees"
        )
    if not 0 <= fov_deg < 180:
        raise InputError(
            "the source's fov must lie between 0 and 180 degrees (exclusive), or be 0 for that of view 0, not "
            f"{fov_deg}"
        )
    cam_to_world = cameras.cam_to_world[:1].clone()
    turned, tilted = rotation_from_angles(yaw_deg, 0), rotation_from_angles(0, pitch_deg, roll_deg)
    cam_to_world[0, :3, :3] = turned @ cameras.rotation[0] @ tilted
    intrinsics = intrinsics_from_fov(fov_deg or cameras.fov_deg[0, 0].item(), width, height)
    return Cameras(intrinsics[None], cam_to_world, width, height)


def source_to_views(
    image: torch.Tensor,
    cameras: Cameras,
    source: Cameras,
    views: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projects P photos into every view that they touch.

    image: (P, H, W, 3 or 4) in 0..1; alpha is dropped. source: the one camera that saw the photos.
    views, mask: (P * V, h, w, 3 or 4) and (P * V, h, w), panorama by panorama, of an earlier call or of
        `equirect_to_views`. The photos are put over them; P may be 1 here or there.

    Returns views (P * V, h, w, 3) and mask (P * V, h, w), float32 on the image's device. The mask is 0 where a pixel's
    centre lies in a photo, and there views show the photo, averaged over the pixel where the view is coarser. Elsewhere
    both are what was given; where nothing was, grey and 1: left to generate.
    Raises InputError for a photo that touches no view, and for inputs that do not fit each other or hold NaN.
    """
    _check(image, cameras, views, mask)
    levels = [image[..., :3].float().movedim(-1, 1)]
    if views is None or mask is None:
        shape = len(image), cameras.views, cameras.height, cameras.width
        views, mask = levels[0].new_full((*shape, 3), GREY), levels[0].new_ones(shape)
    else:
        views, mask = (_by_panorama(part, cameras, len(image)).to(levels[0]) for part in (views[..., :3], mask))
    touched = False
    for view in range(cameras.views):
        photo = Reprojection.of(source, cameras, view)
        for tile in photo.tiles():
            inside = photo.inside(tile)
            if inside.any():
                touched, part, inside = True, (slice(None), view, tile.rows, tile.columns), inside.to(views.device)
                colours = photo.read(tile, _level(levels, tile.level)).movedim(1, -1)
                views[part] = torch.where(inside[..., None], colours, views[part])
                mask[part].masked_fill_(inside, 0)
    if not touched:
        raise _touches_nothing(source, cameras)
    return views.flatten(0, 1), mask.flatten(0, 1)


def _by_panorama(rows: torch.Tensor, cameras: Cameras, photos: int) -> torch.Tensor:
    """A copy of (P * V, ...) rows as (P, V, ...); one panorama is repeated for several photos."""
    rows = rows.unflatten(0, (-1, cameras.views))
    return rows.expand(max(len(rows), photos), *rows.shape[1:]).clone()


def _level(levels: list[torch.Tensor], level: int) -> torch.Tensor:
    """Pictures (P, C, h, w) halved `level` times; what is missing is added to the list of those made so far."""
    while len(levels) <= level:
        levels.append(halved(levels[-1], 1))
    return levels[level]


def _check(image: torch.Tensor, cameras: Cameras, views: torch.Tensor | None, mask: torch.Tensor | None) -> None:
    """Raises InputError for what `source_to_views` cannot take."""
    check_pictures(image, "image")
    if not cameras.in_one_point:
        raise InputError(
            "a photo fits only views taken from one point, but these cameras stand in different places",
            "one_point",
        )
    if views is None and mask is None:
        return
    if views is None or mask is None:
        has, lacks = ("mask", "views") if views is None else ("views", "mask")
        raise InputError(f"there is a {has} input and no {lacks}", "views_and_mask")
    check_pictures(views, "views")
    count, (height, width) = len(views), views.shape[1:3]
    if (width, height) != (cameras.width, cameras.height):
        raise InputError(
            f"the views are {width} x {height} pixels and the cameras' {cameras.width} x {cameras.height}",
            "same_cameras",
        )
    if count % cameras.views:
        raise InputError(f"{there_are(count, 'view')}, which is not a multiple of the {cameras.views} cameras")
    if mask.shape != views.shape[:3]:
        raise InputError(
            f"the mask must be {tuple(views.shape[:3])} like the views, not {tuple(mask.shape)}", "own_mask"
        )
    if not torch.isfinite(mask.sum(dtype=torch.float32)):
        raise InputError("there are NaN or infinite numbers in the mask", "nan_mask")
    if len(image) != count // cameras.views and 1 not in (len(image), count // cameras.views):
        raise InputError(
            f"there are {len(image)} images for the views of {count // cameras.views} panoramas", "one_or_each"
        )


def _touches_nothing(source: Cameras, cameras: Cameras) -> InputError:
    """Where a photo points that no view's pixel sees."""
    x, y, z = source.rotation[0, :, 2].tolist()
    angles = math.atan2(x, z), math.atan2(-y, math.hypot(x, z))
    yaw, pitch = (round(math.degrees(angle), 1) + 0.0 for angle in angles)  # 0.0 makes 0 of -0
    across, down = source.fov_deg[0].tolist()
    pixel = (cameras.fov_deg[:, 0] / cameras.width).min().item()
    fact = (
        f"the source touches no view. It looks towards yaw {yaw}, pitch {pitch} degrees and covers {across:.3g} x "
        f"{down:.3g} degrees, and no pixel of the cameras lies there"
    )
    if min(across, down) < 2 * pixel:
        fact += f"; it may fall between pixels, which are {pixel:.2g} degrees wide"
        return InputError(fact, "between_view_pixels")
    return InputError(fact, "beside_views")
