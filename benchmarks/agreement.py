"""Do the fast paths give the same classifiers? bf16 against fp32, and stairs trained together against apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from untrigger.classifiers import Classifier, frozen, new_classifier
from untrigger.datasets.images import ImageData, Split
from untrigger.datasets.sources import read_split
from untrigger.generators import train_generators
from untrigger.intervals import error95
from untrigger.metrics import Rates, evaluate
from untrigger.poisoning import plant_backdoor
from untrigger.profiles import config_for
from untrigger.reports.results import mean_and_spread
from untrigger.retraining import retrain
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.runs import DefenseConfig
from untrigger.staircase import Staircase, StairMeasurement, build_staircase, measure_stair
from untrigger.training import train
from untrigger.triggers import read_trigger

BETAS = (0.5, 0.8, 0.9)
EPOCHS = 100


@dataclass(frozen=True)
class Way:
    """One way to the same result: the arithmetic of classifier and generators, and whether stairs train together."""

    classifier: str
    generators: str
    together: bool = True


WAYS = {
    "fp32": Way("fp32", "fp32"),
    "bf16": Way("bf16", "fp32"),
    "bf16 search": Way("bf16", "auto"),
    "apart": Way("fp32", "fp32", together=False),
}
PAIRS = {
    "bf16 - fp32": ("bf16", "fp32"),
    "generators in bf16 - in fp32": ("bf16 search", "bf16"),
    "stairs together - apart": ("fp32", "apart"),
}


def measure_agreement(seeds: int) -> None:
    """Repeat the demo's attack and defence (its search cut to `EPOCHS`) per seed and way; print paired differences."""
    console = Console()
    console.print(description(torch.device("cpu")), soft_wrap=True)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for name, way in WAYS.items():
            found.setdefault(name, []).append(_Run(seed, way).measured())
            console.print(f"seed {seed}, {name}: measured")
    table = Table(title=f"digits, mean difference over {seeds} seeds, ± 95 % (each)")
    for column in ("pair", "of", "difference"):
        table.add_column(column)
    for pair, (first, second) in PAIRS.items():
        for quantity in found[first][0]:
            each = [a[quantity] - b[quantity] for a, b in zip(found[first], found[second], strict=True)]
            table.add_row(pair, quantity, _difference(each))
    console.print(table)


def _difference(each: Sequence[float]) -> str:
    """The mean of paired differences, half the width of its 95 % interval, and each of them."""
    mean, spread = mean_and_spread(each)
    error = f" ± {error95(spread / math.sqrt(len(each)), len(each)):.2f}" if len(each) > 1 else ""
    return f"{mean:+.2f}{error} ({', '.join(f'{value:+.2f}' for value in each)})"


class _Run:
    """One attack and one defence with the ensemble, all seeded by `seed` alone."""

    def __init__(self, seed: int, way: Way) -> None:
        search = {"family": "mine", "epochs": EPOCHS, "precision": way.generators}
        classifier = {"precision": way.classifier}
        changes = {"seed": seed, "betas": BETAS, "classifier": classifier, "generator": search}
        self.config: DefenseConfig = config_for("demo", changes, DefenseConfig)
        self.data: Split = read_split(self.config.dataset, self.config.data, seed=derived_seed(seed, "split"))
        self.trigger = read_trigger(self.config.trigger)
        self.together = way.together

    def measured(self) -> dict[str, float]:
        """What is compared: rates before and after the defence, and how the stairs are filled."""
        suspect = self._backdoored()
        staircase = self._staircase(suspect)
        defender = self.data.defender
        cured = retrain(
            suspect,
            defender.images,
            defender.labels,
            staircase.sample,
            self.config.retraining,
            rng=self._rng("retraining"),
        )
        before, after = self._rates(suspect), self._rates(cured)
        stairs = [self._stair(suspect, staircase, beta) for beta in staircase.betas]
        return {
            "clean accuracy before, %": 100 * before.clean_accuracy,
            "attack success before, %": 100 * before.attack_success_rate,
            "clean accuracy after ensemble, %": 100 * after.clean_accuracy,
            "attack success after ensemble, %": 100 * after.attack_success_rate,
            "valid samples, %": 100 * statistics.fmean(stair.fresh_valid_share for stair in stairs),
            "mutual information, nats": statistics.fmean(
                stair.fresh_mutual_information or math.nan for stair in stairs
            ),
        }

    def _stair(self, suspect: Classifier, staircase: Staircase, beta: float) -> StairMeasurement:
        defender = self._searched()
        rng = derived_rng(self.config.seed, "stair", beta)
        return measure_stair(
            staircase.generator_of(beta),
            beta,
            suspect,
            defender.images,
            defender.labels,
            self.config.target_class,
            settings=self.config.generator,
            rng=rng,
        )

    def _searched(self) -> ImageData:
        """The defender's images that are searched with."""
        return self.data.defender.for_search(self.config.target_class, self.config.search_images)

    def _rng(self, purpose: str) -> torch.Generator:
        return derived_rng(self.config.seed, purpose)

    def _backdoored(self) -> Classifier:
        config, data = self.config, self.data.training
        classifier = new_classifier(config.classifier, len(data.class_names), data.images, self._rng("classifier"))
        train(classifier, data.images, data.labels, config.training, rng=self._rng("clean"))
        plant_backdoor(
            classifier,
            data.images,
            data.labels,
            self.trigger,
            config.target_class,
            config.poisoning,
            rng=self._rng("poison"),
        )
        return classifier

    def _staircase(self, suspect: Classifier) -> Staircase:
        config, defender = self.config, self._searched()
        groups = [config.betas] if self.together else [(beta,) for beta in config.betas]
        stairs = []
        for betas in groups:
            trained = train_generators(
                suspect,
                defender.images,
                defender.labels,
                config.target_class,
                (config.trigger_height, config.trigger_width),
                config.generator,
                betas=betas,
                rngs=[derived_rng(config.seed, "generator", beta) for beta in betas],
            )
            stairs += list(zip(trained, betas, strict=True))
        return build_staircase(stairs)

    def _rates(self, classifier: Classifier) -> Rates:
        data, target = self.data.evaluation, self.config.target_class
        rng = self._rng("evaluation")
        return evaluate(frozen(classifier, data.images), data.images, data.labels, self.trigger, target, rng)
