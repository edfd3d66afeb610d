"""The state of every stage, out of what a real Kubeflow Pipelines answered."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from tests.support.recorded_stages import EXPECTED, stages
from tests.support.recordings import RUNS, Recording, recording
from untrigger.pipelines.cluster.workflow import Stage, Workflow


@pytest.mark.parametrize("name", RUNS)
def test_every_stage_of_a_recorded_run_has_its_state_and_its_cause(name: str) -> None:
    found, expected = stages(recording(name)), EXPECTED[name]
    assert found.keys() == expected.keys()
    for stage, told in expected.items():
        assert found[stage].line().startswith(f"{stage}: {told}"), found[stage].line()


@pytest.mark.parametrize("name", RUNS)
def test_whatever_failed_or_ran_says_where_its_log_lies(name: str) -> None:
    run = recording(name)
    for stage in stages(run).values():
        if stage.kind in ("failed", "terminated", "finished"):
            assert stage.logs, stage
            assert all(run.run_id in str(each) or "main.log" in str(each) for each in stage.logs)


@pytest.mark.parametrize("name", RUNS)
def test_at_every_moment_of_a_run_what_runs_is_started_and_what_ended_has_ended(name: str) -> None:
    """Held against the pods of the executors themselves, which the workflow's nodes name."""
    run = recording(name)
    moments = run.moments()
    pods = [node for node in run.nodes.values() if re.search(r"\.executor\(\d+\)$", node["name"])]
    at_the_end = {stage.logs[0]: stage.stage for stage in stages(run).values() if stage.logs}
    for moment in moments[:: max(1, len(moments) // 12)]:
        kinds = [stage.kind for stage in stages(run, moment).values()]
        begun = [pod for pod in pods if datetime.fromisoformat(pod["startedAt"]) <= moment]
        ended = [p for p in begun if p.get("finishedAt") and datetime.fromisoformat(p["finishedAt"]) <= moment]
        waiting = [pod for pod in begun if pod["phase"] == "Pending"]
        assert kinds.count("started") == len(begun) - len(ended) - len(waiting)
        driver_failed = sum(
            node["phase"] == "Failed" and datetime.fromisoformat(node["finishedAt"]) <= moment
            for node in run.nodes.values()
            if node["templateName"] == "system-container-driver" and node["type"] == "Pod"
        )
        assert sum(kind in ("finished", "failed", "terminated") for kind in kinds) == len(ended) + driver_failed
    assert at_the_end or name == "cached"


def rebuilt(run: Recording, changes: dict[str, dict[str, object]]) -> dict[str, Stage]:
    """The stages of a run with the fields of some nodes changed; a node is named by the end of its name."""
    nodes = {}
    for name, node in run.nodes.items():
        change = next((new for end, new in changes.items() if name.endswith(end)), {})
        nodes[name] = {**node, **change}
    return {s.stage: s for s in Workflow(nodes, False, "mlpipeline").stages(run.parameters)}


@pytest.mark.parametrize(
    ("phase", "message", "told"),
    [
        (
            "Pending",
            "ImagePullBackOff: Back-off pulling image",
            "waits for its pod: ImagePullBackOff: Back-off pulling",
        ),
        ("Pending", "ContainerCreating", "waits for its pod to start"),
        ("Failed", "Pod was active on the node longer than the specified deadline", "failed after 15 s: its deadline"),
        ("Error", "ErrImagePull: not found", "failed after 15 s: its image cannot be pulled: ErrImagePull: not found"),
        ("Failed", "The node was low on resource: memory", "failed after 15 s: The node was low on resource: memory"),
        ("Failed", "main: Error (exit code 2)", "failed after 15 s: exit code 2"),
    ],
)
def test_what_argo_says_of_a_pod_becomes_a_cause(phase: str, message: str, told: str) -> None:
    changed = rebuilt(recording("out_of_memory"), {"prepare-data(0).executor(0)": {"phase": phase, "message": message}})
    assert changed["prepare data"].line().startswith(f"prepare data: {told}")


def test_a_stage_that_is_tried_again_says_so() -> None:
    run = recording("out_of_memory")
    first = next(node for name, node in run.nodes.items() if name.endswith("clean-training(0).executor(0)"))
    second = {**first, "name": first["name"].removesuffix("(0)") + "(1)", "phase": "Running", "message": ""}
    workflow = Workflow({**run.nodes, second["name"]: second}, False, "")
    found = {stage.stage: stage for stage in workflow.stages(run.parameters)}
    assert found["clean training"].line() == "clean training: started again, attempt 2"


def test_a_lost_driver_may_pass_and_want_of_memory_does_not() -> None:
    lost, killed = stages(recording("driver_pod_lost")), stages(recording("out_of_memory"))
    assert lost["clean training"].may_pass and lost["close run"].may_pass
    assert not killed["clean training"].may_pass
    assert not stages(recording("partly_cached_fails"))["staircase"].may_pass
