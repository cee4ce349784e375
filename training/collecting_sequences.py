"""Posed sequences with depth and captions, from frames in memory and from folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..geometry.cameras import intrinsics_from_fov
from ..geometry.depth import MIN_OVERLAP
from ..geometry.input_error import InputError, counted, there_are
from ..geometry.posed import PosedViews
from ..geometry.sequence.frames import posed_views
from ..geometry.sequence.reading import read_frames
from .sequences import PosedSequence

KEYFRAME_OVERLAP = 0.6  # under which the next key frame is taken, as published
WALK_FOV_DEG = 60.0


def sequence_in_memory(
    name: str, cameras: PosedViews, pictures: Sequence[torch.Tensor], captions: Sequence[str]
) -> PosedSequence:
    """A sequence of F (H, W, 3 or 4) frames in 0..1, with F captions, one text of F lines, or one caption for all.

    Raises InputError, one sentence, for another number of frames or captions, and for frames of another size.
    """
    if len(pictures) != cameras.views:
        raise InputError(f"{there_are(len(pictures), 'image')} for {counted(cameras.views, 'camera')}", "from_one_node")
    size = cameras.height, cameras.width
    if odd := [number for number, picture in enumerate(pictures) if picture.shape[:2] != size]:
        height, width = pictures[odd[0]].shape[:2]
        raise InputError(
            f"image {odd[0] + 1} is {width} x {height} pixels, and its camera {size[1]} x {size[0]}", "from_one_node"
        )
    lines = [line.strip() for caption in captions for line in caption.splitlines() if line.strip()]
    lines = lines * cameras.views if len(lines) == 1 else lines
    if len(lines) != cameras.views:
        raise InputError(
            f"{there_are(len(lines), 'line')} of captions for {counted(cameras.views, 'image')}", "one_or_each"
        )
    return PosedSequence(name, cameras, torch.stack([picture[..., :3].float() for picture in pictures]), tuple(lines))


def sequences_in_folders(
    folders: Sequence[Path], width: int, height: int, say: Callable[[str], None]
) -> tuple[PosedSequence, ...]:
    """The sequences of folders in a layout that Depth Cameras reads, at `width` x `height` pixels.

    Folders that cannot be read are named by `say` and left out; at least one must remain, else InputError.
    """
    sequences = []
    for folder in folders:
        try:
            frames = read_frames(folder, on_skipped=say)
            cameras, pictures, prompts = posed_views(frames, width, height, MIN_OVERLAP, KEYFRAME_OVERLAP)
        except (OSError, ValueError) as error:
            say(f"{folder} cannot be used and is left out: {error}")
            continue
        if not all(prompts):
            say(f"{folder} is left out: it has no captions (prompt/N.txt, what frame N shows)")
            continue
        sequences.append(PosedSequence(folder.name, cameras, pictures, tuple(prompts)))
    if not sequences:
        raise InputError(f"{there_are(len(folders), 'sequence')}, and none can be used.")
    return tuple(sequences)


def walk_cameras(views: int, width: int, height: int) -> PosedViews:
    """Cameras that say only how many views walks through rooms have, and of which size."""
    intrinsics = intrinsics_from_fov(WALK_FOV_DEG, width, height).repeat(views, 1, 1)
    poses = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    return PosedViews(intrinsics, poses, width, height, depth=torch.ones(views, height, width))
