"""Untrigger finds the distribution of backdoor triggers in an image classifier and retrains it to ignore them.

What a researcher needs stands here, imported when it is first used; everything else has a module of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from untrigger.attacks.attack import Attack
    from untrigger.attacks.registry import register_attack
    from untrigger.classifiers import Classifier, load_classifier, new_classifier, save_classifier
    from untrigger.datasets.images import ImageData
    from untrigger.datasets.registry import register_dataset
    from untrigger.datasets.sources import read_split
    from untrigger.defences.registry import register_defence
    from untrigger.errors import UserError
    from untrigger.flow_training import train_flows
    from untrigger.generators import train_generators
    from untrigger.judge import new_judge
    from untrigger.metrics import evaluate
    from untrigger.networks.architectures import register_architecture
    from untrigger.pixel_sgd import reverse_triggers
    from untrigger.poisoning import plant_backdoor
    from untrigger.retraining import retrain
    from untrigger.staircase import build_staircase
    from untrigger.training import train
    from untrigger.trigger_parts import find_parts
    from untrigger.triggers import read_trigger

__version__ = "0.8.0"
"""The one place where it stands: whatever else names it is held to it by a test."""

__all__ = [
    "Attack",
    "Classifier",
    "ImageData",
    "UserError",
    "build_staircase",
    "evaluate",
    "find_parts",
    "load_classifier",
    "new_classifier",
    "new_judge",
    "plant_backdoor",
    "read_split",
    "read_trigger",
    "register_architecture",
    "register_attack",
    "register_dataset",
    "register_defence",
    "retrain",
    "reverse_triggers",
    "save_classifier",
    "train",
    "train_flows",
    "train_generators",
]

_HOMES = {
    "Attack": "attacks.attack",
    "Classifier": "classifiers",
    "ImageData": "datasets.images",
    "UserError": "errors",
    "build_staircase": "staircase",
    "evaluate": "metrics",
    "find_parts": "trigger_parts",
    "load_classifier": "classifiers",
    "new_classifier": "classifiers",
    "new_judge": "judge",
    "plant_backdoor": "poisoning",
    "read_split": "datasets.sources",
    "read_trigger": "triggers",
    "register_architecture": "networks.architectures",
    "register_attack": "attacks.registry",
    "register_dataset": "datasets.registry",
    "register_defence": "defences.registry",
    "retrain": "retraining",
    "reverse_triggers": "pixel_sgd",
    "save_classifier": "classifiers",
    "train": "training",
    "train_flows": "flow_training",
    "train_generators": "generators",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
