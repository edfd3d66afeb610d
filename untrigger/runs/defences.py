"""The defence of a model of others, from its name to a retrained model, a result and a report."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from untrigger import __version__
from untrigger.artifacts import parse_object, read_text, write_tensors
from untrigger.checkpoints.models import OpenedModel, open_model
from untrigger.classifiers import Classifier, load_classifier, save_classifier
from untrigger.datasets.images import ImageData
from untrigger.datasets.sources import read_split
from untrigger.defending import Defence, Opened, Task, defend, opened_by
from untrigger.errors import UserError
from untrigger.metrics import predict
from untrigger.networks.devices import device
from untrigger.references import NetworkKind, check_alike, reference_places
from untrigger.reports.defences import DefenceResult, Outcome, write_defence_report
from untrigger.reports.pages import Picture
from untrigger.reports.scans import ScanResult
from untrigger.runs.scans import scan_models
from untrigger.scanning import OnWork
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.defences import DefendConfig
from untrigger.stages.kept_snapshots import LocalFolders, Snapshots
from untrigger.triggers import stamp

SHOWN = 8
"""Images and triggers in the pictures."""

COMPARED = 5
"""References in which is searched for what is usual."""


@dataclass(frozen=True)
class Defending:
    """What one command is told, and who is told how it goes. scan: the file of an earlier scan of the model."""

    config: DefendConfig
    output: Path
    say: Callable[[str], None]
    on_work: OnWork | None = None
    references: Path | None = None
    scan: Path | None = None


def defend_model(name: str, told: Defending) -> DefenceResult:
    """Find what opens a model, unless that is given, close it, and write all that came of it below the output folder.

    Nothing is written of a model in which nothing is found. Interrupted trainings go on when the call is made again.
    """
    began, config = time.perf_counter(), told.config
    split = read_split(config.dataset, config.data, seed=derived_seed(config.seed, "split"))
    data, heldout = split.defender.to(device()), split.evaluation.to(device())
    opened = open_model(name, config.classifier, data, rng=derived_rng(config.seed, "normalisation"))
    if opened.reading:
        told.say(f"{name} is taken as {opened.reading}")
    folder = told.output / f"{Path(name).stem}-{opened.sha256[:8]}"
    scanned = _scanned(name, opened, told)
    known: dict[str, Any] = {"config": config.record(), "dataset": config.dataset}
    known["scanned"] = None if scanned is None else scanned.sentence
    found = _Found.of(scanned, config)
    if found.size is None or found.target_class is None:
        accuracy = Opened(accuracy=_accuracy(opened.classifier, heldout))
        known |= {"outcome": found.outcome, "before": accuracy, "after": accuracy}
        return _finished(folder, opened, known, began, [])
    task = Task(found.target_class, found.size, data, heldout, config, config.seed)
    usual = None if told.references is None else _usual(told.references, opened.classifier, task, told.on_work)
    if usual is not None and usual.strongest_F is not None:
        task = task.until(max(config.retraining.round_level, usual.strongest_F))
    kept = Snapshots(LocalFolders(folder / ".snapshots"), _call(opened, config, found), told.say)
    defence = defend(opened.classifier, task, on_work=told.on_work, on_round=_told_rounds(told.say), snapshot=kept.of)
    known |= {"target_name": data.class_names[found.target_class], "usual": usual, **found.named()}
    known |= _done(defence, task, None if defence.classifier is None else _write(folder, opened, defence.classifier))
    result = _finished(folder, opened, known, began, _drawn(folder, defence, task))
    kept.clear()
    return result


@dataclass(frozen=True)
class _Found:
    """What is to be closed; neither class nor size where there is nothing."""

    outcome: Outcome
    target_class: int | None = None
    size: int | None = None

    @classmethod
    def of(cls, scanned: ScanResult | None, config: DefendConfig) -> _Found:
        if scanned is None:
            return cls("closed", config.target_class, config.patch_size)
        if scanned.verdict == "backdoor found":
            return cls("no patch") if scanned.size is None else cls("closed", scanned.target_class, scanned.size)
        return cls("nothing found" if scanned.verdict == "nothing found" else "not calibrated")

    def named(self) -> dict[str, int | None]:
        return {"target_class": self.target_class, "size": self.size}


def _scanned(name: str, opened: OpenedModel, told: Defending) -> ScanResult | None:
    """What a scan says of the model: an earlier one, or one that is made now; None where class and size are given."""
    if told.config.target_class is not None:
        if told.config.target_class >= opened.classifier.classes:
            raise UserError(f"--target-class must be below {opened.classifier.classes}, got {told.config.target_class}")
        return None
    if told.scan is None:
        references, output = told.references, told.output / "scan"
        (found,) = scan_models([name], told.config, references, output, say=told.say, on_work=told.on_work)
        return found
    source = f"the scan {told.scan}"
    content = parse_object(read_text(told.scan, source), source)
    content.pop("format", None)
    found = ScanResult.of(content, source)
    if found.sha256 != opened.sha256:
        raise UserError(f"{told.scan} is the scan of another model, {found.model}: scan {name} first")
    return found


def _usual(references: Path, suspect: Classifier, task: Task, on_work: OnWork | None) -> Opened:
    """The median of what the same search finds in some clean references: networks that hold no backdoor open, too."""
    places, found, kind = reference_places(references)[:COMPARED], [], NetworkKind.of_classifier(suspect)
    for number, place in enumerate(places, 1):
        reference = load_classifier(place, task.data.images.device)
        check_alike(f"{place}", NetworkKind.of_classifier(reference), kind)
        left = task.search(reference, derived_rng(task.seed, "strongest before"))
        found.append(opened_by(reference, left, task))
        if on_work is not None:
            on_work("strongest triggers of references", number, len(places))
    columns = zip(*(each.model_dump().items() for each in found), strict=True)
    return Opened.of({cells[0][0]: statistics.median(value for _, value in cells) for cells in columns})


def _done(defence: Defence, task: Task, written: Path | None) -> dict[str, Any]:
    after = defence.after or defence.before
    left = after.strongest_F or 0.0
    outcome: Outcome = "still open" if left > task.settings.retraining.round_level else "closed"
    return {
        "outcome": outcome if defence.classifier is not None else "nothing found",
        "before": defence.before,
        "after": after,
        "rounds": defence.rounds,
        "written": None if written is None else str(written.resolve()),
    }


def _write(folder: Path, opened: OpenedModel, classifier: Classifier) -> Path:
    """The retrained model as it came: a model file, or the folder of a run."""
    if opened.foreign is not None:
        return opened.foreign.write(classifier, folder)
    save_classifier(classifier, folder / "classifier")
    return folder / "classifier"


def _finished(
    folder: Path, opened: OpenedModel, known: dict[str, Any], began: float, pictures: list[Picture]
) -> DefenceResult:
    result = DefenceResult.of({**opened.identity(), **known, "seconds": time.perf_counter() - began})
    result.save(folder)
    write_defence_report(folder / "report.html", result, pictures)
    return result


def _accuracy(classifier: Classifier, data: ImageData) -> float:
    return (predict(classifier, data.images).argmax(1) == data.labels).double().mean().item()


def _told_rounds(say: Callable[[str], None]) -> Callable[[int, float], None]:
    return lambda number, strongest: say(f"round {number}: F of the strongest trigger left {strongest:.3f}")


def _drawn(folder: Path, defence: Defence, task: Task) -> list[Picture]:
    """Images with the strongest trigger found before, and the strongest ones found before and after."""
    from untrigger.reports.figures import draw_attack, draw_found

    others = (task.heldout.labels != task.target_class).nonzero().squeeze(1)[:SHOWN]
    images, trigger = task.heldout.images[others].cpu().float() / 255, defence.found_before.triggers[0].cpu()
    draw_attack(images, stamp(images, trigger[None], derived_rng(0, "picture")), trigger, folder / "attack.png")
    found = {"before": defence.found_before} | ({"after": defence.found_after} if defence.found_after else {})
    rows: dict[str, list[Tensor]] = {name: list(each.triggers[:SHOWN].cpu()) for name, each in found.items()}
    titles = [[f"F {strength:.2f}" for strength in each.strengths[:SHOWN].tolist()] for each in found.values()]
    draw_found(rows, titles, folder / "triggers.png")
    write_tensors(folder / "triggers.safetensors", {name: each.triggers for name, each in found.items()})
    attack = "Images held out, the same with the strongest trigger found before the defence, and that trigger"
    return [
        Picture(folder / "attack.png", attack),
        Picture(folder / "triggers.png", "The strongest triggers that the search found before and after, with their F"),
    ]


def _call(opened: OpenedModel, config: DefendConfig, found: _Found) -> str:
    """What stands for all that the trainings depend on."""
    told = [opened.sha256, opened.reading, config.record(), found.named(), __version__]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
