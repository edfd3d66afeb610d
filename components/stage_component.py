"""The decorator of all components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kfp import dsl

from untrigger.stages.identities import STAGES


def stage_component(function: Callable[..., Any]) -> Any:
    """A lightweight Python component, called like its stage, that runs in the image of that stage."""
    return dsl.component(function, base_image=STAGES[function.__name__].image, install_kfp_package=False)
