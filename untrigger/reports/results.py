"""`results.json`: what one run of the defence found, rates as fractions.

What early versions did not write yet has a default.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_serializer, model_validator

from untrigger.measurements import RATES, FreshSamples, Rates
from untrigger.settings.attacks import GoalName, planted_name
from untrigger.settings.base import Frozen, Sparse, Stored
from untrigger.settings.stairs import beta_name

if TYPE_CHECKING:
    from untrigger.settings.runs import DefenseConfig

Pixels = tuple[tuple[tuple[float, ...], ...], ...]
"""Of a trigger: (3, height, width), in [0, 1]."""

ENSEMBLE = "ensemble"
"""The method that is the defence itself."""


class PlantedTrigger(Frozen):
    """The trigger that the attacker planted."""

    name: str
    height: int
    width: int
    pixels: Pixels


class PlantedAttack(Sparse):
    """How the trigger is put on images, and where it sends them; early versions knew patches for all classes alone.

    source_class: the only class that is sent to the target, None for all. clean_label: whether labels were kept in
    training. no_patch: why a search for patches looks for something else, "" where the trigger is one. uses_trigger:
    whether the run's trigger is part of it.
    """

    name: str = "patch"
    goal: GoalName = "all_to_one"
    source_class: int | None = None
    clean_label: bool = False
    no_patch: str = ""
    uses_trigger: bool = True

    @property
    def victims(self) -> str:
        """Whose images it sends to the target class."""
        return "other classes" if self.source_class is None else f"class {self.source_class}"

    @property
    def beyond_search(self) -> str:
        """What the searches make of it, in a sentence; "" where they look for what it is."""
        return self.no_patch and f"{self.no_patch}; all searches, that for what is left too, look for patches only"


class MeasuredOn(Frozen):
    """What the data of a run are: the name of the target class, and how many images judge and defend."""

    target_name: str = ""
    evaluation_images: int = 0
    defender_images: int = 0


class _Retraining(Frozen):
    method: str
    seed: int


# What a file holds comes in the order of the fields: those of the last base first.
class DefenseRow(Rates, _Retraining):
    """One retraining's rates.

    strongest_F: where it was done in rounds, F of the strongest trigger found after each, on the defender's images.
    """

    strongest_F: tuple[float, ...] | None = None


class RepeatedRates(Frozen):
    """Rates over repetitions: mean and sample standard deviation (none where nothing was repeated).

    In files they lie flat: `mean` and `std` are spread over names that end as `MEAN` and `STD` say.
    """

    MEAN: ClassVar[str] = "_mean"
    STD: ClassVar[str] = "_std"

    mean: Rates
    std: Rates | None = None

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or "mean" in content:
            return content
        rest = dict(content)
        mean, std = ({r: rest.pop(r + end) for r in RATES if r + end in rest} for end in (cls.MEAN, cls.STD))
        return {**rest, "mean": mean, "std": std or None}


class MethodSummary(RepeatedRates):
    """One method over its `n` retraining seeds; the deviation is 0 for one seed.

    What was measured with one of several seeds only has a mean, that seed's, and no deviation.
    """

    method: str
    n: int
    std: Rates

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        mean, std = self.mean.model_dump(), self.std.model_dump()
        parts = ((self.MEAN, mean), (self.STD, std))
        rates = {rate + end: part[rate] for rate in mean for end, part in parts if rate in part}
        return {"method": self.method, "n": self.n, **rates}


class _Beta(Frozen):
    beta: float
    level: float | None = None

    @property
    def name(self) -> str:
        """Its beta; of a top stair, also the level of F that it found."""
        return beta_name(self.beta) if self.level is None else f"{beta_name(self.beta)} ({self.level})"


class Stair(FreshSamples, _Beta):
    """One stair, and how well its generator fills it."""


class StairTruth(Sparse, _Beta):
    """The truth about {F >= beta}, and how close the generator of that stair comes to it; as `Fidelity`, in nats.

    log_volumes: of each repeat; log_volume and log_volume_error95: their mean, and half the width of its interval.
    """

    log_volume: float
    log_volume_error95: float
    log_volumes: tuple[float, ...]
    valid: float
    mean_f: float
    entropy: float | None = None
    estimator: str
    gap: float | None = None
    forward_gap: float | None = None
    coverage: float | None = None
    truth_coverage: float | None = None
    precision: float | None = None


class RunTruth(Stored):
    """What `untrigger truth` adds to a run; images: how many the judge averages F over."""

    FILE = "truth.json"

    walkers: int
    repeats: int
    images: int
    stairs: tuple[StairTruth, ...]


class Results(Stored):
    """What one run found.

    classifier: its architecture. trigger: the run's, whatever the attack makes of it. reversed_attack_success_rates: of
    each reversed trigger, before the defence.
    """

    FILE = "results.json"

    dataset: str
    classifier: str
    trigger: PlantedTrigger
    attack: PlantedAttack = PlantedAttack()
    target_class: int
    measured_on: MeasuredOn = MeasuredOn()
    config: dict[str, Any]
    before: Rates
    defenses: tuple[DefenseRow, ...]
    summary: tuple[MethodSummary, ...]
    stairs: tuple[Stair, ...]
    reversed_attack_success_rates: tuple[float, ...] = ()

    @property
    def planted(self) -> str:
        """What was planted, in a word."""
        return planted_name(self.attack.name, self.trigger.name)

    @property
    def ensemble(self) -> MethodSummary:
        """What the defence itself left."""
        return next(line for line in self.summary if line.method == ENSEMBLE)


def defense_row(
    method: str, seed: int, before: Rates, after: Rates, *, strongest_F: Sequence[float] | None = None
) -> DefenseRow:
    """One retraining's rates; DER compares it with the undefended classifier under the same seed."""
    from untrigger.metrics import defense_effectiveness_rating

    rating = defense_effectiveness_rating(before, after)
    rates = {**after.model_dump(), "defense_effectiveness_rating": rating}
    return DefenseRow.of({"method": method, "seed": seed, **rates, "strongest_F": strongest_F})


