"""The cameras of a panorama turned about the vertical: neighbours stay what they are, so correspondences do, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..geometry.cameras import rotation_from_angles
from ..geometry.panorama_views import PanoramaViews

EQUAL = 1e-9


def turned(cameras: PanoramaViews, yaw_deg: float) -> PanoramaViews:
    """All cameras turned to the right."""
    cam_to_world = cameras.cam_to_world.clone()
    cam_to_world[:, :3, :3] = rotation_from_angles(yaw_deg, 0.0) @ cameras.rotation
    return replace(cameras, cam_to_world=cam_to_world)


def turn_to_next(cameras: PanoramaViews) -> int | None:
    """The whole degrees by which each view turns into the next and the last into the first; None where they do not."""
    views = cameras.views
    if len(cameras.rings) != 1 or 360 % views:
        return None
    step = 360 // views
    next_ = cameras.rotation.roll(-1, 0)
    same = (rotation_from_angles(step, 0.0) @ cameras.rotation - next_).abs().max() < EQUAL
    return step if same and (cameras.intrinsics - cameras.intrinsics[0]).abs().max() < EQUAL else None


def captions_of(captions: Sequence[str], cameras: PanoramaViews, yaw_deg: float) -> list[str]:
    """The captions of the turned cameras' views: of one caption for all, or of V for the cameras as they stand.

    A turned view has the caption of that view as it stood which looks most nearly in the same direction.
    """
    if len(captions) == 1:
        return list(captions) * cameras.views
    looking, stood = turned(cameras, yaw_deg).rotation[:, :, 2], cameras.rotation[:, :, 2]
    # Rounded, so that between two equally near views the earlier one is taken on every machine.
    nearest = (looking @ stood.mT).mul(1e6).round().argmax(1)
    return [captions[view] for view in nearest.tolist()]
