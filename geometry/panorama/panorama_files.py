"""Files of panoramas, cropped or whole, with or without metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..input_error import InputError
from .gpano import read_gpano
from .placing import WIDEST, placed

MOST_PIXELS = WIDEST * WIDEST // 2  # of the largest whole panorama
GREYS = {"I": 65535, "F": 1}  # the most that a picture has whose mode begins so
ROUNDED = 1.001  # times as much is taken for it
_opening = Lock()


def read_panorama(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """`placed` of a picture file: (H, 2 H, 3) in 0..1 and its coverage (H, 2 H), float32.

    Raises InputError for a file that is no picture or ends early, and as `read_gpano` and `placed` do.
    """
    try:
        pixels, xmp = _read(path)
        return placed(pixels, read_gpano(xmp))
    except InputError as error:
        raise InputError(f"{path.name}: {error}", error.remedy) from None


def _read(path: Path) -> tuple[np.ndarray, str]:
    """(h, w, 3 or 4) uint8 pixels and the XMP packet."""
    try:
        with opened(path) as picture:
            return pixels_of(picture), _xmp(picture)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError("it is not a picture", "choose_picture") from None
    except Image.DecompressionBombError:
        raise InputError(f"it has more than {WIDEST} x {WIDEST // 2} pixels", "scale_it_down") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"it cannot be read ({error})", "choose_picture") from None


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture that may be as large as a panorama: Pillow takes for a bomb what has 179 million pixels.

    Pillow's limit is the whole process's. Raises Image.DecompressionBombError for a larger one, before it is decoded.
    """
    with _opening:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with Image.open(path) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels are too many")
                yield picture
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _xmp(picture: Image.Image) -> str:
    """The XMP packet of a file, empty where it has none: formats keep it under different names."""
    found = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or ""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def pixels_of(picture: Image.Image) -> np.ndarray:
    """(h, w, 3 or 4) uint8 of the first frame, upright. Greys may be of 16 bits, or numbers in 0..1.

    Raises InputError for greys beyond these.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.mode[0] in GREYS:
        return _greys(upright, GREYS[upright.mode[0]])
    return np.array(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))


def _greys(picture: Image.Image, most: int) -> np.ndarray:
    """`pixels_of` a picture of numbers in 0..most."""
    numbers = np.asarray(picture, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise InputError("it holds numbers that are not finite", "choose_picture")
    if numbers.min() < 0 or numbers.max() > ROUNDED * most:
        raise InputError(
            f"its numbers lie in {numbers.min():.7g}..{numbers.max():.7g}, not in 0..{most}", "choose_picture"
        )
    grey = (numbers * (255 / most)).round().clip(0, 255).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if not isinstance(transparent, int):
        return np.stack([grey] * 3, -1)
    return np.stack([grey] * 3 + [np.where(numbers == transparent, 0, 255).astype(np.uint8)], -1)
