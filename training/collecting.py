"""Panoramas and their captions, from pictures in memory and from folders; what cannot be used is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..geometry.input_error import InputError, counted, there_are
from ..geometry.panorama.panorama_files import opened, pixels_of
from .panoramas import Panorama

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
NAMED = 8  # faulty things that a message names


def panoramas_in_memory(pictures: Sequence[torch.Tensor], captions: Sequence[str], views: int) -> tuple[Panorama, ...]:
    """Panoramas of (H, W, 3 or 4) pictures in 0..1, with a caption each, or one for all.

    A caption is one line for all views of its panorama, or `views` lines.
    Raises InputError, one sentence that names them, for pictures that are not 2:1 or hold NaN, and for captions that
    are missing, empty, or of another number of lines.
    """
    if not pictures:
        raise InputError("images is empty", "no_panoramas")
    names = [f"image {number + 1}" for number in range(len(pictures))]
    if len(captions) == 1:
        captions = list(captions) * len(pictures)
    if len(captions) != len(pictures):
        raise InputError(f"{there_are(len(captions), 'caption')} for {counted(len(pictures), 'image')}", "one_or_each")
    _refuse(
        [f"{name} ({picture.shape[1]} x {picture.shape[0]})" for name, picture in _odd(names, pictures)],
        "not twice as wide as high, as an equirectangular panorama is",
        remedy="scale_or_pad",
    )
    broken = [name for name, picture in zip(names, pictures, strict=True) if not picture.sum().isfinite()]
    _refuse(broken, "no picture: it holds NaN or infinite numbers", remedy="nan_pictures")
    lines = _checked_lines(names, captions, views)
    return tuple(
        Panorama(name, lambda picture=picture: picture[..., :3].float(), spoken)
        for name, picture, spoken in zip(names, pictures, lines, strict=True)
    )


def panoramas_in_folder(folder: Path, views: int, say: Callable[[str], None]) -> tuple[Panorama, ...]:
    """The panoramas of a folder, each NAME.png (.jpg, .webp) with NAME.txt beside it: 1 line, or one per view.

    Files that cannot be read are named by `say` and left out. Pictures are read when they are needed.
    Raises InputError as `panoramas_in_memory` does, and for a folder that does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        raise InputError(f"the folder {folder} holds no pictures ({', '.join(ENDINGS)}).")
    sizes, unreadable = {}, []
    for path in paths:
        try:
            with opened(path) as picture:
                height, width = pixels_of(picture).shape[:2]
            sizes[path] = width, height
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow raises any
            unreadable.append(path.name)
            say(f"{path} cannot be read and is left out: {error}")
    if not sizes:
        raise InputError(f"{there_are(len(unreadable), 'picture')} in {folder}, and none can be read.")
    _refuse(
        [f"{path.name} ({width} x {height})" for path, (width, height) in sizes.items() if width != 2 * height],
        f"not twice as wide as high, as an equirectangular panorama is (in {folder})",
        remedy="scale_or_pad",
    )
    names = [path.name for path in sizes]
    lines = _checked_lines(names, [_caption_of(path) for path in sizes], views)
    return tuple(
        Panorama(path.name, lambda path=path: read_picture(path), spoken)
        for path, spoken in zip(sizes, lines, strict=True)
    )


def read_picture(path: Path) -> torch.Tensor:
    """(H, W, 3) float32 in 0..1."""
    with opened(path) as picture:
        return torch.from_numpy(pixels_of(picture)[..., :3].astype(np.float32) / 255)


def _caption_of(path: Path) -> str:
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8-sig", errors="replace") if text.is_file() else ""


def _checked_lines(names: Sequence[str], captions: Sequence[str], views: int) -> list[tuple[str, ...]]:
    """The lines of each caption that hold text."""
    lines = [tuple(line.strip() for line in caption.splitlines() if line.strip()) for caption in captions]
    _refuse(
        [name for name, spoken in zip(names, lines, strict=True) if not spoken],
        "without a caption",
        remedy="write_captions",
    )
    _refuse(
        [f"{name} ({len(spoken)})" for name, spoken in zip(names, lines, strict=True) if len(spoken) not in (1, views)],
        f"captioned in a number of lines that is neither 1 nor {views}, one per view",
    )
    return lines


def _odd(names: Sequence[str], pictures: Sequence[torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    pairs = zip(names, pictures, strict=True)
    return [(name, picture) for name, picture in pairs if picture.shape[1] != 2 * picture.shape[0]]


def _refuse(names: Sequence[str], what: str, remedy: str = "") -> None:
    """Raises InputError that names them, if there are any."""
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise InputError(f"{', '.join(names[:NAMED])}{more} {'is' if len(names) == 1 else 'are'} {what}", remedy)
