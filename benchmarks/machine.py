"""What this machine can do at most, and how long a piece of work takes on it."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

MATRIX = 4096
COPIED_BYTES = 1 << 28


def description(device: torch.device) -> str:
    """The hardware and software in one line."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        hardware = f"{len(os.sched_getaffinity(0))} cores of {_processor()}, {torch.get_num_threads()} threads"
    return f"{hardware}; torch {torch.__version__}, Python {platform.python_version()}; {time.strftime('%Y-%m-%d')}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def seconds_for(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, until the device has finished it."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_product_rate(device: torch.device, precision: torch.dtype) -> float:
    """The best of six rates of a large matrix product, in operations per second."""
    left, right = (torch.randn(MATRIX, MATRIX, device=device).to(precision) for _ in range(2))
    return 2 * MATRIX**3 / min(seconds_for(lambda: left @ right, device) for _ in range(6))


def copy_rate(device: torch.device) -> float:
    """The best of six rates of a large copy, in bytes read and written per second."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / min(seconds_for(lambda: target.copy_(source), device) for _ in range(6))


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most: on the GPU, or in all on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def median_and_range(values: Sequence[float], form: str) -> str:
    """The median, and the smallest and the largest: `12 (11 to 15)`."""
    middle, low, high = (form.format(v) for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"
