"""How a stage at work reports: progress for a person, metrics for MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from untrigger.stages.usage import device_used, used
from untrigger.tracking.progress import Reporter, is_tenth
from untrigger.tracking.records import TrackedRun, existing_run, nested_run, parent_run


class Log:
    """How a stage at work reports: progress lines for a person, metrics per epoch for MLflow."""

    def __init__(self, title: str, parameters: Mapping[str, Any], label: str = "") -> None:
        self._label = label
        self.reporter = Reporter(self._labelled(title))
        self._title = title
        self._parameters = parameters

    @contextmanager
    def run(self, name: str | None = None, **parameters: Any) -> Iterator[TrackedRun]:
        """A nested run for the stage, or for the part of it called `name` with parameters of its own."""
        with nested_run(self._labelled(name or self._title), {**self._parameters, **parameters}) as tracked:
            yield tracked
            tracked.parameters({"device": device_used()})
            tracked.metrics(used())

    def existing_run(self, name: str) -> TrackedRun:
        """The latest nested run called `name` of an earlier stage, to add to it what only a later stage knows."""
        return existing_run(self._labelled(name))

    def summary_run(self, own: TrackedRun) -> TrackedRun:
        """Where the results of all stages belong: the parent run, or `own` where the parent has several such parts."""
        return own if self._label else parent_run()

    def epochs(
        self, tracked: TrackedRun, total: int, curve: list[dict[str, float]], *, before: int = 0, part: str = ""
    ) -> Callable[[int, dict[str, float]], None]:
        """A callback for the training loops: one progress line, one point of `curve` and one per metric for each epoch.

        `total` epochs make the stage, `before` of them belong to earlier parts of it; `part` names this one.
        """
        self.reporter.begin("epoch")

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            curve.append(metrics)
            tracked.metrics(metrics, epoch)
            shown = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics.items()]
            self.reporter.step("epoch", before + epoch, total, ", ".join([part, *shown] if part else shown))

        return on_epoch

    def every_tenth(self, work: str) -> Callable[[int, int], None]:
        """A callback for work of many short steps: ten progress lines in all."""
        self.reporter.begin(work)

        def on_progress(done: int, total: int) -> None:
            if is_tenth(done, total):
                self.reporter.step(work, done, total)

        return on_progress

    def _labelled(self, title: str) -> str:
        return f"{self._label}: {title}" if self._label else title
