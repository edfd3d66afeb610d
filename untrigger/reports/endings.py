"""How the runs of each pipeline end: with which stage, and with what kind of results."""

from __future__ import annotations

from dataclasses import dataclass

from untrigger.reports.defences import DefenceResult
from untrigger.reports.grids import GridResult
from untrigger.reports.references import GatheredReferences
from untrigger.reports.results import Results
from untrigger.reports.scans import ScanReport
from untrigger.reports.sweep import SweepResults

RunResults = Results | SweepResults | ScanReport | GatheredReferences | DefenceResult | GridResult
"""What a run found, of whatever pipeline."""


@dataclass(frozen=True)
class Ending:
    """The stage whose report is the result of a run, and what kind of results that holds."""

    stage: str
    results: type[RunResults]


ENDINGS = {
    "defense": Ending("evaluation", Results),
    "paper": Ending("aggregation", SweepResults),
    "scan": Ending("verdicts", ScanReport),
    "references": Ending("gathered_references", GatheredReferences),
    "defend": Ending("defence", DefenceResult),
    "grid": Ending("grid_report", GridResult),
}
"""How the runs of each pipeline end, by its name."""
