"""Names that people and graphs give of files in the host's folders."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths


def inside(root: str | Path, name: str) -> Path | None:
    """The path of `name` in a folder; None where that is the folder itself or leads out of it, also by a link."""
    try:
        root = os.path.realpath(root)
        path = Path(os.path.realpath(os.path.join(root, name)))
    except ValueError:  # a name that no file can have
        return None
    return path if Path(root) in path.parents else None


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
