"""A finished run of one trigger, asked for more: its classifier, its generators and its judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from untrigger.artifacts import read_json
from untrigger.classifiers import load_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.errors import UserError
from untrigger.judge import Judge, judge_of_run
from untrigger.networks.devices import device
from untrigger.reports.results import Results
from untrigger.runs.output_folder import OutputFolder
from untrigger.settings.runs import DefenseConfig
from untrigger.stages.reuse import kept_outputs
from untrigger.staircase import Staircase, load_staircase


@dataclass(frozen=True)
class FinishedRun:
    """The output folder of a run on this machine, with what its stages left."""

    folder: OutputFolder
    config: DefenseConfig

    @classmethod
    def of(cls, path: Path) -> FinishedRun:
        """UserError when `path` holds no finished run of one trigger."""
        folder = OutputFolder(path)
        if not (folder.path / "run.json").exists() or not folder.results.exists():
            raise UserError(f"{path} holds no finished run: give the output folder of `untrigger run`")
        if folder.results.name != Results.FILE:
            raise UserError(f"{path} holds a sweep: give the output folder of a run of one trigger")
        return cls(folder, DefenseConfig.of(read_json(folder.path / "run.json")["config"]))

    def images(self, part: str) -> ImageData:
        """The defender's or the evaluation images, by the name of their artifact."""
        return load_images(self._outputs("prepare_data") / part)

    def judge(self) -> Judge:
        """The judge by which the run itself measures its stairs."""
        config = self.config
        data = self.images("defender_data").to(device()).for_search(config.target_class, config.search_images)
        suspect = load_classifier(self._outputs("poison_training") / "backdoored_classifier", device())
        size = (config.trigger_height, config.trigger_width)
        return judge_of_run(config.seed, suspect, data.images, config.target_class, size)

    def staircase(self) -> Staircase:
        """Its generators, on the device."""
        return load_staircase(self._outputs("staircase") / "trigger_staircase", device())

    def _outputs(self, stage: str) -> Path:
        kept = kept_outputs(self.folder.stages, stage)
        if kept is None:
            raise UserError(f"{self.folder.path} no longer holds what the stage {stage} left: run it again")
        return kept
