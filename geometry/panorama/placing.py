"""A picture of a part of the sphere, or of all of it, as a whole panorama with its coverage."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..cameras import rotation_from_angles
from ..input_error import InputError
from .equirect import turn_panoramas
from .gpano import Place
from .shape import nearly_whole

WIDEST = 32768  # pixels: what a few bytes of metadata can ask for has a limit
SQUARE = 0.02  # by which half a sphere's picture may miss 1:1
RESIZED = 0.02  # by which width and height may have been scaled differently since the metadata were written


def placed(picture: np.ndarray, place: Place | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, 2 H, 3) panorama in 0..1 and its (H, 2 H) coverage, float32; black and 0 where the picture does not reach.

    picture: (h, w, 3 or 4) uint8; coverage is 0 where its alpha is below one half.
    place: where it lies. The panorama's longitude 0 is then what the metadata call north, and its horizon level. None:
        by its shape. Nearly 2:1 is all of the sphere, wider a strip all around, whose middle is the horizon; a square
        is the half in front.
    Raises InputError for shapes that tell nothing, and for a place that the picture does not fit.
    """
    height, width = picture.shape[:2]
    if place is None:
        place = _by_shape(width, height)
    full, (left, top, columns, rows) = _pixels(place, width, height)
    if (columns, rows) != (width, height):
        picture = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.LANCZOS))
    pixels = torch.from_numpy(np.array(picture))
    equirect, coverage = torch.zeros(full // 2, full, 3), torch.zeros(full // 2, full)
    box = slice(top, top + rows), slice(left, left + columns)
    coverage[box] = 1.0 if pixels.shape[-1] == 3 else (pixels[..., 3] >= 128).float()
    equirect[box] = pixels[..., :3] / 255 * coverage[box][..., None]
    return _level(equirect, coverage, place)


def turned(
    equirect: torch.Tensor, source_from_new: torch.Tensor, coverage: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`turn_panoramas` of (P, H, 2 H, 3) panoramas and their (P, H, 2 H) coverage, ones where there is none.

    Colours are read from covered pixels alone, so no edge darkens.
    """
    if coverage is None:
        equirect = turn_panoramas(equirect, source_from_new)
        return equirect, torch.ones_like(equirect[..., 0])
    weighted = torch.cat((equirect * coverage[..., None], coverage[..., None]), dim=-1)
    weighted = turn_panoramas(weighted, source_from_new)
    coverage = weighted[..., 3]
    return weighted[..., :3] / coverage.clamp(min=1e-6)[..., None], coverage


def _by_shape(width: int, height: int) -> Place:
    if nearly_whole(width, height):
        full = float(width), float(height)
    elif width > 2 * height:
        full = float(width), width / 2
    elif abs(width / height - 1) <= SQUARE:
        full = 2.0 * width, float(height)
    else:
        raise InputError(f"it is {width} x {height} pixels, and no metadata say where it lies", "place_unknown")
    return Place(full, ((full[0] - width) / 2, (full[1] - height) / 2, width, height))


def _pixels(place: Place, width: int, height: int) -> tuple[int, tuple[int, int, int, int]]:
    """The whole panorama's width, and the box (left, top, columns, rows), in the pixels of the picture as it is now.

    Both are stretched where the whole is not exactly 2:1.
    """
    left, top, columns, rows = place.box
    across, down = width / columns, height / rows
    if abs(across / down - 1) > RESIZED:
        raise InputError(
            f"it is {width} x {height} pixels, and its metadata speak of {columns:g} x {rows:g}: it was cropped since",
            "write_gpano_again",
        )
    if not nearly_whole(*(round(size) for size in place.full)):
        raise InputError(
            f"its metadata speak of a whole of {place.full[0]:g} x {place.full[1]:g} pixels, which is not 2:1",
            "write_gpano_again",
        )
    full = max(2, 2 * round(place.full[0] * across / 2))
    if full > WIDEST:
        raise InputError(f"the whole panorama would be {full} pixels wide, and {WIDEST} are the most", "scale_it_down")
    scale = full / place.full[0], full / 2 / place.full[1]
    first = round(left * scale[0]), round(top * scale[1])
    last = min(full, round((left + columns) * scale[0])), min(full // 2, round((top + rows) * scale[1]))
    if last[0] <= first[0] or last[1] <= first[1]:
        raise InputError("its metadata place it outside of the panorama", "write_gpano_again")
    return full, (*first, last[0] - first[0], last[1] - first[1])


def _level(equirect: torch.Tensor, coverage: torch.Tensor, place: Place) -> tuple[torch.Tensor, torch.Tensor]:
    """The panorama as its pose says: turned by whole columns where it is level, so that no pixel changes."""
    heading_deg = place.heading_deg
    if not place.pitch_deg and not place.roll_deg:
        column_deg = 360 / equirect.shape[1]
        heading_deg = round(heading_deg / column_deg) * column_deg
    north_from_file = rotation_from_angles(heading_deg, place.pitch_deg, place.roll_deg)
    pictures, covers = turned(equirect[None], north_from_file.mT, coverage[None])
    covered = (covers[0] > 0.5).float()
    return pictures[0].clamp(0, 1) * covered[..., None], covered
