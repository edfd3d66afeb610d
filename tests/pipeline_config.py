"""The smallest configuration that runs every stage for real."""

from __future__ import annotations

from typing import Any

from untrigger.profiles import config_for
from untrigger.settings import DefenseConfig


def tiny_config(**changes: Any) -> DefenseConfig:
    return config_for("tiny", changes)
