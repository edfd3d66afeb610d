"""The defence of a model of others that was opened and scanned: closed, measured, written down.

A command and a stage do the same with it.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from untrigger.artifacts import write_tensors
from untrigger.attacks.attack import Attack
from untrigger.attacks.patch import patch
from untrigger.checkpoints.foreign import FOREIGN_FILES
from untrigger.checkpoints.models import OpenedModel
from untrigger.classifiers import Classifier, load_classifier, save_classifier, tempered
from untrigger.datasets.images import ImageData
from untrigger.defending import (
    Defence,
    MaskTask,
    OfTraining,
    PatchTask,
    Task,
    defend,
    defend_under_mask,
)
from untrigger.errors import UserError
from untrigger.measurements import MASK, Left, Opened
from untrigger.metrics import predict
from untrigger.neural_cleanse import Masks, UnderMasks
from untrigger.references import NetworkKind, check_alike, reference_places
from untrigger.reports.defences import DefenceResult, Outcome, write_defence_report
from untrigger.reports.pages import Picture
from untrigger.reports.scans import ScanResult
from untrigger.scanning import OnWork
from untrigger.seeding import derived_rng
from untrigger.settings.defences import DefendConfig
from untrigger.snapshots import UNKEPT
from untrigger.strongest_triggers import FoundTriggers

DRAWN = ("attack.png", "triggers.png", "triggers.safetensors")

SHOWN = 8
"""Images and triggers in the pictures."""

MOST_LOST = 0.1
"""Of the clean accuracy; a network that answers one class alone is closed for all others."""

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
    if closing.scanned is not None:
        known["scanned"] = "; ".join(closing.scanned.sentences)
        for doubt in closing.scanned.doubts:
            say(f"warning: the verdict of the scan is doubtful: {doubt}")
    found = Found.of(closing.scanned, config, opened.classifier.classes)
    if found.target_class is None:
        accuracy = Opened(accuracy=_accuracy(opened.classifier, closing.heldout))
        known |= {"outcome": found.outcome, "before": accuracy, "after": accuracy}
        _clear(closing.folder)
        return _finished(closing, known, [])
    task = Task(found.target_class, data, closing.heldout, config, config.seed)
    work = _Work(closing, say, on_work, snapshot)
    closed = work.against_mask(task) if found.size is None else work.against_patches(task, found.size)
    known |= {"target_name": data.class_names[found.target_class], **found.named(), **closed.told()}
    _clear(closing.folder)
    pictures = _drawn(closing.folder, closed.defence, task)
    known["written"] = None if closed.defence.classifier is None else _write(closing, closed.defence.classifier)
    return _finished(closing, known, pictures)


@dataclass(frozen=True)
class _Closed:
    """What was done, and what is usual in clean references. was_found: whether a scan had called it a backdoor."""

    defence: Defence
    usual: Opened | None
    was_found: bool

    def told(self) -> dict[str, Any]:
        """As results name it."""
        defence = self.defence
        return {
            "outcome": self._outcome,
            "before": defence.before,
            "after": defence.after or defence.before,
            "rounds": defence.rounds,
            "allowed": defence.allowed,
            "usual": self.usual,
        }

    @property
    def _outcome(self) -> Outcome:
        before, after = self.defence.before, self.defence.after
        if after is None:
            return "not reproduced" if self.was_found else "nothing found"
        if not self.defence.closed:
            return "still open"
        return "spoilt" if before.accuracy - after.accuracy > MOST_LOST else "closed"


@dataclass(frozen=True)
class _Work:
    """The defence at work, and who is told how it goes."""

    closing: Closing
    say: Callable[[str], None]
    on_work: OnWork | None
    snapshot: OfTraining

    def against_patches(self, task: Task, size: int) -> _Closed:
        """Close what patches of this size open, until the search finds no more than in clean references."""
        config = self.closing.config
        patches = PatchTask(task.target_class, task.data, task.heldout, config, config.seed, size)
        usual = self._usual(patches)
        if usual is not None and usual.strongest_F is not None:
            patches = patches.until(max(config.retraining.round_level, usual.strongest_F))
        defence = defend(
            self._suspect, patches, on_work=self.on_work, on_round=self._tell_round, snapshot=self.snapshot
        )
        return _Closed(defence, usual, self._was_found)

    def against_mask(self, task: Task) -> _Closed:
        """Close what a mask opens, until the smallest is as large as in clean references, or as those of other classes.

        Without references the median of the masks that the scan found for the other classes counts.
        """
        config = self.closing.config
        masks = MaskTask(task.target_class, task.data, task.heldout, config, config.seed, config.scan.masks)
        usual = self._usual(masks)
        level = _norm_of_others(self.closing.scanned, task.target_class) if usual is None else usual.mask
        if level is None:
            raise UserError("the scan found no masks for other classes to compare with: give --references")
        defence = defend_under_mask(
            self._suspect, masks, level, on_work=self.on_work, on_round=self._tell_round, snapshot=self.snapshot
        )
        return _Closed(defence, usual, self._was_found)

    @property
    def _was_found(self) -> bool:
        scanned = self.closing.scanned
        return scanned is not None and scanned.verdict == "backdoor found"

    @property
    def _suspect(self) -> Classifier:
        return tempered(self.closing.opened.classifier, self.closing.data.images)

    def _tell_round(self, number: int, left: Left) -> None:
        found = f"F of the strongest trigger left {left.strongest_F:.3f}"
        if left.mask is not None:
            found = f"the smallest mask left has {left.mask:.0f} pixels; where the first one lay, {found}"
        self.say(f"round {number}: {found}")

    def _usual(self, task: PatchTask | MaskTask) -> Opened | None:
        """The median of what the same search finds in some clean references: networks without a backdoor open, too."""
        if self.closing.references is None:
            return None
        places, kind = reference_places(self.closing.references)[:COMPARED], NetworkKind.of_classifier(self._suspect)
        found = []
        for number, place in enumerate(places, 1):
            reference = tempered(load_classifier(place, task.data.images.device), task.data.images)
            check_alike(f"{place}", NetworkKind.of_classifier(reference), kind)
            found.append(task.opens(reference))
            if self.on_work is not None:
                self.on_work("what opens references", number, len(places))
        columns = zip(*(each.model_dump().items() for each in found), strict=True)
        return Opened.of({cells[0][0]: statistics.median(value for _, value in cells) for cells in columns})


@dataclass(frozen=True)
class Found:
    """What is to be closed, by patches of a size or, where it is None, by a mask; no class where there is nothing."""

    outcome: Outcome
    target_class: int | None = None
    size: int | None = None

    @classmethod
    def of(cls, scanned: ScanResult | None, config: DefendConfig, classes: int) -> Found:
        """What was given or found; UserError for a target class that is none of the model's."""
        if config.target_class is not None and config.target_class >= classes:
            raise UserError(f"--target-class must be below {classes}, got {config.target_class}")
        if config.target_class is not None or scanned is None:
            return cls("closed", config.target_class, config.patch_size)
        if scanned.verdict == "backdoor found":
            return cls("closed", scanned.target_class, scanned.size)
        return cls("nothing found" if scanned.verdict == "nothing found" else "not calibrated")

    def named(self) -> dict[str, int | None]:
        """As results name them."""
        return {"target_class": self.target_class, "size": self.size}


