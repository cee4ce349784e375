"""The door to the Triton kernels: tried where they may work, and closed for good once they do not."""

from __future__ import annotations

import importlib.util
import logging
import traceback

import torch

from .checking import MismatchError, check, program_of
from .projected import Projected
from .reads import Reads

logger = logging.getLogger("MVDiffusion")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
COMPILERS = ("triton.compiler.compiler", "compile"), ("triton.runtime.build", "_build")  # modules and functions
_open = importlib.util.find_spec("triton") is not None
_checked: set[tuple] = set()


def attend_compiled(
    query: torch.Tensor, pixels: Projected, codes: Projected, reads: Reads, eps: float
) -> torch.Tensor | None:
    """What triton_gradients.attend_differentiably gives, where there is a GPU, and Triton's kernels work on it; else
    None.

    The first result of each program is compared with torch's. The first failure is one line in the log, and the last.
    """
    global _open
    if not (_open and query.is_cuda and query.dtype in DTYPES):
        return None
    try:
        from . import triton_gradients as kernels

        with torch.cuda.device_of(query):  # Triton launches on the current one
            attended = kernels.attend_differentiably(query, pixels, codes, reads, eps)
            program = program_of(query, reads)
            if program not in _checked and check(attended, query, pixels, codes, reads, eps):
                _checked.add(program)
            return attended
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler and a driver fail in any way they like
        _open = False
        logger.warning("MVDiffusion goes on without Triton's kernels for its attention: %s", _reason(error))
        return None


def _reason(error: Exception) -> str:
    """What happened, in a line."""
    said = str(getattr(error, "error_message", None) or error).strip()  # Triton's own begins with lines of the kernel
    line = next(iter(said.splitlines()), type(error).__name__)
    if isinstance(error, MismatchError):
        return line
    if isinstance(error, ImportError):
        return f"Triton could not be imported: {line}"
    frames = {
        (frame.f_globals.get("__name__"), frame.f_code.co_name) for frame, _ in traceback.walk_tb(error.__traceback__)
    }
    return f"they could not be {'launched' if frames.isdisjoint(COMPILERS) else 'compiled'} here: {line}"
