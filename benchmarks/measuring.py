"""What benchmarks read off a machine: time and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch


class PeakMemory:
    """Bytes that a call took at its peak beyond what was there before: of the GPU, or of the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def of(self, call: Callable[[], object]) -> int:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            call()
            return torch.cuda.max_memory_allocated(self.device) - before
        import psutil

        process, running = psutil.Process(), True
        before = peak = process.memory_info().rss

        def watch() -> None:
            nonlocal peak
            while running:
                peak = max(peak, process.memory_info().rss)
                time.sleep(0.005)

        watcher = threading.Thread(target=watch)
        watcher.start()
        call()
        running = False
        watcher.join()
        return peak - before


def busy_seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long the GPU's kernels of one call take, without what lies between them."""
    call()
    torch.cuda.synchronize(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize(device)
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with the device's queue drained."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
