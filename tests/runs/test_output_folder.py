"""When an output folder may be written to, and what is never deleted."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest
from mlflow import MlflowClient

from untrigger.errors import UserError
from untrigger.runs.output_folder import OutputFolder

CONFIG = {"seed": 0, "generator": {"epochs": 3}}


def opened(
    path: Path,
    config: dict[str, object] = CONFIG,
    contents: dict[str, str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> OutputFolder:
    folder = OutputFolder(path)
    folder.open(config, contents or {}, resume=resume, overwrite=overwrite)
    folder.close()
    return folder


def test_a_run_is_neither_repeated_nor_replaced_unasked(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "results.json").write_text("precious")
    with pytest.raises(UserError, match="already holds a run: add --resume to go on with it, --overwrite to replace"):
        opened(tmp_path)
    assert (tmp_path / "results.json").read_text() == "precious"


def test_overwriting_deletes_the_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    first = opened(tmp_path)
    (first.stages / "prepare_data-0").mkdir(parents=True)
    (tmp_path / "results.json").touch()
    (tmp_path / "mlflow.db").write_text("history")
    (tmp_path / "notes.txt").write_text("mine")
    second = opened(tmp_path, overwrite=True)
    assert second.run_id != first.run_id
    assert not first.stages.exists() and not (tmp_path / "results.json").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine" and (tmp_path / "mlflow.db").read_text() == "history"


@pytest.mark.parametrize("name", ["stages", "workspace", "figures", "classifier"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_another_origin_is_refused_and_left_as_it_is(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "work").write_text("months of it")
    with pytest.raises(UserError, match=f"already holds {name} of another origin"):
        opened(tmp_path, overwrite=overwrite)
    assert (tmp_path / name / "work").read_text() == "months of it"


def test_resuming_keeps_finished_stages_and_the_run_unless_settings_changed(tmp_path: Path) -> None:
    first = opened(tmp_path)
    (first.stages / "prepare_data-0").mkdir(parents=True)
    assert opened(tmp_path, resume=True).run_id == first.run_id
    assert opened(tmp_path, {**CONFIG, "seed": 1}, resume=True).run_id != first.run_id
    assert (first.stages / "prepare_data-0").exists()


def test_resuming_keeps_the_records_of_a_killed_attempt_and_what_they_name(tmp_path: Path) -> None:
    for seed, left in ((0, True), (1, False)):
        folder = OutputFolder(tmp_path / str(seed))
        folder.open({"seed": 0}, {}, resume=False, overwrite=False)
        folder.tracking_records.write_text('{"kind": "begin"}\n')
        folder.workspace.mkdir()
        folder.close()
        folder.open({"seed": seed}, {}, resume=True, overwrite=False)
        assert (folder.tracking_records.exists(), folder.workspace.exists()) == (left, left), "of the same run alone"
        folder.close()


def test_a_run_of_another_kind_is_not_resumed_but_left_as_it_is(tmp_path: Path) -> None:
    opened(tmp_path, {"attacks": ["patch"]})
    (tmp_path / "cells").mkdir()
    others: dict[str, dict[str, object]] = {"a run of one trigger": CONFIG, "a sweep": {"triggers": ["binary:1"]}}
    for kind, config in others.items():
        with pytest.raises(UserError, match=f"holds a grid, not {kind}: choose another --output"):
            opened(tmp_path, config, resume=True)
    assert OutputFolder(tmp_path).description()["config"] == {"attacks": ["patch"]} and (tmp_path / "cells").exists()


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to resume"):
        opened(tmp_path, resume=True)


def test_what_a_name_gives_must_not_change_before_a_run_is_resumed(tmp_path: Path) -> None:
    config = {**CONFIG, "dataset": "folder:data"}
    first = opened(tmp_path, config, {"folder:data": "one"})
    assert opened(tmp_path, config, {"folder:data": "one"}, resume=True).run_id == first.run_id
    with pytest.raises(UserError, match="folder:data has changed since"):
        opened(tmp_path, config, {"folder:data": "two"}, resume=True)


def test_the_same_content_by_another_name_is_the_same_run_and_another_content_is_not(tmp_path: Path) -> None:
    config = {**CONFIG, "dataset": "folder:data", "triggers": ["a.png"]}
    first = opened(tmp_path, config, {"folder:data": "one", "a.png": "mark"})
    other = {**CONFIG, "dataset": "folder:/full/data", "triggers": ["./a.png"]}
    again = opened(tmp_path, other, {"folder:/full/data": "one", "./a.png": "mark"}, resume=True)
    assert again.run_id == first.run_id
    assert opened(tmp_path, config, {"folder:data": "one", "a.png": "mark"}, resume=True).run_id == first.run_id
    changed = opened(tmp_path, other, {"folder:/full/data": "two", "./a.png": "mark"}, resume=True)
    assert changed.run_id != first.run_id


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    working = OutputFolder(tmp_path)
    working.open(CONFIG, {}, resume=False, overwrite=False)
    with pytest.raises(UserError, match="another run is at work"):
        opened(tmp_path, overwrite=True)
    working.close()
    opened(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "written",
    ["{", "[]", "{}", '{"format": 1}', '{"format": 1, "run_id": 3, "config": {}}', '{"format": 1, "config": 0}'],
)
def test_a_description_that_is_damaged_or_of_another_origin_is_named(tmp_path: Path, written: str) -> None:
    (tmp_path / "run.json").write_text(written)
    with pytest.raises(UserError, match=r"run\.json"):
        opened(tmp_path, resume=True)
    with pytest.raises(UserError, match=r"run\.json"):
        OutputFolder(tmp_path).read_run_id()
    assert (tmp_path / "run.json").read_text() == written


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"the file system gives no lock on .*run.lock \(no locks here\)"):
        opened(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["what?1", "50% poison", "a%20b", "run#2", "L\xe4ufe \xe4", "{beta}", "it's"])
def test_the_tracking_database_lies_in_the_folder_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    folder = OutputFolder(tmp_path / name)
    folder.path.mkdir()
    MlflowClient(folder.tracking_uri).search_experiments()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.db")] == [f"{name}/mlflow.db"]
    assert list(tmp_path.iterdir()) == [folder.path]
