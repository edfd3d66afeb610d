"""The output folder of a local run: what lies where, and when it may be written to."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from untrigger.artifacts import read_json, write_json
from untrigger.errors import UserError

PUBLISHED = ("results.json", "report.html", "figures", "classifier")


class OutputFolder:
    """One run's folder. Only what a run writes itself is ever deleted from it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.stages = self.path / "stages"
        self.workspace = self.path / "workspace"
        self.log = self.path / "pipeline.log"
        self.progress = self.path / "progress.jsonl"
        self.tracking_uri = f"sqlite:///{self.path / 'mlflow.db'}"
        self.tracked_files = self.path / "mlartifacts"
        self._description = self.path / "run.json"
        self.run_id = ""

    def open(self, config: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Make the folder ready for a run of `config`; UserError when that would cost or mix up earlier results.

        An earlier run's folder is refused unless `resume` (same configuration: its finished stages are reused) or
        `overwrite` (its results are deleted; its tracking data stays).
        """
        if resume and overwrite:
            raise UserError("--resume and --overwrite exclude each other: choose one")
        self._check_writable()
        if self._description.exists() and resume:
            earlier = read_json(self._description)
            if earlier["config"] != config:
                differing = ", ".join(sorted(_differences(earlier["config"], config)))
                raise UserError(f"cannot resume {self.path}: it holds a run with other settings ({differing})")
            self.run_id = earlier["run_id"]
        elif self._description.exists() and not overwrite:
            raise UserError(
                f"{self.path} already holds a run: add --resume to go on with it, --overwrite to replace it, "
                "or choose another --output"
            )
        else:
            taken = [name for name in PUBLISHED if (self.path / name).exists()]
            if taken and not overwrite:
                raise UserError(f"{self.path} already holds {', '.join(taken)}: choose another --output")
            self._delete_earlier_run()
            self.run_id = uuid.uuid4().hex
            write_json(self._description, {"run_id": self.run_id, "config": config})
        self.progress.unlink(missing_ok=True)
        shutil.rmtree(self.workspace, ignore_errors=True)

    def publish(self, report: Path) -> None:
        """Bring the outputs of the evaluation stage in `report` to the top of the folder."""
        for name in PUBLISHED:
            source, target = report / name, self.path / name
            if source.is_dir():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)

    def _check_writable(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"cannot write to the output folder {self.path}: {os.strerror(error.errno or 0)}"
            ) from error

    def _delete_earlier_run(self) -> None:
        for name in (*PUBLISHED, "stages", "pipeline.log", "run.json"):
            entry = self.path / name
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)


def _differences(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name in {*first, *second}:
        one, other = first.get(name), second.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(f"{prefix}{name}")
    return found
