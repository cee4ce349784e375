"""Depth sequences as folders: read in any layout that layouts.py knows, written in ScanNet's (scannet_folder.py)."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from ..grid import middle
from ..input_error import InputError
from ..pictures import check_pictures
from ..posed import PosedViews
from .frames import Frame, described
from .layouts import LAYOUTS, layout_of
from .listing import MILLIMETRE, Listed, check_count, chosen_frames
from .picture_files import read_colours, read_depth

FARTHEST = 65535  # millimetres, the most that 16 bits can say
FORMATS = {
    "jpeg": (".jpg", {"quality": 100, "subsampling": "4:4:4"}),
    "png": (".png", {"compress_level": 4}),
}


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
    if not 0 <= depth_scale < float("inf"):
        raise InputError(f"depth_scale is {depth_scale:g}", "metres_per_unit")
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


def write_sequence(
    folder: Path, cameras: PosedViews, images: torch.Tensor, format: str = "jpeg", prompts: Sequence[str] = ()
) -> Path:
    """Writes a sequence as a new folder, which appears whole or not at all, and returns its path.

    Where `folder` exists already, the first free of folder_2, folder_3, ... is taken. Frames are called as the views.
    images: (V, H, W, 3 or 4) in 0..1 with the views' proportions. format: one of FORMATS. prompts: V, or none.
    What `read_frames` then gives has the same poses and intrinsics, bit by bit; depth is rounded to millimetres, and
    none beyond 65.535 m; images are rounded to 8 bits.
    Raises InputError for images and prompts that do not fit the views, and for views that no numbers tell apart.
    """
    _check(cameras, images, prompts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        unfinished = Path(beside, folder.name)
        for view, name in enumerate(cameras.names):
            _write_picture(unfinished / "color", name, images[view], format)
            _write_depth(unfinished / "depth", name, cameras.depth[view])
            _write_matrix(unfinished / "pose", name, cameras.cam_to_world[view])
        _write_intrinsics(unfinished / "intrinsic", cameras, images.shape[2] / cameras.width)
        for name, prompt in zip(cameras.names, prompts, strict=False):
            _file(unfinished / "prompt", f"{name}.txt").write_text(prompt, encoding="utf-8")
        free = _free(folder)
        os.replace(unfinished, free)
    return free


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


def _write_picture(folder: Path, name: str, image: torch.Tensor, format: str) -> None:
    ending, options = FORMATS[format]
    pixels = (image[..., :3].float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    Image.fromarray(pixels.numpy()).save(_file(folder, name + ending), format, **options)


def _write_depth(folder: Path, name: str, depth: torch.Tensor) -> None:
    millimetres = (depth.double() * 1000).round()
    pixels = millimetres.where(millimetres <= FARTHEST, 0).numpy().astype(np.uint16)
    Image.fromarray(pixels).save(_file(folder, f"{name}.png"))


def _write_intrinsics(folder: Path, cameras: PosedViews, scale: float) -> None:
    """Those of the depth maps and those of images `scale` times as large; for each frame where they differ."""
    first = cameras.intrinsics[0]
    offset = middle(scale)
    image_from_depth = torch.tensor([[scale, 0, offset], [0, scale, offset], [0, 0, 1]], dtype=torch.float64)
    _write_matrix(folder, "intrinsic_depth", _four_by_four(first))
    _write_matrix(folder, "intrinsic_color", _four_by_four(image_from_depth @ first))
    if not torch.equal(cameras.intrinsics, first.expand_as(cameras.intrinsics)):
        for name, own in zip(cameras.names, cameras.intrinsics, strict=True):
            _write_matrix(folder, name, _four_by_four(own))


def _four_by_four(matrix: torch.Tensor) -> torch.Tensor:
    return torch.block_diag(matrix, torch.ones(1, 1, dtype=torch.float64))


def _write_matrix(folder: Path, name: str, matrix: torch.Tensor) -> None:
    """As text with all digits that float64 has."""
    np.savetxt(_file(folder, f"{name}.txt"), matrix.numpy(), fmt="%.17g")


def _file(folder: Path, name: str) -> Path:
    """A path in a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _free(folder: Path) -> Path:
    """The folder itself, or the first of folder_2, folder_3, ... that does not exist."""
    numbered = (folder.with_name(f"{folder.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain((folder,), numbered) if not os.path.lexists(path))


def _check(cameras: PosedViews, images: torch.Tensor, prompts: Sequence[str]) -> None:
    """Raises InputError for what `write_sequence` cannot write."""
    if cameras.depth is None:
        raise InputError("these cameras have no depth, like those of a panorama", "cameras_with_depth")
    check_pictures(images, "images")
    count, height, width = images.shape[:3]
    if count != cameras.views:
        raise InputError(f"there are {count} images and {cameras.views} cameras", "one_image_per_camera")
    if width * cameras.height != height * cameras.width:
        raise InputError(
            f"the images are {width} x {height} pixels and the cameras' views {cameras.width} x {cameras.height}: only "
            "scaling both sides alike is possible"
        )
    if prompts and len(prompts) != cameras.views:
        raise InputError(f"there are {len(prompts)} prompts and {cameras.views} cameras", "one_prompt_per_camera")
    if len(set(cameras.names)) < cameras.views or not all(name.isdecimal() for name in cameras.names):
        raise InputError(
            f"files are named after the views, which need different numbers, not {', '.join(cameras.names)}"
        )
