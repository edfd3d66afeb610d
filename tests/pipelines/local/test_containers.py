"""How containers are started, as far as no engine is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from untrigger.errors import UserError
from untrigger.pipelines.local.containers import ContainerOptions, docker_runner
from untrigger.runs.output_folder import OutputFolder


@pytest.fixture
def output(tmp_path: Path) -> OutputFolder:
    folder = OutputFolder(tmp_path / "run")
    folder.open({}, {}, resume=False, overwrite=False)
    return folder


@pytest.mark.parametrize(("gpus", "count"), [("all", -1), ("1", 1), ("4", 4)])
def test_gpus_are_handed_to_every_container(output: OutputFolder, gpus: str, count: int) -> None:
    (request,) = docker_runner({}, output, [], ContainerOptions(gpus=gpus)).container_run_args["device_requests"]
    assert request["Count"] == count and request["Capabilities"] == [["gpu"]]


def test_without_gpus_none_is_asked_for(output: OutputFolder) -> None:
    assert "device_requests" not in docker_runner({}, output, [], ContainerOptions()).container_run_args


def test_a_container_may_write_the_runs_files_and_only_read_the_dataset_and_the_trigger(
    output: OutputFolder, tmp_path: Path
) -> None:
    sources = [tmp_path / "data", tmp_path / "secrets" / "patch.png"]
    arguments = docker_runner({}, output, sources, ContainerOptions()).container_run_args
    mounts = {mount["Target"]: mount["ReadOnly"] for mount in arguments["mounts"]}
    assert {target for target, read_only in mounts.items() if read_only} == {str(source) for source in sources}
    written = {str(path) for path in (output.stages, output.progress, output.tracking_records)}
    assert {target for target, read_only in mounts.items() if not read_only} == written


@pytest.mark.parametrize("gpus", ["0", "some", "-1", ""])
def test_an_impossible_number_of_gpus_is_refused(gpus: str) -> None:
    with pytest.raises(UserError, match="--gpus must be all or a number from 1"):
        ContainerOptions(gpus=gpus)


@pytest.mark.parametrize("memory", ["0", "8 GB", "much", ""])
def test_an_impossible_size_of_memory_is_refused(memory: str) -> None:
    with pytest.raises(UserError, match="--memory must be a number with b, k, m or g"):
        ContainerOptions(memory=memory)
