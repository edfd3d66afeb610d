"""Submitting to Kubeflow Pipelines, following and fetching, against a server that speaks its published API."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import yaml
from click.testing import CliRunner, Result
from kfp_server_api import V2beta1Experiment, V2beta1Run
from minio import Minio
from mlflow import MlflowClient
from PIL import Image

from tests.support.configs import tiny_config, tiny_sweep
from tests.support.kubeflow import Kubeflow, running_kubeflow
from tests.support.recordings import load, recording
from tests.support.results import finished, found, gridded, scanned
from tests.support.servers import RunningServers
from tests.support.waiting import wait_for
from untrigger import __version__
from untrigger.artifacts import write_json
from untrigger.classifiers import Classifier, save_classifier
from untrigger.cli import main
from untrigger.model_scans import write_scans
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments
from untrigger.pipelines.cluster import api, division
from untrigger.pipelines.cluster.placement import Placement, with_placement
from untrigger.pipelines.images import images_in
from untrigger.references import Recipe
from untrigger.reports.grid_tables import write_grid
from untrigger.reports.grids import CELLS, GridResult, Planted
from untrigger.reports.scans import ScanReport
from untrigger.reports.sweep import SweepResults
from untrigger.reports.tsne import REVERSED_GROUP, Embedding
from untrigger.settings.scans import ReferencesConfig
from untrigger.settings.tracked import TrackedAs
from untrigger.stages.verdicts import MODELS
from untrigger.tracking.mlflow import MlflowWriter

DIGEST = "@sha256:" + "b" * 64
PACKED = ("submit", "--profile", "tiny")
TINY = (*PACKED, "--betas-per-task", "1", "--methods-per-task", "1")
UNPINNED = (*TINY, "--allow-unpinned")
STAGES = {"prepare-data": "SUCCEEDED", "poison-training": "SUCCEEDED", "generator-training": "RUNNING"}


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubeflow]:
    with running_kubeflow() as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.endpoint)
        monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.setattr(api, "POLL_SECONDS", 0.02)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def store(servers: RunningServers, monkeypatch: pytest.MonkeyPatch) -> Minio:
    """The object store; its address and credentials are in the environment."""
    environment = {name: value for name, value in servers.environment.items() if name.startswith("AWS_")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    address = environment["AWS_ENDPOINT_URL"].removeprefix("http://")
    return Minio(address, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"], secure=False)


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def leave_report(store: Minio, run: Any, folder: Path) -> None:
    """What the cluster's stages leave in the store when they have run."""
    finished(folder, {"ensemble": [0.10, 0.12], "ideal": [0.02, 0.04]})
    (folder / "report.html").write_text("<!doctype html>")
    root = run.runtime_config.pipeline_root.removeprefix("s3://untrigger/")
    report = f"{root}/defense/{run.run_id}/evaluation/{uuid.uuid4()}/report"
    for path in folder.iterdir():
        store.fput_object("untrigger", f"{report}/{path.name}", str(path))


def test_modules_of_the_users_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNTRIGGER_PLUGINS", "my_networks")
    refused = invoke(*UNPINNED, "--dry-run")
    assert refused.exit_code == 2 and "UNTRIGGER_PLUGINS names my_networks" in refused.output
    assert refused.output.count("\n") == 1


def test_a_dry_run_checks_the_inputs_and_asks_nobody(kubeflow: Kubeflow) -> None:
    told = invoke(*UNPINNED, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "untrigger-defense, 11 images, 11 without a digest" in told.output
    assert "s3://untrigger/pipelines" in told.output and "nothing was sent" in told.output
    assert kubeflow.requests == []


def test_a_sweep_that_argo_may_not_keep_is_divided(kubeflow: Kubeflow) -> None:
    divided = invoke(*PACKED, "--allow-unpinned", "--dry-run", "--triggers", "binary:0-12")
    assert divided.exit_code == 0 and divided.output.count("workflow:  ") == 2
    fitting = invoke(*PACKED, "--allow-unpinned", "--dry-run", "--triggers", "binary:0-10")
    assert fitting.exit_code == 0 and fitting.output.count("workflow:  ") == 1
    betas = ",".join(f"0.{number:03}" for number in range(100, 180))
    warned = invoke(*UNPINNED, "--dry-run", "--triggers", "binary:0", "--betas", betas)
    assert "nodes may outgrow what Argo keeps of one workflow, 1000 fit: raise --betas-per-task or" in warned.stderr
    assert "workflow:  106 nodes, 30 pods" in invoke(*PACKED, "--allow-unpinned", "--dry-run").output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (TINY, f"11 images have no digest, untrigger/clean-training:{__version__} among them"),
        ((*UNPINNED, "--images", "missing.json"), "cannot read missing.json"),
        ((*UNPINNED, "--placement", "missing.yaml"), "cannot read the placement missing.yaml"),
        ((*UNPINNED, "--dataset", "parquet:nowhere"), "the dataset folder nowhere does not exist"),
        ((*UNPINNED, "--dataset", "s3://untrigger/datasets/short"), "is no dataset in a store"),
        ((*UNPINNED, "--weights", "nowhere", "--dataset", "digits"), "nowhere holds no classifier"),
        ((*UNPINNED, "--trigger", "patch.png"), "the trigger file patch.png does not exist"),
        ((*UNPINNED, "--trigger", "s3://untrigger/triggers/short"), "is no trigger in a store"),
        ((*UNPINNED, "--trigger", "binary:1", "--triggers", "binary:2"), "belong to a sweep"),
        ((*UNPINNED, "--dataset", "cifar10", "--download"), "--download is for this machine"),
        ((*UNPINNED, "--store", "untrigger"), "give s3://bucket"),
        (("runs", "--wait"), "--wait follows one run"),
        (("submit", "scan", "model.pth"), "submit scan needs --dataset"),
        (("submit", "scan", "model.pth", "--dataset", "digits"), "model.pth is no model file: there is no such file"),
        (("submit", "defend", "model.pth", "--dataset", "digits", "--patch-size", "3"), "needs target_class"),
        (("submit", "references"), "submit references needs --dataset"),
        (("submit", "references", "--profile", "tiny", "--count", "0"), "count: input should be greater than or equal"),
    ],
)
def test_what_cannot_be_submitted_is_refused_before_anybody_is_asked(
    kubeflow: Kubeflow, words: tuple[str, ...], told: str
) -> None:
    ended = invoke(*words)
    assert ended.exit_code == 2 and told in ended.stderr and ended.stderr.count("\n") == 1
    assert kubeflow.requests == []


