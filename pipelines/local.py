"""Run the compiled pipeline on this machine, through `kfp.local`: every stage is a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import click
from untrigger.pipelines.arguments import COMPILED, pipeline_arguments

from untrigger.errors import UserError
from untrigger.output_folder import OutputFolder
from untrigger.progress import PROGRESS_FILE, failures, unfinished_stages
from untrigger.settings import DefenseConfig
from untrigger.stage import STORE, THREADS
from untrigger.tracking import ARTIFACT_LOCATION, RECORDS, RUN_ID, TRACKING_URI, close_parent

SIDE_BY_SIDE = 2
"""Tasks of one loop that `kfp.local` runs at the same time."""


def run_locally(config: DefenseConfig, output: OutputFolder) -> None:
    """Run the DAG to its end; stages that `output` keeps from an earlier attempt are reused.

    Raises UserError that names the stages that failed.
    """
    os.environ.update(_environment(config, output))
    with output.log.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        from kfp import components, local

        from untrigger.mlflow_writer import forwarding

        warnings.filterwarnings("ignore", category=RuntimeWarning, module="kfp")
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(output.workspace))
        pipeline = components.load_component_from_file(str(COMPILED))
        with forwarding(output.tracking_records, os.environ[TRACKING_URI], output.run_id):
            try:
                pipeline(**pipeline_arguments(config))
            except KeyboardInterrupt:
                close_parent(succeeded=False)
                raise
            except RuntimeError as error:
                raise UserError(_what_failed(output, error)) from error
    shutil.rmtree(output.workspace, ignore_errors=True)
    output.tracking_records.unlink()


def _environment(config: DefenseConfig, output: OutputFolder) -> dict[str, str]:
    environment = {
        PROGRESS_FILE: str(output.progress),
        STORE: str(output.stages),
        THREADS: json.dumps(_threads(config)),
        RUN_ID: output.run_id,
        RECORDS: str(output.tracking_records),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }
    if not os.environ.get(TRACKING_URI):
        environment[TRACKING_URI] = output.tracking_uri
        environment[ARTIFACT_LOCATION] = output.tracked_files.as_uri()
    return environment


def _threads(config: DefenseConfig) -> dict[str, int]:
    """The cores of this machine divided among the tasks of each loop that `kfp.local` runs at the same time."""
    cores = len(os.sched_getaffinity(0))
    tasks = {"generator_training": len(config.beta_plan()), "retraining": len(config.retraining_plan())}
    return {name: max(1, cores // SIDE_BY_SIDE) for name, count in tasks.items() if count > 1}


def _what_failed(output: OutputFolder, error: RuntimeError) -> str:
    told = [f"stage {event.stage} failed: {event.text}" for event in failures(output.progress)]
    killed = [f"stage {stage} was killed before it could finish" for stage in unfinished_stages(output.progress)]
    reasons = "; ".join(told + killed) or click.unstyle(str(error)).rstrip(".")
    return f"{reasons} (log: {output.log}; mend the cause and add --resume to go on from the finished stages)"
