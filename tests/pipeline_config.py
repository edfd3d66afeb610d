"""The smallest configuration that runs every stage for real."""

from __future__ import annotations

from typing import Any

from untrigger.settings import DefenseConfig

TINY: dict[str, Any] = {
    "dataset": "digits",
    "betas": (0.9, 0.5),
    "retraining_seeds": 2,
    "classifier": {"architecture": "small_resnet", "width": 4},
    "training": {"epochs": 1, "batch_size": 64, "augment": False},
    "poisoning": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05, "poisoned_share": 0.2},
    "pixel_sgd": {"restarts": 2, "steps": 3},
    "generator": {
        "hidden": 16,
        "epochs": 2,
        "batch_size": 64,
        "images_per_trigger": 8,
        "entropy_batch_size": 32,
        "fresh_samples": 10,
        "fresh_images": 16,
        "information_steps": 5,
    },
    "retraining": {"epochs": 1, "batch_size": 64, "stamped_share": 0.3},
    "visualisation": {"samples_per_beta": 10, "perplexity": 5.0},
    "data": {"heldout_share": 0.3, "defender_share": 0.5},
}


def tiny_config(**changes: Any) -> DefenseConfig:
    return DefenseConfig.of({**TINY, **changes})
