"""What was submitted as one: a run, or the parts of a divided sweep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from untrigger.pipelines.cluster.states import GOING_ON
from untrigger.pipelines.cluster.workflow import Stage
from untrigger.settings.runs import SweepConfig
from untrigger.settings.tracked import SweepPart


@dataclass(frozen=True)
class ClusterRun:
    """A run as its server knows it; `created` is in UTC.

    `state` is KFP's, or TERMINATED where somebody ended the run, which KFP calls failed. `root` is the pipeline root if
    it has one of its own, `reason` says why it failed where the server knows. `part` and `sweep` say which part of a
    divided sweep it is, and over which triggers, where it is one. A listing tells neither `stages`, what became of each
    so far, nor `changed`, when that last changed.
    """

    id: str
    state: str
    created: datetime | None
    name: str
    root: str
    reason: str
    stages: tuple[Stage, ...]
    changed: datetime | None
    part: SweepPart | None = None
    sweep: SweepConfig | None = None

    def labelled(self, stage: Stage) -> Stage:
        """A stage of the run, told apart from those of the other parts."""
        return replace(stage, stage=f"part {self.part.number}: {stage.stage}") if self.part else stage


@dataclass(frozen=True)
class WholeRun:
    """A run, or the latest attempt at each part of a divided sweep, in their order."""

    parts: tuple[ClusterRun, ...]

    @property
    def id(self) -> str:
        """The id of the run; of a divided sweep that of its first part, which stands for all."""
        return self.parts[0].id

    @property
    def name(self) -> str:
        """What it is called."""
        first = self.parts[0]
        return first.part.name if first.part else first.name

    @property
    def missing(self) -> int:
        """How many parts were never started, since submitting was interrupted."""
        first = self.parts[0]
        return first.part.count - len(self.parts) if first.part else 0

    @property
    def state(self) -> str:
        """Going on while a part does; succeeded when all parts have; else that of the first part that has not."""
        states = [run.state for run in self.parts]
        if going_on := [state for state in states if state in GOING_ON]:
            return going_on[0] if len(set(states)) == 1 else "RUNNING"
        ended = [state for state in states if state != "SUCCEEDED"]
        return ended[0] if ended else "FAILED" if self.missing else "SUCCEEDED"

    def sweep(self) -> SweepConfig | None:
        """The configuration of the whole sweep; None for a run of one trigger."""
        configs = [run.sweep for run in self.parts if run.sweep]
        if not configs:
            return None
        lists = {name: tuple(n for each in configs for n in getattr(each, name)) for name in ("triggers", "panels")}
        return configs[0].model_copy(update=lists)

    @property
    def stages(self) -> list[Stage]:
        """The stages of all parts."""
        return [run.labelled(stage) for run in self.parts for stage in run.stages]


def taken_together(runs: Iterable[ClusterRun]) -> list[WholeRun]:
    """Runs, the latest first, with those that are parts of one sweep as one, where the first of them stood."""
    together: dict[str, dict[int, ClusterRun]] = {}
    for run in runs:
        key, number = (run.part.id, run.part.number) if run.part else (run.id, 1)
        together.setdefault(key, {}).setdefault(number, run)
    return [WholeRun(tuple(parts[number] for number in sorted(parts))) for parts in together.values()]
