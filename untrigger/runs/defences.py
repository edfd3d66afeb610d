"""The defence of a model of others in one go, from its name to a retrained model, a result and a report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from untrigger import __version__
from untrigger.artifacts import parse_object, read_text
from untrigger.checkpoints.models import OpenedModel, open_model
from untrigger.datasets.sources import read_split
from untrigger.errors import UserError
from untrigger.model_defences import Closing, Found, close_model
from untrigger.networks.devices import device
from untrigger.reports.defences import DefenceResult
from untrigger.reports.scans import ScanResult, folder_name
from untrigger.runs.output_folder import OutputFolder
from untrigger.runs.scans import scan_models
from untrigger.scanning import OnWork
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.defences import DefendConfig
from untrigger.stages.kept_snapshots import LocalFolders, Snapshots


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
    folder = told.output / folder_name(name, opened.sha256)
    closing = Closing(opened, config, data, heldout, None, told.references, folder, began)
    if config.scans:
        closing = replace(closing, scanned=_scanned(name, opened, told))
    found = Found.of(closing.scanned, config, opened.classifier.classes)
    with OutputFolder(folder).locked():
        kept = Snapshots(LocalFolders(folder / ".snapshots"), _call(opened, config, found), told.say)
        result = close_model(closing, say=told.say, on_work=told.on_work, snapshot=kept.of)
        kept.clear()
    return result


def _scanned(name: str, opened: OpenedModel, told: Defending) -> ScanResult:
    """What a scan says of the model: an earlier one, or one that is made now."""
    if told.scan is None:
        references, output = told.references, told.output / "scan"
        scanned = scan_models([name], told.config, references, output, say=told.say, on_work=told.on_work)
        return scanned.results[0]
    source = f"the scan {told.scan}"
    content = parse_object(read_text(told.scan, source), source)
    content.pop("format", None)
    found = ScanResult.of(content, source)
    if found.sha256 != opened.sha256:
        raise UserError(f"{told.scan} is the scan of another model, {found.model}: scan {name} first")
    return found


def _call(opened: OpenedModel, config: DefendConfig, found: Found) -> str:
    """What stands for all that the trainings depend on."""
    told = [opened.sha256, opened.reading, config.record(), found.named(), __version__]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
