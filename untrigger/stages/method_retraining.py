"""Method retraining: methods of defence, each once per seed. It is never handed the true trigger."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from untrigger.errors import UserError
from untrigger.settings.methods import RetrainingSettings, StrongestLeftSettings
from untrigger.settings.plans import Methods, Seeds, beta_of
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.retraining_runs import of_restart, retrain_per_seed
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.staircase import Staircase, load_staircase
from untrigger.triggers import TriggerSource, load_triggers


@stage("retraining")
def run(
    log: Log,
    *,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    trigger_staircase: InFolder,
    reversed_triggers: InFolder,
    retrained: OutFolder,
    method: Methods,
    seeds: Seeds,
    retraining: RetrainingSettings,
    strongest_left: StrongestLeftSettings,
    target_class: int,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Retrain with each of the methods in `method` for each of `seeds`; several get a folder each below `retrained`.

    Methods: `none` keeps the classifier as it is; `fine_tune` stamps nothing; `single_trigger` stamps the reversed
    trigger whose restart has the number of the seed; `beta=B` samples one stair; `ensemble` samples the staircase. Of
    flows only triggers that passed F >= beta are stamped.
    """
    staircase, single = load_staircase(trigger_staircase, valid=True), load_triggers(reversed_triggers)
    retrain_per_seed(
        log,
        {name: partial(_source, name, single, staircase) for name in method},
        seeds=seeds,
        backdoored_classifier=backdoored_classifier,
        defender_data=defender_data,
        retrained=retrained,
        retraining=retraining,
        strongest_left=strongest_left,
        trigger_size=(single.shape[2], single.shape[3]),
        target_class=target_class,
        seed=seed,
        snapshots=snapshots,
    )


def _source(method: str, single: Tensor, staircase: Staircase, number: int) -> TriggerSource | None:
    """What `method` stamps for the seed `number`."""
    if method in ("none", "fine_tune"):
        return None
    if method == "single_trigger":
        return of_restart(method, single, number)
    return _samples(method, staircase)


def _samples(method: str, staircase: Staircase) -> TriggerSource:
    if method == "ensemble":
        return staircase.sample
    if (beta := beta_of(method)) is not None:
        return staircase.generator_of(beta).sample
    raise UserError(f"unknown retraining method {method!r}")
