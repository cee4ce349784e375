"""Depth sequences written as folders in ScanNet's layout (scannet_folder.py); reading.py reads them, and others."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..grid import middle
from ..input_error import InputError, check_choice_of, counted, there_are
from ..pictures import check_pictures
from ..posed import PosedViews

FARTHEST = 65535  # millimetres, the most that 16 bits can say
FORMATS = {
    "jpeg": (".jpg", {"quality": 100, "subsampling": "4:4:4"}),
    "png": (".png", {"compress_level": 4}),
}


def write_sequence(
    folder: Path, cameras: PosedViews, images: torch.Tensor, format: str = "jpeg", prompts: Sequence[str] = ()
) -> Path:
    """Writes a sequence as a new folder, which appears whole or not at all, and returns its path.

    Where `folder` exists already, the first free of folder_2, folder_3, ... is taken. Frames are called as the views.
    images: (V, H, W, 3 or 4) in 0..1 with the views' proportions. format: one of FORMATS. prompts: V, or none.
    What `read_frames` then gives has the same poses and intrinsics, bit for bit; depth is rounded to millimetres, and
    none beyond 65.535 m; images are rounded to 8 bits.
    Raises InputError for images and prompts that do not fit the views, and for views that no numbers tell apart.
    """
    _check(cameras, images, format, prompts)
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


def _check(cameras: PosedViews, images: torch.Tensor, format: str, prompts: Sequence[str]) -> None:
    """Raises InputError for what `write_sequence` cannot write."""
    check_choice_of("format", format, FORMATS)
    if cameras.depth is None:
        raise InputError("these cameras have no depth, like those of a panorama", "cameras_with_depth")
    check_pictures(images, "images")
    count, height, width = images.shape[:3]
    if count != cameras.views:
        raise InputError(f"{there_are(count, 'image')} and {counted(cameras.views, 'camera')}", "one_image_per_camera")
    if width * cameras.height != height * cameras.width:
        raise InputError(
            f"the images are {width} x {height} pixels and the cameras' views {cameras.width} x {cameras.height}: only "
            "scaling both sides alike is possible"
        )
    if prompts and len(prompts) != cameras.views:
        raise InputError(
            f"{there_are(len(prompts), 'prompt')} and {counted(cameras.views, 'camera')}", "one_prompt_per_camera"
        )
    if len(set(cameras.names)) < cameras.views or not all(name.isdecimal() for name in cameras.names):
        raise InputError(
            f"files are named after the views, which need different numbers, not {', '.join(cameras.names)}"
        )
