"""What both retraining stages do: one retraining per seed, with curves, each classifier saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.classifiers import Classifier, frozen, load_classifier, save_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.errors import UserError
from untrigger.metrics import predict_attacked, predict_stamped
from untrigger.networks.devices import device
from untrigger.retraining import OnRound, RetrainingRecord, Search, goes_in_rounds, retrain_in_rounds, search_of_run
from untrigger.seeding import derived_rng, forked
from untrigger.settings.methods import RetrainingSettings, StrongestLeftSettings
from untrigger.snapshots import Snapshot
from untrigger.stages.kept_snapshots import Snapshots
from untrigger.stages.log import Log
from untrigger.tracking.records import TrackedRun
from untrigger.training import OnEpoch
from untrigger.triggers import TriggerSource, always

SourceOf = Callable[[int], TriggerSource | Attack | None]
"""What a method stamps for a seed, an attack by its own function; None for plain fine-tuning, and untrained."""


def run_name(method: str, number: int) -> str:
    """The name of one retraining in MLflow."""
    return f"retraining method={method} seed={number}"


def folders_of(retrained: Path) -> list[Path]:
    """The folder of each method that a retraining task ran: `retrained` itself where it was one."""
    return [retrained] if (retrained / RetrainingRecord.FILE).exists() else sorted(retrained.iterdir())


def of_restart(method: str, triggers: Tensor, number: int) -> TriggerSource:
    """The source that gives the reversed trigger whose restart has the number of the seed.

    triggers: float (restarts, 3, th, tw) in [0, 1]. UserError when there are not as many restarts.
    """
    if number >= len(triggers):
        raise UserError(f"{method} with seed {number} needs at least {number + 1} restarts, got {len(triggers)}")
    return always(triggers[number])


def retrain_per_seed(
    log: Log,
    sources: Mapping[str, SourceOf],
    *,
    seeds: tuple[int, ...],
    backdoored_classifier: Path,
    defender_data: Path,
    retrained: Path,
    retraining: RetrainingSettings,
    strongest_left: StrongestLeftSettings,
    trigger_size: tuple[int, int],
    target_class: int,
    seed: int,
    snapshots: Snapshots,
) -> None:
    """Retrain with each method in `sources`, once per number in `seeds`, with the triggers of its source.

    The number seeds the order of the images, which are stamped, where, and with which samples: all but the last alike
    for all methods. Where triggers are stamped, `retraining.rounds` above 1 search for the strongest triggers of
    `trigger_size` after each round. Writes `seed-N/classifier.*` per number, and `retraining.json` with the curves:
    into `retrained`, or of several methods into a folder each below it.
    """
    data = load_images(defender_data).to(device())
    made = _Retraining(
        log,
        load_classifier(backdoored_classifier, device()),
        data,
        search_of_run(data, strongest_left, target_class, trigger_size, seed),
        seeds,
        retraining,
        target_class,
        seed,
        snapshots,
    )
    for method, source in sources.items():
        made.with_method(method, source, retrained if len(sources) == 1 else retrained / method)


@dataclass(frozen=True)
class _Retraining:
    """What the retrainings of a stage have in common."""

    log: Log
    classifier: Classifier
    data: ImageData
    search: Search
    seeds: tuple[int, ...]
    settings: RetrainingSettings
    target_class: int
    seed: int
    snapshots: Snapshots

    def with_method(self, method: str, source: SourceOf, folder: Path) -> None:
        """All seeds of one method, written into `folder`."""
        curves: dict[int, list[dict[str, float]]] = {number: [] for number in self.seeds}
        strongest: dict[int, list[float]] = {number: [] for number in self.seeds}
        for done, number in enumerate(self.seeds):
            result = self._once(method, source(number), number, done, curves[number], strongest[number])
            save_classifier(result, folder / f"seed-{number}")
        found = strongest if any(strongest.values()) else None
        RetrainingRecord.of({"method": method, "seeds": self.seeds, "curves": curves, "strongest_F": found}).save(
            folder
        )

    def _once(
        self,
        method: str,
        triggers: TriggerSource | Attack | None,
        number: int,
        done: int,
        curve: list[dict[str, float]],
        strongest: list[float],
    ) -> Classifier:
        """One retraining, after `done` of the method's seeds; fills in its curve and what each round left."""
        rounds, epochs = self.settings.rounds if goes_in_rounds(triggers) else 1, self.settings.epochs
        with self.log.run(run_name(method, number), method=method, seed=number) as tracked:
            before, total = done * rounds, len(self.seeds) * rounds
            on_epoch = self.log.epochs(tracked, epochs * total, curve, before=epochs * before, part=f"seed {number}")
            result = self.classifier
            if method != "none":
                result = retrain_in_rounds(
                    self.classifier,
                    self.data.images,
                    self.data.labels,
                    triggers,
                    self.settings,
                    self.search,
                    rng=derived_rng(self.seed, "retraining", number),
                    on_epoch=on_epoch,
                    on_round=_on_round(self.log, tracked, strongest, before, total),
                    snapshot=partial(_of_round, self.snapshots, f"{method}-{number}", curve, on_epoch, self.settings),
                )
            if triggers is not None:
                rng = derived_rng(self.seed, "own", number)
                share = _still_sent(result, self.data, triggers, self.target_class, rng)
                tracked.metrics({"own_trigger_success_rate": share}, len(curve))
        return result


def _of_round(
    snapshots: Snapshots,
    name: str,
    curve: list[dict[str, float]],
    on_epoch: OnEpoch,
    retraining: RetrainingSettings,
    number: int,
) -> Snapshot:
    """The snapshot of one round of the retraining called `name`."""
    return snapshots.of_curve(f"{name}-round-{number}", curve, on_epoch, before=(number - 1) * retraining.epochs)


def _on_round(log: Log, tracked: TrackedRun, found: list[float], before: int, total: int) -> OnRound:
    """Notes down what was found after each round; `before` of the `total` rounds of the stage are those of others."""

    def on_round(number: int, strongest_F: float) -> None:
        found.append(strongest_F)
        tracked.metrics({"strongest_F": strongest_F}, number)
        log.reporter.step("round", before + number, total, f"F of the strongest trigger left {strongest_F:.3f}")

    return on_round


def _still_sent(
    classifier: Classifier,
    data: ImageData,
    triggers: TriggerSource | Attack,
    target_class: int,
    rng: torch.Generator,
) -> float:
    """Share of the defender's images of other classes that the method's own triggers still send to the target."""
    images = data.images[data.labels != target_class]
    fixed, (trigger_rng, place_rng) = frozen(classifier, images), forked(rng, "triggers", "places")
    if isinstance(triggers, Attack):
        answers = predict_attacked(fixed, images, triggers, place_rng).argmax(1)
    else:
        answers = predict_stamped(fixed, images, triggers(len(images), trigger_rng), place_rng).argmax(1)
    return (answers == target_class).double().mean().item()
