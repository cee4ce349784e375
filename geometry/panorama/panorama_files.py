"""Files of panoramas, cropped or whole, with or without metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..input_error import InputError
from .gpano import read_gpano
from .placing import WIDEST, placed

MOST_PIXELS = WIDEST * WIDEST // 2  # at twice as many Pillow says no
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
        with as_large_as_panoramas(), Image.open(path) as picture:
            return pixels_of(picture), _xmp(picture)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError("it is not a picture", "choose_picture") from None
    except Image.DecompressionBombError:
        raise InputError(f"it has more than {WIDEST} x {WIDEST} pixels", "scale_it_down") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"it cannot be read ({error})", "choose_picture") from None


@contextmanager
def as_large_as_panoramas() -> Iterator[None]:
    """Pillow takes for a bomb what a panorama may well have: 179 million pixels. The limit is the whole process's."""
    with _opening:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MOST_PIXELS
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _xmp(picture: Image.Image) -> str:
    """The XMP packet of a file, empty where it has none: formats keep it under different names."""
    found = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or ""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def pixels_of(picture: Image.Image) -> np.ndarray:
    """(h, w, 3 or 4) uint8 of the first frame, upright. Greys may be of 16 bits, or numbers in 0..1.

    Raises InputError for numbers beyond these.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        upright = _grey(np.asarray(upright, dtype=np.float32) / 257)
    elif upright.mode == "F":
        grey = np.asarray(upright)
        if not (grey.min() >= 0 and grey.max() <= 1):  # so that NaN is refused, too
            raise InputError(f"its numbers lie in {grey.min():g}..{grey.max():g}, not in 0..1", "choose_picture")
        upright = _grey(255 * grey)
    return np.array(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height of what `pixels_of` gives."""
    width, height = picture.size
    lies = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (height, width) if lies else (width, height)


def _grey(numbers: np.ndarray) -> Image.Image:
    return Image.fromarray(numbers.round().clip(0, 255).astype(np.uint8))
