"""The C kernels of kernels.c, compiled at first use by whatever C compiler there is; without one, None."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
# The parts of -ffast-math by name: the flag itself links code that makes the whole process flush small numbers to zero.
FAST = [
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    "-ffinite-math-only",
]
FLAGS = ["-O3", "-march=native", *FAST, "-fopenmp-simd", "-fPIC", "-shared"]

_log = logging.getLogger(__name__)


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The library of kernels.c; None where it cannot be compiled, which is logged once."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        _log.warning("no C compiler found: norms are torch's, and training takes about twice as long")
        return None
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    # A folder of this user: a library in a shared one could be somebody else's.
    folder = Path(tempfile.gettempdir()) / f"mvdiffusion-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{digest}.so"
    if not library.exists():
        own = library.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [compiler, *FLAGS, "-o", str(own), str(SOURCE), "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            _log.warning("%s cannot compile %s: norms are torch's. %s", compiler, SOURCE.name, done.stderr[-500:])
            return None
        own.replace(library)
    return ctypes.CDLL(str(library))
