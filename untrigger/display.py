"""What a person sees while a run is going on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from untrigger.comparison import ComparedRate, ComparedRun, compared, differing_settings, methods
from untrigger.json_lines import following
from untrigger.progress import Event, duration

if TYPE_CHECKING:
    from untrigger.bundles import Manifest
    from untrigger.storage import Address

FINISHED_SHOWN = 15
"""Bars of finished stages that stay: a sweep has hundreds."""


@contextmanager
def watching(progress_file: Path, console: Console) -> Iterator[None]:
    """Show the events that stages append to `progress_file` as they come, until the block ends."""
    with (
        _bars(console) if console.is_terminal else _Lines(console) as display,
        following(progress_file, lambda values: display.show(Event(**values))),
    ):
        yield


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        # Not print: KFP replaces it, in all threads, by one that indents.
        self._console.file.write(event.line() + "\n")
        self._console.file.flush()


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._finished: deque[TaskID] = deque()

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        if event.kind == "warning":
            self._progress.console.print(Text(event.line()))
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._progress.add_task(event.stage, total=None, text="")
        task = self._tasks[event.stage]
        if event.kind == "step":
            left = "" if event.seconds_left is None else f" ({duration(event.seconds_left)} left)"
            self._progress.update(task, completed=event.done, total=event.total, text=event.text + left)
        elif event.kind in ("finished", "reused"):
            self._progress.update(task, completed=1, total=1, text=f"{event.kind} {event.text}".rstrip())
            self._progress.stop_task(task)
            self._finished.append(task)
            if len(self._finished) > FINISHED_SHOWN:
                self._progress.update(self._finished.popleft(), visible=False)
        else:
            self._progress.update(task, text=f"{event.kind} {event.text}".rstrip())


def _bars(console: Console) -> _Bars:
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    return _Bars(Progress(*columns, console=console))


def final_tables(found: Mapping[str, Any]) -> list[Table]:
    """What a finished run shows: the table of results.json, or those of sweep.json."""
    return sweep_tables(found) if "triggers" in found else [results_table(found)]


def sweep_tables(found: Mapping[str, Any]) -> list[Table]:
    """The attack success rates of sweep.json, one table per group of triggers, beside the published ones.

    The column `- ensemble` is how much more than the ensemble a method leaves, paired by trigger, ± its standard error.
    """
    tables = []
    for group in dict.fromkeys(line["group"] for line in found["summary"]):
        lines = [line for line in found["summary"] if line["group"] == group]
        title = f"{found['dataset']}, {lines[0]['triggers']} {group} triggers, attack success %"
        caption = "paper: CIFAR-10, ResNet-18" if any(line["published_mean"] for line in lines) else None
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, caption=caption)
        table.add_column("method", no_wrap=True)
        for name in ("mean ± sd", "worst", "- ensemble", "clean %", "paper", "worst"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            spread = f"{_percent(line['mean'])} ± {_percent(line['std'])}"
            more = f"{100 * line['over_ensemble']:+.1f} ± {_percent(line['over_ensemble_error'])}"
            rates = (_percent(line[name]) for name in ("clean_accuracy", "published_mean", "published_worst"))
            table.add_row(
                line["method"], spread, _percent(line["worst"]), more, *rates, end_section=line["method"] == "before"
            )
        tables.append(table)
    return tables


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f}"


def results_table(found: Mapping[str, Any]) -> Table:
    """The before/after table of results.json, rates in percent, and below it the floor of attack success."""
    ensemble = next(line for line in found["summary"] if line["method"] == "ensemble")
    floors = (_percent(found["before"]["clean_target_rate"]), _percent(ensemble["clean_target_rate_mean"]))
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=f"{found['dataset']}, {found['trigger']['name']} -> class {found['target_class']}",
        caption=f"without a trigger: {floors[0]} % to the target class before, {floors[1]} % after ensemble",
    )
    table.add_column("method", no_wrap=True)
    for name in ("seeds", "ASR %", "clean %", "robust %", "DER %"):
        table.add_column(name, justify="right", no_wrap=True)
    before = found["before"]
    rates = ("attack_success_rate", "clean_accuracy", "robust_accuracy")
    table.add_row("before", "", *(f"{100 * before[rate]:.1f}" for rate in rates), "", end_section=True)
    for line in found["summary"]:
        cells = (
            f"{100 * line[f'{rate}_mean']:.1f} ± {100 * line[f'{rate}_std']:.1f}"
            for rate in (*rates, "defense_effectiveness_rating")
        )
        table.add_row(line["method"], str(line["n"]), *cells)
    return table


def bundles_table(found: Sequence[tuple[Address, Manifest]]) -> Table:
    """What lies in a store: address, kind, size, when it was put there, what it is."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("address", "files", "MB", "created", "about"):
        table.add_column(name, overflow="fold", justify="right" if name in ("files", "MB") else "left")
    for address, manifest in found:
        about = ", ".join(f"{name} {value}" for name, value in manifest.about.items() if name != "created")
        size = f"{manifest.size / 1e6:.1f}"
        table.add_row(str(address), str(len(manifest.files)), size, manifest.about.get("created", ""), about)
    return table


def runs_table(runs: Sequence[Any]) -> Table:
    """Runs on a cluster: id, state, when they were created, name."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("id", "state", "created (UTC)", "name"):
        table.add_column(name, overflow="fold", no_wrap=name != "name")
    for run in runs:
        created = f"{run.created_at:%Y-%m-%d %H:%M}" if run.created_at else ""
        # As text: brackets in a name would be taken for markup.
        table.add_row(run.run_id, run.state, created, Text(run.display_name or ""))
    return table


def comparison_tables(runs: Sequence[ComparedRun]) -> list[Table]:
    """Attack success and clean accuracy per method, one column per run, and the settings that differ."""
    tables = []
    for rate, title in (("attack_success_rate", "attack success %"), ("clean_accuracy", "clean accuracy %")):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title)
        table.add_column("method", no_wrap=True)
        for run in runs:
            table.add_column(run.name, justify="right", overflow="fold")
        for method in methods(runs):
            table.add_row(method, *(_compared_text(cell) for cell in compared(runs, method, rate)))
        tables.append(table)
    settings = Table(box=SIMPLE_HEAD, pad_edge=False, title="settings that differ")
    for name in ("setting", *(run.name for run in runs)):
        settings.add_column(name, overflow="fold")
    for name, values in differing_settings(runs).items():
        settings.add_row(name, *map(str, values))
    return [*tables, settings]


def _compared_text(cell: ComparedRate | None) -> str:
    if cell is None:
        return "-"
    text = f"{100 * cell.mean:.1f}" + ("" if cell.std is None else f" ± {100 * cell.std:.1f}")
    if cell.difference is not None:
        text += f" ({100 * cell.difference:+.1f}){' *' if cell.differs else '  '}"
    return text
