"""The defence where nobody knows the trigger: what opens a classifier, patches or a mask, and retraining in rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.classifiers import Classifier, frozen
from untrigger.datasets.images import ImageData
from untrigger.fidelity import handed_on, judged_samples
from untrigger.flow_training import train_flows
from untrigger.judge import Judge, judge_of_run
from untrigger.measurements import Left, Opened
from untrigger.metrics import evaluate
from untrigger.neural_cleanse import (
    FoundPatterns,
    Masks,
    UnderMasks,
    joined,
    reverse_masks,
    strongest_patterns,
    widened,
)
from untrigger.retraining import Search, retrain, retrain_in_rounds, search_of_run
from untrigger.scanning import OnWork
from untrigger.seeding import derived_rng
from untrigger.settings.defences import DefenceSettings, StaircaseSettings
from untrigger.settings.methods import MaskSettings
from untrigger.snapshots import UNKEPT, Snapshot
from untrigger.staircase import Staircase, ValidTriggers, build_staircase
from untrigger.strongest_triggers import FoundTriggers
from untrigger.trigger_parts import find_parts

PATTERNS = 4
"""Patterns that are searched for under a mask after each round."""

OfTraining = Callable[[str], Snapshot]
"""The snapshot of a training, by its name."""

OnLeft = Callable[[int, Left], None]
"""Called after each round of retraining with its number, from 1, and what it left."""


@dataclass(frozen=True)
class Defence:
    """What could be found before and after, triggers or the smallest mask.

    allowed: what may be found in a class that counts as closed. rounds: F of the strongest trigger, or the norm of the
    mask, that each round of retraining left. Where the search found nothing to close, there is no retrained classifier
    and nothing after.
    """

    before: Opened
    found_before: FoundTriggers | Masks
    allowed: Left
    classifier: Classifier | None = None
    after: Opened | None = None
    found_after: FoundTriggers | Masks | None = None
    rounds: tuple[float, ...] = ()
    closed: bool = False
    """Whether the last search found no more than is usual."""


@dataclass(frozen=True)
class Task:
    """Which backdoor is closed, with what: a target class, and the defender's images.

    heldout: images that are neither searched on nor trained with, on which all is measured.
    """

    target_class: int
    data: ImageData
    heldout: ImageData
    settings: DefenceSettings
    seed: int

    @property
    def others(self) -> Tensor:
        """The defender's images of other classes, uint8 (n, 3, h, w)."""
        return self.data.for_search(self.target_class, "other_classes").images


@dataclass(frozen=True)
class PatchTask(Task):
    """A backdoor that a square patch of this size opens, in pixels."""

    size: int

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width."""
        return self.size, self.size

    @property
    def search(self) -> Search:
        """The search for the strongest triggers of that class and size."""
        return search_of_run(self.data, self.settings.strongest_left, self.target_class, self.patch, self.seed)

    def until(self, level: float) -> PatchTask:
        """The same, with rounds that end where no trigger with F above `level` is found."""
        retraining = self.settings.retraining.model_copy(update={"round_level": level})
        return replace(self, settings=self.settings.model_copy(update={"retraining": retraining}))

    def opens(self, classifier: Classifier) -> Opened:
        """What the search finds in a classifier."""
        return opened_by(classifier, self.search(classifier, derived_rng(self.seed, "strongest before")), self)


@dataclass(frozen=True)
class MaskTask(Task):
    """A backdoor that a mask with a pattern on the whole image opens; masks: the search for the smallest one."""

    masks: MaskSettings

    def search(self, classifier: Classifier, round: int, on_work: OnWork | None = None) -> Masks:
        """The smallest mask that sends the defender's images to the target class, after so many rounds."""
        others, rng = self.others, derived_rng(self.seed, "mask", round)
        allowed = {self.target_class: torch.arange(len(others))}
        on_step = None if on_work is None else partial(on_work, "mask")
        return reverse_masks(classifier, others, allowed, self.masks, rng=rng, on_step=on_step)

    def patterns_left(
        self, classifier: Classifier, found: Masks, round: int, on_work: OnWork | None = None
    ) -> FoundPatterns:
        """The strongest patterns where a mask was found, widened, after so many rounds."""
        others, rng = self.others, derived_rng(self.seed, "patterns", round)
        allowed = {self.target_class: torch.arange(len(others))}
        (patterns,) = strongest_patterns(
            classifier,
            others,
            allowed,
            widened(found.masks[0]),
            self.masks,
            restarts=PATTERNS,
            rng=rng,
            on_step=None if on_work is None else partial(on_work, "patterns"),
        )
        return patterns

    def usual_there(self, classifier: Classifier, found: Masks, on_work: OnWork | None = None) -> float:
        """The median, over the other classes, of the chances that the strongest pattern at that place gives them."""
        labels, rng = self.data.labels, derived_rng(self.seed, "patterns", "others")
        classes = [number for number in range(classifier.classes) if number != self.target_class]
        allowed = {number: (labels != number).nonzero().squeeze(1).cpu() for number in classes}
        found_for = strongest_patterns(
            classifier,
            self.data.images,
            allowed,
            widened(found.masks[0]),
            self.masks,
            rng=rng,
            on_step=None if on_work is None else partial(on_work, "patterns of other classes"),
        )
        return statistics.median(each.strength for each in found_for)

    def opens(self, classifier: Classifier) -> Opened:
        """What the search finds in a classifier."""
        found = self.search(classifier, 0)
        return opened_under(classifier, found, self, mask=norm_of(found))


