"""Poison training: train a classifier clean, then plant the backdoor in it."""

from __future__ import annotations

from typing import Any

from untrigger.artifacts import write_json
from untrigger.classifiers import new_classifier, save_classifier
from untrigger.datasets import load_images
from untrigger.metrics import evaluate
from untrigger.poisoning import plant_backdoor
from untrigger.seeding import derived_generator
from untrigger.settings import ClassifierSettings, CleanTrainingSettings, PoisoningSettings
from untrigger.stage import InFolder, Log, OutFolder, device, stage
from untrigger.training import train
from untrigger.triggers import read_trigger, save_triggers


@stage("poison training")
def run(
    log: Log,
    *,
    training_data: InFolder,
    evaluation_data: InFolder,
    backdoored_classifier: OutFolder,
    true_trigger: OutFolder,
    classifier: dict[str, Any],
    training: dict[str, Any],
    poisoning: dict[str, Any],
    target_class: int,
    seed: int,
) -> None:
    """Train clean, then poisoned; the evaluation data serves the curves only.

    Writes the trigger (for the evaluation and the ideal control only), and the backdoored classifier with the curves
    of both phases: loss, accuracy on the training batches, and in the second phase the rates on the evaluation data.
    """
    images = load_images(training_data).to(device())
    held_out = load_images(evaluation_data).to(device())
    attack = PoisoningSettings.of(poisoning)
    trigger = read_trigger(attack.trigger)
    model = new_classifier(
        ClassifierSettings.of(classifier),
        len(images.class_names),
        images.images,
        derived_generator(seed, "classifier"),
    )
    phases = CleanTrainingSettings.of(training)
    history: dict[str, list[dict[str, float]]] = {"clean": [], "poisoned": []}
    with log.run() as tracked:
        tracked.parameters({"precision": model.settings.precision})
        total = phases.epochs + attack.epochs
        report = log.epochs(tracked, total)

        def on_clean_epoch(epoch: int, metrics: dict[str, float]) -> None:
            history["clean"].append(metrics)
            report(epoch, metrics)

        def on_poisoned_epoch(epoch: int, metrics: dict[str, float]) -> None:
            rates = evaluate(
                model, held_out.images, held_out.labels, trigger, target_class, derived_generator(seed, "curve")
            )
            metrics = {**metrics, "clean_accuracy": rates.clean_accuracy}
            metrics["attack_success_rate"] = rates.attack_success_rate
            history["poisoned"].append(metrics)
            report(phases.epochs + epoch, metrics)

        train(
            model,
            images.images,
            images.labels,
            phases,
            generator=derived_generator(seed, "clean training"),
            on_epoch=on_clean_epoch,
        )
        plant_backdoor(
            model,
            images.images,
            images.labels,
            trigger,
            target_class,
            attack,
            generator=derived_generator(seed, "poisoning"),
            on_epoch=on_poisoned_epoch,
        )
        save_classifier(model, backdoored_classifier)
        save_triggers(trigger[None], true_trigger)
        write_json(backdoored_classifier / "curves.json", history)
