"""`untrigger runs` on runs of a real Kubeflow Pipelines, played back, beside a real object store with their logs."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from minio import Minio

from tests.support.kubeflow import Kubeflow, running_kubeflow
from tests.support.recorded_stages import EXPECTED, stages
from tests.support.recordings import RUNS, Recording, recording
from tests.support.servers import RunningServers, running_servers
from untrigger.cli import main
from untrigger.pipelines.cluster import api

pytestmark = pytest.mark.server

ENDED = {"FAILED": 1, "SUCCEEDED": 2}
"""How `--wait` ends; the results of what succeeded were not recorded with it."""
LOG = "".join(f"line {number}\n" for number in range(1, 21)) + "\n"


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubeflow]:
    with running_kubeflow("2.17.0") as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.endpoint)
        monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.setattr(api, "POLL_SECONDS", 0.01)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServers]:
    with running_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture
def store(servers: RunningServers, monkeypatch: pytest.MonkeyPatch) -> Minio:
    """A store that has KFP's bucket beside ours; its address and credentials are in the environment."""
    environment = {name: value for name, value in servers.environment.items() if name.startswith("AWS_")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    address = environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    client = Minio(address, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], secure=False)
    if not client.bucket_exists("mlpipeline"):
        client.make_bucket("mlpipeline")
    return client


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, ["runs", *words])


def leave_logs(store: Minio, run: Recording, *, argos: bool = False) -> None:
    """The logs of what failed, where the recorded workflow says that KFP's launcher, or else Argo, puts them."""
    for stage in stages(run).values():
        if stage.kind == "failed":
            place, content = stage.logs[-1 if argos else 0], LOG.encode()
            store.put_object(place.bucket, place.prefix, io.BytesIO(content), len(content))


@pytest.mark.parametrize("name", [name for name in RUNS if recording(name).v2beta1["state"] in ENDED])
def test_a_recorded_run_is_followed_to_its_end_with_every_state_and_cause(
    kubeflow: Kubeflow, store: Minio, name: str
) -> None:
    run = recording(name)
    leave_logs(store, run)
    moments = run.moments()
    kubeflow.replay(run, moments[:: max(1, len(moments) // 8)])
    ended = invoke(run.run_id, "--wait")
    assert ended.exit_code == ENDED[run.v2beta1["state"]], ended.output
    lost = f"the run {run.run_id} succeeded, but its results cannot be read: "
    assert (lost in ended.stderr) == (run.v2beta1["state"] == "SUCCEEDED"), "the recording has no artifacts"
    lines = ended.output.splitlines()
    for stage, told in EXPECTED[name].items():
        last = [line for line in lines if line.startswith(f"{stage}: ")][-1]
        assert last.startswith(f"{stage}: {told}")
        if told.startswith("failed"):
            place = lines.index(last)
            assert lines[place + 1 : place + 6] == [f"    line {number}" for number in range(16, 21)]
            assert lines[place + 6] == f"    all of it: untrigger runs {run.run_id} --logs {shlex.quote(stage)}"
    assert len(lines) == len(set(lines)) or "    line 16" in lines, "nothing is told twice"


@pytest.mark.parametrize("argos", [False, True])
def test_the_whole_log_of_a_stage_is_shown_from_where_it_was_kept(
    kubeflow: Kubeflow, store: Minio, argos: bool
) -> None:
    run = recording("store_settings_reset" if argos else "out_of_memory")
    leave_logs(store, run, argos=argos)
    kubeflow.replay(run, ())
    stage = "open run" if argos else "clean training"
    shown = invoke(run.run_id, "--logs", stage)
    assert shown.exit_code == 0 and shown.output == LOG
    unknown = invoke(run.run_id, "--logs", "nowhere")
    assert unknown.exit_code == 2 and "no stage 'nowhere': give one of" in unknown.stderr
    several = invoke(run.run_id, "--logs", "r")
    assert several.exit_code == 2 and "stages of the run match 'r': give one of" in several.stderr
    assert "--logs shows a stage of one run" in invoke("--logs", stage).stderr


def test_a_terminated_run_is_shown_as_terminated(kubeflow: Kubeflow, store: Minio) -> None:
    run = recording("terminated")
    kubeflow.replay(run, ())
    assert "state: TERMINATED\n" in invoke(run.run_id).output
    assert f"error: the run {run.run_id} is TERMINATED" in invoke(run.run_id, "--wait").stderr


def test_a_run_whose_workflow_was_deleted_is_told_from_one_that_waits(
    kubeflow: Kubeflow, store: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recording("workflow_deleted_while_pending")
    kubeflow.replay(run, ())
    kubeflow.workflows = {run.run_id}
    waiting = invoke(run.run_id)
    assert waiting.exit_code == 0 and "prepare data: waits for a node: 0/1 nodes are available" in waiting.output
    assert (
        "nothing has changed since 2026-11-25 14:44 UTC" in waiting.stderr and "its workflow is there" in waiting.stderr
    )
    kubeflow.workflows = set()
    monkeypatch.setattr(api, "UNCHANGED_SECONDS", 0.05)
    for words in ((run.run_id,), (run.run_id, "--wait")):
        gone = invoke(*words)
        assert gone.exit_code == 2 and f"the run {run.run_id} will never end" in gone.stderr
        assert f"the cluster at {kubeflow.endpoint} has no workflow of it any more" in gone.stderr
    kubeflow.forbidden = True
    unseen = invoke(run.run_id)
    assert unseen.exit_code == 0 and "was not looked for, no Kubernetes API: FORBIDDEN" in unseen.stderr


def test_a_server_without_the_older_api_still_tells_of_its_tasks(kubeflow: Kubeflow) -> None:
    run = recording("out_of_memory")
    v2beta1, _ = run.answers()
    kubeflow.replayed[run.run_id] = [(v2beta1, {"run": {}})]
    told = invoke(run.run_id)
    assert told.exit_code == 0 and "clean training: failed after 1 min 20 s" in told.output
