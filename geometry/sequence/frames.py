"""The frames of a depth sequence, and the cameras that they make together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from PIL import Image

from ..cameras import Cameras
from ..depth import depth_overlap
from ..input_error import InputError
from ..posed import PosedViews

FOCAL_LENGTHS = 0.1, 10.0  # of the depth map's width: fields of view of 157 and 6 degrees
NAMED = 12  # frames that a message names
ASPECT_TOLERANCE = 0.02  # by which the proportions of picture and depth may differ; ScanNet's do by 0.004


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a scene, with the depth of what it shows and the pose of the camera that took it. On the CPU.

    name: what people call it, the frame's number in its folder.
    image: (H, W, 3) float32 in 0..1. It shows what the depth map shows, and may have another size.
    depth: (h, w) float32, z in finite metres, 0 = no reading.
    intrinsics: (3, 3) float64 in pixels of the depth map, pixel centres at integers.
    cam_to_world: (4, 4) float64, rigid.
    prompt: what the picture shows, in words; may be empty.
    """

    name: str
    image: torch.Tensor
    depth: torch.Tensor
    intrinsics: torch.Tensor
    cam_to_world: torch.Tensor
    prompt: str = ""


def check_choice(start: int, stride: int, max_frames: int, depth_scale: float = 0.0) -> None:
    """Raises InputError for numbers that choose no frames, and for a scale that is none."""
    if start < 0 or stride < 1 or max_frames < 0:
        raise InputError(
            f"start must be 0 or more, stride 1 or more and max_frames 0 (all) or more, not {start}, {stride} and "
            f"{max_frames}"
        )
    if not 0 <= depth_scale < float("inf"):
        raise InputError(f"depth_scale is {depth_scale:g}", "metres_per_unit")


def fit(frame: Frame, width: int, height: int) -> Frame:
    """The frame at `width` x `height` pixels: its middle, cropped to that aspect and resized.

    Each depth is that of the one pixel nearest to the new pixel's centre, since a mean of two surfaces lies on neither.
    The image is resized without aliasing, the intrinsics follow. At its own size a frame stays as it is, bit for bit.
    Raises InputError for an image of other proportions than the depth map's.
    """
    _check_proportions(frame)
    rows, columns = frame.depth.shape
    # Old pixels per new one. As a fraction: no rounding error decides which of two pixels is nearer.
    scale = min(Fraction(columns, width), Fraction(rows, height))
    left, top = (columns - scale * width) / 2, (rows - scale * height) / 2
    depth = frame.depth[_nearest(top, scale, height)][:, _nearest(left, scale, width)]
    image = _resized(frame.image, (left / columns, top / rows), (width, height))
    x, y = (float((Fraction(1, 2) - offset) / scale - Fraction(1, 2)) for offset in (left, top))
    new_from_old = torch.tensor([[1 / scale, 0, x], [0, 1 / scale, y], [0, 0, 1]], dtype=torch.float64)
    return replace(frame, image=image, depth=depth, intrinsics=new_from_old @ frame.intrinsics)


