"""The door to the Triton kernels: tried where they may work, and closed for good once they do not."""

from __future__ import annotations

import importlib.util
import logging
import traceback
from collections.abc import Callable

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
    """What triton_gradients.attend_differentiably gives, else None: see `attempt`."""

    def kernels() -> torch.Tensor:
        from . import triton_gradients

        return triton_gradients.attend_differentiably(query, pixels, codes, reads, eps)

    return attempt(query, program_of(query, reads), kernels, lambda made: check(made, query, pixels, codes, reads, eps))


def may_serve(x: torch.Tensor) -> bool:
    """Whether there is a GPU where `x` is, and nothing is known against Triton's kernels on it."""
    return _open and x.is_cuda and x.dtype in DTYPES


def attempt(
    x: torch.Tensor, program: tuple, kernels: Callable[[], torch.Tensor], shows: Callable[[torch.Tensor], bool]
) -> torch.Tensor | None:
    """What `kernels` gives for `x`, where there is a GPU, and Triton's kernels work on it; else None.

    The first result of each program is checked: `shows` raises where it is wrong, and says whether it showed anything.
    The first failure is one line in the log, and the last.
    """
    global _open
    if not may_serve(x):
        return None
    try:
        with torch.cuda.device_of(x):  # Triton launches on the current one
            made = kernels()
            if program not in _checked and shows(made):
                _checked.add(program)
            return made
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler and a driver fail in any way they like
        _open = False
        logger.warning("MVDiffusion goes on without Triton's kernels: %s", _reason(error))
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
