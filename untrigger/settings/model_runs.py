"""What runs of the pipelines over models of others are told: `scan`, `references` and `defend`."""

from __future__ import annotations

from pathlib import PurePath

from pydantic import Field

from untrigger.settings.base import Inputs, SourceName
from untrigger.settings.defences import DefendConfig
from untrigger.settings.plans import batched
from untrigger.settings.scans import ReferencesConfig, ScanConfig, ScanSettings

_REFERENCES = Field(
    None,
    description="clean models to compare with: a folder as `untrigger references` fills it, or its address in a store",
)
_REFERENCES_PER_TASK = Field(5, ge=1, description="references that one task takes one after the other")


class ScanRunConfig(ScanConfig):
    """Everything one run of the `scan` pipeline is told."""

    models: tuple[SourceName, ...] = Field(min_length=1, description="the models under suspicion")
    references: SourceName | None = _REFERENCES
    models_per_task: int = Field(1, ge=1, description="models that one task scans one after the other")
    references_per_task: int = _REFERENCES_PER_TASK

    def inputs(self) -> Inputs:
        """What it reads beside the data."""
        return [*(("model", name) for name in self.models), *_given(self.references)]

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"scan of {_short(self.models[0]) if len(self.models) == 1 else f'{len(self.models)} models'}"

    @property
    def scans(self) -> bool:
        """It always does."""
        return True

    def model_plan(self) -> list[tuple[str, ...]]:
        """The models of each task."""
        return batched(self.models, self.models_per_task)


class ReferencesRunConfig(ReferencesConfig):
    """Everything one run of the `references` pipeline is told; each reference is scanned as a suspect will be."""

    scan: ScanSettings = ScanSettings()
    references_per_task: int = _REFERENCES_PER_TASK

    def inputs(self) -> Inputs:
        """Nothing but the data."""
        return []

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"{self.count} references"


class DefendRunConfig(DefendConfig):
    """Everything one run of the `defend` pipeline is told."""

    model: SourceName = Field(description="the model under suspicion")
    references: SourceName | None = _REFERENCES
    references_per_task: int = _REFERENCES_PER_TASK

    def inputs(self) -> Inputs:
        """What it reads beside the data."""
        return [("model", self.model), *_given(self.references)]

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"defence of {_short(self.model)}"

    def model_plan(self) -> list[tuple[str, ...]]:
        """The model, if it is to be scanned; else a task that has nothing to do, as KFP's loops want an item."""
        return [(self.model,) if self.scans else ()]


def _given(references: str | None) -> Inputs:
    return [] if references is None else [("references", references)]


def _short(name: str) -> str:
    return PurePath(name).name
