"""What a folder of frames holds, in whatever layout, checked before any picture is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from ..input_error import InputError, there_are
from .frames import check_choice, described
from .matrices import check_intrinsics
from .picture_files import Header, Size, header, is_depth

MILLIMETRE = 0.001
NO_READING = 0.0


@dataclass(frozen=True)
class Listed:
    """One frame as its folder tells of it; the files may be missing, or hold nonsense.

    pose: gives (4, 4) float64 camera-to-world, or what is wrong with it.
    intrinsics: gives (3, 3) float64 for depth maps of a size; raises InputError. said_in: the file that it is from.
    metres: per unit of depth; 0: a thousandth for whole numbers, 1 for others.
    unread: another number than 0 that stands for no reading.
    """

    color: Path | None
    depth: Path | None
    pose: Callable[[], torch.Tensor | str] | None
    intrinsics: Callable[[Size], torch.Tensor]
    said_in: Path
    prompt: Path | None = None
    metres: float = 0.0
    unread: float = NO_READING


@dataclass(frozen=True)
class Layout:
    """How programs lay out their folders of frames.

    needs: what must lie in such a folder, in words.
    fits: whether a folder is one, told without reading a file.
    frames: all frames of one, by name, in order. Raises InputError where they cannot be told.
    files: everything that is read of one, for who asks whether anything changed. Raises nothing.
    """

    needs: str
    fits: Callable[[Path], bool]
    frames: Callable[[Path], dict[str, Listed]]
    files: Callable[[Path], Iterator[Path]]


def chosen_frames(
    listed: dict[str, Listed], folder: Path, start: int, stride: int, max_frames: int
) -> tuple[dict[str, Listed], dict[str, str]]:
    """The chosen ones of a folder's frames that can be read, and why each of the others cannot; both by name.

    Of pictures only the headers are opened. Raises InputError for start or stride that leave none, fewer than two
    frames left, wrong intrinsics, and depth that is not 16-bit or not of one size.
    """
    chosen = _chosen(listed, folder, start, stride, max_frames)
    faults = {name: _fault(frame) for name, frame in chosen.items()}
    skipped = {name: fault for name, fault in faults.items() if fault}
    usable = {name: frame for name, frame in chosen.items() if not faults[name]}
    check_count(usable, skipped, folder)
    size = _depth_size(usable, folder)
    # One frame for each file: a sequence's frames mostly share theirs.
    for frame in {frame.said_in: frame for frame in usable.values()}.values():
        check_intrinsics(frame.intrinsics(size), size, frame.said_in)
    return usable, skipped


def check_count(left: Collection[str], skipped: dict[str, str], folder: Path) -> None:
    """Raises InputError where fewer than two frames are left of those chosen in a folder."""
    if len(left) < 2:
        because = f" ({described(skipped)})" if skipped else ""
        raise InputError(
            f"{len(left)} of the chosen frames in {folder} can be used, and at least 2 are needed{because}",
            "few_frames_in_folder",
        )


def _chosen(listed: dict[str, Listed], folder: Path, start: int, stride: int, max_frames: int) -> dict[str, Listed]:
    check_choice(start, stride, max_frames)
    names = list(listed)[start::stride][: max_frames or None]
    if not names:
        raise InputError(f"start is {start}, and {there_are(len(listed), 'frame')} in {folder}", "lower_start")
    return {name: listed[name] for name in names}


def _fault(frame: Listed) -> str | None:
    """Why a frame cannot be used, as far as that can be told without reading its pictures."""
    if frame.pose is None:
        return "no pose"
    if frame.depth is None:
        return "no depth"
    if frame.color is None:
        return "no picture"
    if isinstance(fault := frame.pose(), str):
        return fault
    return None if header(frame.depth) else "unreadable depth"


def _depth_size(usable: dict[str, Listed], folder: Path) -> Size:
    """Of all depth maps. Raises InputError where they have 8 bits or colours, or different sizes."""
    sizes: dict[Size, str] = {}
    for name, frame in usable.items():
        mode, size = cast(Header, header(cast(Path, frame.depth)))  # a usable frame has one
        if not is_depth(mode):
            raise InputError(
                f"the depth of frame {name} in {folder} is not a 16-bit grey picture (Pillow calls it {mode})",
                "sixteen_bits",
            )
        sizes.setdefault(size, name)
    if len(sizes) > 1:
        one, other, *_ = (f"{width} x {height} (frame {name})" for (width, height), name in sizes.items())
        raise InputError(f"the depth maps in {folder} are {one} and {other}", "one_size")
    return next(iter(sizes))
