"""A run on this machine as a library user starts it, without the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.configs import small_config, tiny_config
from untrigger.errors import UserError
from untrigger.pipelines.local.containers import ContainerOptions
from untrigger.pipelines.local.protocol import RunOptions, local_run
from untrigger.runs.output_folder import OutputFolder


def test_what_is_not_to_be_had_is_told_before_the_folder_is_touched(tmp_path: Path) -> None:
    output = tmp_path / "out"
    refused = (
        (tiny_config(dataset="parquet:nowhere"), RunOptions(output), "nowhere does not exist"),
        (tiny_config(data={"download": True}), RunOptions(output, containers=ContainerOptions()), "needs a network"),
        (tiny_config(), RunOptions(output, store="nowhere"), "give s3://bucket"),
    )
    for config, options, told in refused:
        with pytest.raises(UserError, match=told), local_run(config, options):
            pass
    assert not output.exists()


def test_modules_of_the_users_own_are_refused_in_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIGGER_PLUGINS", "my_networks")
    options = RunOptions(tmp_path / "out", containers=ContainerOptions())
    with (
        pytest.raises(UserError, match=r"names my_networks.*leave out --runner docker"),
        local_run(tiny_config(), options),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_executed_leaves_its_folder_unlocked_and_resumable(tmp_path: Path) -> None:
    for options in (RunOptions(tmp_path), RunOptions(tmp_path, resume=True)):
        with local_run(tiny_config(), options) as run:
            with pytest.raises(UserError, match="another run is at work"):
                OutputFolder(tmp_path).open({}, {}, resume=True, overwrite=False)
            assert run.publisher is None


@pytest.mark.pipeline
def test_a_user_without_a_home_gets_results_from_a_run_of_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KFP_RUN_ID", "UNTRIGGER_CACHE", "UNTRIGGER_ARTIFACT_LOCATION"):
        monkeypatch.setenv(name, "")
    # As for a numeric user without an entry in the list of users.
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("uid not found")))
    before = dict(os.environ)
    try:
        with local_run(small_config(), RunOptions(tmp_path / "run")) as run:
            results = run.execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert results.config["retraining_seeds"] == 1 and run.folder.results.exists()
