"""What is measured, of classifiers and of stairs: one name and one type per metric, from the stage to the report."""

from __future__ import annotations

from untrigger.settings.base import Sparse


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
