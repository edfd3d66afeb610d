"""Single triggers: the baseline, pixel SGD, reverses one per restart."""

from __future__ import annotations

from untrigger.classifiers import frozen, load_classifier
from untrigger.datasets.images import load_images
from untrigger.metrics import testing_function
from untrigger.networks.devices import device
from untrigger.pixel_sgd import ReversedMeasurement, reverse_triggers
from untrigger.seeding import derived_rng
from untrigger.settings.methods import PixelSgdSettings, SearchImages
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.triggers import save_triggers


@stage("pixel_sgd")
def run(
    log: Log,
    *,
    backdoored_classifier: InFolder,
    defender_data: InFolder,
    reversed_triggers: OutFolder,
    pixel_sgd: PixelSgdSettings,
    target_class: int,
    search_images: SearchImages,
    trigger_size: tuple[int, int],
    seed: int,
    label: str,
    snapshots: Snapshots,
) -> None:
    """Write the reversed triggers, their loss per step, and their F and attack success rate on the defender's data.

    The restarts of each `label`, one per trigger of a sweep, are independent of those of the others: else the triggers
    would be no independent repetitions.
    """
    classifier = load_classifier(backdoored_classifier, device())
    data = load_images(defender_data).to(device()).for_search(target_class, search_images)
    losses: list[list[float]] = []
    purpose = ("pixel SGD", label) if label else ("pixel SGD",)
    with log.run() as tracked:

        def on_restart(restart: int, loss: list[float]) -> None:
            losses.append(loss)
            tracked.metrics({"loss": loss[-1]}, restart)
            log.reporter.step("restart", restart, pixel_sgd.restarts, f"loss {loss[-1]:.3f}")

        def recall(kept: list[list[float]]) -> None:
            for restart, loss in enumerate(kept, start=1):
                on_restart(restart, loss)

        triggers = reverse_triggers(
            classifier,
            data.images,
            target_class,
            trigger_size,
            pixel_sgd,
            rng=derived_rng(seed, *purpose),
            on_restart=on_restart,
            snapshot=snapshots.of("search", lambda: list(losses), recall),
        )
        strengths, successes = testing_function(
            frozen(classifier, data.images),
            data.images,
            data.labels,
            triggers,
            target_class,
            derived_rng(seed, "pixel SGD", "measurement"),
        )
        for restart, (strength, success) in enumerate(zip(strengths.tolist(), successes.tolist(), strict=True), 1):
            tracked.metrics({"F": strength, "attack_success_rate": success}, restart)
        save_triggers(triggers, reversed_triggers)
        ReversedMeasurement.of(
            {"F": strengths.tolist(), "attack_success_rate": successes.tolist(), "losses": losses}
        ).save(reversed_triggers)
