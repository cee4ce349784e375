"""Depth sequences in the host's folders: which there are, read as cameras, and written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import folder_paths
import torch

from ..geometry.posed import PosedViews
from ..geometry.sequence.da3 import Geometry, da3_frames
from ..geometry.sequence.frames import Frame, best_overlaps, named_frames, posed_views
from ..geometry.sequence.layouts import layout_of
from ..geometry.sequence.reading import read_frames
from ..geometry.sequence.scannet import write_sequence
from .file_names import file_name, with_host_tokens
from .fingerprints import fingerprint
from .folders import inside, writing_to
from .progress import progress_bar

logger = logging.getLogger("MVDiffusion")

DEMO, NONE = "demo (in the pack)", "none"
DEMO_FOLDER = Path(__file__).resolve().parents[1] / "scenes" / "demo"
IN_OUTPUT = " [output]"  # how the host marks names in its output folder
WHERE = (
    "put a folder with color, depth, pose and intrinsic inside (ScanNet's layout), or one of nerfstudio's or TUM's "
    "layout, into ComfyUI/input and press R to refresh, or choose the demo"
)


def sequence_names() -> list[str]:
    """The demo, the sequences in the host's input folder and output folder (one or two levels deep), and none."""
    read, written = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    return [DEMO, *_names_in(read), *(name + IN_OUTPUT for name in _names_in(written)), NONE]


def sequence_folder(name: str) -> Path:
    """Where a sequence lies. Raises ValueError, with what to do, for a name that is no folder inside the host's."""
    if name == DEMO:
        return DEMO_FOLDER
    root = folder_paths.get_output_directory() if name.endswith(IN_OUTPUT) else folder_paths.get_input_directory()
    folder = inside(root, name.removesuffix(IN_OUTPUT))
    if folder is None or not os.path.isdir(folder):
        raise ValueError(f"Depth Cameras: there is no sequence '{name}': {WHERE}.")
    return folder


def sequence_fingerprint(name: str | None) -> str:
    """Changes with the files of a sequence; of all sequences where the name comes by a link and is not known yet."""
    if name == NONE:
        return NONE
    names = sequence_names() if name is None else [name]
    return fingerprint(path for name in names for path in _files_of(name))


def sequence_frames(name: str, start: int, stride: int, max_frames: int, depth_scale: float) -> Iterator[Frame]:
    """The frames of a sequence, see `read_frames`; those that are skipped are named in the log.

    The host's progress bar shows how many are read, and people can stop it.
    """
    return read_frames(sequence_folder(name), start, stride, max_frames, depth_scale, _log, progress_bar())


def geometry_frames(
    geometry: Geometry, depth_scale: float, min_confidence: float, start: int, stride: int, max_frames: int
) -> Iterator[Frame]:
    """The pictures of Depth Anything 3 as frames, see `da3_frames`; the rest as in `sequence_frames`."""
    return da3_frames(geometry, depth_scale, min_confidence, start, stride, max_frames, _log, progress_bar())


def cameras_of_frames(
    frames: Iterable[Frame], width: int, height: int, min_overlap: float, keyframe_overlap: float
) -> tuple[PosedViews, torch.Tensor, tuple[str, ...]]:
    """`posed_views`, with a line in the log for key frames that overlap the others too little to attend to them.

    The host's progress bar shows how far the views are compared, and people can stop it.
    """
    cameras, images, prompts = posed_views(frames, width, height, min_overlap, keyframe_overlap, progress_bar())
    key_cameras = cameras.subset(cameras.keyframes)
    overlaps = zip(key_cameras.names, best_overlaps(key_cameras).tolist(), strict=True)
    if weak := [name for name, overlap in overlaps if overlap <= min_overlap]:
        _log(
            f"no other key frame overlaps key {named_frames(weak)} by more than min_overlap ({min_overlap:g}), so "
            "they attend only to the key frames just before and after: a smaller stride or a larger keyframe_overlap "
            "helps."
        )
    return cameras, images, prompts


def save_sequence(
    folder: str, cameras: PosedViews, images: torch.Tensor, format: str, prompts: Sequence[str] = ()
) -> Path:
    """`write_sequence` to a folder inside the host's output folder; where it was written.

    Raises ValueError for a folder outside of it, RuntimeError where it cannot be written to.
    """
    name = with_host_tokens(file_name("Save Posed Views", folder, "posed_views"), cameras.width, cameras.height)
    target = inside(folder_paths.get_output_directory(), name)
    if target is None:
        raise ValueError(
            f"Save Posed Views: folder must be a name inside ComfyUI's output folder, such as posed_views or "
            f"house/posed_views, not '{folder}'."
        )
    with writing_to("Save Posed Views", target):
        return write_sequence(target, cameras, images, format, prompts)


def _files_of(name: str) -> list[Path]:
    """All files of a sequence; none of a name that is no sequence."""
    try:
        folder = sequence_folder(name)
        layout = layout_of(folder)
        return list(layout.files(folder)) if layout else []
    except (OSError, ValueError):
        return []


def _names_in(root: str) -> list[str]:
    """The sequences in a folder and in its folders, by path; what lies in a sequence is none."""
    names = []
    for folder in _folders_in(Path(root)):
        found = [folder] if layout_of(folder) else [inner for inner in _folders_in(folder) if layout_of(inner)]
        names += [one.relative_to(root).as_posix() for one in found]
    return [name for name in names if inside(root, name)]


def _folders_in(folder: Path) -> list[Path]:
    """Those that are not hidden, and that can be looked into, by name."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _log(text: str) -> None:
    logger.warning(f"Depth Cameras: {text}")
