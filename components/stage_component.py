"""The decorator of all components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kfp import dsl

from untrigger import __version__

IMAGE = "untrigger/{stage}:" + __version__
"""The image of a stage, which carries untrigger: nothing is installed at run time."""


def stage_component(stage: str) -> Callable[[Callable[..., Any]], Any]:
    """A lightweight Python component that runs in the image of `stage`."""
    return dsl.component(base_image=IMAGE.format(stage=stage.replace("_", "-")), install_kfp_package=False)
