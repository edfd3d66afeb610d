"""How well is each attack planted, before any defence?"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from untrigger.attacks.goals import goal_of
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import frozen, new_classifier
from untrigger.datasets.sources import read_split
from untrigger.metrics import evaluate, predict
from untrigger.poisoning import plant_backdoor
from untrigger.profiles import config_for
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.attacks import attack_settings
from untrigger.settings.runs import DefenseConfig
from untrigger.training import train
from untrigger.triggers import read_trigger


def measure_attacks(profile: str, names: Sequence[str], changes: Mapping[str, Any]) -> None:
    """Plant each attack in a copy of one clean classifier; a JSON object per line, rates as fractions.

    `changes` are laid over the settings of each.
    """
    config = config_for(profile, {}, DefenseConfig)
    split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
    training, held_out = split.training, split.evaluation
    classes = len(training.class_names)
    clean = new_classifier(config.classifier, classes, training.images, derived_rng(config.seed, "classifier"))
    train(clean, training.images, training.labels, config.training, rng=derived_rng(config.seed, "training"))
    right = predict(frozen(clean, held_out.images), held_out.images).argmax(1) == held_out.labels
    accuracy = right.double().mean().item()
    for name in names:
        settings = attack_settings({"name": name, **changes})
        attack = build_attack(settings, read_trigger(config.trigger))
        goal, model = goal_of(settings, config.target_class, classes), copy.deepcopy(clean)
        started = time.monotonic()
        rng = derived_rng(config.seed, "poisoning")
        plant_backdoor(model, training.images, training.labels, attack, goal, config.poisoning, rng=rng)
        seconds = time.monotonic() - started
        rng = derived_rng(config.seed, "evaluation", 0)
        rates = evaluate(frozen(model, held_out.images), held_out.images, held_out.labels, attack, goal, rng)
        told = {"attack": name, "clean": accuracy, **rates.model_dump(), "seconds": round(seconds, 1)}
        print(json.dumps(told), flush=True)
