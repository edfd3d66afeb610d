"""A finished run of one trigger, asked for more: its generators and its judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from untrigger.distributions import load_distribution, load_judge
from untrigger.errors import UserError
from untrigger.judge import Judge
from untrigger.networks.devices import device
from untrigger.reports.results import Results
from untrigger.runs.output_folder import OutputFolder
from untrigger.settings.runs import DefenseConfig
from untrigger.staircase import Staircase


@dataclass(frozen=True)
class FinishedRun:
    """The report of a run: its output folder, what was fetched of it, or the folder of one trigger in a sweep's."""

    folder: OutputFolder
    config: DefenseConfig

    @classmethod
    def of(cls, path: Path) -> FinishedRun:
        """UserError when `path` holds no finished run of one trigger."""
        folder = OutputFolder(path)
        if not folder.results.exists():
            raise UserError(f"{path} holds no finished run: give the output folder of `untrigger run`")
        if folder.results.name != Results.FILE:
            raise UserError(
                f"{path} holds no run of one trigger but {folder.results.name}: of a sweep, give triggers/NAME in it"
            )
        return cls(folder, DefenseConfig.of(Results.load(folder.path).config))

    def judge(self) -> Judge:
        """The judge by which the run itself measures its stairs."""
        config = self.config
        size = (config.trigger_height, config.trigger_width)
        return load_judge(self.folder.path, config.target_class, size, device())

    def staircase(self) -> Staircase:
        """Its generators, on the device."""
        return load_distribution(self.folder.path, device())
