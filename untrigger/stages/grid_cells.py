"""Grid cells: methods of defence set against one backdoor, each closed and measured."""

from __future__ import annotations

from typing import Any

from untrigger.artifacts import write_json
from untrigger.classifiers import load_classifier
from untrigger.datasets.images import load_images
from untrigger.grids.backdoors import Backdoor
from untrigger.grids.methods import find_method
from untrigger.networks.devices import device
from untrigger.reports.grids import Planted
from untrigger.settings.grids import GridConfig
from untrigger.settings.plans import Methods
from untrigger.stages.log import Log
from untrigger.stages.reuse import TriggerName
from untrigger.stages.stage import InFolder, OutFolder, stage


@stage("grid_cells")
def run(
    log: Log,
    *,
    backdoored: InFolder,
    defender_data: InFolder,
    evaluation_data: InFolder,
    cells: OutFolder,
    attack: str,
    seed: int,
    methods: Methods,
    trigger: TriggerName,
    config: dict[str, Any],
) -> None:
    """Write what each of `methods` leaves (Cell) into a folder of its own; nothing where nothing was planted.

    attack, seed: which backdoor of the grid. config: what of its settings cells depend on (GridConfig).
    """
    write_json(cells / "cells.json", {"methods": list(methods)})
    settings = GridConfig.of({**config, "trigger": trigger})
    defender, evaluation = (load_images(folder).to(device()) for folder in (defender_data, evaluation_data))
    backdoor = Backdoor.of(settings, attack, seed, len(defender.class_names))
    for number, name in enumerate(methods, 1):
        method = find_method(name, settings)
        if backdoor.is_for(method, Planted.load(backdoored)):
            with log.run(backdoor.run_name(method), method=name) as tracked:
                tracked.parameters(method.told)
                cell = backdoor.left_by(method, load_classifier(backdoored, device()), defender, evaluation)
                cell.save(cells / backdoor.part(name))
                tracked.metrics(cell.metrics)
        log.reporter.step("method", number, len(methods), name)
