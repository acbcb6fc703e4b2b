"""Time on a device, its peak memory, and how much of the time for the whole script is left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Call = Callable[[], Any]


class Clock:
    """Times calls on one device.

    Args:
        device: "cuda" or "cpu". limit_s: for the whole script. toy: one sample of one call each.
    """

    def __init__(self, device: str, limit_s: float, toy: bool) -> None:
        self.device, self.limit_s, self.toy = device, limit_s, toy
        self.started = time.perf_counter()

    def left_s(self) -> float:
        """Seconds until the limit."""
        return self.limit_s - (time.perf_counter() - self.started)

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def ms(self, call: Call, seconds: float = 0.2) -> float:
        """Milliseconds a call takes, from one row of calls that fills about ``seconds``."""
        count = 1
        if not self.toy:
            self.wait()
            begin = time.perf_counter()
            call()
            self.wait()
            count = max(1, min(1000, int(seconds / max(time.perf_counter() - begin, 1e-6))))
        begin = time.perf_counter()
        for _ in range(count):
            call()
        self.wait()
        return (time.perf_counter() - begin) / count * 1e3

    def median_ms(self, call: Call, samples: int = 9, seconds: float = 0.05) -> float:
        """Median over samples, after two calls that do not count."""
        for _ in range(0 if self.toy else 2):
            call()
        return statistics.median(self.ms(call, seconds) for _ in range(1 if self.toy else samples))

    def captured(self, call: Call) -> Call:
        """The call as one replay of a CUDA graph; on the CPU the call itself."""
        if self.device != "cuda":
            return call
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def peak_mib(self, call: Call) -> float | None:
        """The most memory that tensors held during a call; None on the CPU."""
        if self.device != "cuda":
            call()
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        call()
        self.wait()
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)

    @contextmanager
    def within_gib(self, gib: float) -> Iterator[None]:
        """Within the block this process may hold that much device memory; more raises `torch.OutOfMemoryError`."""
        if self.device != "cuda":
            yield
            return
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / whole))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
            torch.cuda.empty_cache()
