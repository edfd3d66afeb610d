"""The smallest configurations that run every stage for real."""

from __future__ import annotations

from typing import Any

from untrigger.profiles import config_for
from untrigger.settings.runs import DefenseConfig, SweepConfig

SMALL: dict[str, Any] = {"betas": (0.5,), "methods": ("ensemble",), "retraining_seeds": 1}
"""One stair, one method and one retraining: enough where runs are about something else."""

STEADY: dict[str, Any] = {"classifier": {"precision": "fp32"}, "poisoning": {"learning_rate": 0.002}}
"""The same arithmetic and small steps, which do not blow up what each processor makes of rounding."""


def tiny_config(**changes: Any) -> DefenseConfig:
    return config_for("tiny", changes, DefenseConfig)


def small_config() -> DefenseConfig:
    return tiny_config(**SMALL)


def tiny_sweep(**changes: Any) -> SweepConfig:
    return config_for("tiny", changes, SweepConfig)


PLANTING: dict[str, Any] = {
    "data": {"heldout_share": 0.5},
    "training": {"epochs": 6, "batch_size": 16, "learning_rate": 0.05},
    "poisoning": {
        "epochs": 60,
        "batch_size": 16,
        "poisoned_share": 0.4,
        "schedule": "one_cycle",
    },
    "classifier": {"width": 8, "precision": "fp32"},
}
"""A small network for the tiny images, in which the backdoor of a patch takes; over the profile `tiny` of a grid."""
