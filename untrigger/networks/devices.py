"""The hardware that networks compute on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from untrigger.errors import UserError

GPUS = "UNTRIGGER_GPUS"
"""Environment variable: how many GPUs a cluster allotted to this stage."""


def fast_in_bf16(device_type: str) -> bool:
    """Whether the hardware multiplies in bf16; elsewhere bf16 is emulated and slower than fp32."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device_type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_allotted_gpus() -> None:
    """UserError where GPUs were allotted and CUDA cannot be used: training on the CPU instead would take days."""
    allotted = os.environ.get(GPUS, "0")
    if allotted != "0" and not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise UserError(
            f"{allotted} GPU was allotted to this stage and torch, built for {built}, finds none that it can use: "
            "build the images with `make images TORCH=cuda`, or place the stage without a GPU (`gpus: 0`)"
        )


def usable_threads(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The threads that torch takes, but no more than the CPU quota of this process's control groups lets run."""
    quota = min(_quotas(cgroups, own), default=math.inf)
    return torch.get_num_threads() if math.isinf(quota) else max(1, min(torch.get_num_threads(), math.ceil(quota)))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The CPUs that each control group around this process may use, where it has a limit; version 1 and version 2."""
    lines = [line.split(":", 2) for line in own.read_text().splitlines()] if own.exists() else []
    for controllers, base, path in ((set(each[1].split(",")), cgroups, each[2]) for each in lines if len(each) == 3):
        if controllers == {""}:
            for group in _upwards(base, path):
                yield from _quota((group / "cpu.max",))
        elif "cpu" in controllers:
            for name in ("cpu", "cpu,cpuacct"):
                for group in _upwards(base / name, path):
                    yield from _quota((group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"))


def _upwards(base: Path, path: str) -> list[Path]:
    """The group and all around it; in a container its own group often is `base` itself, whatever its path says."""
    group = base / path.lstrip("/")
    return [each for each in (group, *group.parents) if each.is_relative_to(base)]


def _quota(files: tuple[Path, ...]) -> Iterator[float]:
    if all(file.exists() for file in files):
        quota, period = " ".join(file.read_text() for file in files).split()
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
