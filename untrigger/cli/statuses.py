"""With which status a command ends by what it found, here or on a cluster: what a gate before a release asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from untrigger.cli.messages import EXIT_BACKDOOR, EXIT_NOT_CALIBRATED, EXIT_USER_ERROR

if TYPE_CHECKING:
    from untrigger.reports.endings import RunResults
    from untrigger.reports.scans import ScanReport

_OF_DEFENCES = {
    **dict.fromkeys(("still open", "spoilt", "not reproduced"), EXIT_BACKDOOR),
    "not calibrated": EXIT_NOT_CALIBRATED,
}


def status_of(found: RunResults) -> int:
    """0 unless a model is found open, could not be scanned, or has no verdict; of several the gravest."""
    from untrigger.reports.defences import DefenceResult
    from untrigger.reports.scans import ScanReport

    if isinstance(found, ScanReport):
        return _of_scans(found)
    return _OF_DEFENCES.get(found.outcome, 0) if isinstance(found, DefenceResult) else 0


def _of_scans(found: ScanReport) -> int:
    verdicts = {each.verdict for each in found.results}
    if "backdoor found" in verdicts:
        return EXIT_BACKDOOR
    if found.failures:
        return EXIT_USER_ERROR
    return EXIT_NOT_CALIBRATED if "not calibrated" in verdicts else 0
