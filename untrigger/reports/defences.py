"""What the defence of a model of others did: the typed result, its sentence, and its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from untrigger import __version__
from untrigger.measurements import Left, Opened
from untrigger.reports.pages import Picture, write_page
from untrigger.reports.scans import ModelResult

Outcome = Literal["closed", "still open", "spoilt", "not reproduced", "nothing found", "not calibrated"]
"""spoilt: nothing opens it any more, and it recognises much less. not reproduced: what a scan found was not found again
by the defence."""


class DefenceResult(ModelResult):
    """What was found in a model, and what was done about it.

    size: of the patches, None for a mask. rounds: F of the strongest trigger, or the norm of the smallest mask in
    pixels, that each round of retraining left. written: the retrained model, None where nothing was retrained; then
    what is told of it after is what was before. usual: the median of what the same search finds in clean references,
    where there are some. allowed: what may be found after it in a class that counts as closed; early versions did not
    write it down.
    """

    FILE = "defence.json"

    outcome: Outcome
    scanned: str | None = None
    """The sentence of the scan, where there was one."""
    target_class: int | None = None
    target_name: str | None = None
    size: int | None = None
    before: Opened
    after: Opened
    usual: Opened | None = None
    allowed: Left | None = None
    rounds: tuple[float, ...] = ()
    written: str | None = None
    seconds: float
    version: str = __version__
    config: dict[str, Any]

    @property
    def sentence(self) -> str:
        """What became of the model, in one sentence."""
        if self.outcome == "not calibrated":
            remedy = "give --references, or --target-class (with --patch-size for a patch at any place), to close it"
            return f"nothing was done: {self.scanned}; {remedy}"
        if self.target_class is None:
            return f"nothing was done: {self.scanned}"
        if self.written is None:
            scan = "" if self.outcome == "nothing found" else f"{self.scanned}; yet "
            return (
                f"nothing was done: {scan}{self._backdoor} was searched for, and no more was found than is usual: "
                f"{_strongest(self.before)}"
            )
        rounds = "1 round" if len(self.rounds) <= 1 else f"{len(self.rounds)} rounds"
        accuracy = f"clean accuracy {100 * self.before.accuracy:.1f} % before, {100 * self.after.accuracy:.1f} % after"
        return (
            f"{self.outcome}: {self._backdoor}, {_strongest(self.before)} before, {_strongest(self.after)} after "
            f"{rounds}{self._short_of}; {accuracy}{self._spoilt}"
        )

    @property
    def _spoilt(self) -> str:
        """What to do where the retraining cost too much."""
        if self.outcome != "spoilt":
            return ""
        return ": retraining cost it more than it may, lower --retraining.learning-rate or --retraining.epochs"

    @property
    def _short_of(self) -> str:
        """What is missing where a class is still open."""
        if self.outcome != "still open" or self.allowed is None:
            return ""
        wanted, after, allowed = [], self.after, self.allowed
        if allowed.mask is not None and after.mask is not None and after.mask < allowed.mask:
            wanted.append(f"no mask below {allowed.mask:.1f} pixels, found was one of {after.mask:.1f}")
        most, left = allowed.strongest_F, after.strongest_F
        if most is not None and left is not None and left > most:
            wanted.append(f"no trigger with F above {most:.3f}, found was one of {left:.3f}")
        return f" (closed would be: {'; '.join(wanted)})"

    @property
    def _backdoor(self) -> str:
        by = "a mask" if self.size is None else f"a patch of {self.size}x{self.size} pixels"
        return f"class {self.target_class} ({self.target_name}) by {by}"

    @property
    def lines(self) -> list[tuple[str, Opened]]:
        """What is told on images held out, by its name."""
        told = [("before", self.before), ("after", self.after)]
        return told if self.usual is None else [*told, ("clean references", self.usual)]

    def loading(self) -> Sequence[str]:
        """The lines that bring what was written to where the model came from."""
        if self.written is None:
            return ()
        if self.written.endswith(".onnx"):
            return (f"session = onnxruntime.InferenceSession({self.written!r})",)
        if not self.written.endswith(".safetensors"):
            return (f"classifier = untrigger.load_classifier(pathlib.Path({self.written!r}))",)
        load = f"model.load_state_dict(load_file({self.written!r}))"
        return ("from safetensors.torch import load_file", load)


def _strongest(opened: Opened) -> str:
    strongest, floor = (100 * (rate or 0.0) for rate in (opened.strongest, opened.floor))
    if opened.mask is not None:
        found = f"{strongest:.1f} % of other images under the mask found ({floor:.1f} % without)"
        return f"{found}, the smallest mask left having {opened.mask:.0f} pixels,"
    return f"{strongest:.1f} % of other images by the strongest trigger found ({floor:.1f} % without)"


def write_defence_report(path: Path, result: DefenceResult, pictures: Sequence[Picture]) -> None:
    """Write the page of one defence, with pictures of what was found before and after."""
    write_page(
        path,
        "defence",
        result=result,
        pictures=pictures,
        config=json.dumps(result.config, indent=2),
        version=result.version,
    )
