"""How a run appears in MLflow and in lists of runs. It changes no result, and no stage that a cache may spare."""

from __future__ import annotations

import time

from pydantic import Field

from untrigger.settings.base import Settings
from untrigger.settings.pipelines import RunConfig

RUN_ID = "{run_id}"
"""Stands in a link for the id that the run gets when it starts."""


class SweepPart(Settings):
    """Which part of a divided sweep a run is: `number` of `count`, from 1; `id` and `name` are those of the whole."""

    id: str
    name: str
    number: int = Field(ge=1)
    count: int = Field(ge=1)

    @property
    def run_name(self) -> str:
        """What the run of this part is called."""
        return f"{self.name} part {self.number} of {self.count}"


class TrackedAs(Settings):
    """The name of a run, MLflow's experiment (that of the environment when "") and links by what they lead to.

    A name of "" leaves it to the stage that opens the run. `names`: what inputs in a store were called where they came
    from, by their addresses.
    """

    name: str = ""
    experiment: str = ""
    links: dict[str, str] = {}
    sweep: SweepPart | None = None
    names: dict[str, str] = {}


def run_name(config: RunConfig) -> str:
    """What a run is called unless it is given a name: what runs, and when it was started."""
    return started_now(f"{config.subject} seed {config.seed}")


def started_now(name: str) -> str:
    """The name of something, and that it was started now."""
    return f"{name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
