"""Frames of the host's DA3_GEOMETRY: what Depth Anything 3 made of pictures of one scene in its multi-view mode.

A dictionary. What its entries are, as the host's code (0.33) makes them, S pictures of H x W pixels:

- image (S, H, W, 3); depth and confidence (S, H, W), resized bilinearly from the size that the model ran at, so that
  the edges of the pictures meet, not the centres of their corner pixels.
- intrinsics (1, S, 3, 3) stay in pixels of the size that the model ran at, with centres at half-integers. That size is
  not told, but both its sides are multiples of 14, each rounded for itself. The principal point of `cam_dec` is the
  middle, so it tells the size. That of `ray_pose` is an estimate that holds only near the middle (one that is displaced
  comes out on the other side): it tells the size, and is then put into the middle.
- extrinsics (1, S, 3, 4), world-to-camera. The rotations of `ray_pose` are rounded as the model's numbers are.
- confidence = 1 + exp(x) of the model's output x: from 1 to infinity. 1 - 1 / confidence, which is x's sigmoid, is the
  same on a scale of 0 to 1.
- Depth and positions have one unit, which is unknown. One picture, or mode 'mono': no poses, or identities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch

from ..grid import middle
from ..input_error import InputError, there_are
from .frames import FOCAL_LENGTHS, Frame, check_choice, described, nearest_rotation

MIN_CONFIDENCE = 0.1  # 1.11 as the model counts; its authors leave out what is below 1.05 when they export points
MEDIAN_DEPTH = 2.0  # metres: rooms as the weights know them
PATCH = 14  # pixels: what the sides of the model's pictures are multiples of
RIGID = 0.02  # how far from rotations the rotations may be: 8 bits are what bfloat16 leaves of them
SAMPLES = 2**16  # depths of each frame that the median is taken of

Geometry = Mapping[str, Any]


def da3_frames(
    geometry: Geometry,
    depth_scale: float = 0.0,
    min_confidence: float = MIN_CONFIDENCE,
    start: int = 0,
    stride: int = 1,
    max_frames: int = 0,
    on_skipped: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Frame]:
    """The pictures of a geometry as frames called "0", "1", ..., each made when it is asked for.

    depth_scale: metres per unit of depth; 0 makes the median of all depth that is used 2 m.
    min_confidence: 0..1; depth whose 1 - 1 / confidence is less counts as no reading, as does what is not positive and
        finite.
    start, stride, max_frames: every `stride`-th picture from `start` on, at most so many (0 = all).
    on_skipped: is told which pictures cannot be used and why, in words, if there are any.
    progress: is told how many of the frames are made. It may raise, to stop.
    Raises InputError, at once, for what is no such geometry, for one without poses, for numbers out of their range, for
    start beyond the last picture, and where fewer than two pictures can be used.
    """
    _check(geometry)
    check_choice(start, stride, max_frames, depth_scale)
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence must lie between 0 and 1, not {min_confidence:g}")
    intrinsics, count = _intrinsics(geometry), len(geometry["depth"])
    views = range(count)[start::stride][: max_frames or None]
    if not views:
        raise InputError(f"start is {start}, and {there_are(count, 'picture')} in geometry", "lower_start")
    faults = {view: _fault(geometry, intrinsics[view], view, min_confidence) for view in views}
    usable = [view for view in views if not faults[view]]
    skipped = {str(view): fault for view, fault in faults.items() if fault}
    if len(usable) < 2:
        raise InputError(
            f"{len(usable)} of the {len(views)} chosen pictures of geometry can be used, and at least 2 are needed"
            f"{f' ({described(skipped)})' if skipped else ''}",
            "few_pictures",
        )
    if skipped and on_skipped is not None:
        on_skipped(described(skipped))
    scale = depth_scale or MEDIAN_DEPTH / _median(geometry, usable, min_confidence)
    frames = (_frame(geometry, intrinsics[view], view, min_confidence, scale) for view in usable)
    return frames if progress is None else _told(frames, len(usable), progress)


def _told(frames: Iterator[Frame], count: int, progress: Callable[[int, int], None]) -> Iterator[Frame]:
    """The frames, `count` altogether, of each of which `progress` is told when it is made."""
    for number, frame in enumerate(frames, start=1):
        progress(number, count)
        yield frame


def _check(geometry: Geometry) -> None:
    """Raises InputError for what is no geometry, and for one without poses."""
    if not isinstance(geometry, Mapping) or not {"depth", "image"} <= geometry.keys():
        raise InputError("geometry is not what Run Depth Anything 3 makes", "estimate_poses")
    if geometry.get("mode") == "mono" or not {"extrinsics", "intrinsics"} <= geometry.keys():
        raise InputError("geometry comes from single pictures, without camera poses", "estimate_poses")
    if (geometry["intrinsics"][0, :, :2, 2] == 0).all():
        raise InputError("geometry holds no camera poses, only identities in their place", "estimate_poses")


def _intrinsics(geometry: Geometry) -> torch.Tensor:
    """(S, 3, 3) float64 in pixels of the depth maps, centres at integers; NaN stays where it was."""
    height, width = geometry["depth"].shape[1:]
    given = geometry["intrinsics"][0].double()
    model_size = PATCH * (2 * given[:, :2, 2].nanmedian(0).values / PATCH).round().clamp(min=1)
    size = torch.tensor([width, height], dtype=torch.float64)
    intrinsics = torch.diag_embed(given.diagonal(dim1=1, dim2=2))
    intrinsics[:, [0, 1], [0, 1]] *= size / model_size
    intrinsics[:, :2, 2] = middle(size)
    return intrinsics


def _fault(geometry: Geometry, intrinsics: torch.Tensor, view: int, min_confidence: float) -> str | None:
    """Why a picture cannot be used."""
    if isinstance(pose := _pose(geometry, view), str):
        return pose
    shortest, longest = (share * geometry["depth"].shape[2] for share in FOCAL_LENGTHS)
    if not all(shortest <= focal <= longest for focal in intrinsics.diagonal()[:2].tolist()):
        return "field of view not estimated"
    return None if _readings(geometry, view, min_confidence).any() else "no depth that is certain enough"


def _pose(geometry: Geometry, view: int) -> torch.Tensor | str:
    """(4, 4) float64 camera-to-world in units of the geometry, with the rotation nearest to the given one; or what is
    wrong with it."""
    cam_from_world = geometry["extrinsics"][0, view, :3].double()
    if not torch.isfinite(cam_from_world).all():
        return "pose not finite"
    given = cam_from_world[:, :3]
    rotation = nearest_rotation(given)
    if (rotation - given).abs().max() > RIGID or torch.linalg.det(rotation) < 0:
        return "pose not rigid"
    cam_to_world = torch.eye(4, dtype=torch.float64)
    cam_to_world[:3, :3] = rotation.mT
    cam_to_world[:3, 3] = -rotation.mT @ cam_from_world[:, 3]
    return cam_to_world


def _readings(geometry: Geometry, view: int, min_confidence: float) -> torch.Tensor:
    """(H, W) float32 depth in units of the geometry, 0 = no reading."""
    depth = geometry["depth"][view].float()
    read = torch.isfinite(depth) & (depth > 0)
    if min_confidence > 0 and "confidence" in geometry:
        read &= 1 - 1 / geometry["confidence"][view].float() >= min_confidence
    return depth.where(read, 0)


def _median(geometry: Geometry, views: list[int], min_confidence: float) -> float:
    """Of all depth that is used; of large pictures' every n-th."""
    step = geometry["depth"][0].numel() // SAMPLES + 1
    depths = (_readings(geometry, view, min_confidence) for view in views)
    return torch.cat([depth[depth > 0][::step] for depth in depths]).median().item()


def _frame(geometry: Geometry, intrinsics: torch.Tensor, view: int, min_confidence: float, scale: float) -> Frame:
    image = geometry["image"][view, ..., :3].float().clamp(0, 1)
    cam_to_world = cast(torch.Tensor, _pose(geometry, view))  # a picture without fault has one
    cam_to_world[:3, 3] *= scale
    return Frame(str(view), image, scale * _readings(geometry, view, min_confidence), intrinsics, cam_to_world)
