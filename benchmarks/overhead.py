"""The wall time of a pipeline run that is not numerical work, item by item."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from untrigger.tracking.progress import Event, read_events


def measure_overhead(profile: str) -> None:
    """Run the pipeline of `profile` and print where the time goes, and which share of it lies outside the stages.

    That share is the wall time of `untrigger run` less the time in which at least one stage was at its own work (from
    its event `started` to its event `finished`), divided by the wall time: starting processes, imports, KFP, MLflow,
    and what a run does before its first and after its last stage.
    """
    console = Console()
    console.print(description(torch.device("cpu")), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        untrigger = Path(sys.executable).with_name("untrigger")
        command = [str(untrigger), "run", "--profile", profile, "--output", folder]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        ended = time.time()
        with (Path(folder) / "progress.jsonl").open() as file:
            events = [event for event in read_events(file) if event.kind in ("started", "finished")]
    table = Table(title=f"seconds of the profile {profile}, two stages of a loop at a time")
    table.add_column("item")
    for name in ("process start, imports, KFP", "stage"):
        table.add_column(name, justify="right")
    table.add_row("untrigger run, before the first stage", f"{events[0].time - began:.1f}", "")
    for stage, free, started, finished in _spans(events):
        table.add_row(stage, f"{started - free:.1f}", f"{finished - started:.1f}")
    table.add_row("untrigger run, after the last stage", f"{ended - events[-1].time:.1f}", "", end_section=True)
    outside = ended - began - _seconds_at_work(events)
    table.add_row("wall time", "", f"{ended - began:.1f}")
    table.add_row("outside the stages' own work", f"{outside:.1f}", f"{outside / (ended - began):.1%}")
    console.print(table)


def _seconds_at_work(events: list[Event]) -> float:
    """How long at least one stage was between its start and its end; `events` are in the order of their time."""
    seconds, at_work = 0.0, 0
    for event, following in pairwise(events):
        at_work += 1 if event.kind == "started" else -1
        seconds += following.time - event.time if at_work else 0.0
    return seconds


def _spans(events: list[Event]) -> list[tuple[str, float, float, float]]:
    """Per stage: its name, when its place became free, when it had started, and when it had finished."""
    ends = {event.stage: event.time for event in events if event.kind == "finished"}
    starts = {event.stage: event.time for event in events if event.kind == "started"}
    first = min(starts.values())
    return [
        (stage, max((end for end in ends.values() if end < start), default=first), start, ends[stage])
        for stage, start in starts.items()
    ]
