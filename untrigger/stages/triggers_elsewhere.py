"""Triggers from elsewhere: the part of the controls that makes another model and reverses its triggers."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from untrigger.classifiers import frozen, load_classifier
from untrigger.datasets.images import load_images
from untrigger.elsewhere import reverse_elsewhere
from untrigger.metrics import testing_function
from untrigger.networks.devices import device
from untrigger.seeding import derived_rng
from untrigger.settings.methods import ElsewhereSearch
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log


def triggers_elsewhere(
    log: Log,
    trigger: Tensor,
    search: ElsewhereSearch,
    *,
    training_data: Path,
    clean_classifier: Path,
    backdoored_classifier: Path,
    defender_data: Path,
    target_class: int,
    seed: int,
    label: str,
    snapshots: Snapshots,
) -> Tensor:
    """The triggers of `reverse_elsewhere`, float (restarts, 3, height, width) in [0, 1], on the CPU.

    Those of each `label`, one per trigger of a sweep, are independent of those of the others. Tracks the
    attack success rate of each on the defender's data, on that other model and on the one that is defended.
    """
    training, defender = (load_images(folder).to(device()) for folder in (training_data, defender_data))
    clean, suspect = (load_classifier(folder, device()) for folder in (clean_classifier, backdoored_classifier))
    patterns = len(search.chain) + 1
    log.reporter.begin("pattern")
    with log.run("pixel SGD elsewhere") as tracked:
        triggers, other = reverse_elsewhere(
            clean,
            training,
            defender,
            trigger,
            target_class,
            search,
            rng=derived_rng(seed, "elsewhere", label),
            snapshot=lambda name: snapshots.of(f"elsewhere-{name}", lambda: None, lambda _: None),
            on_planted=lambda number: log.reporter.step("pattern", number, patterns, "planted elsewhere"),
        )
        for name, classifier in (("attack_success_rate_elsewhere", other), ("attack_success_rate", suspect)):
            fixed, rng = frozen(classifier, defender.images), derived_rng(seed, "elsewhere", "measurement")
            _, successes = testing_function(fixed, defender.images, defender.labels, triggers, target_class, rng)
            for restart, success in enumerate(successes.tolist(), 1):
                tracked.metrics({name: success}, restart)
    return triggers
