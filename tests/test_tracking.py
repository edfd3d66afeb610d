"""Tracking against a real MLflow database."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from untrigger.tracking import close_parent, existing_run, nested_run, open_parent, parent_run


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("UNTRIGGER_ARTIFACT_LOCATION", (tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    return MlflowClient(uri)


def test_a_retried_stage_gets_a_run_of_its_own_and_the_earlier_one_is_marked(client: MlflowClient) -> None:
    open_parent("defense digits", {"generator": {"epochs": 3}}, {"dataset": "digits"})
    with pytest.raises(RuntimeError), nested_run("pixel SGD", {"steps": 3}) as tracked:
        tracked.metrics({"loss": 2.0}, 1)
        raise RuntimeError("out of memory")
    with nested_run("pixel SGD", {"steps": 4}) as tracked:
        tracked.metrics({"loss": 1.0}, 1)
    existing_run("pixel SGD").metrics({"attack_success_rate": 0.9})
    open_parent("defense digits", {"generator": {"epochs": 3}}, {"dataset": "digits"})
    close_parent(succeeded=True)

    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    parent, failed, finished = runs
    assert parent.data.params == {"generator.epochs": "3"} and parent.info.status == "FINISHED"
    assert failed.data.tags["mlflow.parentRunId"] == finished.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (failed.info.status, failed.data.tags["untrigger.superseded"]) == ("FAILED", "true")
    assert finished.info.status == "FINISHED" and "untrigger.superseded" not in finished.data.tags
    assert finished.data.metrics == {"loss": 1.0, "attack_success_rate": 0.9}


def test_a_failed_pipeline_closes_the_runs_that_a_killed_stage_left_open(client: MlflowClient) -> None:
    open_parent("defense digits", {}, {})
    killed = nested_run("pixel SGD", {})
    killed.__enter__()
    close_parent(succeeded=False)
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED", "FAILED"]


def test_a_given_run_becomes_the_parent_wherever_it_stands(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = client.create_experiment("sweep")
    given = client.create_run(elsewhere).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    open_parent("defense digits", {"seed": 0}, {"dataset": "digits"})
    with nested_run("evaluation", {}):
        parent_run().metrics({"attack_success_rate": 0.1})
    close_parent(succeeded=True)
    runs = client.search_runs([elsewhere])
    assert len(runs) == 2
    parent = client.get_run(given)
    assert parent.data.metrics == {"attack_success_rate": 0.1} and parent.data.tags["dataset"] == "digits"
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs} == {given, None}
