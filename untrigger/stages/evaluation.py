"""Evaluation: the rates of every retrained classifier, and the report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from untrigger.artifacts import read_json, read_tensors, write_json
from untrigger.classifiers import Classifier, frozen, load_classifier
from untrigger.datasets.images import ImageData, load_images
from untrigger.metrics import Rates, evaluate, testing_function
from untrigger.networks.devices import device
from untrigger.reports import figures
from untrigger.reports.pages import Picture, write_report
from untrigger.reports.results import RATES, DefenseRow, defense_row, results
from untrigger.reports.tsne import REVERSED_GROUP
from untrigger.seeding import derived_rng
from untrigger.settings.runs import DefenseConfig
from untrigger.stages.log import Log
from untrigger.stages.retraining_runs import run_name
from untrigger.stages.stage import InFolder, InFolders, OutFolder, stage
from untrigger.staircase import Staircase, load_staircase
from untrigger.tracking.records import TrackedRun
from untrigger.triggers import load_triggers, stamp

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
    """Measure every classifier on the evaluation data with the true trigger; write what a reader gets.

    Writes `results.json`, `report.html`, `figures/*.png`, the t-SNE's tensors, and the classifier retrained with the
    ensemble (its first seed) into `classifier/`. Adds the final rates to the nested runs of the retrainings.
    """
    settings = DefenseConfig.of({**config, "trigger": trigger})
    data = load_images(evaluation_data).to(device())
    planted = load_triggers(true_trigger)[0]
    measure = _Measure(data, planted, settings.target_class, settings.seed)
    with log.run() as tracked:
        suspect = load_classifier(backdoored_classifier, device())
        before = measure.rates(suspect, 0)
        rows = _measure_all(log, measure, suspect, (*retrained, ideal))
        rows.sort(key=lambda row: (_method_order(settings, row["method"]), row["seed"]))
        for row in rows:
            log.existing_run(run_name(row["method"], row["seed"])).metrics({rate: row[rate] for rate in RATES})
        staircase = load_staircase(trigger_staircase)
        stairs = [
            {"beta": beta, **{k: v for k, v in _stair(trigger_staircase, i, "measurement").items() if k[:5] == "fresh"}}
            for i, beta in enumerate(staircase.betas)
        ]
        named = {
            "name": trigger,
            "height": planted.shape[1],
            "width": planted.shape[2],
            "pixels": planted.tolist(),
        }
        reversed_triggers = measure.successes(suspect, _reversed(embedding))
        found = results(settings, suspect.settings.architecture, named, before, rows, stairs, reversed_triggers)
        pictures = _draw(report / "figures", settings, found, data, planted, staircase, trigger_staircase, embedding)
        pictures["training"] = _draw_training(report / "figures", backdoored_classifier, (*retrained, ideal))
        write_json(report / "results.json", found)
        counts = {"evaluation": len(data), "defender": len(load_images(defender_data))}
        write_report(report / "report.html", found, data.class_names, counts, pictures)
        _copy_ensemble_classifier(retrained, report / "classifier")
        shutil.copyfile(embedding / "embedding.safetensors", report / "embedding.safetensors")
        _publish(log.summary_run(tracked), report, found)


class _Measure:
    """Rates on the evaluation data; the number of the seed decides the places of the trigger, alike for all methods."""

    def __init__(self, data: ImageData, trigger: Any, target_class: int, seed: int) -> None:
        self.data, self.trigger, self.target_class, self.seed = data, trigger, target_class, seed

    def rates(self, classifier: Classifier, number: int) -> Rates:
        rng = derived_rng(self.seed, "evaluation", number)
        fixed = frozen(classifier, self.data.images)
        return evaluate(fixed, self.data.images, self.data.labels, self.trigger, self.target_class, rng)

    def successes(self, classifier: Classifier, triggers: Tensor) -> list[float]:
        """The attack success rate of each of `triggers`."""
        rng = derived_rng(self.seed, "evaluation", "reversed")
        fixed = frozen(classifier, self.data.images)
        _, rates = testing_function(fixed, self.data.images, self.data.labels, triggers, self.target_class, rng)
        return rates.tolist()


def _reversed(embedding: Path) -> Tensor:
    tensors = read_tensors(embedding / "embedding.safetensors")
    return tensors["triggers"][tensors["group"] == REVERSED_GROUP]


def _measure_all(log: Log, measure: _Measure, undefended: Classifier, retrained: tuple[Path, ...]) -> list[DefenseRow]:
    listed = [
        (folder, description["method"], number)
        for folder in retrained
        for description in (read_json(folder / "retraining.json"),)
        for number in description["seeds"]
    ]
    before = {number: measure.rates(undefended, number) for number in sorted({number for _, _, number in listed})}
    rows = []
    for done, (folder, method, number) in enumerate(listed, 1):
        after = measure.rates(load_classifier(folder / f"seed-{number}", device()), number)
        rows.append(defense_row(method, number, before[number], after))
        log.reporter.step("classifier", done, len(listed), f"{method} seed {number}")
    return rows


def _method_order(settings: DefenseConfig, method: str) -> int:
    planned = settings.planned_methods()
    return planned.index(method) if method in planned else len(planned)


def _stair(trigger_staircase: Path, index: int, name: str) -> dict[str, Any]:
    return read_json(trigger_staircase / f"stair-{index}" / f"{name}.json")


def _draw(
    folder: Path,
    settings: DefenseConfig,
    found: dict[str, Any],
    data: ImageData,
    trigger: Any,
    staircase: Staircase,
    trigger_staircase: Path,
    embedding: Path,
) -> dict[str, Picture | list[Picture]]:
    rng = derived_rng(settings.seed, "pictures")
    others = (data.labels != settings.target_class).nonzero().squeeze(1)[:IMAGES_SHOWN]
    clean = data.images[others].cpu().float() / 255
    figures.draw_attack(clean, stamp(clean, trigger[None], rng), trigger, folder / "attack.png")
    figures.draw_methods(found["defenses"], found["before"], folder / "methods.png")
    stairs = range(len(staircase.betas))
    figures.draw_stairs(
        staircase.betas,
        [_stair(trigger_staircase, index, "curves")["generator"] for index in stairs],
        [_stair(trigger_staircase, index, "measurement")["F"] for index in stairs],
        folder / "stairs.png",
    )
    samples: list[Picture] = []
    for generator, beta in zip(staircase.generators, staircase.betas, strict=True):
        path = folder / f"samples_beta_{beta}.png"
        figures.draw_samples(generator.sample(SAMPLES_SHOWN, rng), beta, path)
        samples.append(Picture(path, f"Fresh samples of the generator for beta = {beta}"))
    shutil.copyfile(embedding / "tsne.png", folder / "tsne.png")
    return {
        "attack": Picture(folder / "attack.png", "Evaluation images, the same with the trigger, and the trigger"),
        "methods": Picture(folder / "methods.png", "Attack success rate per method: mean (bar) and each seed (dot)"),
        "stairs": Picture(folder / "stairs.png", "F and mutual information per epoch, and F over fresh samples"),
        "embedding": Picture(
            folder / "tsne.png",
            "t-SNE of the triggers: samples of each generator, the single reversed triggers, and the true trigger "
            "(left out when its size is not the one that was looked for)",
        ),
        "samples": samples,
    }


def _draw_training(folder: Path, backdoored_classifier: Path, retrained: tuple[Path, ...]) -> Picture:
    curves = {}
    for description in (read_json(part / "retraining.json") for part in retrained):
        first = description["curves"][str(min(description["seeds"]))]
        if first:
            curves[description["method"]] = first
    figures.draw_training(read_json(backdoored_classifier / "curves.json"), curves, folder / "training.png")
    return Picture(folder / "training.png", "Training curves: clean and poison training, the attack, the defences")


def _copy_ensemble_classifier(retrained: tuple[Path, ...], target: Path) -> None:
    descriptions = {folder: read_json(folder / "retraining.json") for folder in retrained}
    choices = [(min(d["seeds"]), folder) for folder, d in descriptions.items() if d["method"] == "ensemble"]
    seed, folder = min(choices)
    shutil.copytree(folder / f"seed-{seed}", target)


def _publish(run: TrackedRun, report: Path, found: dict[str, Any]) -> None:
    run.metrics({f"before_{rate}": value for rate, value in found["before"].items()})
    ensemble = next(line for line in found["summary"] if line["method"] == "ensemble")
    run.metrics({rate: ensemble[f"{rate}_mean"] for rate in RATES})
    run.files(report / "figures", "figures")
    run.files(report / "report.html")
    run.files(report / "results.json")
