"""What scans of models found: the typed result, its sentence, and its page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from untrigger import __version__
from untrigger.measurements import MASK, Arm, Measured
from untrigger.reports.pages import Picture, write_page
from untrigger.settings.base import Stored
from untrigger.verdicts import Verdict

LONGEST = 50
"""Letters of a model's name in that of its folder: file systems allow 255 bytes, which any letter may take four of."""


def folder_name(model: str, sha256: str) -> str:
    """What the folder of a model is called."""
    return f"{Path(model).stem[:LONGEST]}-{sha256[:8]}"


class ModelResult(Stored):
    """Which model a result is about: its name, what its file was taken for, and the data that it is for."""

    model: str
    sha256: str
    kind: str
    dialect: str
    reading: str
    architecture: str
    dataset: str

    @property
    def folder(self) -> str:
        """The name of the folder that all lies in."""
        return folder_name(self.model, self.sha256)


class ScanResult(ModelResult):
    """What a scan says of one model. Classes are told where a backdoor was found, or where there is only a ranking.

    accuracy: on some of the defender's images. doubts: why the rate of false alarms may not be the stated one.
    """

    FILE = "scan.json"

    accuracy: float
    verdict: str
    level: float
    p_value: float | None
    target_class: int | None
    target_name: str | None
    size: int | None
    search: str | None
    lead: float
    references: int
    needed: int | None
    ranks: dict[str, float]
    statistics: dict[str, float]
    arms: tuple[Arm, ...]
    seconds: float
    mask_seconds: float
    doubts: tuple[str, ...] = ()
    version: str = __version__
    config: dict[str, Any]

    @property
    def measured(self) -> Measured:
        """The arms as they were measured."""
        told = Measured.model_fields.keys()
        return Measured(**{name: value for name, value in self if name in told})

    @property
    def marked_verdict(self) -> str:
        """The verdict, marked where it is doubtful."""
        return f"{self.verdict}, doubtful" if self.doubts else self.verdict

    @property
    def sentences(self) -> list[str]:
        """The verdict, and what casts doubt on it."""
        return [self.sentence, *(f"doubtful: {doubt}" for doubt in self.doubts)]

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        by = "" if self.p_value is None else f"p = {self.p_value:.3g} with {self.references} clean references"
        if self.verdict == "backdoor found":
            return f"backdoor found in {self.model}: {self._opened}; {by}, level {self.level:g}"
        if self.verdict == "nothing found":
            return f"nothing found in {self.model} at level {self.level:g} by this search: {by}"
        if not self.references:
            return (
                f"not calibrated: without --references there is only a ranking; first in {self.model} is {self._opened}"
            )
        return (
            f"not calibrated: for level {self.level:g} at least {self.needed} references are needed; {by}; first in "
            f"{self.model} is {self._opened}"
        )

    @property
    def _opened(self) -> str:
        best = next(arm for arm in self.arms if (arm.search, arm.target_class) == (self.search, self.target_class))
        how = (
            f"a mask of {best.norm:.0f} pixels"
            if best.norm is not None
            else f"a patch of {self.size}x{self.size} pixels"
        )
        more = f"sends {100 * best.success:.1f} % of other images there, {100 * best.floor:.1f} % go without it"
        return f"class {self.target_class} ({self.target_name}), {how} {more}"


class ScanReport(Stored):
    """What the scan of several models says of each, in their order; failures: why others were not scanned, by name."""

    FILE = "scans.json"

    results: tuple[ScanResult, ...]
    failures: dict[str, str] = {}

    @property
    def sentences(self) -> list[str]:
        """All that is said of all models."""
        told = [sentence for each in self.results for sentence in each.sentences]
        return [*told, *(f"not scanned: {name}: {why}" for name, why in self.failures.items())]


def joined_scans(parts: Sequence[ScanReport]) -> ScanReport:
    """The scan of which these are parts."""
    results = tuple(result for part in parts for result in part.results)
    return ScanReport(results=results, failures={name: why for part in parts for name, why in part.failures.items()})


class Unscanned(Stored):
    """Why a model was not scanned."""

    FILE = "unscanned.json"

    model: str
    why: str


def scan_result(measured: Measured, verdict: Verdict, class_names: Sequence[str], **told: Any) -> ScanResult:
    """Measurements and verdict brought together; `told` are the other fields."""
    search, target = None, None
    if verdict.verdict != "nothing found":
        search, target = _shown_first(measured, verdict)
    return ScanResult(
        **told,
        **measured.model_dump(),
        **verdict.model_dump(exclude={"search"}),
        search=search,
        size=None if search in (None, MASK) else int(search),
        target_class=target,
        target_name=None if target is None else class_names[target],
        statistics=measured.statistics(),
    )


def _shown_first(measured: Measured, verdict: Verdict) -> tuple[str, int]:
    """The search and the class of the verdict; without references, what stands out most within the model."""
    if verdict.search is None:
        return measured.leading()
    return verdict.search, measured.best(verdict.search).target_class


def searched(search: str) -> str:
    """A search by the name that readers see."""
    return search if search == MASK else f"{search}x{search}"


def shown(arm: Arm) -> str:
    """What an arm came to, as in the tables."""
    return f"{100 * arm.success:.1f}" if arm.norm is None else f"{arm.norm:.0f} px"


def ranking(result: ScanResult) -> list[tuple[int, Mapping[str, Arm]]]:
    """The classes with their arms by search, those that stand out most first."""
    measured = result.measured
    by_class: dict[int, dict[str, Arm]] = {}
    for arm in result.arms:
        by_class.setdefault(arm.target_class, {})[arm.search] = arm
    return sorted(by_class.items(), key=lambda item: -max(measured.standing_out(arm) for arm in item[1].values()))


def write_scan_report(path: Path, report: ScanReport, pictures: Sequence[Mapping[str, Picture]]) -> None:
    """Write the page over all models; per model the pictures `attack` and `patches`."""
    write_page(
        path,
        "scan",
        found=list(zip(report.results, pictures, strict=True)),
        failures=report.failures,
        ranking=ranking,
        searched=searched,
        shown=shown,
        config=json.dumps(report.results[0].config, indent=2),
        version=__version__,
    )