def summarise(rows: Sequence[DefenseRow]) -> tuple[MethodSummary, ...]:
    """The summary of each method, in order of appearance."""
    summary = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row.model_dump(include=set(RATES)) for row in rows if row.method == method]
        measured = {rate: [row[rate] for row in own if rate in row] for rate in RATES}
        spread = {rate: mean_and_spread(values) for rate, values in measured.items() if values}
        mean = {rate: found for rate, (found, _) in spread.items()}
        std = {rate: found for rate, (_, found) in spread.items() if len(own) == 1 or len(measured[rate]) > 1}
        summary.append(MethodSummary(method=method, n=len(own), mean=Rates(**mean), std=Rates(**std)))
    return tuple(summary)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation, which is 0 for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def results(
    settings: DefenseConfig,
    architecture: str,
    trigger: PlantedTrigger,
    no_patch: str = "",
    *,
    before: Rates,
    rows: Sequence[DefenseRow],
    measured_on: MeasuredOn | None = None,
    stairs: Sequence[Stair] = (),
    reversed_successes: Sequence[float] = (),
) -> Results:
    """What a run with these settings found; see `Results`, and for `no_patch` the `PlantedAttack`."""
    told = settings.attack.model_dump(include={"name", "goal", "source_class", "clean_label"})
    return Results(
        dataset=settings.dataset,
        classifier=architecture,
        trigger=trigger,
        attack=PlantedAttack(**told, no_patch=no_patch, uses_trigger=settings.attack.USES_TRIGGER),
        target_class=settings.target_class,
        measured_on=measured_on or MeasuredOn(),
        config=settings.record(),
        before=before,
        defenses=tuple(rows),
        summary=summarise(rows),
        stairs=tuple(stairs),
        reversed_attack_success_rates=tuple(reversed_successes),
    )
