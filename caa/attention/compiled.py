"""The door to the Triton kernels: tried where they may work, and closed for good once they do not."""

from __future__ import annotations

import importlib.util
import logging

import torch

logger = logging.getLogger("MVDiffusion")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_open = importlib.util.find_spec("triton") is not None


def attend_compiled(query: torch.Tensor, *args) -> torch.Tensor | None:
    """What triton_gradients.attend_differentiably gives, where there is a GPU, Triton, and a compiler that it can work
    with; else None.

    The first failure is one line in the log.
    """
    global _open
    if not (_open and query.is_cuda and query.dtype in DTYPES):
        return None
    try:
        from . import triton_gradients as kernels

        with torch.cuda.device_of(query):  # Triton launches on the current one
            return kernels.attend_differentiably(query, *args)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler fails in any way it likes
        _open = False
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logger.warning("Triton cannot compile MVDiffusion's attention here, it goes on without: %s", reason[0])
        return None
