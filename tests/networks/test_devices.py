"""What a stage was allotted is what it uses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from untrigger.errors import UserError
from untrigger.networks import devices


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of 64 cores without a GPU, as torch sees it."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(("quota", "threads"), [("30000 100000", 1), ("400000 100000", 4), ("max 100000", 64)])
def test_threads_follow_the_quota_of_the_second_version(tmp_path: Path, quota: str, threads: int) -> None:
    written(tmp_path / "fs/cpu.max", quota)
    own = written(tmp_path / "own", "0::/kubepods.slice/one.scope\n")
    assert devices.usable_threads(tmp_path / "fs", own) == threads


def test_the_tightest_group_around_a_process_counts(tmp_path: Path) -> None:
    own = written(tmp_path / "own", "0::/pod/container\n")
    written(tmp_path / "fs/pod/cpu.max", "200000 100000")
    written(tmp_path / "fs/pod/container/cpu.max", "max 100000")
    assert devices.usable_threads(tmp_path / "fs", own) == 2


@pytest.mark.parametrize(("quota", "threads"), [("150000", 2), ("-1", 64)])
def test_threads_follow_the_quota_of_the_first_version(tmp_path: Path, quota: str, threads: int) -> None:
    own = written(tmp_path / "own", "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n")
    written(tmp_path / "fs/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", quota)
    written(tmp_path / "fs/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000")
    assert devices.usable_threads(tmp_path / "fs", own) == threads


def test_without_control_groups_torch_decides(tmp_path: Path) -> None:
    assert devices.usable_threads(tmp_path, tmp_path / "nowhere") == 64


def test_a_stage_that_was_allotted_a_gpu_and_finds_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    devices.check_allotted_gpus()
    monkeypatch.setenv(devices.GPUS, "1")
    with pytest.raises(UserError, match="1 GPU was allotted to this stage and torch, built for"):
        devices.check_allotted_gpus()
