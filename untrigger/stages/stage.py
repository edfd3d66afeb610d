"""What every stage has in common: threads, progress, tracking, errors, and reuse of finished work.

A stage is a function decorated with `@stage`. The annotations of its keyword arguments say what they are: `InFolder`
and `InFolders` are artifacts it reads, `OutFolder` are artifacts it writes, `Snapshots` keep its trainings, the rest
are parameters. All but the snapshots are given as plain values, and become here what the annotations say.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NewType, get_type_hints

from pydantic import create_model

from untrigger.errors import UserError, notices_told
from untrigger.settings.base import Settings
from untrigger.stages.identities import STAGES
from untrigger.stages.kept_snapshots import Snapshots, snapshots_of
from untrigger.stages.log import Log
from untrigger.stages.reuse import Call, keep_outputs, link_outputs, mark_last
from untrigger.stages.usage import used
from untrigger.tracking.own_records import forwarding_own_records
from untrigger.tracking.progress import Reporter

InFolder = NewType("InFolder", Path)
InFolders = NewType("InFolders", tuple[Path, ...])
OutFolder = NewType("OutFolder", Path)

THREADS = "UNTRIGGER_THREADS"
"""Environment variable: a JSON object that gives the threads of stages by name; torch decides for the others."""


def stage(
    name: str, *, reusable: bool = True, requires_tracking: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function of (log, **artifacts and parameters) a stage that a component or a test calls.

    `reusable`: its outputs depend on its arguments alone, so a later attempt may reuse them. `requires_tracking`: it
    fails where MLflow is asked for and away, which others wait for. A further
    argument `label` sets the stage apart from those of the same title, in progress and tracking; its work is told only
    where it takes a parameter of that name. What early versions did not tell a stage has a default. A UserError ends
    the process with one sentence and status 2.
    """

    def decorate(work: Callable[..., None]) -> Callable[..., None]:
        kinds = get_type_hints(work, include_extras=True)
        trainings = [name for name, kind in kinds.items() if kind is Snapshots]
        defaults = inspect.getfullargspec(work).kwonlydefaults or {}
        fields: dict[str, Any] = {
            n: (kind, defaults.get(n, ...)) for n, kind in kinds.items() if n not in ("log", "return", *trainings)
        }
        model = create_model(name, __base__=Settings, **fields)

        @functools.wraps(work)
        def run(label: str = "", **given: Any) -> None:
            identity = STAGES[name]
            if "label" in kinds:
                given["label"] = label
            with _failures_reported(Reporter(identity.title)):
                checked = model.of(given)
            arguments = dict(checked)
            outputs = {name: value for name, value in arguments.items() if kinds[name] is OutFolder}
            inputs = {name: value for name, value in arguments.items() if kinds[name] in (InFolder, InFolders)}
            parameters = {n: v for n, v in checked.record().items() if n not in outputs and n not in inputs}
            log = Log((identity.run_title or identity.title).format_map(parameters), parameters, label)
            with _failures_reported(log.reporter), forwarding_own_records(patiently=not requires_tracking):
                call = Call(name, inputs, parameters, kinds)
                kept = call.kept_folder() if reusable else None
                if kept is not None and kept.exists():
                    link_outputs({name: kept / name for name in outputs}, outputs)
                    mark_last(kept, name)
                    log.reporter.say("reused")
                    return
                log.reporter.say("started")
                _take_compute(name)
                for folder in outputs.values():
                    folder.mkdir(parents=True, exist_ok=True)
                snapshots = {each: snapshots_of(call.snapshots, log.reporter) for each in trainings}
                with notices_told(functools.partial(log.reporter.say, "warning")):
                    work(log, **arguments, **snapshots)
                for each in snapshots.values():
                    each.clear()
                if kept is not None:
                    keep_outputs(outputs, kept, name)
                # The last word is left to what MLflow did not take.
                log.reporter.say("finished", f"with {_peak_memory()} of memory at most")

        return run

    return decorate


@contextmanager
def _failures_reported(reporter: Reporter) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        reporter.say("failed", _one_line(error))
        sys.exit(2)
    except Exception as error:
        reporter.say("failed", f"{type(error).__name__}: {_one_line(error)}")
        raise


def _peak_memory() -> str:
    """What this process has held at most, and of a GPU's memory where it used one: what such a stage must be given."""
    found = used()
    told = f"{found['peak_memory_mb']:,.0f} MB"
    return told + (f" and {found['peak_gpu_memory_mb']:,.0f} MB of GPU" if "peak_gpu_memory_mb" in found else "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _take_compute(name: str) -> None:
    """Use what was allotted: the threads that whoever starts stages side by side divided, else those of a quota."""
    threads = json.loads(os.environ.get(THREADS, "{}"))
    # Stages that compute have imported torch by now; importing it for the others would cost seconds.
    if name in threads or "torch" in sys.modules:
        import torch

        from untrigger.networks.devices import check_allotted_gpus, usable_threads

        check_allotted_gpus()
        allotted = threads.get(name) or usable_threads()
        if allotted != torch.get_num_threads():
            torch.set_num_threads(allotted)
