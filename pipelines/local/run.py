"""Run the compiled pipeline on this machine, through `kfp.local`: every stage a process or a container of its own."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from untrigger.errors import UserError
from untrigger.pipelines.arguments import LOOPS, compiled_for, pipeline_arguments
from untrigger.pipelines.local.containers import ContainerOptions, docker_runner, watching_containers
from untrigger.pipelines.local.endings import TOLD, StageEnd
from untrigger.pipelines.local.processes import StageProcesses
from untrigger.runs.output_folder import OutputFolder
from untrigger.runs.tracked_folders import lay_out_database, tracking_environment
from untrigger.settings.pipelines import RunConfig
from untrigger.settings.tracked import TrackedAs, run_name
from untrigger.stages.identities import STAGES
from untrigger.stages.kept_snapshots import PLACE as SNAPSHOTS
from untrigger.stages.reuse import STORE
from untrigger.stages.stage import THREADS
from untrigger.storage.downloads import CACHE, cache_folder
from untrigger.tracking.progress import PROGRESS_FILE, failures, unfinished_stages
from untrigger.tracking.records import RECORDS, RUN_ID, TRACKING_URI, close_parent

SIDE_BY_SIDE = 2
"""Tasks of one loop that `kfp.local` runs at the same time."""


PER_TRIGGER = [name for name, identity in STAGES.items() if identity.per_trigger and identity.resources.gpus]
"""The stages that a sweep runs for each trigger, or a grid for each backdoor, and that compute."""


def check_tracking() -> None:
    """UserError when the tracking server that the environment names does not answer, or has no run of that id."""
    if uri := os.environ.get(TRACKING_URI):
        from untrigger.tracking.mlflow import check_server

        check_server(uri)
    elif run_id := os.environ.get("MLFLOW_RUN_ID"):
        raise UserError(
            f"MLFLOW_RUN_ID names {run_id!r}, and the new run's own database has no such run: unset it, or set "
            f"{TRACKING_URI} to the server that has it"
        )


def deliver_tracking(output: OutputFolder) -> int:
    """Write the tracking records that a run left undelivered; how many there were.

    Raises UserError when a run is at work in the folder, or as `tracking.forwarding.deliver` does.
    """
    from untrigger.tracking.forwarding import deliver

    with output.locked():
        if not output.waiting_records():
            return 0
        uri = os.environ.get(TRACKING_URI) or output.tracking_uri
        count = deliver(output.tracking_records, uri, output.read_run_id())
        shutil.rmtree(output.workspace, ignore_errors=True)
    return count


def run_locally(
    config: RunConfig,
    output: OutputFolder,
    stages: StageProcesses | ContainerOptions,
    sources: Sequence[Path] = (),
) -> int:
    """Run the DAG to its end; stages that `output` keeps from an earlier attempt are reused.

    Every stage is a process of `stages`, or a container; `sources` are the files and folders that a container may read.
    Returns how many tracking records MLflow refused. Raises UserError that names the stages that failed.
    """
    arguments = pipeline_arguments(config, _tracked_as(config, output))
    os.environ.update(_environment(arguments, output))
    with (
        output.log.open("a", encoding="utf-8", errors="backslashreplace") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        _watched(output, stages) as ended_badly,
        _print_kept(),
    ):
        lay_out_database(output)
        from kfp import components, local

        from untrigger.tracking.forwarding import forwarding

        warnings.filterwarnings("ignore", category=RuntimeWarning, module="kfp")
        local.init(_runner(output, sources, stages), pipeline_root=str(output.workspace))
        pipeline = components.load_component_from_text(_without_retries(compiled_for(config)))
        with forwarding(output.tracking_records, os.environ[TRACKING_URI], output.run_id) as forwarded:
            error: Exception | None = None
            try:
                pipeline(**arguments)
            except KeyboardInterrupt:
                close_parent(succeeded=False)
                raise
            except Exception as raised:
                error = raised
    # KFP may stumble over a container that vanished, or over what it left unwritten, in any way.
    if error is not None and not isinstance(error, RuntimeError) and not ended_badly:
        raise error
    if error is not None or ended_badly:
        raise UserError(_what_failed(output, error, ended_badly)) from error
    if not output.tracking_records.exists():
        shutil.rmtree(output.workspace, ignore_errors=True)
    return forwarded.refused


def _tracked_as(config: RunConfig, output: OutputFolder) -> TrackedAs:
    return TrackedAs(name=run_name(config), links={"report": str(output.path / "report.html")})


@contextlib.contextmanager
def _print_kept() -> Iterator[None]:
    """KFP indents what stages say by a `print` of its own, and leaves one behind where tasks run side by side."""
    given = builtins.print
    try:
        yield
    finally:
        builtins.print = given


def _without_retries(compiled: Path) -> str:
    """On a cluster a lost node is worth another try; here what failed would fail again, and --resume goes on."""
    documents = list(yaml.safe_load_all(compiled.read_text()))
    for component in documents[0]["components"].values():
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("retryPolicy", None)
    for task in documents[0]["root"]["dag"]["tasks"].values():
        task.pop("retryPolicy", None)
    return yaml.safe_dump_all(documents)


def _runner(output: OutputFolder, sources: Sequence[Path], stages: StageProcesses | ContainerOptions) -> Any:
    from kfp import local

    if isinstance(stages, StageProcesses):
        return local.SubprocessRunner(use_venv=False)
    names = (PROGRESS_FILE, STORE, SNAPSHOTS, THREADS, RUN_ID, RECORDS, CACHE)
    environment = {name: os.environ[name] for name in names}
    return docker_runner(environment, output, sources, stages)


def _watched(
    output: OutputFolder, stages: StageProcesses | ContainerOptions
) -> contextlib.AbstractContextManager[list[StageEnd]]:
    if isinstance(stages, StageProcesses):
        return stages.taking_tasks()
    return watching_containers(output.run_id, stages.memory)


def _environment(arguments: Mapping[str, Any], output: OutputFolder) -> dict[str, str]:
    return {
        PROGRESS_FILE: str(output.progress),
        STORE: str(output.stages),
        SNAPSHOTS: str(output.stages / ".snapshots"),
        THREADS: json.dumps(_threads(arguments)),
        CACHE: str(cache_folder()),
        **tracking_environment(output),
    }


def _threads(arguments: Mapping[str, Any]) -> dict[str, int]:
    """The cores of this machine divided among the tasks of each loop that `kfp.local` runs at the same time.

    arguments: the parameters of the DAG.

    Two triggers of a sweep, or backdoors of a grid, are at work at once, each with loops of its own: one core must do
    for a task of those.
    """
    cores = len(os.sched_getaffinity(0))
    tasks = {stage: len(arguments[plan]) for plan in LOOPS.keys() & arguments for stage in LOOPS[plan]}
    if any(len(arguments.get(outer, ())) > 1 for outer in ("triggers", "backdoor_plan")):
        share = max(1, cores // SIDE_BY_SIDE)
        inner = {name: max(1, share // SIDE_BY_SIDE) for name, count in tasks.items() if count > 1}
        return {**dict.fromkeys(PER_TRIGGER, share), **inner}
    return {name: max(1, cores // SIDE_BY_SIDE) for name, count in tasks.items() if count > 1}


def _what_failed(output: OutputFolder, error: Exception | None, ended_badly: Sequence[StageEnd]) -> str:
    told = [f"stage {event.stage} failed: {event.text}" for event in failures(output.progress)]
    killed = [f"stage {stage} was killed before it could finish" for stage in unfinished_stages(output.progress)]
    ends = [end for end in ended_badly if not (told and end.exit_code == TOLD)]
    reasons = "; ".join(dict.fromkeys(told + killed + [end.reason for end in ends])) or click.unstyle(
        str(error)
    ).rstrip(".")
    shown = [f"\nlast lines of {end.stage}:\n  " + "\n  ".join(end.last_lines) for end in ends if end.last_lines]
    delivery = f"deliver what MLflow did not take with {output.delivery}, then " if output.waiting_records() else ""
    remedy = f"(log: {output.log}; mend the cause and {delivery}add --resume to go on from the finished stages)"
    return f"{reasons} {remedy}" + "".join(shown)
