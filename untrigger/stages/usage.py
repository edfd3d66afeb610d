"""What a stage's process used: device, threads, memory at most."""

from __future__ import annotations

import resource
import sys

USED = ("threads", "peak_memory_mb", "peak_gpu_memory_mb")
"""The metrics that tell of the machine, not of the method."""


def device_used() -> str:
    """The name of the GPU that the stage may use, else `cpu`."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else "cpu"


def used() -> dict[str, float]:
    """Threads, and peak memory in MB: of the process, and of a GPU where there is one."""
    torch = sys.modules.get("torch")
    found = {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return found
