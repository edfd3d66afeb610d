"""What became of each stage of a run on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from untrigger.stages.identities import STAGES
from untrigger.tracking.progress import Event, Kind, duration

GOING_ON = ("", "PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED")
"""The states of runs that have not ended."""

_KINDS: dict[str, Kind] = {
    "RUNNING": "started",
    "SUCCEEDED": "finished",
    "SKIPPED": "reused",
    "FAILED": "failed",
    "CANCELED": "failed",
}

_TITLES = {name: each.title for each in STAGES.values() for name in (each.task, each.title)}
"""The titles of the stages, by the names that servers of different versions give to their tasks."""


def stage_events(run: Any, namespace: str, names: dict[str, str]) -> list[Event]:
    """What became of each stage so far, in the order of their start.

    Stages that run several times are numbered; `names` keeps what each task was called in an earlier look. `namespace`
    is where their pods are.
    """
    tasks = run.run_details.task_details or () if run.run_details else ()
    by_id = {task.task_id: task for task in tasks}
    begun = [task for task in tasks if task.display_name in _TITLES and task.start_time]
    events = []
    for task in sorted(begun, key=lambda task: (task.start_time, task.task_id)):
        title = _TITLES[task.display_name]
        count = sum(name == title or name.startswith(f"{title} (") for name in names.values())
        name = names.setdefault(task.task_id, title if not count else f"{title} ({count + 1})")
        inner = [by_id[child.task_id] for child in task.child_tasks or () if child.task_id in by_id]
        state = "SKIPPED" if task.state == "SUCCEEDED" and _is_cached(inner) else task.state
        if kind := _KINDS.get(state or ""):
            events.append(Event(name, kind, _how_it_went(task, state, inner, namespace)))
    return events


def _is_cached(inner: Sequence[Any]) -> bool:
    """The task of a stage whose outputs come from the cache succeeds; only the container inside it is skipped."""
    return any(task.display_name == "executor" and task.state == "SKIPPED" for task in inner)


def _how_it_went(task: Any, state: str | None, inner: Sequence[Any], namespace: str) -> str:
    if state == "CANCELED":
        return "canceled"
    if state not in ("SUCCEEDED", "FAILED") or not task.end_time:
        return ""
    took = f"after {duration(max(0.0, (task.end_time - task.start_time).total_seconds()))}"
    # The API does not tell why; the container's log does.
    pods = [each.pod_name for each in inner if each.state == "FAILED" and each.pod_name]
    if state == "FAILED" and pods:
        return f"{took} (`kubectl -n {namespace} logs {pods[-1]} -c main` shows why)"
    return took
