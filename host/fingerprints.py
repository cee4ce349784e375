"""Whether files changed since the last run, for nodes' fingerprint_inputs.

The host writes what that gives into saved pictures, as JSON, and takes an error for a change: so nothing here raises or
gives NaN. What is absent counts as absent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def fingerprint(paths: Iterable[str | Path]) -> str:
    """Changes with the names, sizes and times of these files, and with which of them there are."""
    state = hashlib.sha256()
    for path in sorted({os.fspath(path) for path in paths}):
        state.update(f"{path} {_state(path)}\n".encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _state(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # no file, a link to none, or no name that a file can have
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"
