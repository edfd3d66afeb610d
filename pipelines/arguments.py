"""From a configuration to the parameters of the DAG `defense`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from untrigger.settings import DefenseConfig

COMPILED = Path(__file__).with_name("defense.yaml")
"""The compiled DAG, which is what runs: locally, in containers, on a cluster."""


def pipeline_arguments(config: DefenseConfig) -> dict[str, Any]:
    """The parameters of `defense`: each stage gets its own settings, so that a change of one spares the others."""
    values = config.record()
    return {
        "config": values,
        "dataset": config.dataset,
        "data": values["data"],
        "classifier": values["classifier"],
        "training": values["training"],
        "trigger": config.poisoning.trigger,
        "poisoning": values["poisoning"],
        "pixel_sgd": values["pixel_sgd"],
        "beta_plan": config.beta_plan(),
        "gammas": _gammas_by_rising_beta(config),
        "generator": values["generator"],
        "retraining": values["retraining"],
        "retraining_plan": config.retraining_plan(),
        "ideal_seeds": config.packed_seeds(),
        "visualisation": values["visualisation"],
        "target_class": config.target_class,
        "trigger_size": [config.trigger_height, config.trigger_width],
        "seed": config.seed,
    }


def _gammas_by_rising_beta(config: DefenseConfig) -> list[float]:
    """The weights in the order of the staircase, whatever the order in which the betas were given."""
    if config.gammas is None:
        return []
    return [gamma for _, gamma in sorted(zip(config.betas, config.gammas, strict=True))]
