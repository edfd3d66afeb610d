"""When an output folder may be written to, and what is never deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from untrigger.errors import UserError
from untrigger.runs.output_folder import OutputFolder

CONFIG = {"seed": 0, "generator": {"epochs": 3}}


def opened(
    path: Path,
    config: dict[str, object] = CONFIG,
    sources: list[Path] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> OutputFolder:
    folder = OutputFolder(path)
    folder.open(config, sources or [], resume=resume, overwrite=overwrite)
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


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run to resume"):
        opened(tmp_path, resume=True)


def test_a_changed_dataset_is_not_resumed_with(tmp_path: Path) -> None:
    data = tmp_path / "data.parquet"
    data.write_text("one")
    opened(tmp_path / "out", sources=[data])
    os.utime(data, (0, 0))
    opened(tmp_path / "out", sources=[data], resume=True)
    data.write_text("two")
    with pytest.raises(UserError, match="the dataset or the trigger file has changed"):
        opened(tmp_path / "out", sources=[data], resume=True)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    working = OutputFolder(tmp_path)
    working.open(CONFIG, [], resume=False, overwrite=False)
    with pytest.raises(UserError, match="another run is at work"):
        opened(tmp_path, overwrite=True)
    working.close()
    opened(tmp_path, overwrite=True)
