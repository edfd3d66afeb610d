"""From a configuration to the compiled DAG that runs it, and to that DAG's parameters."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from untrigger.grids.backdoors import check_names, clean_seed
from untrigger.pipelines.model_arguments import of_models, part_of
from untrigger.settings.attacks import ATTACKS
from untrigger.settings.grids import GridConfig, GridRunConfig
from untrigger.settings.methods import ElsewhereSearch
from untrigger.settings.pipelines import CONFIGS, RunConfig, pipeline_of
from untrigger.settings.plans import ELSEWHERE, joined
from untrigger.settings.runs import CommonConfig, DefenseConfig, SweepConfig
from untrigger.settings.tracked import TrackedAs

COMPILED = {name: Path(__file__).with_name(f"{name}.yaml") for name in CONFIGS}
"""The compiled DAGs by name, which is what runs: locally, in containers, on a cluster."""

LOOPS = {
    "beta_plan": ("generator_training",),
    "retraining_plan": ("retraining",),
    "model_plan": ("model_scan",),
    "reference_plan": ("reference_scan", "reference_training"),
    "backdoor_plan": ("grid_planting",),
    "method_plan": ("grid_cells",),
}
"""The parameters that loops run over, and the stages inside."""

NOT_OF_CELLS = {
    *("attacks", "seeds", "methods", "trigger"),
    *("dataset", "data", "classifier", "training", "poisoning"),
}
"""The settings of a grid that its cells are told otherwise, or have from the backdoor that they are about."""


def compiled_for(config: RunConfig) -> Path:
    """The compiled DAG that takes `pipeline_arguments(config)`."""
    return COMPILED[pipeline_of(config)]


def pipeline_arguments(config: RunConfig, tracking: TrackedAs | None = None) -> dict[str, Any]:
    """The parameters of the DAG: each stage is told what it uses, so that a change of anything else spares it."""
    if isinstance(config, DefenseConfig | SweepConfig):
        told = _of_planted(config)
    else:
        told = _of_grid(config) if isinstance(config, GridRunConfig) else of_models(config)
    return {"config": config.record(), "tracking": (tracking or TrackedAs()).record(), **told}


def _of_planted(config: DefenseConfig | SweepConfig) -> dict[str, Any]:
    """The parameters of a run that plants triggers."""
    values = config.record()
    seeds = range(config.retraining_seeds)
    settings = {
        **values,
        "weights": config.weights or "",
        "patch_sizes": _patch_sizes(config),
        "generator_batch_size": config.generator.batch_size if config.generator.family == "mine" else 0,
        "trigger_size": [config.trigger_height, config.trigger_width],
        "seeds": list(seeds),
        "flow": values["flow"] if config.generator.family == "flow" else {},
        "strongest_left": values["strongest_left"] if config.retraining.rounds > 1 else {},
        "elsewhere": _search_elsewhere(config),
    }

    def told(*names: str) -> dict[str, Any]:
        return {name: settings[name] for name in names}

    arguments = {
        "prepare_data_task": {
            **told("dataset", "data", "patch_sizes", "target_class", "search_images", "generator_batch_size", "seed"),
            **config.attack.model_dump(include={"source_class"}, exclude_none=True),
        },
        "clean_training_task": told("classifier", "training", "weights", "seed"),
        "poison_training_task": told("attack", "poisoning", "target_class", "seed"),
        "pixel_sgd_task": told("pixel_sgd", "target_class", "search_images", "trigger_size", "seed"),
        "beta_plan": [joined(betas) for betas in config.beta_plan()],
        "generator_training_task": told("generator", "flow", "target_class", "search_images", "trigger_size", "seed"),
        "gammas": _gammas_by_rising_beta(config),
        "visualisation_task": told("attack", "visualisation", "seed"),
        "retraining_plan": [{"method": joined(methods), "seeds": joined(seeds)} for methods in config.method_plan()],
        "retraining_task": told("retraining", "strongest_left", "target_class", "seed"),
        "ideal_retraining_task": told(
            "seeds", "attack", "retraining", "strongest_left", "elsewhere", "target_class", "seed"
        ),
    }
    if isinstance(config, SweepConfig):
        # Without the list of triggers: a longer list changes nothing for those that it had before.
        per_trigger = {name: value for name, value in values.items() if name not in ("triggers", "panels")}
        return {**arguments, "triggers": list(config.triggers), "config_per_trigger": per_trigger}
    return {**arguments, "trigger": config.trigger}


def _of_grid(config: GridRunConfig) -> dict[str, Any]:
    """The parameters of a grid; UserError when there is no attack or no method of a name."""
    check_names(config)
    values = config.record()

    def told(*names: str) -> dict[str, Any]:
        return {name: values[name] for name in names}

    prepared = {"patch_sizes": _patch_sizes(config), "search_images": "other_classes", "generator_batch_size": 0}
    backdoors = itertools.product(config.attacks, range(config.seeds))
    of_cells = {name: value for name, value in part_of(config, GridConfig).items() if name not in NOT_OF_CELLS}
    return {
        "prepare_data_task": {**told("dataset", "data", "target_class", "seed"), **prepared},
        "clean_training_task": {**told("classifier", "training"), "weights": "", "seed": clean_seed(config)},
        "backdoor_plan": [{"attack": attack, "seed": str(seed)} for attack, seed in backdoors],
        "grid_planting_task": {**told("trigger"), "config": told("poisoning", "target_class", "seed", *ATTACKS)},
        "method_plan": [joined(methods) for methods in config.method_plan()],
        "grid_cells_task": {**told("trigger"), "config": of_cells},
        "grid_config": part_of(config, GridConfig),
    }


def _patch_sizes(config: DefenseConfig | SweepConfig | GridRunConfig) -> list[list[int]]:
    """The sizes that must fit the images; not the triggers: a longer list of them leaves the prepared data as it is."""
    from untrigger.attacks.registry import build_attack
    from untrigger.triggers import read_trigger

    attack = config.patch if isinstance(config, GridRunConfig) else config.attack
    triggers = map(read_trigger, config.planted())
    planted = {tuple(each.shape[-2:]) for each in triggers if build_attack(attack, each).is_patch}
    return [list(size) for size in sorted(planted | {(config.trigger_height, config.trigger_width)})]


def _search_elsewhere(config: CommonConfig) -> dict[str, Any]:
    """What that control is told, nothing where it is not wanted."""
    if ELSEWHERE not in config.methods:
        return {}
    search = ElsewhereSearch(
        chain=config.elsewhere.chain,
        poisoning=config.poisoning,
        pixel_sgd=config.pixel_sgd,
        search_images=config.search_images,
        trigger_size=(config.trigger_height, config.trigger_width),
    )
    return search.record()


def _gammas_by_rising_beta(config: CommonConfig) -> list[float]:
    """The weights in the order of the staircase, whatever the order in which the betas were given."""
    if config.gammas is None:
        return []
    return [gamma for _, gamma in sorted(zip(config.betas, config.gammas, strict=True))]
