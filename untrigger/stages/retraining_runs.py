"""What both retraining stages do: one retraining per seed, with curves, each classifier saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from untrigger.classifiers import Classifier, frozen, load_classifier, save_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.metrics import predict_stamped
from untrigger.networks.devices import device
from untrigger.retraining import RetrainingRecord, retrain
from untrigger.seeding import derived_rng
from untrigger.settings.methods import RetrainingSettings
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.triggers import TriggerSource


def run_name(method: str, number: int) -> str:
    """The name of one retraining in MLflow."""
    return f"retraining method={method} seed={number}"


def folders_of(retrained: Path) -> list[Path]:
    """The folder of each method that a retraining task ran: `retrained` itself where it was one."""
    return [retrained] if (retrained / RetrainingRecord.FILE).exists() else sorted(retrained.iterdir())


def retrain_per_seed(
    log: Log,
    source: Callable[[int], TriggerSource | None],
    *,
    method: str,
    seeds: tuple[int, ...],
    backdoored_classifier: Path,
    defender_data: Path,
    retrained: Path,
    retraining: RetrainingSettings,
    target_class: int,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Retrain once per number in `seeds` with the triggers of `source(number)`.

    The number seeds the order of the images, which are stamped, where, and with which samples. Writes
    `seed-N/classifier.*` per number, and `retraining.json` with the curves.
    """
    classifier = load_classifier(backdoored_classifier, device())
    data = load_images(defender_data).to(device())
    curves: dict[int, list[dict[str, float]]] = {}
    for done, number in enumerate(seeds):
        triggers = source(number)
        curve = curves.setdefault(number, [])
        with log.run(run_name(method, number), method=method, seed=number) as tracked:
            on_epoch = log.epochs(
                tracked,
                retraining.epochs * len(seeds),
                curve,
                before=retraining.epochs * done,
                part=f"seed {number}",
            )
            result = classifier
            if method != "none":
                rng = derived_rng(seed, "retraining", number)
                result = retrain(
                    classifier,
                    data.images,
                    data.labels,
                    triggers,
                    retraining,
                    rng=rng,
                    on_epoch=on_epoch,
                    snapshot=snapshots.of_curve(f"{method}-{number}", curve, on_epoch),
                )
            if triggers is not None:
                rng = derived_rng(seed, "own", number)
                share = _still_sent(result, data, triggers, target_class, rng)
                tracked.metrics({"own_trigger_success_rate": share}, retraining.epochs)
        save_classifier(result, retrained / f"seed-{number}")
    RetrainingRecord.of({"method": method, "seeds": seeds, "curves": curves}).save(retrained)


def _still_sent(
    classifier: Classifier, data: ImageData, triggers: TriggerSource, target_class: int, rng: torch.Generator
) -> float:
    """Share of the defender's images of other classes that the method's own triggers still send to the target."""
    images = data.images[data.labels != target_class]
    answers = predict_stamped(frozen(classifier, images), images, triggers(len(images), rng), rng).argmax(1)
    return (answers == target_class).double().mean().item()
