"""The defence of a model of others that was opened and scanned: closed, measured, written down.

A command and a stage do the same with it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from untrigger.artifacts import write_tensors
from untrigger.checkpoints.models import OpenedModel
from untrigger.classifiers import Classifier, load_classifier, save_classifier
from untrigger.datasets.images import ImageData
from untrigger.defending import Defence, OfTraining, Opened, Task, defend, opened_by
from untrigger.errors import UserError
from untrigger.metrics import predict
from untrigger.references import NetworkKind, check_alike, reference_places
from untrigger.reports.defences import DefenceResult, Outcome, write_defence_report
from untrigger.reports.pages import Picture
from untrigger.reports.scans import ScanResult
from untrigger.scanning import OnWork
from untrigger.seeding import derived_rng
from untrigger.settings.defences import DefendConfig
from untrigger.snapshots import UNKEPT
from untrigger.triggers import stamp

SHOWN = 8
"""Images and triggers in the pictures."""

COMPARED = 5
"""References in which is searched for what is usual."""


@dataclass(frozen=True)
class Closing:
    """A model that is to be closed, unless nothing was found in it.

    scanned: what a scan said of it; None where class and patch size are given. references: a folder of clean models.
    folder: where all is written. began: when the clock started that the result tells. within: the result tells where
    the retrained model lies as seen from the folder.
    """

    opened: OpenedModel
    config: DefendConfig
    data: ImageData
    heldout: ImageData
    scanned: ScanResult | None
    references: Path | None
    folder: Path
    began: float
    within: bool = False


def close_model(
    closing: Closing,
    *,
    say: Callable[[str], None],
    on_work: OnWork | None = None,
    snapshot: OfTraining = lambda _: UNKEPT,
) -> DefenceResult:
    """Close what was found, and write all that came of it; where nothing was found that is all that is written."""
    opened, config, data = closing.opened, closing.config, closing.data
    known: dict[str, Any] = {"config": config.record(), "dataset": config.dataset}
    known["scanned"] = None if closing.scanned is None else closing.scanned.sentence
    found = Found.of(closing.scanned, config, opened.classifier.classes)
    if found.size is None or found.target_class is None:
        accuracy = Opened(accuracy=_accuracy(opened.classifier, closing.heldout))
        known |= {"outcome": found.outcome, "before": accuracy, "after": accuracy}
        return _finished(closing, known, [])
    task = Task(found.target_class, found.size, data, closing.heldout, config, config.seed)
    usual = None if closing.references is None else _usual(closing.references, opened.classifier, task, on_work)
    if usual is not None and usual.strongest_F is not None:
        task = task.until(max(config.retraining.round_level, usual.strongest_F))
    defence = defend(opened.classifier, task, on_work=on_work, on_round=_told_rounds(say), snapshot=snapshot)
    known |= {"target_name": data.class_names[found.target_class], "usual": usual, **found.named()}
    known |= _done(defence, task, None if defence.classifier is None else _write(closing, defence.classifier))
    return _finished(closing, known, _drawn(closing.folder, defence, task))


@dataclass(frozen=True)
class Found:
    """What is to be closed; neither class nor size where there is nothing."""

    outcome: Outcome
    target_class: int | None = None
    size: int | None = None

    @classmethod
    def of(cls, scanned: ScanResult | None, config: DefendConfig, classes: int) -> Found:
        """What was given or found; UserError for a target class that is none of the model's."""
        if config.target_class is not None and config.target_class >= classes:
            raise UserError(f"--target-class must be below {classes}, got {config.target_class}")
        if scanned is None:
            return cls("closed", config.target_class, config.patch_size)
        if scanned.verdict == "backdoor found":
            return cls("no patch") if scanned.size is None else cls("closed", scanned.target_class, scanned.size)
        return cls("nothing found" if scanned.verdict == "nothing found" else "not calibrated")

    def named(self) -> dict[str, int | None]:
        """As results name them."""
        return {"target_class": self.target_class, "size": self.size}


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


def _done(defence: Defence, task: Task, written: str | None) -> dict[str, Any]:
    after = defence.after or defence.before
    left = after.strongest_F or 0.0
    outcome: Outcome = "still open" if left > task.settings.retraining.round_level else "closed"
    return {
        "outcome": outcome if defence.classifier is not None else "nothing found",
        "before": defence.before,
        "after": after,
        "rounds": defence.rounds,
        "written": written,
    }


def _write(closing: Closing, classifier: Classifier) -> str:
    """The retrained model as it came, a model file or the folder of a run; where it lies."""
    foreign, written = closing.opened.foreign, closing.folder / "classifier"
    if foreign is not None:
        written = foreign.write(classifier, closing.folder)
    else:
        save_classifier(classifier, written)
    return str(written.relative_to(closing.folder) if closing.within else written.resolve())


def _finished(closing: Closing, known: dict[str, Any], pictures: list[Picture]) -> DefenceResult:
    seconds = time.perf_counter() - closing.began
    result = DefenceResult.of({**closing.opened.identity(), **known, "seconds": seconds})
    result.save(closing.folder)
    write_defence_report(closing.folder / "report.html", result, pictures)
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
