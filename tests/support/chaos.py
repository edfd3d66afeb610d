"""Faults at random moments: runs that are killed and resumed, and runs whose servers stop and start again.

Moments are shares of what an undisturbed run takes, drawn from a seeded generator.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.support.configs import SMALL, STEADY, tiny_config
from tests.support.processes import processes_of
from tests.support.servers import RunningServers
from tests.support.waiting import wait_for
from untrigger.errors import UserError
from untrigger.stages.usage import USED
from untrigger.storage.bundles import read_manifest
from untrigger.storage.objects import Address, ObjectStore

UNTRIGGER = str(Path(sys.executable).with_name("untrigger"))
STORE = "s3://untrigger/chaos"
LONGEST = 1200.0
"""Seconds after which a run hangs."""

ENDINGS = (0, 2, 5, -signal.SIGKILL)
"""How a disturbed run may end: done, with a sentence, with records to deliver, or killed."""

EARLY = 0.2
"""Share of the kills after the first that come before the stages begin."""

Records = dict[tuple[str, ...], Any]
"""What MLflow holds of a pipeline run, by run and name: statuses, parameters, points of metrics, files."""


@dataclass(frozen=True)
class Undisturbed:
    """A run with nothing in its way: seconds until its first stage began, and in all."""

    output: Path
    beginning: float
    duration: float

    def moments(self, count: int, rng: random.Random) -> list[float]:
        """When to kill each attempt at a run, in seconds after its start: together they go through the whole run."""
        cuts = [0.0, *sorted(rng.random() for _ in range(count))]
        gaps = [self.duration * (later - earlier) for earlier, later in pairwise(cuts)]
        later = [self.beginning * rng.random() if rng.random() < EARLY else self.beginning + gap for gap in gaps[1:]]
        return [*gaps[:1], *later]


def write_config(folder: Path) -> Path:
    """The quickest run that has every stage."""
    path = folder / "quick.json"
    path.write_text(json.dumps(tiny_config(**SMALL, **STEADY, flow={"steps": 4}).record()))
    return path


def started(config: Path, output: Path, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """`untrigger run` in a session of its own; what it prints is added to a file beside `output`."""
    resume = ["--resume"] if (output / "run.json").exists() else []
    with output.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [UNTRIGGER, "run", "--config", str(config), "--output", str(output), *resume, *options],
            env={**os.environ, "OMP_NUM_THREADS": "1", "UNTRIGGER_SNAPSHOT_SECONDS": "0", **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def undisturbed(config: Path, output: Path, *options: str, **environment: str) -> Undisturbed:
    """A run that must come to its end, and what it took."""
    began = time.monotonic()
    process = started(config, output, *options, **environment)
    wait_for(lambda: process.poll() is not None or (output / "progress.jsonl").exists())
    beginning = time.monotonic() - began
    assert process.wait(LONGEST) == 0, said(output)
    return Undisturbed(output, beginning, time.monotonic() - began)


def killed_and_resumed(config: Path, output: Path, moments: list[float], rng: random.Random) -> int:
    """Resume a run until it is done; a random process of it is killed at each moment. How many were."""
    left, kills, status = list(moments), 0, -1
    while status:
        process = started(config, output)
        moment = left.pop(0) if left else LONGEST
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            assert moment < LONGEST, f"it hangs: {said(output)}"
            os.kill(rng.choice(list(processes_of(process.pid))), signal.SIGKILL)
            kills += 1
        status = process.wait(LONGEST)
        assert status in ENDINGS and (status == 0 or moment < LONGEST), f"status {status}: {said(output)}"
        wait_for(partial(_have_ended, process.pid), LONGEST)
    return kills


def _have_ended(session: int) -> bool:
    return not list(processes_of(session))


def served_through_stops(
    config: Path, output: Path, running: RunningServers, usual: Undisturbed, stops: int, rng: random.Random
) -> None:
    """A run that publishes and tracks while its servers stop and start; what then is to be delivered is delivered."""
    process = started(config, output, "--store", STORE, **running.environment)
    moments = sorted(usual.beginning + rng.random() * (usual.duration - usual.beginning) for _ in range(stops))
    for wait in (later - earlier for earlier, later in pairwise([0.0, *moments])):
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            name = rng.choice(("seaweedfs", "mlflow"))
            rng.choice((running.kill, running.servers.stop))(name)
            time.sleep(0.2 * usual.duration * rng.random())
            running.up()
    status = process.wait(LONGEST)
    assert status in ENDINGS and (output / "results.json").exists(), f"status {status}: {said(output)}"
    environment = {**os.environ, **running.environment}
    for command in (("track", str(output)), ("store", "put", str(output), STORE)):
        subprocess.run([UNTRIGGER, *command], env=environment, capture_output=True, check=True)


def identical(one: Path, other: Path) -> bool:
    """Whether two runs found the same, bit for bit: results, classifiers, triggers."""
    names = ["results.json", *(str(path.relative_to(one)) for path in sorted(one.glob("stages/**/*.safetensors")))]
    return all((other / name).is_file() and (one / name).read_bytes() == (other / name).read_bytes() for name in names)


def records_of(output: Path, uri: str = "") -> Records:
    """What MLflow holds of the run in `output`: at `uri`, or in the run's own database."""
    client = MlflowClient(uri or f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("untrigger")
    assert experiment is not None
    of_it = f"tags.`untrigger.pipeline_run` = '{json.loads((output / 'run.json').read_text())['run_id']}'"
    found: Records = {}
    for run in client.search_runs([experiment.experiment_id], of_it):
        if run.data.tags.get("untrigger.superseded") == "true":
            continue
        name, run_id = run.data.tags["untrigger.role"], run.info.run_id
        found[name, "status"] = run.info.status
        found |= {(name, "parameter", key): value for key, value in run.data.params.items()}
        for key in run.data.metrics:
            points = client.get_metric_history(run_id, key)
            found |= {(name, "metric", key, str(point.step)): key in USED or point.value for point in points}
        found |= {(name, "file", path): True for path in _tracked_files(client, run_id, None)}
    return found


def _tracked_files(client: MlflowClient, run_id: str, folder: str | None) -> Iterator[str]:
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from _tracked_files(client, run_id, file.path)
        else:
            yield file.path


def lost_records(usual: Records, found: Records) -> list[tuple[str, ...]]:
    """What MLflow lacks, or holds otherwise."""
    return [key for key, value in usual.items() if key not in found or found[key] != value]


def lost_artifacts(usual: Path, output: Path, folder: Path) -> list[str]:
    """The files that the store should have of the run in `output`, as of that in `usual`, and does not give whole.

    The environment says where the store is. What it gives goes into `folder`.
    """
    store, address = (
        ObjectStore(),
        Address.parse(STORE) / "runs" / json.loads((output / "run.json").read_text())["run_id"],
    )
    manifest, lost = read_manifest(store, address), []
    for name in sorted(manifest.files.keys() | json.loads((usual / "manifest.json").read_text())["files"].keys()):
        try:
            store.get(address / name, folder / name, manifest.files[name]["sha256"])
        except (UserError, KeyError):
            lost.append(name)
    return lost


def said(output: Path) -> str:
    """The last that a run printed."""
    return output.with_suffix(".log").read_text(errors="replace")[-3000:]
