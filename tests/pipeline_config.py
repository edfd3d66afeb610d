"""The smallest configuration that runs every stage for real."""

from __future__ import annotations

from typing import Any

from untrigger.profiles import config_for
from untrigger.settings import DefenseConfig


def tiny_config(**changes: Any) -> DefenseConfig:
    return config_for("tiny", changes, DefenseConfig)


def small_config() -> DefenseConfig:
    """As `tiny_config`, with one stair, one method and one retraining: enough where runs are about something else."""
    return tiny_config(betas=(0.5,), methods=("ensemble",), retraining_seeds=1)
