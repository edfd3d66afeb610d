"""The pipelines by name, and what a run of each is told."""

from __future__ import annotations

from untrigger.settings.grids import GridRunConfig
from untrigger.settings.model_runs import DefendRunConfig, ReferencesRunConfig, ScanRunConfig
from untrigger.settings.runs import DefenseConfig, SweepConfig

RunConfig = DefenseConfig | SweepConfig | ScanRunConfig | ReferencesRunConfig | DefendRunConfig | GridRunConfig

CONFIGS: dict[str, type[RunConfig]] = {
    "defense": DefenseConfig,
    "paper": SweepConfig,
    "scan": ScanRunConfig,
    "references": ReferencesRunConfig,
    "defend": DefendRunConfig,
    "grid": GridRunConfig,
}
"""What each compiled DAG is told, by its name."""


def pipeline_of(config: RunConfig) -> str:
    """The name of the DAG that is told this."""
    return next(name for name, kind in CONFIGS.items() if type(config) is kind)
