"""Ideal retraining: the control that is handed the true trigger, which no defender has."""

from __future__ import annotations

from untrigger.settings.methods import RetrainingSettings
from untrigger.settings.plans import Seeds
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.retraining_runs import retrain_per_seed
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.triggers import always, load_triggers


@stage("ideal_retraining")
def run(
    log: Log,
    *,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    true_trigger: InFolder,
    retrained: OutFolder,
    seeds: Seeds,
    retraining: RetrainingSettings,
    target_class: int,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Retrain with the true trigger for each of `seeds`."""
    trigger = always(load_triggers(true_trigger)[0])
    retrain_per_seed(
        log,
        lambda _: trigger,
        method="ideal",
        seeds=seeds,
        backdoored_classifier=backdoored_classifier,
        defender_data=defender_data,
        retrained=retrained,
        retraining=retraining,
        target_class=target_class,
        seed=seed,
        snapshots=snapshots,
    )
