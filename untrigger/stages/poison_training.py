"""Poison training: plant the backdoor in a classifier."""

from __future__ import annotations

from untrigger.attacks.goals import goal_of
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import load_classifier, save_classifier
from untrigger.datasets.images import load_images
from untrigger.metrics import Rates, evaluate
from untrigger.networks.devices import device
from untrigger.poisoning import plant_backdoor
from untrigger.seeding import derived_rng
from untrigger.settings.attacks import DEFAULT_ATTACK, ChosenAttack, planted_name
from untrigger.settings.methods import PoisoningSettings
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.reuse import TriggerName
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.training import TrainingCurves
from untrigger.triggers import read_trigger, save_triggers

PLANTED = 0.5
"""Below this attack success rate a trigger counts as not planted."""


@stage("poison_training")
def run(
    log: Log,
    *,
    training_data: InFolder,
    evaluation_data: InFolder,
    clean_classifier: InFolder,
    backdoored_classifier: OutFolder,
    true_trigger: OutFolder,
    trigger: TriggerName,
    attack: ChosenAttack = DEFAULT_ATTACK,
    poisoning: PoisoningSettings,
    target_class: int,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Train the clean classifier on with poisoned images; the evaluation data serves the curves only.

    Writes the trigger (for the evaluation and the ideal control only, which make the attack of it), and the backdoored
    classifier with its curves: those of clean training and, per epoch of this stage, the loss and the rates on the
    evaluation data. With no epochs the given classifier is taken as it is, and only looked at.
    """
    picture = read_trigger(trigger)
    model = load_classifier(clean_classifier, device())
    planted, goal = build_attack(attack, picture), goal_of(attack, target_class, model.classes)
    held_out = load_images(evaluation_data).to(device())
    history: list[dict[str, float]] = []

    def measured() -> Rates:
        rng = derived_rng(seed, "curve")
        return evaluate(model, held_out.images, held_out.labels, planted, goal, rng)

    with log.run() as tracked:
        if poisoning.epochs:
            images = load_images(training_data).to(device())
            report = log.epochs(tracked, poisoning.epochs, history)

            def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
                rates = measured()
                found = {"clean_accuracy": rates.clean_accuracy, "attack_success_rate": rates.attack_success_rate}
                report(epoch, {**metrics, **found})

            plant_backdoor(
                model,
                images.images,
                images.labels,
                planted,
                goal,
                poisoning,
                rng=derived_rng(seed, "poisoning"),
                on_epoch=on_epoch,
                snapshot=snapshots.of_curve("training", history, report),
            )
        success = history[-1]["attack_success_rate"] if history else measured().attack_success_rate
        _warn_if_not_planted(log, planted_name(attack.name, trigger), success, given=not poisoning.epochs)
        save_classifier(model, backdoored_classifier)
        save_triggers(picture[None], true_trigger)
        clean = TrainingCurves.load(clean_classifier).clean
        TrainingCurves.of({"clean": clean, "poisoned": history}).save(backdoored_classifier)


def _warn_if_not_planted(log: Log, planted: str, success: float, given: bool) -> None:
    if success >= PLANTED:
        return
    remedy = "raise --poisoning.poisoned-share, --poisoning.epochs or --poisoning.learning-rate"
    if given:
        remedy = (
            "are --attack, --trigger, --target-class and --dataset those that the given classifier was attacked with?"
        )
    log.reporter.say(
        "warning",
        f"{planted} is hardly planted, it succeeds in {100 * success:.1f} % only: there is little to find or to close; "
        + remedy,
    )
