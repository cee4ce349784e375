"""Names that people and graphs give of files in the host's folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import folder_paths
from safetensors import SafetensorError

from .file_names import file_name


def inside(root: str | Path, name: str) -> Path | None:
    """The path of `name` in a folder; None where that is the folder itself or leads out of it, also by a link."""
    try:
        root = os.path.realpath(root)
        path = Path(os.path.realpath(os.path.join(root, name)))
    except ValueError:  # a name that no file can have
        return None
    return path if Path(root) in path.parents else None


def new_files(node: str, prefix: str, default: str, width: int = 0, height: int = 0) -> tuple[str, str, int, str]:
    """Folder, name, first number and subfolder of new files in the host's output folder, as its own nodes have them.

    Raises ValueError for a prefix that leads out of it, RuntimeError where its folder cannot be made.
    """
    output, name = folder_paths.get_output_directory(), file_name(node, prefix, default)
    folder = os.path.dirname(name)
    if inside(output, os.path.join(folder, default)) is None:
        raise ValueError(
            f"{node}: filename_prefix must be a name inside ComfyUI's output folder, such as {default} or "
            f"house/{default}, not '{prefix}'."
        )
    with writing_to(node, Path(output, folder)):
        return folder_paths.get_save_image_path(name, output, width, height)[:4]


@contextmanager
def writing_to(node: str, folder: str | Path) -> Iterator[None]:
    """Says that a node cannot write to a folder, and why."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RuntimeError(f"{node} cannot write to the folder {folder}: {reason}.") from error


def picture_names() -> list[str]:
    """The pictures in the host's input folder, as Load Image lists them."""
    folder = folder_paths.get_input_directory()
    files = [name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name))]
    return sorted(folder_paths.filter_files_content_types(files, ["image"]))


def picture_path(name: str) -> Path | None:
    """Where a picture lies: in the input folder, or in the one that its name says (`name [output]`); None for none."""
    plain, folder = folder_paths.annotated_filepath(name)
    path = inside(folder or folder_paths.get_input_directory(), plain)
    return path if path is not None and os.path.isfile(path) else None
