"""Where the views of a panorama look: one function per layout, all with the same result."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from .cameras import intrinsics_from_fov, rotation_from_angles
from .input_error import InputError
from .panorama_views import PanoramaViews

POLAR_VIEWS, POLAR_PITCH = 3, 60.0  # of `sphere`: views around either pole, and how far they look up or down
MOST_VIEWS = 4096
FACES = ((0.0, 0.0), (90.0, 0.0), (180.0, 0.0), (-90.0, 0.0), (0.0, 90.0), (0.0, -90.0))  # yaw and pitch


class Wanted(NamedTuple):
    """What a panorama's views are made from. pitch_deg: of the ring; pitches: of rings, as people write them."""

    views: int
    fov_deg: float
    width: int
    height: int
    start_yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    pitches: str = "0, 60, -60"


def ring(
    views: int, fov_deg: float, width: int, height: int, start_yaw_deg: float = 0.0, pitch_deg: float = 0.0
) -> PanoramaViews:
    """`views` evenly turned views of one pitch; view 0 looks along `start_yaw_deg`, view i to the right of view i - 1.

    Raises InputError for fewer than one view, angles that are not finite, a field of view outside (0, 180) or an empty
    image, as all layouts do.
    """
    return rings(views, fov_deg, width, height, start_yaw_deg, (pitch_deg,))


def rings(
    views: int, fov_deg: float, width: int, height: int, start_yaw_deg: float, pitches_deg: Sequence[float]
) -> PanoramaViews:
    """One ring of `views` views per pitch, in their order; the first view of each looks along `start_yaw_deg`.

    Raises InputError as `ring` does, and for no pitch at all.
    """
    if not pitches_deg:
        raise InputError("rings need at least one pitch")
    if views * len(pitches_deg) > MOST_VIEWS:
        raise InputError(
            f"{len(pitches_deg)} rings of {views} views make {views * len(pitches_deg)} views, and {MOST_VIEWS} is the "
            "most"
        )
    angles = [turn for pitch in pitches_deg for turn in _turns(views, start_yaw_deg, pitch)]
    return _panorama(angles, fov_deg, (width, height), (views,) * len(pitches_deg))


def pitches_from_text(text: str) -> tuple[float, ...]:
    """Degrees from numbers with commas or spaces between them. Raises InputError for anything else, and beyond 90."""
    words = re.findall(r"[^\s,;]+", text.replace("\N{MINUS SIGN}", "-").replace("\N{DEGREE SIGN}", " "))
    wrong = [word for word in words if not _is_pitch(word)]
    if wrong or not words:
        raise InputError(
            "pitches must be numbers from -90 to 90 separated by commas, one per ring, such as '0, 60, -60', not "
            f"'{wrong[0] if wrong else text}'"
        )
    return tuple(float(word) for word in words)


def _is_pitch(word: str) -> bool:
    try:
        return -90 <= float(word) <= 90
    except ValueError:
        return False


def sphere(views: int, fov_deg: float, width: int, height: int, start_yaw_deg: float = 0.0) -> PanoramaViews:
    """A level ring of `views` views, then 3 views that look 60 degrees up, then 3 that look 60 degrees down.

    Of 8 views, 90 degrees wide, every direction lies well inside some view, and each polar view overlaps several level
    ones. One view straight up and one down would leave a third of the sphere seen once.
    Raises InputError as `ring` does.
    """
    angles = [
        *_turns(views, start_yaw_deg, 0.0),
        *_turns(POLAR_VIEWS, start_yaw_deg, POLAR_PITCH),
        *_turns(POLAR_VIEWS, start_yaw_deg + 180 / POLAR_VIEWS, -POLAR_PITCH),
    ]
    return _panorama(angles, fov_deg, (width, height), (views, POLAR_VIEWS, POLAR_VIEWS))


def cube(width: int, height: int, start_yaw_deg: float = 0.0) -> PanoramaViews:
    """The six faces of a cube: front, right, back, left, up, down.

    Up and down are seen with the head tilted from the front: the front face joins up's lower and down's upper edge.
    Faces do not overlap, so these cameras cut and join pictures and have no rings.
    Raises InputError as `ring` does, and for faces that are not square.
    """
    if width != height:
        raise InputError(f"the faces of a cube are square, not {width} x {height}", "square_faces")
    return _panorama([(start_yaw_deg + yaw, pitch) for yaw, pitch in FACES], 90.0, (width, height), ())


def _turns(views: int, start_yaw_deg: float, pitch_deg: float) -> list[tuple[float, float]]:
    """(yaw, pitch) of one ring."""
    if views < 1:
        raise InputError(f"a ring needs at least 1 view, not {views}")
    return [(start_yaw_deg + 360.0 * view / views, pitch_deg) for view in range(views)]


def _panorama(
    angles_deg: list[tuple[float, float]], fov_deg: float, size: tuple[int, int], rings: tuple[int, ...]
) -> PanoramaViews:
    """Cameras in one point that look along (yaw, pitch) pairs; `size` is (width, height)."""
    if not 0 < fov_deg < 180:
        raise InputError(f"fov must lie between 0 and 180 degrees (exclusive), not {fov_deg}")
    if min(size) < 1:
        raise InputError(f"views need a positive size, not {size[0]} x {size[1]}")
    for yaw, pitch in angles_deg:
        if not (math.isfinite(yaw) and math.isfinite(pitch)):
            raise InputError(f"views need a finite yaw and pitch in degrees, not {yaw} and {pitch}")
    cam_to_world = torch.eye(4, dtype=torch.float64).repeat(len(angles_deg), 1, 1)
    cam_to_world[:, :3, :3] = torch.stack([rotation_from_angles(yaw, pitch) for yaw, pitch in angles_deg])
    intrinsics = intrinsics_from_fov(fov_deg, *size).repeat(len(angles_deg), 1, 1)
    return PanoramaViews(intrinsics, cam_to_world, *size, rings)


# What Panorama Cameras offers, by name.
LAYOUTS: dict[str, Callable[[Wanted], PanoramaViews]] = {
    "ring": lambda it: ring(it.views, it.fov_deg, it.width, it.height, it.start_yaw_deg, it.pitch_deg),
    "sphere": lambda it: sphere(it.views, it.fov_deg, it.width, it.height, it.start_yaw_deg),
    "rings": lambda it: rings(*it[:5], pitches_from_text(it.pitches)),
    "cube": lambda it: cube(it.width, it.height, it.start_yaw_deg),
}
