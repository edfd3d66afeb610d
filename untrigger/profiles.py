"""Named sets of settings: what differs from the defaults, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from untrigger.errors import UserError
from untrigger.networks.architectures import check_architecture
from untrigger.settings.base import Settings
from untrigger.settings.defences import DefendConfig
from untrigger.settings.grids import GridConfig
from untrigger.settings.methods import AS_IN_FILE, PixelDescentSettings, StampingSettings
from untrigger.settings.runs import METHODS, CommonConfig, SweepConfig
from untrigger.settings.scans import ReferencesConfig
from untrigger.settings.stairs import TOP

# A small network is neither poisoned nor cured by the paper's dose: 1 % poison at a learning rate of 1e-3 plants
# nothing in it, and 1 % of stamped images leaves the backdoor open even with the true trigger. So both small profiles
# raise the doses, and let dual ascent find the weight of the hinge, since no fixed alpha fills every stair.
_SMALL: dict[str, dict[str, Any]] = {
    "classifier": {"architecture": "small_resnet"},
    "generator": {
        "constraint": "dual_ascent",
        "alpha": 0.05,
        "learning_rate": 1e-3,
        "images_per_trigger": 16,
        "entropy_batch_size": 512,
    },
}

Config = TypeVar("Config", bound=CommonConfig)
References = TypeVar("References", bound=ReferencesConfig)
Defence = TypeVar("Defence", bound=DefendConfig)
Grid = TypeVar("Grid", bound=GridConfig)

PROFILES: dict[str, dict[str, Any]] = {
    "demo": {
        "dataset": "digits",
        "betas_per_task": 4,
        "classifier": {**_SMALL["classifier"], "width": 16},
        "training": {"epochs": 15, "batch_size": 64, "augment": False},
        "poisoning": {
            "epochs": 40,
            "batch_size": 64,
            "learning_rate": 0.05,
            "poisoned_share": 0.2,
            "schedule": "one_cycle",
        },
        "pixel_sgd": {"restarts": 5},
        "generator": {
            **_SMALL["generator"],
            "hidden": 256,
            "epochs": 300,
            "valid_share": 0.93,
            "learning_rate": 2e-3,
            "multiplier_rate": 2.0,
            "information_steps": 500,
            "fresh_samples": 500,
            "fresh_images": 128,
        },
        "flow": {"steps": 700},
        "retraining": {"epochs": 10, "batch_size": 64, "learning_rate": 5e-3, "stamped_share": 0.2},
        "strongest_left": {"restarts": 8, "images_per_step": 8},
        "data": {"defender_share": 0.55},
    },
    "cpu": {
        "dataset": "cifar10",
        "betas_per_task": 4,
        "classifier": _SMALL["classifier"],
        "training": {"epochs": 14, "learning_rate": 0.2},
        "poisoning": {"epochs": 5, "learning_rate": 0.02, "poisoned_share": 0.2, "schedule": "one_cycle"},
        "pixel_sgd": {"restarts": 5},
        "generator": {**_SMALL["generator"], "precision": "auto", "epochs": 14, "batch_size": 256},
        "retraining": {"epochs": 5, "learning_rate": 5e-3, "stamped_share": 0.2},
        "strongest_left": {"restarts": 8},
    },
    # As the authors' code has it; all else that it shares with the paper is the default.
    "paper": {
        "dataset": "cifar10",
        "search_images": "all",
        "betas": (0.5, 0.8, 0.9),
        "generator": {"family": "mine", "noise": "uniform", "constraint": "fixed_alpha"},
    },
    # Every stage on next to nothing: tries an installation out, its numbers mean nothing.
    "tiny": {
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
        "flow": {"steps": 20, "layers": 2, "hidden": 8, "samples": 32, "triggers": 8, "images_per_trigger": 4},
        "retraining": {"epochs": 1, "batch_size": 64, "stamped_share": 0.3},
        "strongest_left": {"restarts": 2, "steps": 3, "images_per_step": 8},
        "visualisation": {"samples_per_beta": 10, "perplexity": 5.0},
        "data": {"heldout_share": 0.3, "defender_share": 0.5},
    },
}


# Of the defences of others; the papers', or their authors' code where a paper does not say.
_PAPERS: dict[str, dict[str, Any]] = {
    "neural_cleanse": {"epochs": 1, "batch_size": 128, "learning_rate": 1e-3},
    "fine_pruning": {"batch_size": 128, "learning_rate": 1e-3},
    "ft_sam": {"epochs": 100, "batch_size": 128, "learning_rate": 0.01, "weight_decay": 1e-4},
    "i_bau": {"batch_size": 100, "perturbed_share": 0.01, "radius": 10.0, "fixed_point_rate": 0.1},
}

GRIDS: dict[str, dict[str, Any]] = {
    # Two stairs, briefly trained: a grid trains them for every attack and seed.
    "demo": {"betas": (0.9, TOP), "samples": 300, "flow": {"steps": 300}},
    "paper": _PAPERS,
    "tiny": {
        "seeds": 1,
        "samples": 20,
        "neural_cleanse": {"mask_steps": 20, "mask_images_per_step": 4, "epochs": 1},
        "fine_pruning": {"epochs": 1},
        "ft_sam": {"epochs": 1},
        "i_bau": {"rounds": 1},
    },
}
"""What a profile sets besides where attacks are set against defences."""

_ONCE_IN_A_GRID: dict[str, type[Settings]] = {"pixel_sgd": PixelDescentSettings, "retraining": StampingSettings}
"""Of these a grid takes no restarts and no rounds: each of its cells is one search and one retraining."""

SWEPT: dict[str, dict[str, Any]] = {"paper": {"methods": METHODS}}
"""What a profile sets besides where many triggers are planted: the published table has the control from elsewhere."""

_ALL_IN_ONE = {"betas_per_task": 1000, "methods_per_task": 1000}

CLUSTER_PACKING = {"tiny": _ALL_IN_ONE, "demo": _ALL_IN_ONE, "cpu": _ALL_IN_ONE, "paper": {"methods_per_task": 3}}
"""What `submit` packs unless it is told otherwise: on a cluster a task costs two pods and half a minute."""


def config_for(profile: str, changes: Mapping[str, Any], kind: type[Config]) -> Config:
    """The configuration of `profile` with `changes`, nested like the configuration, laid over it.

    Raises UserError when a value is wrong, when there is no such profile or architecture, or when `changes` give a
    classifier without saying which data it is for.
    """
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    if changes.get("weights") and not changes.get("dataset"):
        raise UserError("--weights needs --dataset: the data that the given classifier is for")
    swept = SWEPT.get(profile, {}) if issubclass(kind, SweepConfig) else {}
    ready_made = {"classifier": {"architecture": AS_IN_FILE}} if changes.get("weights") else {}
    config = kind.of(laid_over(laid_over(laid_over(PROFILES[profile], swept), ready_made), changes))
    if config.weights is None or config.classifier.architecture != AS_IN_FILE:
        check_architecture(config.classifier.architecture)
    return config


def references_config(profile: str | None, changes: Mapping[str, Any], kind: type[References]) -> References:
    """What of `profile`, where there is one, concerns data, classifier and clean training, with `changes` laid over it.

    Raises UserError as `config_for` does.
    """
    config = kind.of(laid_over(_part_of(profile, set(ReferencesConfig.model_fields)), changes))
    check_architecture(config.classifier.architecture)
    return config


def defence_config(profile: str | None, changes: Mapping[str, Any], kind: type[Defence]) -> Defence:
    """The same for a defence: what concerns data, flows, retraining and search; what it is the model says itself."""
    return kind.of(laid_over(_part_of(profile, set(DefendConfig.model_fields) - {"classifier"}), changes))


def grid_config(profile: str | None, changes: Mapping[str, Any], kind: type[Grid]) -> Grid:
    """The same for a grid of attacks by defences."""
    part = laid_over(_part_of(profile, set(GridConfig.model_fields) - {"methods"}), GRIDS.get(profile or "", {}))
    for name, single in _ONCE_IN_A_GRID.items():
        part[name] = {key: value for key, value in part.get(name, {}).items() if key in single.model_fields}
    config = kind.of(laid_over(part, changes))
    check_architecture(config.classifier.architecture)
    return config


def _part_of(profile: str | None, names: set[str]) -> dict[str, Any]:
    if profile is None:
        return {}
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    return {name: value for name, value in PROFILES[profile].items() if name in names}


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, nested mappings merged name by name; one with another `name` takes nothing from below."""
    merged = dict(below)
    for name, value in above.items():
        lower = merged.get(name)
        merged[name] = laid_over(lower, value) if _same_part(lower, value) else value
    return merged


def _same_part(lower: Any, upper: Any) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(lower, Mapping) or not isinstance(upper, Mapping):
        return False
    return "name" not in lower or lower["name"] == upper.get("name", lower["name"])
