"""Evaluation: the rates of every retrained classifier, and the report."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.attacks.goals import Goal, goal_of
from untrigger.attacks.registry import build_attack
from untrigger.classifiers import Classifier, frozen, load_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.distributions import save_distribution
from untrigger.generators import StairCurves
from untrigger.judge import images_of_judge
from untrigger.measurements import RATES, FreshSamples, Rates
from untrigger.metrics import evaluate, testing_function
from untrigger.networks.devices import device
from untrigger.reports import figures
from untrigger.reports.pages import samples_name, write_report
from untrigger.reports.results import (
    ENSEMBLE,
    DefenseRow,
    MeasuredOn,
    PlantedTrigger,
    Results,
    Stair,
    defense_row,
    results,
)
from untrigger.reports.tsne import Embedding
from untrigger.retraining import RetrainingRecord, search_of_run
from untrigger.seeding import derived_rng
from untrigger.settings.runs import DefenseConfig
from untrigger.stages.log import Log
from untrigger.stages.retraining_runs import folders_of, run_name
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage
from untrigger.staircase import Staircase, StairMeasurement, load_staircase
from untrigger.tracking.records import TrackedRun
from untrigger.training import TrainingCurves
from untrigger.triggers import load_triggers

SAMPLES_SHOWN = 60
IMAGES_SHOWN = 8


@stage("evaluation")
def run(
    log: Log,
    *,
    evaluation_data: InFolder,
    defender_data: InFolder,
    backdoored_classifier: InFolder,
    true_trigger: InFolder,
    trigger_staircase: InFolder,
    embedding: InFolder,
    retrained: InFolders,
    ideal: InFolder,
    report: OutFolder,
    trigger: str,
    config: dict[str, Any],
) -> None:
    """Measure every classifier on the evaluation data under the attack that was planted; write what a reader gets.

    The strongest triggers that the first seeds of each method leave are searched for on the defender's data. Writes
    `results.json`, `report.html`, `figures/*.png`, the t-SNE's tensors, the classifier retrained with the ensemble
    (its first seed) into `classifier/`, and the distribution, with what measures it, into `distribution/`. Adds the
    final rates to the nested runs of the retrainings.
    """
    settings = DefenseConfig.of({**config, "trigger": trigger})
    data, defender = (load_images(folder).to(device()) for folder in (evaluation_data, defender_data))
    picture = load_triggers(true_trigger)[0]
    attack = build_attack(settings.attack, picture)
    measure = _Measure(data, attack, goal_of(settings.attack, settings.target_class, len(data.class_names)), settings)
    with log.run() as tracked:
        suspect = load_classifier(backdoored_classifier, device())
        before = measure.rates(suspect, 0)
        records = {part: RetrainingRecord.load(part) for folder in (*retrained, ideal) for part in folders_of(folder)}
        rows = _measure_all(log, measure, suspect, records, _search_all(log, settings, measure, defender, records))
        rows.sort(key=lambda row: (_method_order(settings, row.method), row.seed))
        staircase, embedded = load_staircase(trigger_staircase), Embedding.load(embedding)
        folders = [trigger_staircase / f"stair-{index}" for index in range(len(staircase.betas))]
        measured = [StairMeasurement.load(folder) for folder in folders]
        found = results(
            settings,
            suspect.settings.architecture,
            _named(trigger, picture),
            attack.no_patch,
            before=before,
            rows=rows,
            measured_on=_described(settings, data, defender),
            stairs=[_stair(beta, each) for beta, each in zip(staircase.betas, measured, strict=True)],
            reversed_successes=measure.successes(suspect, embedded.reversed),
        )
        rng, drawn = derived_rng(settings.seed, "pictures"), report / "figures"
        figures.draw_methods(found.defenses, found.before, drawn / "methods.png")
        shutil.copyfile(embedding / "tsne.png", drawn / "tsne.png")
        shown = picture if settings.attack.USES_TRIGGER else None
        figures.draw_attack(*measure.attacked(IMAGES_SHOWN, rng), shown, drawn / "attack.png")
        curves = [StairCurves.load(folder) for folder in folders]
        figures.draw_stairs(staircase.betas, curves, measured, drawn / "stairs.png")
        _draw_samples(drawn, staircase, rng)
        _draw_training(drawn, TrainingCurves.load(backdoored_classifier), records.values())
        found.save(report)
        write_report(report / "report.html", found)
        _copy_ensemble_classifier(records, report / "classifier")
        _keep_distribution(settings, defender, backdoored_classifier, trigger_staircase, report)
        embedded.save(report)
        _track(log.summary_run(tracked), report, found)


class _Measure:
    """Rates on the evaluation data; the number of the seed decides where the trigger goes, alike for all methods."""

    def __init__(self, data: ImageData, attack: Attack, goal: Goal, settings: DefenseConfig) -> None:
        self.data, self.attack, self.goal = data, attack, goal
        self.target_class, self.seed = settings.target_class, settings.seed

    def rates(self, classifier: Classifier, number: int, trigger: Tensor | None = None) -> Rates:
        """The rates of the seed `number`, under the attack or with the trigger given, on images of the same victims."""
        rng = derived_rng(self.seed, "evaluation", number)
        stamped = self.attack if trigger is None else trigger
        fixed = frozen(classifier, self.data.images)
        return evaluate(fixed, self.data.images, self.data.labels, stamped, self.goal, rng)

    def attacked(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The first images of victims, and the same under the attack: two float (count, 3, h, w) in [0, 1]."""
        first = self.goal.victims(self.data.labels).nonzero().squeeze(1)[:count]
        images = self.data.images[first].cpu().float() / 255
        return images, self.attack.stamp(images, rng)

    def successes(self, classifier: Classifier, triggers: Tensor) -> list[float]:
        """The attack success rate of each of `triggers`."""
        rng = derived_rng(self.seed, "evaluation", "reversed")
        fixed = frozen(classifier, self.data.images)
        _, rates = testing_function(fixed, self.data.images, self.data.labels, triggers, self.target_class, rng)
        return rates.tolist()