def _norm_of_others(scanned: ScanResult | None, target: int) -> float | None:
    """The median norm of the masks for the other classes, in pixels."""
    masks = [] if scanned is None else scanned.measured.by(MASK)
    norms = [arm.norm for arm in masks if arm.norm is not None and arm.target_class != target]
    return statistics.median(norms) if norms else None


def _clear(folder: Path) -> None:
    """Delete what an earlier defence left, so that nothing of it stands beside what this one says."""
    for name in (DefenceResult.FILE, "report.html", *FOREIGN_FILES, *DRAWN):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "classifier", ignore_errors=True)


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


def _drawn(folder: Path, defence: Defence, task: Task) -> list[Picture]:
    """Images with what was found before, and that beside what was found after."""
    from untrigger.reports.figures import draw_attack, draw_found

    others = (task.heldout.labels != task.target_class).nonzero().squeeze(1)[:SHOWN]
    images = task.heldout.images[others].cpu().float() / 255
    found = {"before": defence.found_before} | ({"after": defence.found_after} if defence.found_after else {})
    attack, first = _attack(defence.found_before)
    draw_attack(images, attack.stamp(images, derived_rng(0, "picture")), first, folder / "attack.png")
    rows = {name: list(_shown(each).cpu()) for name, each in found.items()}
    draw_found(rows, [_titles(each) for each in found.values()], folder / "triggers.png")
    write_tensors(folder / "triggers.safetensors", {name: _kept(each) for name, each in found.items()})
    told = "Images held out, the same with what opened them most before the defence, and that by itself"
    return [
        Picture(folder / "attack.png", told),
        Picture(
            folder / "triggers.png",
            "What the search found before and after: the strongest triggers with their F, or mask times pattern with "
            "the norm of the mask",
        ),
    ]


def _attack(found: FoundTriggers | Masks) -> tuple[Attack, Tensor]:
    """What was found as an attack, and its picture, float (3, h, w) in [0, 1]."""
    attack = UnderMasks(found) if isinstance(found, Masks) else patch(found.triggers[0].cpu())
    return attack, _shown(found)[0].cpu()


def _shown(found: FoundTriggers | Masks) -> Tensor:
    return found.shown if isinstance(found, Masks) else found.triggers[:SHOWN]


def _titles(found: FoundTriggers | Masks) -> list[str]:
    if isinstance(found, Masks):
        return [f"{norm:.0f} px" for norm in found.norms.tolist()]
    return [f"F {strength:.2f}" for strength in found.strengths[:SHOWN].tolist()]


def _kept(found: FoundTriggers | Masks) -> Tensor:
    """The triggers, or the mask as a fourth channel, the last, beside its pattern: float (k, 4, h, w)."""
    return torch.cat([found.patterns, found.masks[:, None]], 1) if isinstance(found, Masks) else found.triggers
