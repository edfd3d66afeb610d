"""From a configuration to the parameters of the DAGs over models of others."""

from __future__ import annotations

from typing import Any

from untrigger.references import reference_names
from untrigger.settings.base import Settings
from untrigger.settings.defences import DefendConfig
from untrigger.settings.model_runs import DefendRunConfig, ReferencesRunConfig, ScanRunConfig
from untrigger.settings.plans import batched, joined, lines
from untrigger.settings.scans import ScanConfig


def of_models(config: ScanRunConfig | ReferencesRunConfig | DefendRunConfig) -> dict[str, Any]:
    """The parameters beside `config` and `tracking`."""
    values = config.record()

    def told(*names: str) -> dict[str, Any]:
        return {name: values[name] for name in names}

    # Nothing is planted that would have to fit the data.
    anything = {"patch_sizes": [], "target_class": 0, "search_images": "all", "generator_batch_size": 0}
    prepared = {"prepare_data_task": {**told("dataset", "data", "seed"), **anything}}
    if isinstance(config, ReferencesRunConfig):
        numbers = batched(range(1, config.count + 1), config.references_per_task)
        return {
            **prepared,
            "reference_plan": [joined(each) for each in numbers],
            "reference_training_task": told("classifier", "training", "scan", "seed"),
        }
    references, scan = config.references or "", told("dataset", "scan", "seed")
    scanned = {
        **prepared,
        "model_plan": [lines(models) for models in config.model_plan()],
        "model_scan_task": {**scan, **told("classifier")},
        "reference_plan": _reference_plan(config) if config.scans else [""],
        "reference_scan_task": {**scan, "references": references},
        "scan_config": part_of(config, ScanConfig),
    }
    if isinstance(config, ScanRunConfig):
        return scanned
    own = {"model": config.model, "references": references, "config": part_of(config, DefendConfig)}
    return {**scanned, "defence_task": own}


def _reference_plan(config: ScanRunConfig | DefendRunConfig) -> list[str]:
    """The references of each task by name; of none a task that has nothing to do, as KFP's loops want an item."""
    if config.references is None:
        return [""]
    return [lines(each) for each in batched(reference_names(config.references), config.references_per_task)]


def part_of(config: Settings, kind: type[Settings]) -> dict[str, Any]:
    """The settings of `config` that a part of the run of this kind has."""
    return {name: value for name, value in config.record().items() if name in kind.model_fields}