def _search_all(
    log: Log,
    settings: DefenseConfig,
    measure: _Measure,
    defender: ImageData,
    records: Mapping[Path, RetrainingRecord],
) -> dict[tuple[str, int], float]:
    """The attack success rate, by method and seed, of the strongest trigger found in each of the first seeds."""
    searched = settings.strongest_left
    listed = [each for each in _listed(records) if each[-1] < searched.seeds]
    size = (settings.trigger_height, settings.trigger_width)
    search = search_of_run(defender, searched, settings.target_class, size, settings.seed)
    found = {}
    log.reporter.begin("search")
    for done, (folder, method, number) in enumerate(listed, 1):
        classifier = load_classifier(folder / f"seed-{number}", device())
        left = search(classifier, derived_rng(settings.seed, "strongest left", number))
        rate = measure.rates(classifier, number, left.triggers[0]).attack_success_rate
        found[method, number] = rate
        told = f"{method} seed {number}, attack success of the strongest trigger left {rate:.3f}"
        log.reporter.step("search", done, len(listed), told)
    return found


def _measure_all(
    log: Log,
    measure: _Measure,
    undefended: Classifier,
    records: Mapping[Path, RetrainingRecord],
    left: Mapping[tuple[str, int], float],
) -> list[DefenseRow]:
    listed = _listed(records)
    before = {number: measure.rates(undefended, number) for number in sorted({number for _, _, number in listed})}
    rows = []
    for done, (folder, method, number) in enumerate(listed, 1):
        after = measure.rates(load_classifier(folder / f"seed-{number}", device()), number)
        after = after.model_copy(update={"strongest_left": left.get((method, number))})
        found = (records[folder].strongest_F or {}).get(number)
        rows.append(defense_row(method, number, before[number], after, strongest_F=found))
        log.existing_run(run_name(method, number)).metrics(rows[-1].model_dump(include=set(RATES)))
        log.reporter.step("classifier", done, len(listed), f"{method} seed {number}")
    return rows


def _listed(records: Mapping[Path, RetrainingRecord]) -> list[tuple[Path, str, int]]:
    """Folder, method and seed of every retraining."""
    return [(folder, record.method, number) for folder, record in records.items() for number in record.seeds]


def _method_order(settings: DefenseConfig, method: str) -> int:
    planned = settings.planned_methods()
    return planned.index(method) if method in planned else len(planned)


def _named(name: str, picture: Tensor) -> PlantedTrigger:
    _, height, width = picture.shape
    return PlantedTrigger.of({"name": name, "height": height, "width": width, "pixels": picture.tolist()})


def _described(settings: DefenseConfig, data: ImageData, defender: ImageData) -> MeasuredOn:
    return MeasuredOn(
        target_name=data.class_names[settings.target_class],
        evaluation_images=len(data),
        defender_images=len(defender),
    )


def _stair(beta: float, measured: StairMeasurement) -> Stair:
    return Stair(beta=beta, **measured.model_dump(include=set(FreshSamples.model_fields)))


def _draw_samples(folder: Path, staircase: Staircase, rng: torch.Generator) -> None:
    for generator, beta in zip(staircase.generators, staircase.betas, strict=True):
        figures.draw_samples(generator.sample(SAMPLES_SHOWN, rng), beta, folder / samples_name(beta))


def _draw_training(folder: Path, attacked: TrainingCurves, records: Iterable[RetrainingRecord]) -> None:
    firsts = {record.method: record.curves[min(record.seeds)] for record in records}
    curves = {method: curve for method, curve in firsts.items() if curve}
    figures.draw_training(attacked, curves, folder / "training.png")


def _copy_ensemble_classifier(records: Mapping[Path, RetrainingRecord], target: Path) -> None:
    seed, folder = min((min(each.seeds), folder) for folder, each in records.items() if each.method == ENSEMBLE)
    shutil.copytree(folder / f"seed-{seed}", target)


def _keep_distribution(
    settings: DefenseConfig, defender: ImageData, suspect: Path, staircase: Path, report: Path
) -> None:
    size = (settings.trigger_height, settings.trigger_width)
    searched = defender.for_search(settings.target_class, settings.search_images).images
    images, positions = images_of_judge(settings.seed, searched, size)
    save_distribution(report, suspect=suspect, staircase=staircase, images=images, positions=positions)


def _track(run: TrackedRun, report: Path, found: Results) -> None:
    run.metrics({f"before_{rate}": value for rate, value in found.before.model_dump().items()})
    run.metrics(found.ensemble.mean.model_dump())
    run.files(report / "figures", "figures")
    run.files(report / "report.html")
    run.files(report / Results.FILE)
