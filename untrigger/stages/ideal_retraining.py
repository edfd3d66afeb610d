"""Ideal retraining: the controls that are handed the true trigger, which no defender has."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import BeforeValidator
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.attacks.registry import build_attack
from untrigger.settings.attacks import DEFAULT_ATTACK, AttackSettings, ChosenAttack, PatchSettings
from untrigger.settings.methods import ElsewhereSearch, RetrainingSettings, StrongestLeftSettings
from untrigger.settings.plans import ELSEWHERE, Seeds
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.retraining_runs import SourceOf, of_restart, retrain_per_seed
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.stages.triggers_elsewhere import triggers_elsewhere
from untrigger.triggers import TriggerSource, always, load_triggers

Wanted = Annotated[ElsewhereSearch | None, BeforeValidator(lambda given: given or None)]
"""None where nothing is given: KFP knows no null."""


@stage("ideal_retraining")
def run(
    log: Log,
    *,
    training_data: InFolder,
    clean_classifier: InFolder,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    true_trigger: InFolder,
    retrained: OutFolder,
    seeds: Seeds,
    attack: ChosenAttack = DEFAULT_ATTACK,
    retraining: RetrainingSettings,
    strongest_left: StrongestLeftSettings,
    elsewhere: Wanted,
    target_class: int,
    seed: int,
    label: str,
    snapshots: Snapshots,
) -> None:
    """Retrain with the attack's own stamps for each of `seeds`, and with triggers reversed `elsewhere` where wanted.

    Seed i takes restart i of these; in rounds, triggers of the true one's size are searched for, unless the attack
    stamps by its own function: that has one round. Training data and clean classifier serve nothing else. With both
    controls each has a folder below `retrained`.
    """
    trigger = load_triggers(true_trigger)[0]
    sources: dict[str, SourceOf] = {"ideal": lambda _: _own_stamps(attack, trigger)}
    if elsewhere is not None:
        found = triggers_elsewhere(
            log,
            trigger,
            elsewhere,
            training_data=training_data,
            clean_classifier=clean_classifier,
            backdoored_classifier=backdoored_classifier,
            defender_data=defender_data,
            target_class=target_class,
            seed=seed,
            label=label,
            snapshots=snapshots,
        )
        sources[ELSEWHERE] = partial(of_restart, ELSEWHERE, found)
    retrain_per_seed(
        log,
        sources,
        seeds=seeds,
        backdoored_classifier=backdoored_classifier,
        defender_data=defender_data,
        retrained=retrained,
        retraining=retraining,
        strongest_left=strongest_left,
        trigger_size=(trigger.shape[1], trigger.shape[2]),
        target_class=target_class,
        seed=seed,
        snapshots=snapshots,
    )


def _own_stamps(attack: AttackSettings, trigger: Tensor) -> TriggerSource | Attack:
    """What the attack stamps: where it is patches at random places their trigger, beside which rounds stamp others."""
    if isinstance(attack, PatchSettings) and attack.place == "random":
        return always(trigger)
    return build_attack(attack, trigger)