def posed_views(
    frames: Iterable[Frame],
    width: int,
    height: int,
    min_overlap: float,
    keyframe_overlap: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[PosedViews, torch.Tensor, tuple[str, ...]]:
    """The cameras, (V, height, width, 3) images and V prompts of a sequence; each frame is resized as it comes.

    The first frame is a key frame, then each that overlaps the last key frame by `keyframe_overlap` or less, and the
    last frame, since nothing after the last key frame could be interpolated.
    A frame without a prompt takes that of the nearest frame that has one.
    progress: when all frames are read, is told of how many it is known whether they are key frames, then how many key
        frames are compared with the others. It may raise, to stop.
    Raises InputError for overlaps that are no shares, fewer than two frames, and key frames that overlap no other key
    frame.
    """
    for name, overlap in (("min_overlap", min_overlap), ("keyframe_overlap", keyframe_overlap)):
        if not 0 <= overlap <= 1:
            raise InputError(f"{name} must lie between 0 and 1, not {overlap:g}")
    fitted = [fit(frame, width, height) for frame in frames]
    if len(fitted) < 2:
        raise InputError(f"{len(fitted)} of the frames can be used, and at least 2 are needed", "few_frames")
    intrinsics, cam_to_world, depth, images = (
        torch.stack([getattr(frame, part) for frame in fitted])
        for part in ("intrinsics", "cam_to_world", "depth", "image")
    )
    keyframes = _keyframes(Cameras(intrinsics, cam_to_world, width, height), depth, keyframe_overlap, progress)
    cameras = PosedViews(
        intrinsics,
        cam_to_world,
        width,
        height,
        depth=depth,
        min_overlap=min_overlap,
        keyframes=keyframes,
        names=tuple(frame.name for frame in fitted),
    )
    _check_keyframes(cameras, progress)
    return cameras, images, _prompts([frame.prompt for frame in fitted])


def best_overlaps(cameras: PosedViews, progress: Callable[[int, int], None] | None = None) -> torch.Tensor:
    """(V,) how much each view overlaps the other view that it overlaps most; 0 where there is none."""
    return cameras.compared(progress).fill_diagonal_(0).amax(1)


def named_frames(names: Sequence[str]) -> str:
    """'frame 3', 'frames 3, 7', and of a longer list the first NAMED and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"frame{'s' * (len(names) > 1)} {', '.join(names[:NAMED])}{more}"


def described(skipped: dict[str, str]) -> str:
    """'skipped frames 3, 7 (no pose), frame 12 (depth all zero)', of reasons by the frames' names."""
    reasons = dict.fromkeys(skipped.values())
    named = [f"{named_frames([name for name in skipped if skipped[name] == why])} ({why})" for why in reasons]
    return f"skipped {', '.join(named)}"


def nearest_rotation(matrix: torch.Tensor) -> torch.Tensor:
    """The (3, 3) orthogonal matrix nearest to one whose digits were rounded."""
    left, _, right = torch.linalg.svd(matrix)
    return left @ right


def _nearest(offset: Fraction, scale: Fraction, count: int) -> torch.Tensor:
    """(count,) which old pixel holds the centre of each new one: floor(offset + (i + 0.5) scale), exactly."""
    first = 2 * offset + scale
    common = first.denominator * scale.denominator
    return (int(first * common) + 2 * int(scale * common) * torch.arange(count)) // (2 * common)


def _resized(image: torch.Tensor, start: tuple[Fraction, Fraction], size: tuple[int, int]) -> torch.Tensor:
    """The middle of an (H, W, 3) image at (width, height) pixels; it starts at these shares of width and height."""
    height, width = image.shape[:2]
    left, top = start[0] * width, start[1] * height
    box = float(left), float(top), float(width - left), float(height - top)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in image.movedim(-1, 0).numpy()]
    small = [np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box)) for plane in planes]
    return torch.from_numpy(np.stack(small, axis=-1))


def _keyframes(
    cameras: Cameras,
    depth: torch.Tensor,
    keyframe_overlap: float,
    progress: Callable[[int, int], None] | None,
) -> tuple[int, ...]:
    last = cameras.views - 1
    keyframes = [0]
    for view in range(1, last + 1):
        if view == last or depth_overlap(cameras, depth, keyframes[-1], view) <= keyframe_overlap:
            keyframes.append(view)
        if progress is not None:
            progress(view, last)
    return tuple(keyframes)


def _prompts(prompts: list[str]) -> tuple[str, ...]:
    """Each frame's own prompt, or that of the nearest frame that has one: the earlier of two."""
    given = [number for number, prompt in enumerate(prompts) if prompt]
    if not given:
        return tuple(prompts)
    return tuple(prompts[min(given, key=lambda other: abs(other - number))] for number in range(len(prompts)))


def _check_proportions(frame: Frame) -> None:
    (height, width), (rows, columns) = frame.image.shape[:2], frame.depth.shape
    if abs(width * rows / (height * columns) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"the picture of frame {frame.name} is {width} x {height} pixels and its depth map {columns} x {rows}: "
            "both must show the same, so they need the same proportions",
            "crop_pictures",
        )


def _check_keyframes(cameras: PosedViews, progress: Callable[[int, int], None] | None) -> None:
    key_cameras = cameras.subset(cameras.keyframes)
    names = [
        name
        for name, overlap in zip(key_cameras.names, best_overlaps(key_cameras, progress).tolist(), strict=True)
        if overlap == 0
    ]
    if names:
        does = "overlaps" if len(names) == 1 else "overlap"
        raise InputError(
            f"{named_frames(names)} {does} no other key frame, and could not agree with the rest", "lone_keyframes"
        )
