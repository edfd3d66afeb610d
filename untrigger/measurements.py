"""What is measured, of classifiers and of stairs: one name and one type per metric, from the stage to the report."""

from __future__ import annotations

import statistics

from untrigger.settings.base import Sparse, Stored


class Rates(Sparse):
    """What a classifier does with clean and with triggered images.

    attack_success_rate and robust_accuracy are shares of the triggered images whose true class is not the target: those
    sent to the target class, and those sent to their true class. clean_target_rate is the share of the same images that
    go to the target class without any trigger: no defence can be expected to bring the attack success rate below it;
    early versions did not measure it. defense_effectiveness_rating (DER) is known only of what a defence left.

    strongest_left is the attack success rate, on the same images, of the strongest trigger that a search with the
    defender's data still found after a defence: a bound by search, an attacker may know better ones. It is known only
    where that was searched for.
    """

    clean_accuracy: float
    attack_success_rate: float
    robust_accuracy: float
    clean_target_rate: float | None = None
    defense_effectiveness_rating: float | None = None
    strongest_left: float | None = None


RATES = tuple(Rates.model_fields)


class FreshSamples(Sparse):
    """How well a generator fills its stair, on samples of which the training knew nothing.

    F and attack success rate, their mean over the samples; the share of the samples with F >= beta - 0.05; and the
    mutual information in nats, by a fresh statistics network on samples that it has not seen (not of flows).

    By the judge, whose images and places are the same for all stairs of a run: the share of the samples with F >= beta,
    without any slack; their mean F; and the entropy of the valid ones in nats, where there are some, with the way it
    was found: `density`, exact but for the samples drawn, or `nearest neighbours`. Early versions had no judge.

    level: of F, in place of beta, where the stair is the top one. parts: that triggers fall into, each with a flow of
    its own.
    """

    fresh_F: float
    fresh_valid_share: float
    fresh_mutual_information: float | None = None
    fresh_attack_success_rate: float
    judged_valid_share: float | None = None
    judged_F: float | None = None
    judged_entropy: float | None = None
    judged_entropy_estimator: str | None = None
    level: float | None = None
    parts: int | None = None


MASK = "mask"
"""The name of the search for masks, beside those of the patch sizes."""


class Arm(Sparse):
    """What the best patch of a size, or the mask, does for one target class on the images held out.

    success: the share of images of other classes that it sends there; floor: the share of them that goes there anyway.
    rounds: how many it took part in. norm: of the mask, in pixels; index: Neural Cleanse's, of that norm.
    """

    search: str
    target_class: int
    success: float
    floor: float
    rounds: int | None = None
    norm: float | None = None
    index: float | None = None

    @property
    def gain(self) -> float:
        """What it opens that was not open without it."""
        return self.success - self.floor


class Measured(Stored):
    """What a scan measured of one classifier.

    accuracy: on some of the defender's images, the same for all classifiers; early versions did not measure it.
    """

    FILE = "measured.json"

    arms: tuple[Arm, ...]
    seconds: float
    mask_seconds: float = 0.0
    accuracy: float | None = None

    def by(self, search: str) -> list[Arm]:
        """The arms of one search, one per class."""
        return [arm for arm in self.arms if arm.search == search]

    @property
    def searches(self) -> tuple[str, ...]:
        """Their names: patch sizes, and the mask."""
        return tuple(dict.fromkeys(arm.search for arm in self.arms))

    def best(self, search: str) -> Arm:
        """The arm that stands out most: the largest gain, or the smallest mask."""
        if search == MASK:
            return min(self.by(search), key=lambda arm: arm.norm or 0.0)
        return max(self.by(search), key=lambda arm: arm.gain)

    def statistics(self) -> dict[str, float]:
        """One number per search, the larger the more suspicious, none above 1.

        Of a patch size: the largest gain of any class. Of the masks: how much smaller the smallest is than the median
        one.
        """
        found = {}
        for search in self.searches:
            best = self.best(search)
            found[search] = self.standing_out(best) if search == MASK else best.gain
        return found

    def standing_out(self, arm: Arm) -> float:
        """How far an arm stands out among those of the other classes: in gain, or in how much smaller its mask is."""
        if arm.norm is not None:
            return 1 - arm.norm / statistics.median(each.norm or 0.0 for each in self.by(arm.search))
        return arm.gain - statistics.median(each.gain for each in self.by(arm.search))

    def leading(self) -> tuple[str, int]:
        """The search and the class that stand out most within this model."""
        best = max(self.arms, key=self.standing_out)
        return best.search, best.target_class


class Opened(Sparse):
    """How a classifier answers images that nothing was searched on or trained with.

    accuracy: on clean images. strongest: share of the images of other classes that the strongest trigger found sends to
    the target class; floor: share of them that goes there without any. strongest_F: F of that trigger on the images
    searched on. mask: the norm, in pixels, of the smallest mask found; `strongest` is then the share that goes to the
    target class under the mask that was found before anything was done, afterwards with the strongest pattern that can
    still be found under it. Where nothing was searched for only the accuracy is known.
    """

    accuracy: float
    strongest: float | None = None
    floor: float | None = None
    strongest_F: float | None = None
    mask: float | None = None


class Left(Sparse):
    """What a search still finds that opens a class, or what it may find in one that counts as closed.

    strongest_F: of the strongest trigger, on the images searched on. mask: the norm of the smallest mask, in pixels.
    """

    strongest_F: float | None = None
    mask: float | None = None