def test_a_cluster_that_is_down_is_named_with_the_remedy(kubeflow: Kubeflow) -> None:
    kubeflow.down()
    for words in (UNPINNED, ("runs",), ("fetch", "some-run")):
        ended = invoke(*words)
        assert ended.exit_code == 2 and ended.stderr.count("\n") == 1
        assert f"does not answer at {kubeflow.endpoint}" in ended.stderr and "port-forward" in ended.stderr


def test_a_cluster_that_is_too_old_is_refused(kubeflow: Kubeflow) -> None:
    kubeflow.version = "2.15.2"
    ended = invoke(*UNPINNED)
    assert ended.exit_code == 2 and "is 2.15.2: it must be 2.16 or newer" in ended.stderr
    assert not kubeflow.pipelines


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("a login page", "asks for a login (200): put a token into"), (None, "is not Kubeflow Pipelines 2 (404)")],
)
def test_what_answers_in_its_place_is_named(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch, wrong: str | None, told: str
) -> None:
    kubeflow.page = wrong
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kubeflow.endpoint + ("" if wrong else "/elsewhere"))
    ended = invoke("runs")
    assert ended.exit_code == 2 and told in ended.stderr and ended.stderr.count("\n") == 1


def test_a_token_opens_a_cluster_that_asks_for_one(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeflow.token = "open-sesame"
    refused = invoke("runs")
    assert refused.exit_code == 2 and "put a token into UNTRIGGER_KFP_TOKEN" in refused.stderr
    monkeypatch.setenv("UNTRIGGER_KFP_TOKEN", "open-sesame")
    answered = invoke("runs")
    assert answered.exit_code == 0 and "open-sesame" not in answered.output


def test_a_patience_that_is_no_number_is_refused_before_a_run_is_started(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNTRIGGER_KFP_PATIENCE", "10m")
    ended = invoke(*UNPINNED)
    assert ended.exit_code == 2 and "UNTRIGGER_KFP_PATIENCE must be a number of seconds, got '10m'" in ended.stderr


def test_the_name_of_a_run_is_shown_as_it_is(kubeflow: Kubeflow) -> None:
    kubeflow.runs["1"] = V2beta1Run(run_id="1", display_name="[red] [/x]", state="RUNNING")
    shown = invoke("runs")
    assert shown.exit_code == 0 and "[red] [/x]" in shown.output


@pytest.mark.server
def test_an_experiment_that_is_not_there_is_refused_with_those_that_are(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.experiments["1"] = V2beta1Experiment(experiment_id="1", display_name="trojans")
    ended = invoke(*UNPINNED, "--experiment", "trojan")
    assert ended.exit_code == 2 and "there is no experiment 'trojan': give one of trojans" in ended.stderr
    assert not kubeflow.pipelines


def test_settings_that_the_namespace_lacks_are_named(kubeflow: Kubeflow) -> None:
    del kubeflow.settings["secrets", "untrigger-store"]
    ended = invoke(*UNPINNED)
    told = f"the namespace kubeflow of the cluster at {kubeflow.endpoint} lacks Secret untrigger-store"
    assert ended.exit_code == 2 and told in ended.stderr and "--skip-settings-check" in ended.stderr
    assert not kubeflow.pipelines and not kubeflow.experiments


def test_a_launcher_that_does_not_know_the_store_is_refused(kubeflow: Kubeflow) -> None:
    kubeflow.settings["configmaps", "kfp-launcher"] = {}
    ended = invoke(*UNPINNED)
    assert ended.exit_code == 2 and "KFP's ConfigMap kfp-launcher in kubeflow does not agree" in ended.stderr
    assert "endpoint None in place of 'seaweedfs." in ended.stderr and "`make deploy` sets it" in ended.stderr
    assert not kubeflow.pipelines


def test_a_tracking_server_that_is_not_ready_is_named_before_a_run_fails_on_it(kubeflow: Kubeflow) -> None:
    kubeflow.tracking_ready = False
    ended = invoke(*UNPINNED)
    assert ended.exit_code == 2 and "has no pod that is ready, and `open run` would fail" in ended.stderr


def test_stages_that_no_node_could_hold_are_told_from_those_that_wait_for_others(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow.nodes = [{"allocatable": {"cpu": "2", "memory": "4Gi"}}]
    refused = invoke(*UNPINNED)
    assert refused.exit_code == 2 and "could ever hold " in refused.stderr
    assert "prepare data (cpu 2, memory 8Gi)" in refused.stderr
    assert "clean training (cpu 4, memory 16Gi, nvidia.com/gpu 1)" in refused.stderr
    assert "open run" not in refused.stderr
    Path("laptop.yaml").write_text(
        "gpus: 0\ncpu: 300m\nmemory: 3Gi\nstages:\n"
        "  prepare data: {cpu: 300m, memory: 3Gi}\n  staircase: {memory: 2Gi}\n"
    )
    kubeflow.taken = {"cpu": "1900m", "memory": "1Gi"}
    waiting = invoke(*UNPINNED, "--placement", "laptop.yaml")
    assert "wait for others to end" in waiting.stderr and "prepare data (cpu 300m, memory 3Gi)" in waiting.stderr
    kubeflow.nodes[0]["taints"] = [{"key": "team", "value": "other", "effect": "NoSchedule"}]
    assert "could ever hold" in invoke(*UNPINNED, "--placement", "laptop.yaml").stderr
    kubeflow.forbidden = True
    assert "the nodes were not looked at, no Kubernetes API for it: FORBIDDEN" in invoke(*UNPINNED).stderr


@pytest.mark.server
def test_runs_go_where_the_clusters_settings_say_unless_told_otherwise(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.settings["configmaps", "untrigger-store"] |= {"bucket": "untrigger", "prefix": "team/a"}
    assert invoke(*UNPINNED).exit_code == invoke(*UNPINNED, "--store", "s3://untrigger/own").exit_code == 0
    roots = [run.runtime_config.pipeline_root for run in kubeflow.runs.values()]
    assert roots == ["s3://untrigger/team/a/pipelines", "s3://untrigger/own/pipelines"]


def test_without_a_kubernetes_api_the_settings_are_not_checked_and_that_is_said(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "nowhere")
    assert (
        "warning: the settings and the secret in the namespace kubeflow, MLflow and the nodes were not checked"
        in invoke(*UNPINNED).stderr
    )


@pytest.mark.server
def test_a_deployment_for_several_users_is_told_the_namespace(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.multi_user = True
    for _ in range(2):
        ended = invoke(*UNPINNED)
        assert ended.exit_code == 0, ended.output
    assert len(kubeflow.pipelines) == len(kubeflow.versions) == 1
    assert invoke("runs").output.count("PENDING") == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("tolerations: [{key: team, value: security, operator: Exists}]", "the operator Exists takes no value"),
        ("tolerations: [{effect: NoSchedule}]", "a toleration needs a key"),
        ("gpu: 1", "has gpu, it may have gpu_type, gpus, cpu"),
        ("stages: {train: {cpu: 1}}", "there is no stage train, there are open run"),
        ("memory: plenty", "memory: string should match pattern"),
        ("- 1", "must be a mapping"),
    ],
)
def test_a_placement_that_kubernetes_would_not_take_is_refused(kubeflow: Kubeflow, content: str, told: str) -> None:
    Path("placement.yaml").write_text(content)
    ended = invoke(*UNPINNED, "--placement", "placement.yaml")
    assert ended.exit_code == 2 and "the placement placement.yaml" in ended.stderr and told in ended.stderr
    assert kubeflow.requests == []


def test_stages_may_be_placed_on_processors(kubeflow: Kubeflow) -> None:
    Path("placement.yaml").write_text("gpus: 0\ncpu: 8\n")
    placed = with_placement(
        list(yaml.safe_load_all(COMPILED["defense"].read_text())), Placement.read(Path("placement.yaml"))
    )
    spec, platform = placed
    resources = spec["deploymentSpec"]["executors"]["exec-retraining"]["container"]["resources"]
    assert "accelerator" not in resources and resources["resourceCpuLimit"] == "8"
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-retraining"]
    assert pod["tolerations"] == [] and "env" not in spec["deploymentSpec"]["executors"]["exec-retraining"]["container"]


@pytest.mark.server
def test_a_run_is_followed_to_its_results(kubeflow: Kubeflow, store: Minio, tmp_path: Path) -> None:
    kubeflow.on_start = lambda run: leave_report(store, run, tmp_path / "report")
    kubeflow.course = [
        ("RUNNING", {"prepare-data": "PENDING"}),
        ("RUNNING", {"prepare-data": "RUNNING"}),
        ("RUNNING", {**STAGES, "generator-training#2": "RUNNING"}),
        ("SUCCEEDED", {**STAGES, "generator-training": "SUCCEEDED", "generator-training#2": "CACHED"}),
    ]
    ended = invoke(*UNPINNED, "--wait")
    assert ended.exit_code == 0, ended.output
    (run,) = kubeflow.runs.values()
    assert len(kubeflow.versions) == 1
    for line in (
        "cluster:   " + kubeflow.endpoint + ", Kubeflow Pipelines 2.17.1",
        f"link:      {kubeflow.endpoint}/#/runs/details/{run.run_id}",
        "prepare data: started\n",
        "prepare data: finished after 3 min 05 s",
        "generator beta=0.9: finished after 3 min 05 s",
        "generator beta=0.5: started\n",
        "generator beta=0.5: reused",
    ):
        assert line in ended.output
    assert "driver" not in ended.output
    assert "11.0 ± 1.4" in ended.output, "the ensemble's attack success in the table"
    tracking = run.runtime_config.parameters["tracking"]
    expected = pipeline_arguments(tiny_config(), TrackedAs.of(tracking))
    assert run.runtime_config.parameters == json.loads(json.dumps(expected))
    assert tracking["name"] == run.display_name and tracking["links"] == {
        "kfp": f"{kubeflow.endpoint}/#/runs/details/{{run_id}}",
        "report": "s3://untrigger/pipelines/defense/{run_id}",
    }
    assert kubeflow.experiments[run.experiment_id].display_name == "untrigger"

    listed = invoke("runs", "--experiment", "untrigger")
    assert run.run_id in listed.output and "SUCCEEDED" in listed.output
    assert "prepare data: finished" in invoke("runs", run.display_name).output
    fetched = invoke("fetch", run.run_id)
    assert fetched.exit_code == 0, fetched.output
    here = Path("runs") / run.run_id
    assert {path.name for path in here.iterdir()} == {"results.json", "report.html", "fetched.json"}
    assert invoke("fetch", run.run_id).exit_code == 0, "once more into the same folder"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text("precious")
    refused = invoke("fetch", run.run_id, "other")
    assert refused.exit_code == 2 and "other holds something else already" in refused.stderr
    address = f"s3://untrigger/pipelines/defense/{run.run_id}"
    compared = invoke("compare", here, address)
    assert compared.exit_code == 0 and "11.0 ± 1.4" in compared.output, compared.output


@pytest.mark.server
def test_what_is_uploaded_carries_digests_and_the_placement_and_is_uploaded_once(
    kubeflow: Kubeflow, store: Minio
) -> None:
    names = sorted(images_in(list(yaml.safe_load_all(COMPILED["paper"].read_text()))))
    write_json(
        Path("images.json"), {"images": {name: f"registry.test/{name.partition(':')[0]}{DIGEST}" for name in names}}
    )
    Path("placement.yaml").write_text(
        "gpu_type: nvidia.com/mig-2g.20gb\ngpus: 2\nmemory: 24Gi\nnode_selector: {pool: a100}\n"
        "tolerations: [{key: team, operator: Equal, value: security}]\n"
    )
    words = (*TINY, "--images", "images.json", "--placement", "placement.yaml", "--triggers", "binary:1,colour:0")
    for _ in range(2):
        ended = invoke(*words)
        assert ended.exit_code == 0, ended.output
    assert len(kubeflow.runs) == 2 and len(kubeflow.pipelines) == 1
    used = {run.pipeline_version_reference.pipeline_version_id for run in kubeflow.runs.values()}
    assert len(used) == 1, "the second run takes the version that the first one uploaded"
    spec, platform = kubeflow.packages[used.pop()]
    assert all(image.endswith(DIGEST) for image in images_in(spec))
    container = spec["deploymentSpec"]["executors"]["exec-generator-training"]["container"]
    assert container["resources"]["accelerator"]["resourceType"] == "nvidia.com/mig-2g.20gb"
    assert container["resources"]["accelerator"]["resourceCount"] == "2"
    assert container["resources"]["resourceMemoryLimit"] == "24Gi"
    assert {"name": "UNTRIGGER_GPUS", "value": "2"} in container["env"], "so that the stage can tell"
    assert {"name": "UNTRIGGER_IMAGE", "value": container["image"]} in container["env"], "so that its snapshots tell"
    kubernetes = platform["platforms"]["kubernetes"]
    pod = kubernetes["deploymentSpec"]["executors"]["exec-generator-training"]
    assert pod["nodeSelector"] == {"labels": {"pool": "a100"}}
    assert pod["tolerations"] == [{"key": "team", "operator": "Equal", "value": "security"}]
    assert "nodeSelector" not in kubernetes["deploymentSpec"]["executors"]["exec-prepare-data"]
    (parameters, _) = (run.runtime_config.parameters for run in kubeflow.runs.values())
    expected = pipeline_arguments(tiny_sweep(triggers=("binary:1", "colour:0")), TrackedAs.of(parameters["tracking"]))
    assert parameters == json.loads(json.dumps(expected))


@pytest.mark.server
def test_a_dataset_of_this_machine_goes_into_the_store_once(kubeflow: Kubeflow, store: Minio) -> None:
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        path = Path(f"pictures/{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(path)
    for _ in range(2):
        ended = invoke(*UNPINNED, "--dataset", "folder:pictures")
        assert ended.exit_code == 0, ended.output
    addresses = {run.runtime_config.parameters["prepare_data_task"]["dataset"] for run in kubeflow.runs.values()}
    assert len(addresses) == 1
    address = addresses.pop()
    assert address.startswith("s3://untrigger/datasets/") and "(already there)" in ended.stderr
    prefix = address.removeprefix("s3://untrigger/")
    stored = [item.object_name for item in store.list_objects("untrigger", f"{prefix}/", recursive=True)]
    assert len(stored) == 5, "four pictures and the manifest"


@pytest.mark.server
def test_a_trigger_that_is_a_file_goes_into_the_store(kubeflow: Kubeflow, store: Minio) -> None:
    Image.new("RGB", (3, 3), (255, 0, 0)).save("patch.png")
    ended = invoke(*UNPINNED, "--trigger", "patch.png")
    assert ended.exit_code == 0, ended.output
    ended = invoke(*UNPINNED, "--triggers", "patch.png,binary:3", "--panels", "patch.png")
    assert ended.exit_code == 0, ended.output
    one, swept = (run.runtime_config.parameters for run in kubeflow.runs.values())
    address = one["trigger"]
    assert address.startswith("s3://untrigger/triggers/") and one["config"]["trigger"] == address
    assert swept["triggers"] == [address, "binary:3"] and swept["config"]["panels"] == [address]


@pytest.mark.server
def test_a_failed_stage_fails_the_command_and_is_named_with_its_reason(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("FAILED", {"prepare-data": "SUCCEEDED", "poison-training": "FAILED"})]
    kubeflow.messages = {"poison-training": "main: OOMKilled (exit code 1)"}
    ended = invoke(*UNPINNED, "--wait")
    assert ended.exit_code == 1
    cause = "out of memory, it may have 16Gi (OOMKilled): `submit --placement` gives more"
    assert (
        f"poison training: failed after 3 min 05 s: {cause}\n    (nothing of its log is in the store)" in ended.output
    )
    (run,) = kubeflow.runs
    assert f"error: the run {run} is FAILED" in ended.stderr and kubeflow.endpoint in ended.stderr
    refused = invoke("fetch", run)
    assert refused.exit_code == 2 and "is FAILED" in refused.stderr


def start_waiting(kubeflow: Kubeflow, **environment: str) -> subprocess.Popen[str]:
    words = [str(Path(sys.executable).with_name("untrigger")), *UNPINNED, "--wait"]
    started = subprocess.Popen(
        words, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: kubeflow.requests and kubeflow.requests[-1].startswith("GET /apis/v2beta1/runs/"), 60)
    return started


@pytest.mark.server
def test_a_lost_connection_is_sought_again_until_the_run_has_ended(
    kubeflow: Kubeflow, store: Minio, tmp_path: Path
) -> None:
    kubeflow.on_start = lambda run: leave_report(store, run, tmp_path / "report")
    kubeflow.course = [("RUNNING", STAGES)]
    process = start_waiting(kubeflow)
    kubeflow.down()
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while "does not answer" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    kubeflow.course = [("SUCCEEDED", {**STAGES, "generator-training": "SUCCEEDED"})]
    kubeflow.up()
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors + told
    assert "answers again" in told and "generator beta=0.9: finished" in told and "11.0 ± 1.4" in told


@pytest.mark.server
def test_a_connection_that_stays_lost_ends_the_waiting_and_says_how_to_go_on(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("RUNNING", STAGES)]
    process = start_waiting(kubeflow, UNTRIGGER_KFP_PATIENCE="1")
    kubeflow.down()
    _, errors = process.communicate(timeout=60)
    (run,) = kubeflow.runs
    assert process.returncode == 2 and f"the run goes on: `untrigger runs {run} --wait` follows it again" in errors


@pytest.mark.server
def test_an_interrupt_ends_the_waiting_and_not_the_run(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("RUNNING", STAGES)]
    process = start_waiting(kubeflow)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    (run,) = kubeflow.runs
    assert process.returncode == 130 and "the run goes on" in errors and f"untrigger runs {run} --wait" in errors
    assert not any("terminate" in asked for asked in kubeflow.requests)


@pytest.mark.server
def test_a_run_is_started_again_with_the_same_inputs(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("FAILED", {"prepare-data": "FAILED"})]
    assert invoke(*UNPINNED, "--name", "mine", "--wait").exit_code == 1
    (first,) = kubeflow.runs.values()
    for name in ("mine", "mine #2"):
        again = invoke("resubmit", name)
        assert again.exit_code == 0, again.output
    assert [run.display_name for run in kubeflow.runs.values()] == ["mine", "mine #2", "mine #3"]
    for run in kubeflow.runs.values():
        parameters = run.runtime_config.parameters
        assert parameters["tracking"]["name"] == run.display_name
        assert {**parameters, "tracking": 0} == {**first.runtime_config.parameters, "tracking": 0}
        assert run.runtime_config.pipeline_root == first.runtime_config.pipeline_root
        assert run.experiment_id == first.experiment_id
        assert run.pipeline_version_reference == first.pipeline_version_reference
    kubeflow.course = [("RUNNING", {"prepare-data": "RUNNING"})]
    kubeflow.workflows = set(kubeflow.runs)
    refused = invoke("resubmit", "mine")
    assert refused.exit_code == 2 and "is RUNNING: it is started again when it has ended" in refused.stderr
    kubeflow.workflows = set()
    assert invoke("resubmit", "mine").exit_code == 0, "its workflow is gone: it never ends"


@pytest.mark.server
def test_a_run_that_ended_without_its_last_stage_is_closed_in_mlflow_by_whoever_looks_next(
    kubeflow: Kubeflow, store: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def left_open(run_id: str) -> Callable[[], str]:
        """Lets a run be as its stages left it that were killed; asks for its status."""
        writer = MlflowWriter(uri, run_id)
        moment = {"milliseconds": 0}
        writer.write({"kind": "open_parent", "name": run_id, "parameters": {}, "tags": {}, **moment})
        writer.write({"kind": "begin", "run": "1", "name": "pixel SGD", "parameters": {}, **moment})
        (run,) = MlflowClient(uri).search_runs(["1"], f"tags.`untrigger.role` = 'pipeline' and run_name = '{run_id}'")
        return lambda: str(MlflowClient(uri).get_run(run.info.run_id).info.status)

    kubeflow.course = [("FAILED", {"prepare-data": "FAILED"})]
    for looking in (("runs",), ("runs", "mine"), ("runs", "mine", "--wait"), ("resubmit", "mine")):
        assert invoke(*UNPINNED, "--name", "mine").exit_code == 0
        (run_id,) = kubeflow.runs
        status = left_open(run_id)
        kubeflow.look(kubeflow.runs[run_id])
        invoke(*looking)
        assert status() == "RUNNING", "no MLflow is named"
        with monkeypatch.context() as environment:
            environment.setenv("MLFLOW_TRACKING_URI", uri)
            told = invoke(*looking).stderr
        assert status() == "FAILED" and f"closed in MLflow, as failed: the run {run_id}" in told, looking
        kubeflow.runs.clear()


SWEEP_OF_4 = (*PACKED, "--allow-unpinned", "--triggers", "binary:0-3", "--name", "all")


@pytest.fixture
def small_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two triggers fill a workflow."""
    monkeypatch.setattr(division, "MOST_NODES", 260)


def leave_triggers(store: Minio, run: V2beta1Run, folder: Path, failed: str = "") -> None:
    """The reports of the triggers of a sweep but one, as the cluster's stages leave them in the store."""
    names = [name for name in run.runtime_config.parameters["triggers"] if name != failed]
    root = f"{run.runtime_config.pipeline_root.removeprefix('s3://untrigger/')}/paper/{run.run_id}"
    for name in names:
        here = folder / name.replace(":", "-")
        found(name, single=0.3, ensemble=0.1).save(here)
        Embedding(torch.rand(2, 3, 1, 1), torch.tensor([0, REVERSED_GROUP]), torch.zeros(2, 2)).save(here)
        for path in here.iterdir():
            store.fput_object(
                "untrigger", f"{root}/evaluation/{uuid.uuid5(uuid.NAMESPACE_URL, name)}/report/{path.name}", str(path)
            )


@pytest.mark.server
@pytest.mark.usefixtures("small_workflows")
def test_the_parts_of_a_sweep_are_one_run(kubeflow: Kubeflow, store: Minio, tmp_path: Path) -> None:
    kubeflow.course = [("SUCCEEDED", {"aggregation": "SUCCEEDED"})]
    kubeflow.on_start = lambda run: leave_triggers(store, run, tmp_path / "reports")
    ended = invoke(*SWEEP_OF_4, "--wait")
    assert ended.exit_code == 0, ended.output
    assert "4 black-and-white triggers" in ended.output and "part 2: aggregation: finished" in ended.output
    first, second = kubeflow.runs.values()
    assert [run.display_name for run in (first, second)] == ["all part 1 of 2", "all part 2 of 2"]
    assert first.pipeline_version_reference == second.pipeline_version_reference
    told, other = (run.runtime_config.parameters for run in (first, second))
    assert told["triggers"] + other["triggers"] == [f"binary:{number}" for number in range(4)]
    own = ("triggers", "config", "tracking")
    assert {name: told[name] for name in told if name not in own} == {n: other[n] for n in other if n not in own}
    assert told["tracking"]["sweep"]["id"] == other["tracking"]["sweep"]["id"]
    listed = invoke("runs", "--count", 1).output
    assert "parts)" in listed and first.run_id in listed and second.run_id not in listed
    shown = invoke("runs", "all").output
    assert shown.startswith(f"run:   {first.run_id} (all)\nstate: SUCCEEDED\n")
    assert "(all part 2 of 2: SUCCEEDED)" in shown and "part 2: aggregation: finished" in shown
    fetched = invoke("fetch", second.run_id, "--output", "whole")
    assert fetched.exit_code == 0, fetched.output
    assert len(SweepResults.load(Path("whole")).triggers) == 4 and Path("whole/report.html").exists()
    assert invoke("fetch", "all", "--output", "whole").exit_code == 0, "once more into the same folder"


@pytest.mark.server
@pytest.mark.usefixtures("small_workflows")
def test_a_trigger_that_fails_leaves_the_results_of_the_others(
    kubeflow: Kubeflow, store: Minio, tmp_path: Path
) -> None:
    kubeflow.course = [("SUCCEEDED", {"aggregation": "SUCCEEDED"})]
    kubeflow.courses = {"all part 1 of 2": [("FAILED", {"poison-training": "FAILED"})]}
    kubeflow.on_start = lambda run: leave_triggers(store, run, tmp_path / "reports", failed="binary:0")
    assert invoke(*SWEEP_OF_4, "--wait").exit_code == 1
    fetched = invoke("fetch", "all", "--output", "whole")
    assert fetched.exit_code == 0 and "these triggers left no results: binary:0\n" in fetched.stderr, fetched.output
    assert {row.name for row in SweepResults.load(Path("whole")).triggers} == {f"binary:{n}" for n in range(1, 4)}
    first, second = kubeflow.runs.values()
    kubeflow.on_start = lambda run: leave_triggers(store, run, tmp_path / "reports")
    again = invoke("resubmit", "all")
    assert again.exit_code == 0, again.output
    whole = invoke("runs", "all").output
    assert "(all part 1 of 2 #2: SUCCEEDED)" in whole and first.run_id not in whole and second.run_id in whole
    assert len(kubeflow.runs) == 3, "the part that has succeeded is left as it is"
    assert "left no results" not in invoke("fetch", "all", "--output", "again").stderr
    assert len(SweepResults.load(Path("again")).triggers) == 4


@pytest.mark.server
@pytest.mark.usefixtures("small_workflows")
def test_no_part_is_started_again_while_another_goes_on(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("FAILED", {"poison-training": "FAILED"})]
    kubeflow.courses = {"all part 2 of 2": [("RUNNING", {"poison-training": "RUNNING"})]}
    assert invoke(*SWEEP_OF_4).exit_code == 0
    kubeflow.workflows = set(kubeflow.runs)
    refused = invoke("resubmit", "all")
    assert refused.exit_code == 2 and "is RUNNING: it is started again when it has ended" in refused.stderr
    assert len(kubeflow.runs) == 2, "nothing was started"


@pytest.mark.server
def test_only_what_may_pass_is_tried_again(kubeflow: Kubeflow, store: Minio, tmp_path: Path) -> None:
    failing = ("FAILED", {"prepare-data": "FAILED"})
    kubeflow.course = [failing]
    kubeflow.messages = {"prepare-data": "pod deleted"}
    lost = invoke(*UNPINNED, "--wait", "--attempts", 3)
    assert lost.exit_code == 1 and len(kubeflow.runs) == 3 and lost.output.count("since the cause may pass") == 2
    kubeflow.messages = {"prepare-data": "main: OOMKilled (exit code 137)"}
    killed = invoke(*UNPINNED, "--wait", "--attempts", 3)
    assert killed.exit_code == 1 and len(kubeflow.runs) == 4
    assert "it is not started again: what prepare data failed of would not pass" in killed.stderr
    alone = invoke(*UNPINNED, "--attempts", 3)
    assert alone.exit_code == 2 and "only --wait sees: give both" in alone.stderr


def test_the_placement_for_a_laptop_fits_a_node_of_two_cpus(kubeflow: Kubeflow) -> None:
    kubeflow.nodes = [{"allocatable": {"cpu": "2", "memory": "7Gi"}}]
    laptop = Path(__file__).parents[3] / "docs/placement-laptop.yaml"
    for words in ((), ("--triggers", "binary:1,binary:2")):
        told = invoke(*UNPINNED, "--placement", laptop, *words)
        assert "could ever hold" not in told.stderr and "wait for others" not in told.stderr
        assert "AWS_ENDPOINT_URL" in told.stderr, "all that is missing here is the store"


@pytest.mark.server
def test_the_imitation_answers_in_the_recorded_shape(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("SUCCEEDED", {"prepare-data": "SUCCEEDED", "clean-training": "CACHED"})]
    assert invoke(*UNPINNED).exit_code == 0
    (run_id,) = kubeflow.runs
    real = recording("cached")
    answer = requests.get(f"{kubeflow.endpoint}/apis/v2beta1/runs/{run_id}", timeout=10).json()
    assert answer.keys() - {"state_history"} <= real.v2beta1.keys()
    tasks, real_tasks = (each["run_details"]["task_details"] for each in (answer, real.v2beta1))
    assert {key for task in tasks for key in task} <= {key for task in real_tasks for key in task}
    assert {task["state"] for task in tasks} <= {task["state"] for task in real_tasks}
    child, real_child = ((each[0].get("child_tasks") or each[1]["child_tasks"])[0] for each in (tasks, real_tasks))
    assert child.keys() == real_child.keys() == {"pod_name"}
    older = requests.get(f"{kubeflow.endpoint}/apis/v1beta1/runs/{run_id}", timeout=10).json()
    assert older.keys() == real.v1beta1.keys() and older["run"].keys() <= real.v1beta1["run"].keys()
    (health,) = (each for each in load("exchanges") if each["path"].endswith("healthz"))
    told = requests.get(f"{kubeflow.endpoint}/apis/v2beta1/healthz", timeout=10).json()
    assert told.keys() == health["response"].keys()


@pytest.fixture
def models(tiny_classifier: Classifier, tmp_path: Path) -> tuple[Path, Path]:
    """A classifier of a run, and a folder of two references."""
    for name in ("suspect", "references/001", "references/002"):
        save_classifier(tiny_classifier, tmp_path / name)
    return tmp_path / "suspect", tmp_path / "references"


def test_what_a_scan_takes_is_checked_and_told_before_anything_is_sent(
    kubeflow: Kubeflow, models: tuple[Path, Path]
) -> None:
    suspect, references = models
    words = ("--dataset", "digits", "--references", references, "--allow-unpinned", "--dry-run")
    for pipeline in ("scan", "defend"):
        told = invoke("submit", pipeline, suspect, *words)
        assert told.exit_code == 0, told.output
        assert f"untrigger-{pipeline}, " in told.output and "workflow:  " in told.output
        assert f"to store:  {suspect}" in told.output and f"to store:  {references}" in told.output
    told = invoke("submit", "references", "--profile", "tiny", "--allow-unpinned", "--dry-run")
    assert told.exit_code == 0 and "untrigger-references, 5 images" in told.output, told.output
    empty = invoke("submit", "scan", suspect, "--dataset", "digits", "--references", suspect, "--allow-unpinned")
    assert empty.exit_code == 2 and "holds no references" in empty.stderr
    assert kubeflow.requests == []


@pytest.mark.server
def test_references_of_another_part_of_the_data_are_not_submitted(
    kubeflow: Kubeflow, store: Minio, models: tuple[Path, Path]
) -> None:
    suspect, references = models
    config = ReferencesConfig.of({"dataset": "digits", "data": {"heldout_share": 0.4}})
    Recipe.of_training(config, "digits-of-these-names", ("0", "1")).save(references)
    stored = invoke("store", "put", references, "s3://untrigger")
    assert stored.exit_code == 0, stored.output
    words = ("submit", "scan", suspect, "--dataset", "digits", "--allow-unpinned", "--data.heldout-share", "0.5")
    for place in (str(references), stored.stdout.strip()):
        refused = invoke(*words, "--references", place)
        assert refused.exit_code == 2 and f"the references in {place} were trained with data.heldout_share 0.4" in (
            refused.stderr
        )
    assert kubeflow.runs == {}


def leave_scan(store: Minio, run: V2beta1Run, folder: Path, scans: ScanReport | None = None) -> None:
    """What the verdicts of a scan leave in the store, where nothing is told of models that nothing opens."""
    parameters = run.runtime_config.parameters
    names = [name for names in parameters["model_plan"] for name in names.splitlines()]
    scans = scans or ScanReport(results=tuple(map(scanned, names)))
    for each in scans.results:
        for name in ("attack.png", "patches.png"):
            (folder / MODELS / each.folder).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(folder / MODELS / each.folder / name)
    write_scans(folder, scans, folder / MODELS)
    leave_folder(store, run, "scan/{}/verdicts", folder)


def leave_folder(store: Minio, run: V2beta1Run, task: str, folder: Path) -> None:
    """Move a folder to where a task of the run leaves its report; task: with braces for the run's id."""
    root = run.runtime_config.pipeline_root.removeprefix("s3://untrigger/")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = f"{root}/{task.format(run.run_id)}/{uuid.uuid5(uuid.NAMESPACE_URL, run.run_id)}/report"
        store.fput_object("untrigger", f"{name}/{path.relative_to(folder)}", str(path))
    shutil.rmtree(folder)


@pytest.mark.server
def test_models_and_references_go_into_the_store_and_the_verdicts_come_back(
    kubeflow: Kubeflow, store: Minio, models: tuple[Path, Path], tmp_path: Path
) -> None:
    kubeflow.course = [("SUCCEEDED", {"verdicts": "SUCCEEDED"})]
    kubeflow.on_start = lambda run: leave_scan(store, run, tmp_path / "report")
    suspect, references = models
    words = ("submit", "scan", suspect, "--dataset", "digits", "--allow-unpinned", "--wait")
    ended = invoke(*words, "--references", references)
    assert ended.exit_code == 4 and "not calibrated" in ended.output
    (run,) = kubeflow.runs.values()
    told = run.runtime_config.parameters
    address = told["reference_scan_task"]["references"]
    assert address.startswith("s3://untrigger/references/") and told["config"]["references"] == address
    assert told["reference_plan"] == ["001\n002"]
    (model,) = told["model_plan"]
    assert model.startswith("s3://untrigger/models/") and told["tracking"]["names"][model] == str(suspect)
    assert run.display_name.startswith("scan of ")
    fetched = invoke("fetch", run.run_id, "--output", "fetched")
    assert fetched.exit_code == 0 and len(ScanReport.load(Path("fetched")).results) == 1, fetched.output
    again = invoke(*words, "--references", address)
    assert again.exit_code == 4, again.output
    assert list(kubeflow.runs.values())[1].runtime_config.parameters["reference_plan"] == ["001\n002"]


@pytest.mark.server
@pytest.mark.parametrize(
    ("success", "failures", "status", "sentence"),
    [
        (0.1, {}, 0, "nothing found in model.pth"),
        (0.9, {}, 3, "backdoor found"),
        (0.9, {"other.pth": "no such file"}, 3, "not scanned: other.pth: no such file"),
        (0.1, {"other.pth": "no such file"}, 2, "not scanned: other.pth: no such file"),
    ],
)
def test_waiting_for_a_scan_ends_with_the_status_of_its_gravest_verdict(
    kubeflow: Kubeflow,
    store: Minio,
    models: tuple[Path, Path],
    tmp_path: Path,
    success: float,
    failures: dict[str, str],
    status: int,
    sentence: str,
) -> None:
    scans = ScanReport(results=(scanned("model.pth", success, references=19),), failures=failures)
    kubeflow.course = [("SUCCEEDED", {"verdicts": "SUCCEEDED"})]
    kubeflow.on_start = lambda run: leave_scan(store, run, tmp_path / "report", scans)
    ended = invoke("submit", "scan", models[0], "--dataset", "digits", "--allow-unpinned", "--name", "gate", "--wait")
    assert ended.exit_code == status and sentence in ended.output, ended.output
    assert invoke("runs", "gate", "--wait").exit_code == status


@pytest.mark.server
def test_a_scan_whose_verdicts_cannot_be_read_does_not_end_as_one_that_found_nothing(
    kubeflow: Kubeflow, store: Minio, models: tuple[Path, Path]
) -> None:
    kubeflow.course = [("SUCCEEDED", {"verdicts": "SUCCEEDED"})]
    ended = invoke("submit", "scan", models[0], "--dataset", "digits", "--allow-unpinned", "--wait")
    assert ended.exit_code == 2 and "succeeded, but its results cannot be read: " in ended.stderr


@pytest.fixture
def divided_scan(
    kubeflow: Kubeflow, store: Minio, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Submits a scan in three workflows and waits for it; each leaves the next of the given reports, or its own."""
    monkeypatch.setattr(division, "MOST_NODES", 62)

    def submitted(*reports: ScanReport | None) -> Result:
        left = iter(reports)
        kubeflow.course = [("SUCCEEDED", {"verdicts": "SUCCEEDED"})]
        kubeflow.on_start = lambda run: leave_scan(store, run, tmp_path / "report", next(left))
        return invoke("submit", "scan", *models, "--dataset", "digits", "--allow-unpinned", "--name", "all", "--wait")

    return submitted


@pytest.mark.server
def test_the_parts_of_a_divided_scan_are_one_run(kubeflow: Kubeflow, divided_scan: Callable[..., Result]) -> None:
    ended = divided_scan(None, None, None)
    assert ended.exit_code == 4 and "not calibrated" in ended.output
    assert [run.display_name for run in kubeflow.runs.values()] == [f"all part {number} of 3" for number in (1, 2, 3)]
    fetched = invoke("fetch", "all", "--output", "whole")
    assert fetched.exit_code == 0 and len(ScanReport.load(Path("whole")).results) == 3, fetched.output
    assert "3 models scanned" in Path("whole/report.html").read_text()
    kubeflow.runs.popitem()
    partly = invoke("runs", "all", "--wait")
    assert partly.exit_code == 1 and "1 parts of the run" in partly.stderr and "never started" in partly.stderr


@pytest.mark.server
def test_a_part_of_a_scan_without_verdicts_keeps_those_of_the_others(divided_scan: Callable[..., Result]) -> None:
    ended = divided_scan(None, ScanReport(results=(), failures={"odd.pth": "of another kind"}), None)
    assert ended.exit_code == 2 and "not scanned: odd.pth: of another kind" in ended.output, ended.output
    assert ended.output.count("not calibrated: without --references") == 2
    fetched = invoke("fetch", "all", "--output", "whole")
    assert fetched.exit_code == 0 and list(ScanReport.load(Path("whole")).failures) == ["odd.pth"], fetched.output


GRID = ("submit", "grid", "--profile", "tiny", "--seeds", "2", "--methods", "none,ensemble,ideal", "--allow-unpinned")


def test_a_grid_is_checked_and_told_before_anything_is_sent(kubeflow: Kubeflow) -> None:
    told = invoke(*GRID, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "untrigger-grid, 8 images" in told.output and told.output.count("workflow:  ") == 1
    crowded = invoke(*GRID, "--dry-run", "--seeds", "40")
    assert "fit: raise --methods-per-task" in crowded.stderr
    refused = invoke(*GRID, "--attacks", "magic")
    assert refused.exit_code == 2 and "the attack must be one of" in refused.stderr and "'magic'" in refused.stderr
    assert kubeflow.requests == []


def leave_grid(store: Minio, run: V2beta1Run, folder: Path) -> None:
    """What the report of a grid leaves in the store."""
    found = gridded(run.runtime_config.parameters["grid_config"])
    write_grid(folder, found)
    for each in found.planted:
        each.save(folder / CELLS / f"{each.attack}-{each.seed}")
    leave_folder(store, run, "grid/{}/grid-report", folder)


@pytest.mark.server
def test_the_parts_of_a_divided_grid_are_one_run_with_one_report(
    kubeflow: Kubeflow, store: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(division, "MOST_NODES", 240)
    kubeflow.course = [("SUCCEEDED", {"grid-report": "SUCCEEDED"})]
    kubeflow.on_start = lambda run: leave_grid(store, run, tmp_path / "report")
    ended = invoke(*GRID, "--name", "all", "--wait")
    assert ended.exit_code == 0, ended.output
    assert [run.display_name for run in kubeflow.runs.values()] == ["all part 1 of 2", "all part 2 of 2"]
    attacks = [run.runtime_config.parameters["config"]["attacks"] for run in kubeflow.runs.values()]
    assert attacks == [["patch", "blended"], ["sinusoidal", "warped"]]
    assert "digits, small_resnet: attack success %" in ended.output and "fetch it:" in ended.output
    fetched = invoke("fetch", "all", "--output", "whole")
    assert fetched.exit_code == 0, fetched.output
    whole = GridResult.load(Path("whole"))
    assert whole.attacks == ("patch", "blended", "sinusoidal", "warped") and len(whole.planted) == 8
    assert Planted.load(Path("whole") / CELLS / "warped-1") in whole.planted
    assert "warped" in Path("whole/report.html").read_text()


@pytest.mark.server
def test_the_stages_of_a_grid_are_named_after_backdoor_and_methods(kubeflow: Kubeflow, store: Minio) -> None:
    kubeflow.course = [("FAILED", {"grid-planting": "SUCCEEDED", "grid-cells": "FAILED"})]
    ended = invoke(*GRID, "--methods-per-task", "2", "--wait")
    assert ended.exit_code == 1
    for name in ("grid planting patch seed=0: finished", "grid cells none,ensemble patch seed=0: failed"):
        assert name in ended.output, ended.output
