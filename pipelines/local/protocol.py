"""A run on this machine from beginning to end: what is checked, opened, run, published and closed, in which order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from untrigger.errors import UserError
from untrigger.pipelines.arguments import compiled_for
from untrigger.pipelines.images import images_in
from untrigger.pipelines.local.containers import ContainerOptions, check_engine
from untrigger.pipelines.local.processes import StageProcesses, stage_processes
from untrigger.pipelines.local.run import check_tracking, run_locally
from untrigger.plugins import refuse_plugins
from untrigger.runs.inputs import RunInputs
from untrigger.runs.output_folder import OutputFolder
from untrigger.runs.publishing import RunPublisher, check_store, publishing
from untrigger.settings.pipelines import RunConfig, pipeline_of


@dataclass(frozen=True)
class RunOptions:
    """How a configuration is run: `containers` in place of processes; `store` is the address to publish below."""

    output: Path
    resume: bool = False
    overwrite: bool = False
    containers: ContainerOptions | None = None
    store: str | None = None


@dataclass
class LocalRun:
    """A run whose inputs, servers and output folder were found good."""

    config: RunConfig
    folder: OutputFolder
    publisher: RunPublisher | None
    _stages: StageProcesses | ContainerOptions
    _inputs: RunInputs
    _finished: bool = field(default=False, init=False)
    _refused_records: int = field(default=0, init=False)

    def execute(self) -> Any:
        """Run all stages and bring the report to the top of the folder; the results of its pipeline (see ENDINGS).

        Raises UserError that names the stages that failed.
        """
        with publishing(self.publisher):
            self._refused_records = run_locally(self.config, self.folder, self._stages, self._inputs.places)
        results = self.folder.take_report(pipeline_of(self.config))
        self._finished = True
        return results

    def untracked(self) -> str:
        """What MLflow did not take, and the command that delivers it; "" when it has all."""
        return self.folder.untracked(self._refused_records)

    def close(self) -> None:
        """Store what is not stored yet of a finished run, and let others use the folder.

        Raises UserError that says how to store it later when the store stays away.
        """
        try:
            if self._finished and self.publisher is not None:
                self.publisher.everything()
        except UserError as error:
            raise UserError("; ".join(filter(None, (str(error), self.untracked())))) from error
        finally:
            self.folder.close()


@contextmanager
def local_run(config: RunConfig, options: RunOptions) -> Iterator[LocalRun]:
    """Make a run ready, to be executed in the block; it is closed at the block's end.

    UserError when anything that it needs is plainly not to be had: before the output folder is touched.
    """
    containers = options.containers
    if containers is not None and config.data.download:
        raise UserError("--download needs a network, which containers do not get: fetch the dataset without it first")
    if containers is not None:
        refuse_plugins("leave out --runner docker")
    _check_temporary_folder()
    with nullcontext(containers) if containers is not None else stage_processes() as stages:
        inputs = RunInputs.of(config)
        folder = OutputFolder(options.output)
        _ensure_home(folder.workspace)
        if containers is not None:
            check_engine(images_in(list(yaml.safe_load_all(compiled_for(config).read_text()))))
        check_tracking()
        base = check_store(options.store) if options.store else None
        folder.open(config.record(), inputs.contents, resume=options.resume, overwrite=options.overwrite)
        run = LocalRun(config, folder, RunPublisher(folder, base) if base else None, stages, inputs)
        try:
            yield run
        finally:
            run.close()


def _check_temporary_folder() -> None:
    named = os.environ.get("TMPDIR")
    if named and not (Path(named).is_dir() and os.access(named, os.W_OK)):
        raise UserError(f"TMPDIR names {named}, where no file can be written: create that folder or unset TMPDIR")


def _ensure_home(stand_in: Path) -> None:
    """MLflow asks for a home as it is imported, and a numeric user of a container has none: any folder will do."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(stand_in)
