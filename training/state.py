"""The state of a run on disk: one folder of safetensors and JSON, which appears whole or not at all.

A run's folder holds `step_00000100`: everything after that step. A new one is written beside it under another name, is
given its own when every byte has reached the disk, and only then is the older one removed: whenever the process is
killed, a whole state is there. The newest counts.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..geometry.input_error import InputError

FORMAT = 1
FULL = re.compile(r"os error (28|112)\b")  # how safetensors says it on Unix and on Windows
PREFIX, UNFINISHED, INFO = "step_", "unfinished_", "state.json"
Write = Callable[[Path], None]


class SaveError(RuntimeError):
    """A state could not be written."""


class States:
    """The states of one run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def newest(self) -> Path | None:
        """The folder of the newest state; None where there is none."""
        return max(self.folder.glob(PREFIX + "*"), default=None)

    def info(self) -> dict | None:
        """What the newest state says in JSON; None where there is none. Raises InputError where it cannot be read."""
        state = self.newest()
        if state is None:
            return None
        try:
            info = json.loads((state / INFO).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"the state in {state} cannot be read ({error})", "remove_state") from error
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise InputError(f"the state in {state} is of another version of this pack", "another_run")
        return info

    def check_writable(self) -> None:
        """Raises SaveError, one sentence, where no state could be saved: to be asked before long work."""
        trial = self.folder / f"{UNFINISHED}{os.getpid()}"
        try:
            trial.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(trial)
        except OSError as error:
            raise SaveError(f"no state can be saved to {self.folder}: {error.strerror or error}.") from error

    def save(self, step: int, info: Mapping[str, object], files: Mapping[str, Write]) -> Path:
        """Writes the state after `step`: `info` as JSON, and each of `files` by its function. Older ones are removed.

        Raises SaveError, one sentence, where the disk is full or cannot be written to: the older state is as it was.
        """
        final = self.folder / f"{PREFIX}{step:08}"
        if final.exists():  # stopped before another step was done
            return final
        unfinished = self.folder / f"{UNFINISHED}{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove(UNFINISHED)
            unfinished.mkdir()
            for name, write in files.items():
                write(unfinished / name)
            text = json.dumps({"format": FORMAT, "step": step, **info}, indent=1)
            (unfinished / INFO).write_text(text, encoding="utf-8")
            for path in (*unfinished.iterdir(), unfinished):
                _to_disk(path)
            os.rename(unfinished, final)
            _to_disk(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise SaveError(self._not_saved(step, error)) from error
        self._remove(PREFIX, but=final)
        return final

    def _remove(self, prefix: str, but: Path | None = None) -> None:
        for folder in self.folder.glob(prefix + "*"):
            if folder != but:
                shutil.rmtree(folder, ignore_errors=True)

    def _not_saved(self, step: int, error: Exception) -> str:
        full = getattr(error, "errno", None) == errno.ENOSPC or bool(FULL.search(str(error)))
        reason = "the disk is full" if full else str(error)
        older = self.newest()
        kept = f"the state in {older} is kept" if older else "there is no older state"
        return f"the state after step {step} cannot be saved to {self.folder}: {reason}; {kept}."


def write_tensors(tensors: Mapping[str, torch.Tensor]) -> Write:
    """Writes tensors of any device under their names."""

    def write(path: Path) -> None:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)

    return write


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, on the CPU. Raises InputError, one sentence, where it cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error})", "remove_state") from error


def _to_disk(path: Path) -> None:
    """Waits until a file or the entries of a folder are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
