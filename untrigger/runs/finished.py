"""A finished run of one trigger, asked for more: its generators and its judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from untrigger.distributions import load_distribution
from untrigger.errors import UserError
from untrigger.judge import Judge
from untrigger.networks.devices import device
from untrigger.reports.results import Results
from untrigger.runs.output_folder import OutputFolder
from untrigger.settings.runs import DefenseConfig
from untrigger.staircase import Staircase


@dataclass(frozen=True)
class FinishedRun:
    """The report of a run: its output folder, what was fetched of it, or the folder of one trigger in a sweep's.

    judge: the one by which the run itself measures its stairs. staircase: its generators. Both are on the device.
    origin: stands for what the judge judges by.
    """

    folder: OutputFolder
    config: DefenseConfig
    judge: Judge
    staircase: Staircase
    origin: str

    @classmethod
    def of(cls, path: Path) -> FinishedRun:
        """UserError when `path` holds no finished run of one trigger."""
        folder = OutputFolder(path)
        if not folder.results.exists():
            raise UserError(
                f"{path} holds no finished run: give the output folder of `untrigger run`, or what was fetched of one"
            )
        if folder.results.name != Results.FILE:
            raise UserError(
                f"{path} holds no run of one trigger but {folder.results.name}: of a sweep, give triggers/NAME in it"
            )
        config = DefenseConfig.of(Results.load(folder.path).config)
        size = (config.trigger_height, config.trigger_width)
        found = load_distribution(folder.path, config.target_class, size, device())
        return cls(folder, config, found.judge, found.staircase, found.origin)
