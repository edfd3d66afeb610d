"""The defence where nobody knows the trigger: the distribution of what opens a classifier, and retraining in rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from untrigger.classifiers import Classifier, frozen
from untrigger.datasets.images import ImageData
from untrigger.fidelity import handed_on, judged_samples
from untrigger.flow_training import train_flows
from untrigger.judge import Judge, judge_of_run
from untrigger.metrics import evaluate
from untrigger.retraining import Search, retrain_in_rounds, search_of_run
from untrigger.scanning import OnWork
from untrigger.seeding import derived_rng
from untrigger.settings.base import Sparse
from untrigger.settings.defences import DefenceSettings, StaircaseSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.staircase import Staircase, ValidTriggers, build_staircase
from untrigger.strongest_triggers import FoundTriggers
from untrigger.trigger_parts import find_parts

OfTraining = Callable[[str], Snapshot]
"""The snapshot of a training, by its name."""


class Opened(Sparse):
    """How a classifier answers images that nothing was searched on or trained with.

    accuracy: on clean images. strongest: share of the images of other classes that the strongest trigger found sends to
    the target class; floor: share of them that goes there without any. strongest_F: F of that trigger on the images
    searched on. Where nothing was searched for only the accuracy is known.
    """

    accuracy: float
    strongest: float | None = None
    floor: float | None = None
    strongest_F: float | None = None


@dataclass(frozen=True)
class Defence:
    """What could be found before and after; rounds: F of the strongest trigger that each round of retraining left.

    Where the search found nothing to close, there is no retrained classifier and nothing after.
    """

    before: Opened
    found_before: FoundTriggers
    classifier: Classifier | None = None
    after: Opened | None = None
    found_after: FoundTriggers | None = None
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Task:
    """Which backdoor is closed, with what: a target class, a patch size, and the defender's images.

    heldout: images that are neither searched on nor trained with, on which all is measured.
    """

    target_class: int
    size: int
    data: ImageData
    heldout: ImageData
    settings: DefenceSettings
    seed: int

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width."""
        return self.size, self.size

    @property
    def search(self) -> Search:
        """The search for the strongest triggers of that class and size."""
        return search_of_run(self.data, self.settings.strongest_left, self.target_class, self.patch, self.seed)

    def until(self, level: float) -> Task:
        """The same, with rounds that end where no trigger with F above `level` is found."""
        retraining = self.settings.retraining.model_copy(update={"round_level": level})
        return replace(self, settings=self.settings.model_copy(update={"retraining": retraining}))


def defend(
    classifier: Classifier,
    task: Task,
    *,
    on_work: OnWork | None = None,
    on_round: Callable[[int, float], None] | None = None,
    snapshot: OfTraining = lambda _: UNKEPT,
) -> Defence:
    """Search for the strongest triggers; where there are some, learn their distribution and retrain a copy against it.

    A flow per beta learns {F >= beta}; their valid samples are stamped on the defender's images, and what a search
    still finds after each round of retraining is stamped as well in the next. That nothing is found in the end is a
    bound by search, not a proof.
    """
    settings, seed = task.settings, task.seed
    search = task.search
    found = search(classifier, derived_rng(seed, "strongest before"))
    before = opened_by(classifier, found, task)
    if found.strongest_F <= settings.retraining.round_level:
        return Defence(before, found)
    others = task.data.for_search(task.target_class, "other_classes").images
    judge = judge_of_run(seed, classifier, others, task.target_class, task.patch)
    staircase = learn_staircase(judge, settings, seed, on_work=on_work, snapshot=snapshot)
    rounds: list[float] = []

    def note_round(number: int, strongest_F: float) -> None:
        rounds.append(strongest_F)
        if on_round is not None:
            on_round(number, strongest_F)

    retrained = retrain_in_rounds(
        classifier,
        task.data.images,
        task.data.labels,
        staircase.sample,
        settings.retraining,
        search,
        rng=derived_rng(seed, "retraining", 0),
        on_epoch=_told_epochs(on_work, settings.retraining.epochs * settings.retraining.rounds),
        on_round=note_round,
        snapshot=lambda number: snapshot(f"retraining-round-{number}"),
    )
    left = search(retrained, derived_rng(seed, "strongest after"))
    return Defence(before, found, retrained, opened_by(retrained, left, task), left, tuple(rounds))


def opened_by(classifier: Classifier, found: FoundTriggers, task: Task) -> Opened:
    """What the strongest of the triggers found does on the images held out."""
    heldout, rng = task.heldout, derived_rng(task.seed, "evaluation", 0)
    fixed = frozen(classifier, heldout.images)
    rates = evaluate(fixed, heldout.images, heldout.labels, found.triggers[0], task.target_class, rng)
    return Opened(
        accuracy=rates.clean_accuracy,
        strongest=rates.attack_success_rate,
        floor=rates.clean_target_rate,
        strongest_F=found.strongest_F,
    )


def learn_staircase(
    judge: Judge,
    settings: StaircaseSettings,
    seed: int,
    *,
    on_work: OnWork | None = None,
    snapshot: OfTraining = lambda _: UNKEPT,
) -> Staircase:
    """Flows for all betas, stood for by those of their samples that are valid."""
    flows = train_flows(
        judge,
        settings.betas,
        settings.flow,
        rngs=[derived_rng(seed, "flow", beta) for beta in settings.betas],
        parts=find_parts(judge, rng=derived_rng(seed, "parts")),
        on_step=None if on_work is None else lambda step, _: on_work("flows", step, settings.flow.steps),
        snapshot=snapshot("flows"),
    )
    staircase = build_staircase(list(zip(flows, settings.betas, strict=True)))
    valid: list[Tensor] = []
    for flow, beta, level in zip(staircase.generators, staircase.betas, staircase.levels, strict=True):
        told = None if on_work is None else partial(on_work, f"samples of beta {beta}")
        judged = judged_samples(flow, judge, settings.samples, derived_rng(seed, "judged", beta), told)
        valid.append(handed_on(judged, level).triggers)
    return replace(staircase, generators=tuple(ValidTriggers(triggers) for triggers in valid))


def _told_epochs(on_work: OnWork | None, total: int) -> Callable[[int, dict[str, float]], None] | None:
    if on_work is None:
        return None
    return lambda epoch, _: on_work("epochs of retraining at most", epoch, total)
