"""Grid planting: one backdoor of a grid of attacks by defences."""

from __future__ import annotations

from typing import Any

from untrigger.classifiers import load_classifier, save_classifier
from untrigger.datasets.images import load_images
from untrigger.grids.backdoors import Backdoor
from untrigger.networks.devices import device
from untrigger.settings.grids import GridConfig
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.reuse import TriggerName
from untrigger.stages.stage import InFolder, OutFolder, stage


@stage("grid_planting")
def run(
    log: Log,
    *,
    training_data: InFolder,
    evaluation_data: InFolder,
    clean_classifier: InFolder,
    backdoored: OutFolder,
    attack: str,
    seed: int,
    trigger: TriggerName,
    config: dict[str, Any],
    snapshots: Snapshots,
) -> None:
    """Write the backdoored classifier, and beside it what was planted (Planted).

    attack, seed: which backdoor of the grid. config: what of its settings plantings depend on (GridConfig).
    """
    settings = GridConfig.of({**config, "trigger": trigger})
    clean = load_classifier(clean_classifier, device())
    training, evaluation = (load_images(folder).to(device()) for folder in (training_data, evaluation_data))
    backdoor = Backdoor.of(settings, attack, seed, clean.classes)
    history: list[dict[str, float]] = []
    with log.run() as tracked:
        on_epoch = log.epochs(tracked, settings.poisoning.epochs, history)
        snapshot = snapshots.of_curve("training", history, on_epoch)
        model, planted = backdoor.planted(clean, training, evaluation, on_epoch=on_epoch, snapshot=snapshot)
        save_classifier(model, backdoored)
        planted.save(backdoored)
        tracked.metrics(planted.before.model_dump())
