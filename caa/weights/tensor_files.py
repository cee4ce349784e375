"""Tensors by name from safetensors and torch files. Nothing that a file contains is ever executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ...geometry.input_error import InputError
from .torch_dumps import Dump, state_dict_of

SOUND = (2, 6)  # before this version of torch, files could break out of its `weights_only` (CVE-2025-32434)


class TensorFile:
    """A file of weights. Its index is read once, when this is made, and no tensor.

    path: where it is. shapes: by key; of a Lightning dump only `state_dict` counts. metadata: of safetensors, else
        empty.
    Raises InputError if the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]]
        self.metadata: dict[str, str] = {}
        self._tensor: Callable[[str], torch.Tensor]
        if _is_safetensors(path):
            file = _open_safetensors(path)
            self.shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            self.metadata, self._tensor = file.metadata() or {}, file.get_tensor
        else:
            tensors = _loaded_by_torch(path)
            if tensors is None:
                dump = Dump(path)
                self.shapes, self._tensor = dump.shapes, dump.tensor
            else:
                self.shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
                self._tensor = tensors.__getitem__

    def tensors(self, prefixes: Iterable[str]) -> dict[str, torch.Tensor]:
        """Those whose keys begin with one of `prefixes`, memory-mapped: pages are read when they are first used.

        Raises InputError where the file ends too early.
        """
        prefixes = tuple(prefixes)
        return {key: self._tensor(key) for key in self.shapes if key.startswith(prefixes)}


def _loaded_by_torch(path: str | Path) -> dict[str, torch.Tensor] | None:
    """What torch's own loader makes of a torch file, mapped; None where it refuses, as it does the authors' dumps."""
    if torch.__version__ < SOUND:  # pyright: ignore[reportOperatorIssue]
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # a broken or hostile file can raise anything: Dump reads it, or says what is wrong
        return None
    return {key: value.detach() for key, value in state_dict_of(content, torch.Tensor).items()}


def _is_safetensors(path: str | Path) -> bool:
    """True: safetensors, False: torch's; by content, since names lie. InputError: neither, and what it is instead."""
    with open(path, "rb") as file:
        head = file.read(512)
    # Safetensors first: the length that it begins with may look like the start of a pickle. A header has up to 100 MB.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**27:
        return True
    if head.startswith((b"PK", b"\x80")):
        return False
    if not head:
        looks = "is empty (0 bytes): the download failed"
    elif head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the file that it stands for", "git_lfs_pull")
    elif head.lstrip()[:1] == b"<":
        looks = "is a web page, not weights: the download failed"
    elif b"\0" not in head:
        looks = "is a text file, not weights: the download failed"
    else:
        looks = "is neither a safetensors nor a torch file"
    raise InputError(f"{path} {looks}", "replace_file")


def _open_safetensors(path: str | Path):
    try:
        return safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise InputError(f"{path} is a safetensors file that is damaged or cut short ({error})", "get_again") from error
