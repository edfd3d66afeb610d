"""Tracking against a real MLflow database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import RestException

from tests.support.stages import final_status
from tests.support.waiting import wait_for
from untrigger.components.close_run.component import close_run
from untrigger.errors import UserError
from untrigger.settings.tracked import SweepPart
from untrigger.stages import open_run
from untrigger.tracking.forwarding import FILE_ATTEMPTS, forwarding
from untrigger.tracking.mlflow import MlflowWriter, check_server
from untrigger.tracking.own_records import forwarding_own_records
from untrigger.tracking.records import close_parent, existing_run, nested_run, open_parent, parent_run


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of MLflow, which take it a second to lay out."""
    path = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("UNTRIGGER_ARTIFACT_LOCATION", (tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    return MlflowClient(uri)


def tracked_runs(client: MlflowClient) -> list[Run]:
    """The parent, then the nested runs in the order of their start."""
    experiment = client.get_experiment_by_name("untrigger")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return sorted(runs, key=lambda run: ("mlflow.parentRunId" in run.data.tags, run.info.start_time))


def test_a_retried_stage_gets_a_run_of_its_own_and_the_earlier_one_is_marked(client: MlflowClient) -> None:
    with forwarding_own_records():
        open_parent("defense digits", {"generator": {"epochs": 3}}, {"dataset": "digits"})
        with pytest.raises(RuntimeError), nested_run("pixel SGD", {"steps": 3}) as tracked:
            tracked.metrics({"loss": 2.0}, 1)
            raise RuntimeError("out of memory")
        time.sleep(0.01)  # runs are told apart by the millisecond of their start
        with nested_run("pixel SGD", {"steps": 4}) as tracked:
            tracked.metrics({"loss": 1.0}, 1)
        existing_run("pixel SGD").metrics({"attack_success_rate": 0.9})
        open_parent("defense digits", {"generator": {"epochs": 3}}, {"dataset": "digits"})
        close_parent(succeeded=True)

    parent, failed, finished = tracked_runs(client)
    assert parent.data.params == {"generator.epochs": "3"} and parent.info.status == "FINISHED"
    assert failed.data.tags["mlflow.parentRunId"] == finished.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (failed.info.status, failed.data.tags["untrigger.superseded"]) == ("FAILED", "true")
    assert finished.info.status == "FINISHED" and "untrigger.superseded" not in finished.data.tags
    assert finished.data.metrics == {"loss": 1.0, "attack_success_rate": 0.9}


@pytest.mark.parametrize(
    ("state", "last", "status"),
    [
        ("SUCCEEDED", "pixel SGD", "FINISHED"),
        ("COMPLETE", "pixel SGD", "FINISHED"),
        ("RUNNING", "evaluation", "FINISHED"),
        ("RUNNING", "pixel SGD", "FAILED"),
        ("FAILED", "evaluation", "FAILED"),  # of an earlier attempt: the one that ends here did not get that far
    ],
)
def test_the_parent_ends_as_kfp_says_or_else_as_the_last_stage_did(
    client: MlflowClient, state: str, last: str, status: str
) -> None:
    with forwarding_own_records():
        open_parent("defense digits", {}, {})
        with nested_run(last, {}):
            pass
    close_run.python_func(status=final_status(state))
    parent, _ = tracked_runs(client)
    assert parent.info.status == status


def test_a_stage_that_came_from_a_cache_gets_a_run_for_what_a_later_stage_knows_of_it(client: MlflowClient) -> None:
    with forwarding_own_records():
        open_parent("defense digits", {}, {})
        existing_run("retraining method=ensemble seed=0").metrics({"attack_success_rate": 0.1})
    parent, reused = tracked_runs(client)
    assert reused.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (reused.info.status, reused.data.tags["untrigger.reused"]) == ("FINISHED", "true")
    assert reused.data.metrics == {"attack_success_rate": 0.1}


def test_a_failed_pipeline_closes_the_runs_that_a_killed_stage_left_open(client: MlflowClient) -> None:
    with forwarding_own_records():
        open_parent("defense digits", {}, {})
        killed = nested_run("pixel SGD", {})
        killed.__enter__()
        close_parent(succeeded=False)
    assert [run.info.status for run in tracked_runs(client)] == ["FAILED", "FAILED"]


def test_a_given_run_becomes_the_parent_wherever_it_stands(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = client.create_experiment("sweep")
    given = client.create_run(elsewhere).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with forwarding_own_records():
        open_parent("defense digits", {"seed": 0}, {"dataset": "digits"})
        with nested_run("evaluation", {}):
            parent_run().metrics({"attack_success_rate": 0.1})
        close_parent(succeeded=True)
    runs = client.search_runs([elsewhere])
    assert len(runs) == 2
    parent = client.get_run(given)
    assert parent.data.metrics == {"attack_success_rate": 0.1} and parent.data.tags["dataset"] == "digits"
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs} == {given, None}


def test_records_of_another_process_are_forwarded_with_their_own_times(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records = tmp_path / "tracking.jsonl"
    monkeypatch.setenv("UNTRIGGER_TRACKING", str(records))
    stage = (
        "from untrigger.tracking.records import nested_run, open_parent\n"
        "open_parent('defense', {'seed': 0}, {})\n"
        "with nested_run('pixel SGD', {'steps': 3}) as run:\n"
        "    run.metrics({'loss': 2.0}, 1)\n"
        "import sys; assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", stage], check=True)
    time.sleep(0.3)
    with forwarding(records, os.environ["MLFLOW_TRACKING_URI"], "run-1"):
        close_parent(succeeded=True)
    parent, nested = tracked_runs(client)
    assert (parent.info.status, nested.info.status) == ("FINISHED", "FINISHED")
    assert nested.data.metrics == {"loss": 2.0} and nested.data.params == {"steps": "3"}
    assert nested.info.end_time < parent.info.end_time - 250, "the time of the record, not of its forwarding"


def test_a_tracking_server_that_does_not_answer_is_named_before_the_work_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(UserError, match=nowhere), forwarding(tmp_path / "records", nowhere, "run-1"):
        raise AssertionError("the work has begun")


def test_work_goes_on_when_tracking_fails_in_the_middle_and_the_failure_is_reported(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNTRIGGER_TRACKING", str(tmp_path / "records"))
    with forwarding(tmp_path / "records", os.environ["MLFLOW_TRACKING_URI"], "run-1") as forwarded:
        open_parent("defense", {}, {})
        with nested_run("evaluation", {}) as run:
            run.files(tmp_path / "nowhere.html")
            run.metrics({"attack_success_rate": 0.1})
        close_parent(succeeded=True)
    assert "MLflow: warning not tracked: files" in capsys.readouterr().out and forwarded.refused == 1
    assert [run.info.status for run in tracked_runs(client)] == ["FINISHED", "FINISHED"]
    assert any(run.data.metrics == {"attack_success_rate": 0.1} for run in tracked_runs(client))


def test_a_file_outside_the_run_is_not_sent_anywhere(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stages run what they do not trust, and their records may name any file of this machine."""
    (tmp_path / "run").mkdir()
    secret, own = tmp_path / "secret.txt", tmp_path / "run" / "own.txt"
    secret.write_text("secret")
    own.write_text("own")
    records = tmp_path / "run" / "records"
    monkeypatch.setenv("UNTRIGGER_TRACKING", str(records))
    with forwarding(records, os.environ["MLFLOW_TRACKING_URI"], "run-1"):
        open_parent("defense", {}, {})
        for path in (secret, tmp_path / "run" / ".." / "secret.txt", own):
            parent_run().files(path)
        close_parent(succeeded=True)
    assert "lies outside the run" in capsys.readouterr().out
    (run,) = tracked_runs(client)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["own.txt"]


def test_a_stage_on_a_cluster_does_not_fail_for_want_of_tracking_once_the_run_is_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("UNTRIGGER_TRACKING_PATIENCE", "0")
    with pytest.raises(SystemExit):
        open_run.run(pipeline="defense", config={"dataset": "digits"}, tracking={})
    assert "open run: failed cannot track in MLflow" in capsys.readouterr().out
    close_run.python_func(status=final_status("FAILED"))
    told = capsys.readouterr().out
    last = told.splitlines()[-1]
    assert "close run: finished" in told
    assert last.startswith("MLflow: warning 1 tracking records are lost, since http://127.0.0.1:9 did not take them")


def test_a_run_that_mlflow_does_not_open_ends_there(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Else all later stages would track into nothing."""
    deleted = client.create_experiment("untrigger")
    client.delete_experiment(deleted)
    with pytest.raises(SystemExit):
        open_run.run(pipeline="defense", config={"dataset": "digits"}, tracking={})
    told = capsys.readouterr().out
    assert "open run: failed cannot track in MLflow at MLFLOW_TRACKING_URI sqlite:" in told
    assert "the experiment 'untrigger' is deleted there: bring it back with `mlflow experiments restore" in told


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("./mlruns", "give a server"),
        ("file:///tmp/mlruns", "give a server"),
        ("localhost:5000", "give a server"),
        ("sqlite:////dev/null/mlflow.db", "cannot track in MLflow at MLFLOW_TRACKING_URI sqlite:"),
    ],
)
def test_a_place_that_cannot_be_tracked_in_is_refused_in_one_sentence(uri: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as refused:
        check_server(uri)
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


def test_a_given_run_that_is_not_there_is_named(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_RUN_ID", 32 * "a")
    with pytest.raises(UserError, match=f"MLFLOW_RUN_ID names '{32 * 'a'}', and there is no such run: unset it"):
        check_server(uri)
    deleted = client.create_run(client.create_experiment("other")).info.run_id
    client.delete_run(deleted)
    monkeypatch.setenv("MLFLOW_RUN_ID", deleted)
    with pytest.raises(UserError, match=f"MLFLOW_RUN_ID names '{deleted}', and that run is deleted"):
        check_server(uri)


@pytest.mark.slow
def test_a_database_that_another_program_locks_is_waited_for(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, uri = tmp_path / "tracking.jsonl", os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("UNTRIGGER_TRACKING", str(records))
    monkeypatch.setattr("untrigger.tracking.forwarding.RETRY_SECONDS", 0.5)
    with forwarding(records, uri, "run-1") as forwarded, sqlite3.connect(tmp_path / "mlflow.db") as database:
        open_parent("defense digits", {"seed": 0}, {})
        wait_for(lambda: bool(tracked_runs(client)))
        database.execute("BEGIN EXCLUSIVE")
        with nested_run("pixel SGD", {"steps": 3}) as run:
            run.metrics({"loss": 1.0}, 1)
        time.sleep(7)  # longer than SQLite itself waits
        database.rollback()
        close_parent(succeeded=True)
    parent, nested = tracked_runs(client)
    assert (parent.info.status, nested.info.status) == ("FINISHED", "FINISHED")
    assert nested.data.metrics == {"loss": 1.0} and nested.data.params == {"steps": "3"}
    assert forwarded.refused == 0 and not records.exists()


def test_records_that_a_killed_run_left_are_delivered_by_the_next_attempt_and_count_once(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records, uri = tmp_path / "tracking.jsonl", os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("UNTRIGGER_TRACKING", str(records))
    (tmp_path / "figure.png").write_text("a figure")

    def attempt(stage: str) -> bytes:
        with forwarding(records, uri, "run-1") as forwarded:
            open_parent("defense digits", {"seed": 0}, {})
            with nested_run(stage, {"steps": 3}) as run:
                run.metrics({"loss": 1.0}, 1)
                run.files(tmp_path / "figure.png")
            close_parent(succeeded=True)
            written = records.read_bytes()
        assert forwarded.refused == 0
        return written

    written = attempt("pixel SGD")
    client.delete_run(tracked_runs(client)[-1].info.run_id)  # as if it had been killed before these arrived
    for _ in range(2):
        records.write_bytes(written + b'{"kind": "metr')
        attempt("staircase")
    pixel_sgd, *staircases = sorted(tracked_runs(client)[1:], key=lambda run: str(run.info.run_name))
    assert {str(run.info.run_name) for run in staircases} == {"staircase"}
    assert ["untrigger.superseded" in run.data.tags for run in (pixel_sgd, *staircases)].count(False) == 2
    for run in (pixel_sgd, *staircases):
        assert run.info.status == "FINISHED" and run.data.params == {"steps": "3"}
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 1
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["figure.png"]


def test_seconds_of_patience_that_are_no_number_are_refused_before_the_work_begins(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNTRIGGER_TRACKING_PATIENCE", "a while")
    told = "UNTRIGGER_TRACKING_PATIENCE must be a number of seconds, got 'a while'"
    with pytest.raises(UserError, match=told), forwarding(tmp_path / "r", os.environ["MLFLOW_TRACKING_URI"], "run-1"):
        raise AssertionError("the work has begun")


def test_a_run_begins_when_the_database_behind_mlflow_is_back(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([False] * (FILE_ATTEMPTS + 2))
    write = MlflowWriter.write

    def in_trouble_at_first(writer: MlflowWriter, record: Mapping[str, Any]) -> None:
        if record["kind"] == "begin" and not next(answers, True):
            raise RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "the database is starting"})
        write(writer, record)

    monkeypatch.setattr(MlflowWriter, "write", in_trouble_at_first)
    monkeypatch.setattr("untrigger.tracking.forwarding.LAST_RETRY_SECONDS", 0.02)
    with forwarding_own_records():
        open_parent("defense digits", {}, {})
        with nested_run("pixel SGD", {}) as run:
            run.metrics({"loss": 1.0}, 1)
    _, nested = tracked_runs(client)
    assert nested.info.status == "FINISHED" and nested.data.metrics == {"loss": 1.0}
    assert "lost" not in capsys.readouterr().out


def test_a_run_bears_its_name_in_its_experiment_and_leads_to_where_it_ran(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"run-1": "first", "run-2": "second"}
    for run_id, name in names.items():
        monkeypatch.setenv("KFP_RUN_ID", run_id)
        links = {"kfp": "http://kfp/#/runs/details/{run_id}", "report": "s3://store/pipelines/defense/{run_id}"}
        tracking = {"name": name, "experiment": "trojans", "links": links}
        open_run.run(pipeline="defense", config={"dataset": "digits"}, tracking=tracking)
        with forwarding_own_records(), nested_run("pixel SGD", {}):
            pass
        close_run.python_func(status=final_status("SUCCEEDED"))
    assert client.get_experiment_by_name("untrigger") is None
    experiment = client.get_experiment_by_name("trojans")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = {run.info.run_name: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert parents.keys() == {"first", "second"}
    assert parents["second"].data.tags["attack"] == "patch"
    assert parents["second"].data.tags["untrigger.kfp"] == "http://kfp/#/runs/details/run-2"
    assert parents["second"].data.tags["untrigger.report"] == "s3://store/pipelines/defense/run-2"
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 4


def track_part(monkeypatch: pytest.MonkeyPatch, run_id: str, number: int, ends: str) -> None:
    """What the stages of one part of a sweep in two track."""
    monkeypatch.setenv("KFP_RUN_ID", run_id)
    part = SweepPart(id="whole", name="all triggers", number=number, count=2)
    tracking = {"name": part.run_name, "sweep": part.record()}
    open_run.run(pipeline="paper", config={"triggers": [f"binary:{number}"]}, tracking=tracking)
    close_run.python_func(status=final_status(ends))


def test_the_parts_of_a_sweep_nest_in_one_run_that_ends_with_the_last_of_them(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("untrigger.tracking.mlflow.SWEEP_SECONDS", 20)
    track_part(monkeypatch, "run-1", 1, "SUCCEEDED")
    (whole,) = (run for run in tracked_runs(client) if run.info.run_name == "all triggers")
    assert whole.info.status == "RUNNING", "the other part has not ended"
    for run_id, ends, status in (("run-2", "FAILED", "FAILED"), ("run-3", "SUCCEEDED", "FINISHED")):
        track_part(monkeypatch, run_id, 2, ends)
        assert client.get_run(whole.info.run_id).info.status == status
    _, *parts = tracked_runs(client)
    assert {run.data.tags["mlflow.parentRunId"] for run in parts} == {whole.info.run_id}
    assert [run.data.tags.get("untrigger.superseded") for run in parts] == [None, "true", None]
    assert [run.info.run_name for run in parts] == [f"all triggers part {number} of 2" for number in (1, 2, 2)]


def test_a_part_of_a_sweep_whose_first_part_never_came_stands_alone(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("untrigger.tracking.mlflow.SWEEP_SECONDS", 0.1)
    track_part(monkeypatch, "run-2", 2, "SUCCEEDED")
    (alone,) = tracked_runs(client)
    assert alone.info.status == "FINISHED" and "mlflow.parentRunId" not in alone.data.tags