def defend(
    classifier: Classifier,
    task: PatchTask,
    *,
    on_work: OnWork | None = None,
    on_round: OnLeft | None = None,
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
    allowed = Left(strongest_F=settings.retraining.round_level)
    if found.strongest_F <= settings.retraining.round_level:
        return Defence(before, found, allowed)
    judge = judge_of_run(seed, classifier, task.others, task.target_class, task.patch)
    staircase = learn_staircase(judge, settings, seed, on_work=on_work, snapshot=snapshot)
    rounds: list[float] = []

    def note_round(number: int, strongest_F: float) -> None:
        rounds.append(strongest_F)
        if on_round is not None:
            on_round(number, Left(strongest_F=strongest_F))

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
    closed = left.strongest_F <= settings.retraining.round_level
    return Defence(before, found, allowed, retrained, opened_by(retrained, left, task), left, tuple(rounds), closed)


def defend_under_mask(
    classifier: Classifier,
    task: MaskTask,
    level: float,
    *,
    on_work: OnWork | None = None,
    on_round: OnLeft | None = None,
    snapshot: OfTraining = lambda _: UNKEPT,
) -> Defence:
    """Search for the smallest mask; where it is below `level` pixels, retrain a copy under it, in rounds.

    A round puts some of the defender's images under all that was found so far, with their true labels. Then two
    searches tell whether it was the last: for the next smallest mask, and for the strongest patterns where the first
    one lay, since a trigger that opens half of the images is no mask that opens nearly all. A bound by search, not a
    proof. Source: section VI.B of Wang et al. for one round under one mask.
    """
    settings, seed = task.settings.retraining, task.seed
    found = task.search(classifier, 0, on_work)
    before = opened_under(classifier, found, task, mask=norm_of(found))
    if norm_of(found) >= level:
        return Defence(before, found, Left(mask=level))
    strongest_F = max(settings.round_level, task.usual_there(classifier, found, on_work))
    masks, rounds, retrained, closed = [found], list[float](), classifier, False
    for number in range(1, settings.rounds + 1):
        retrained = retrain(
            retrained,
            task.data.images,
            task.data.labels,
            UnderMasks(joined(masks)),
            settings,
            rng=derived_rng(seed, "retraining", number),
            on_epoch=_told_epochs(on_work, settings.epochs * settings.rounds, settings.epochs * (number - 1)),
            snapshot=snapshot(f"retraining-round-{number}"),
        )
        patterns = task.patterns_left(retrained, found, number, on_work)
        smallest = task.search(retrained, number, on_work)
        masks += [patterns.masks, smallest]
        rounds.append(norm_of(smallest))
        if on_round is not None:
            on_round(number, Left(strongest_F=patterns.strength, mask=rounds[-1]))
        closed = rounds[-1] >= level and patterns.strength <= strongest_F
        if closed:
            break
    after = opened_under(retrained, patterns.strongest, task, mask=rounds[-1], strongest_F=patterns.strength)
    allowed = Left(strongest_F=strongest_F, mask=level)
    return Defence(before, found, allowed, retrained, after, smallest, tuple(rounds), closed)


def norm_of(mask: Masks) -> float:
    """The norm of a mask by itself, in pixels."""
    return mask.norms.item()


def opened_by(classifier: Classifier, found: FoundTriggers, task: Task) -> Opened:
    """What the strongest of the triggers found does on the images held out."""
    return _opened(classifier, found.triggers[0], task, strongest_F=found.strongest_F)


def opened_under(classifier: Classifier, found: Masks, task: Task, **told: float) -> Opened:
    """What a mask does on the images held out; told: what else `Opened` is to say."""
    return _opened(classifier, UnderMasks(found), task, **told)


def _opened(classifier: Classifier, found: Attack | Tensor, task: Task, **told: float) -> Opened:
    heldout, rng = task.heldout, derived_rng(task.seed, "evaluation", 0)
    fixed = frozen(classifier, heldout.images)
    rates = evaluate(fixed, heldout.images, heldout.labels, found, task.target_class, rng)
    return Opened(
        accuracy=rates.clean_accuracy, strongest=rates.attack_success_rate, floor=rates.clean_target_rate, **told
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
        parts=find_parts(
            judge, rng=derived_rng(seed, "parts"), on_progress=None if on_work is None else partial(on_work, "parts")
        ),
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


def _told_epochs(on_work: OnWork | None, total: int, before: int = 0) -> Callable[[int, dict[str, float]], None] | None:
    if on_work is None:
        return None
    return lambda epoch, _: on_work("epochs of retraining at most", before + epoch, total)
