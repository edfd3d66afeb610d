"""How well does a scan tell backdoored networks from clean ones? Measured on a zoo of networks trained from seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.zoo_networks import PLANTED, Kind, trained_network
from untrigger.artifacts import read_json, write_json
from untrigger.classifiers import Classifier, load_classifier, save_classifier
from untrigger.datasets.images import Split
from untrigger.datasets.sources import read_split
from untrigger.errors import UserError
from untrigger.measurements import MASK, Measured
from untrigger.networks.devices import device
from untrigger.neural_cleanse import FLAGGED
from untrigger.profiles import references_config
from untrigger.scanning import scan_classifier
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.scans import ReferencesConfig, ScanSettings
from untrigger.verdicts import Verdict, references_needed, verdict_on

PROFILES = {"digits": "demo", "cifar10": "cpu"}
"""Classifier, training and split of a zoo are those of a profile."""

COUNTS: dict[str, dict[Kind, int]] = {
    "digits": {"reference": 99, "clean": 40, "backdoored": 40},
    "cifar10": {"reference": 19, "clean": 20, "backdoored": 20},
}
OTHERS = 5
"""Networks of each of the kinds that are reported apart."""

NORMAL95 = 1.96
"""Standard errors in half a 95 % interval."""

LEVELS = (0.05, 0.01)

Line = dict[str, Any]
"""What is kept of one network."""


def measure_zoo(
    dataset: str,
    address: str | None,
    counts: Mapping[str, int | None],
    folder: Path,
    budget: str,
    json_file: Path | None,
) -> None:
    """Train and scan what the folder does not hold yet, a line of JSON each, and print what the scans tell apart.

    address: where the data lie, when that is not the dataset's own place.
    """
    changes = {"dataset": address} if address else {}
    config = references_config(PROFILES[dataset], changes, ReferencesConfig)
    settings = ScanSettings.of({"budget": budget})
    wanted: dict[Kind, int | None] = {kind: counts.get(kind) for kind in get_args(Kind)}
    numbers = {kind: COUNTS[dataset].get(kind, OTHERS) if count is None else count for kind, count in wanted.items()}
    lines = _scanned(config, settings, numbers, folder)
    found = summary(lines, numbers)
    console = Console()
    console.print(_table(found, f"{dataset}, {budget} budget"))
    for each in found["missed"]:
        console.print(f"missed: {each}", soft_wrap=True)
    console.print(description(device()), soft_wrap=True)
    if json_file is not None:
        write_json(json_file, found)


def _scanned(config: ReferencesConfig, settings: ScanSettings, numbers: Mapping[Kind, int], folder: Path) -> list[Line]:
    """A line per network of the plan, from the folder where this search of it is there already."""
    settled = {"config": config.record(), "scan": settings.record()}
    path = folder / "networks.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if any(line["config"] != settled["config"] for line in kept):
        raise UserError(f"{path} was measured on networks of other settings: choose another folder")
    known = {(line["kind"], line["number"]): line for line in kept if settled.items() <= line.items()}
    split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
    lines = []
    for kind, count in numbers.items():
        for number in range(count):
            if (kind, number) not in known:
                model, told = _network(kind, number, config, split, folder / f"{kind}-{number:02d}")
                scan = scan_classifier(model, split.defender, settings, rng=derived_rng(config.seed, "scan"))
                line = {"kind": kind, "number": number, **settled, "told": told, "measured": scan.measured.model_dump()}
                with path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                known[kind, number] = json.loads(json.dumps(line))
                print(f"{kind} {number + 1} of {count}: {_short(scan.measured)} {told}", flush=True)
            lines.append(known[kind, number])
    return lines


def _network(
    kind: Kind, number: int, config: ReferencesConfig, split: Split, folder: Path
) -> tuple[Classifier, dict[str, Any]]:
    """The network of this kind and number and what is known of it, from its folder where it was trained already."""
    note = folder / "told.json"
    if not note.exists():
        model, told = trained_network(kind, number, config, split)
        save_classifier(model, folder)
        write_json(note, {"config": config.record(), "told": told})
    kept = read_json(note)
    if kept["config"] != config.record():
        raise UserError(f"{folder} was trained with other settings: choose another folder")
    return load_classifier(folder), kept["told"]


def _short(measured: Measured) -> str:
    return " ".join(f"{search} {value:.2f}" for search, value in measured.statistics().items())


def summary(lines: Sequence[Line], numbers: Mapping[Kind, int]) -> dict[str, Any]:
    """Every network judged by the references: rates, and the baseline on the same networks."""
    measured = {kind: [Measured.of(line["measured"]) for line in lines if line["kind"] == kind] for kind in numbers}
    references = [each.statistics() for each in measured["reference"]]
    verdicts = {
        kind: [verdict_on(each.statistics(), references, LEVELS[0]) for each in measured[kind]]
        for kind in numbers
        if kind != "reference"
    }
    planted = [line for line in lines if line["kind"] == "backdoored"]
    # A network in which no drawn attack took is no backdoored one.
    took = [line["told"]["attack_success"] >= PLANTED for line in planted]
    networks = [each for each, is_one in zip(measured["backdoored"], took, strict=True) if is_one]
    judged = [each for each, is_one in zip(verdicts["backdoored"], took, strict=True) if is_one]
    told = [line["told"] for line, is_one in zip(planted, took, strict=True) if is_one]
    found = [_found(each, LEVELS[0]) for each in judged]
    right = [
        network.best(verdict.search or "").target_class == attack["target"]
        for network, verdict, attack, is_found in zip(networks, judged, told, found, strict=True)
        if is_found
    ]
    clean_scores, scores = _scores(verdicts["clean"], judged)
    fine = len(references) >= references_needed(LEVELS[1])
    return {
        "references": len(references),
        "clean": len(verdicts["clean"]),
        "backdoored": len(judged),
        **auroc(clean_scores, scores),
        "roc": roc(clean_scores, scores),
        "tpr_at_5": _share(found),
        "tpr_at_1": _share([_found(each, LEVELS[1]) for each in judged]) if fine else None,
        "false_alarms": sum(_found(each, LEVELS[0]) for each in verdicts["clean"]),
        "target_right": _share(right),
        "seconds_median": statistics.median(each.seconds for each in measured["reference"]),
        "mask_seconds_median": statistics.median(each.mask_seconds for each in measured["reference"]),
        "neural_cleanse": _neural_cleanse(measured["clean"], networks),
        "missed": [attack for attack, is_found in zip(told, found, strict=True) if not is_found],
        "apart": {
            kind: {"networks": len(each), "called backdoored": sum(_found(verdict, LEVELS[0]) for verdict in each)}
            for kind, each in verdicts.items()
            if kind not in ("clean", "backdoored") and each
        },
    }


def _found(verdict: Verdict, level: float) -> bool:
    return verdict.p_value is not None and verdict.p_value <= level + 1e-9


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _scores(clean: Sequence[Verdict], backdoored: Sequence[Verdict]) -> tuple[list[int], list[int]]:
    """How suspicious each network is among all: by its p-value, then by its lead."""
    keys = [(-(each.p_value or 0.0), each.lead) for each in (*clean, *backdoored)]
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    places = [order[key] for key in keys]
    return places[: len(clean)], places[len(clean) :]


def auroc(clean: Sequence[float], backdoored: Sequence[float]) -> dict[str, float | None]:
    """The area under the ROC curve and its 95 % interval, which has a width where nothing is confused, too.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
    Statistics in Medicine 25, 2006, method 5.
    """
    from sklearn.metrics import roc_auc_score

    if not clean or not backdoored:
        return {"auroc": None, "low": None, "high": None}
    counts = (len(clean), len(backdoored))
    area = float(roc_auc_score([0] * counts[0] + [1] * counts[1], [*clean, *backdoored]))
    return {"auroc": area, "low": _lowest(area, *counts), "high": 1 - _lowest(1 - area, *counts)}


def roc(clean: Sequence[float], backdoored: Sequence[float]) -> list[dict[str, float]]:
    """The ROC curve: the shares of clean and of backdoored networks from each score on, the highest score first."""
    from sklearn.metrics import roc_curve

    if not clean or not backdoored:
        return []
    alarms, found, _ = roc_curve([0] * len(clean) + [1] * len(backdoored), [*clean, *backdoored])
    return [{"false_alarms": float(a), "found": float(b)} for a, b in zip(alarms, found, strict=True)]


def _lowest(area: float, clean: int, backdoored: int) -> float:
    """The smallest true area from which `area` is no further than its standard error there allows."""
    from scipy.optimize import brentq

    others = (clean + backdoored) / 2 - 1

    def short(true: float) -> float:
        spread = 1 + others * ((1 - true) / (2 - true) + true / (1 + true))
        return area - true - NORMAL95 * math.sqrt(true * (1 - true) * spread / (clean * backdoored))

    return float(brentq(short, 0.0, min(area, 1 - 1e-9))) if area > 0 else 0.0


def _neural_cleanse(clean: Sequence[Measured], backdoored: Sequence[Measured]) -> dict[str, Any]:
    """The published rule on the same networks: backdoored where an index is above 2."""
    scores = [[max(arm.index or 0.0 for arm in each.by(MASK)) for each in group] for group in (clean, backdoored)]
    flagged = [[score > FLAGGED for score in group] for group in scores]
    above = float(np.quantile(scores[0], 0.95)) if scores[0] else math.inf
    return {
        **auroc(*scores),
        "tpr": _share(flagged[1]),
        "false_alarms": sum(flagged[0]),
        "tpr_at_5": _share([score > above for score in scores[1]]),
    }


def _table(found: Mapping[str, Any], title: str) -> Table:
    table = Table(
        title=f"{title}: {found['references']} references, {found['clean']} clean, {found['backdoored']} backdoored"
    )
    for name in ("", "AUROC (95 %)", "TPR at 5 %", "at 1 %", "false alarms", "target right", "seconds"):
        table.add_column(name, justify="right")
    seconds = f"{found['seconds_median']:.0f} + {found['mask_seconds_median']:.0f}"
    names = ("tpr_at_5", "tpr_at_1", "false_alarms", "target_right")
    table.add_row("scan", _area(found), *(_cell(found[name]) for name in names), seconds)
    baseline = found["neural_cleanse"]
    table.add_row("Neural Cleanse", _area(baseline), _cell(baseline["tpr_at_5"]), "", "", "", "")
    table.add_row("index > 2", "", f"TPR {_cell(baseline['tpr'])}", "", _cell(baseline["false_alarms"]), "", "")
    for kind, each in found["apart"].items():
        table.add_row(kind.replace("_", " "), "", f"{each['called backdoored']} of {each['networks']}", "", "", "", "")
    return table


def _area(found: Mapping[str, Any]) -> str:
    return "" if found["auroc"] is None else f"{found['auroc']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value}" if isinstance(value, int) else f"{100 * value:.1f} %"
