"""Depth sequences read from folders, in any layout that layouts.py knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch

from ..input_error import InputError
from .frames import Frame, check_choice, described
from .layouts import LAYOUTS, layout_of
from .listing import MILLIMETRE, Listed, check_count, chosen_frames
from .picture_files import read_colours, read_depth


def read_frames(
    folder: Path,
    start: int = 0,
    stride: int = 1,
    max_frames: int = 0,
    depth_scale: float = 0.0,
    on_skipped: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Frame]:
    """The frames of a sequence in numeric order, each read when it is asked for; every `stride`-th from `start` on.

    start, stride and max_frames (0 = all) count all frames in the folder, also those that are then skipped.
    depth_scale: metres per unit of depth in the files; 0 for what the folder's layout says.
    on_skipped: is told at the end which frames could not be used and why, in words, if there are any.
    progress: is told how many of the frames are read. It may raise, to stop.
    Raises InputError as `check_folder` does, at once; at the end, too, where fewer than two frames were left.
    """
    check_choice(start, stride, max_frames, depth_scale)
    usable, skipped = check_folder(folder, start, stride, max_frames)
    return _frames(folder, usable, skipped, depth_scale, on_skipped, progress)


def check_folder(
    folder: Path, start: int = 0, stride: int = 1, max_frames: int = 0
) -> tuple[dict[str, Listed], dict[str, str]]:
    """`chosen_frames` of a folder in the layout that it has. Raises InputError for a folder without frames, too."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", "no_folder")
    layout = layout_of(folder)
    listed = layout.frames(folder) if layout else {}
    if not listed:
        needs = "; or ".join(one.needs for one in ([layout] if layout else LAYOUTS))
        raise InputError(f"there are no frames in {folder}: it needs {needs}")
    return chosen_frames(listed, folder, start, stride, max_frames)


def _frames(
    folder: Path,
    usable: dict[str, Listed],
    skipped: dict[str, str],
    depth_scale: float,
    on_skipped: Callable[[str], None] | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Frame]:
    read = []
    for number, (name, listed) in enumerate(usable.items(), start=1):
        frame = _frame(name, listed, depth_scale)
        if progress is not None:
            progress(number, len(usable))
        if isinstance(frame, str):
            skipped[name] = frame
        else:
            read.append(name)
            yield frame
    check_count(read, skipped, folder)
    if skipped and on_skipped is not None:
        on_skipped(described(skipped))


def _frame(name: str, listed: Listed, depth_scale: float) -> Frame | str:
    """The frame, or why there is none."""
    depth = _depth(listed, depth_scale)
    if depth is None:
        return "unreadable depth"
    if not depth.any():
        return "depth all zero"
    image = read_colours(cast(Path, listed.color))  # a usable frame has one, and a depth map and a pose
    if image is None:
        return "unreadable picture"
    rows, columns = depth.shape
    return Frame(
        name,
        torch.from_numpy(image) / 255,
        depth,
        listed.intrinsics((columns, rows)),
        cast(torch.Tensor, cast(Callable, listed.pose)()),
        listed.prompt.read_text(encoding="utf-8-sig", errors="replace").strip() if listed.prompt else "",
    )


def _depth(listed: Listed, depth_scale: float) -> torch.Tensor | None:
    """(h, w) float32 metres, 0 = no reading; None for a file that cannot be read."""
    found = read_depth(cast(Path, listed.depth))
    if found is None:
        return None
    numbers, whole = found
    metres = depth_scale or listed.metres or (MILLIMETRE if whole else 1.0)
    depth = torch.from_numpy(numbers)
    # A division: the number of units in a metre is mostly a whole one, and nothing is lost.
    return (depth / (1 / metres)).where(torch.isfinite(depth) & (depth > 0) & (depth != listed.unread), 0)
