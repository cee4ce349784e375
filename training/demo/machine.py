"""What this machine computes well with."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Machine:
    """device: where modules live. dtype: what forward and backward passes are computed in; weights are fp32 besides."""

    device: torch.device
    dtype: torch.dtype
    words: str

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module, in place, where and in the form that it is quickest; autograd stays on."""
        return module.to(self.device, self.dtype, memory_format=torch.channels_last).requires_grad_()

    def tensor(self, x: torch.Tensor) -> torch.Tensor:
        """Features or pictures in the form that modules are fed with."""
        x = x.to(self.device, self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def this_machine() -> Machine:
    """CUDA or bf16 on CPUs with AMX or AVX-512 bf16, else fp32."""
    if torch.cuda.is_available():
        return Machine(torch.device("cuda"), torch.bfloat16, torch.cuda.get_device_name())
    flags = _cpu_flags()
    fast = next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), None)
    words = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} used, {fast or 'no bf16'}"
    return Machine(torch.device("cpu"), torch.bfloat16 if fast else torch.float32, words)


def keep_memory() -> None:
    """Tells glibc to keep memory that was freed: given back and asked for again in each step it costs a tenth of it."""
    if sys.platform.startswith("linux"):
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            trim_threshold, mmap_threshold = -1, -3  # as malloc.h numbers them
            for parameter in (trim_threshold, mmap_threshold):
                library.mallopt(parameter, 2**31 - 1)


def _cpu_flags() -> set[str]:
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists():
        return set()
    line = next((line for line in cpu.read_text().splitlines() if line.startswith("flags")), "")
    return set(line.split())
