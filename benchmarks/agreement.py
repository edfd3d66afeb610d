"""Do the fast paths give the same classifiers? bf16 against fp32, and stairs trained together against apart."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from untrigger.classifiers import Classifier, frozen, new_classifier
from untrigger.datasets import Split, read_split
from untrigger.generators import train_generators
from untrigger.metrics import Rates, evaluate
from untrigger.poisoning import plant_backdoor
from untrigger.profiles import config_for
from untrigger.retraining import retrain
from untrigger.seeding import derived_generator, derived_seed
from untrigger.settings import DefenseConfig
from untrigger.staircase import Staircase, build_staircase
from untrigger.training import train
from untrigger.triggers import read_trigger

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
    found: dict[str, list[tuple[Rates, Rates]]] = {}
    for seed in range(seeds):
        for name, way in WAYS.items():
            found.setdefault(name, []).append(_Run(seed, way).rates())
            console.print(f"seed {seed}, {name}: measured")
    table = Table(title=f"digits, percentage points, mean difference over {seeds} seeds (each)")
    for column in ("pair", "when", "clean accuracy", "attack success"):
        table.add_column(column)
    for pair, (first, second) in PAIRS.items():
        for index, when in enumerate(("before the defence", "after ensemble")):
            pairs = [(a[index], b[index]) for a, b in zip(found[first], found[second], strict=True)]
            table.add_row(
                pair, when, *(_differences(pairs, rate) for rate in ("clean_accuracy", "attack_success_rate"))
            )
    console.print(table)


def _differences(pairs: list[tuple[Rates, Rates]], rate: str) -> str:
    each = [100 * (getattr(a, rate) - getattr(b, rate)) for a, b in pairs]
    return f"{statistics.fmean(each):+.2f} ({', '.join(f'{value:+.2f}' for value in each)})"


class _Run:
    """One attack and one defence with the ensemble, all seeded by `seed` alone."""

    def __init__(self, seed: int, way: Way) -> None:
        search = {"epochs": EPOCHS, "precision": way.generators}
        changes = {"seed": seed, "classifier": {"precision": way.classifier}, "generator": search}
        self.config: DefenseConfig = config_for("demo", changes, DefenseConfig)
        self.data: Split = read_split(self.config.dataset, self.config.data, seed=derived_seed(seed, "split"))
        self.trigger = read_trigger(self.config.trigger)
        self.together = way.together

    def rates(self) -> tuple[Rates, Rates]:
        """Before the defence and after it."""
        suspect = self._backdoored()
        staircase = self._staircase(suspect)
        defender = self.data.defender
        cured = retrain(
            suspect,
            defender.images,
            defender.labels,
            staircase.sample,
            self.config.retraining,
            generator=self._random("retraining"),
        )
        return self._measured(suspect), self._measured(cured)

    def _random(self, purpose: str) -> torch.Generator:
        return derived_generator(self.config.seed, purpose)

    def _backdoored(self) -> Classifier:
        config, data = self.config, self.data.training
        classifier = new_classifier(config.classifier, len(data.class_names), data.images, self._random("classifier"))
        train(classifier, data.images, data.labels, config.training, generator=self._random("clean"))
        plant_backdoor(
            classifier,
            data.images,
            data.labels,
            self.trigger,
            config.target_class,
            config.poisoning,
            generator=self._random("poison"),
        )
        return classifier

    def _staircase(self, suspect: Classifier) -> Staircase:
        config, defender = self.config, self.data.defender
        groups = [config.betas] if self.together else [(beta,) for beta in config.betas]
        stairs = []
        for betas in groups:
            trained = train_generators(
                suspect,
                defender.images,
                defender.labels,
                betas,
                config.target_class,
                (config.trigger_height, config.trigger_width),
                config.generator,
                generators=[derived_generator(config.seed, "generator", beta) for beta in betas],
            )
            stairs += list(zip(trained, betas, strict=True))
        return build_staircase(stairs)

    def _measured(self, classifier: Classifier) -> Rates:
        data, target = self.data.evaluation, self.config.target_class
        random = self._random("evaluation")
        return evaluate(frozen(classifier), data.images, data.labels, self.trigger, target, random)
