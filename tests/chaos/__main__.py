"""`python -m tests.chaos`: thirty kills over at most eight runs, and servers that stop and start in three more."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.support.chaos import (
    STORE,
    Undisturbed,
    identical,
    killed_and_resumed,
    lost_artifacts,
    lost_records,
    records_of,
    served_through_stops,
    undisturbed,
    write_config,
)
from tests.support.servers import RunningServers, running_servers

SERVED_RUNS, STOPS = 3, 3
SHARE_OF_KILLS = 0.7
"""Of the time."""

COUNTED = ("kills", "identical", "records_lost", "artifacts_lost")


@click.command()
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write what was found to this file.")
@click.option("--kills", default=30, show_default=True, help="How often a process is killed.")
@click.option("--runs", default=8, show_default=True, help="Over how many runs at most.")
@click.option("--seed", default=0, show_default=True, help="Of the moments, the victims and the servers.")
@click.option("--minutes", default=20, show_default=True, help="After which no further run is begun.")
def main(report: Path | None, kills: int, runs: int, seed: int, minutes: int) -> None:
    """Disturb runs at random moments; status 1 unless their results are identical and nothing is lost."""
    began, rng = time.monotonic(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="untrigger-chaos-") as temporary:
        folder = Path(temporary)
        config = write_config(folder)
        found = _killed(config, folder, kills, runs, rng, began + SHARE_OF_KILLS * 60 * minutes)
        with running_servers(folder / "servers") as running:
            served = _served(config, folder, running, rng, began + 60 * minutes)
    found = {name: found[name] + served[name] for name in found} | {"seconds": round(time.monotonic() - began)}
    print(json.dumps(found))
    if report:
        report.write_text(json.dumps(found) + "\n")
    whole = found["identical"] == found["kills"] == kills and not found["records_lost"] and not found["artifacts_lost"]
    sys.exit(0 if whole else 1)


def _killed(config: Path, folder: Path, kills: int, runs: int, rng: random.Random, deadline: float) -> dict[str, int]:
    usual = undisturbed(config, folder / "undisturbed")
    records, found = records_of(usual.output), dict.fromkeys(COUNTED, 0)
    print(f"undisturbed: {usual.duration:.0f} s, {usual.beginning:.0f} s of them before the first stage", flush=True)
    for number in range(runs):
        if found["kills"] >= kills or time.monotonic() > deadline:
            break
        wanted = -(-(kills - found["kills"]) // (runs - number))
        output = folder / f"killed-{number}"
        killed = killed_and_resumed(config, output, usual.moments(wanted, rng), rng)
        same, lost = identical(usual.output, output), lost_records(records, records_of(output))
        found["kills"] += killed
        found["identical"] += killed if same else 0
        found["records_lost"] += len(lost)
        print(f"run {number}: {killed} kills, {'identical' if same else 'other results'}, {_told(lost)}", flush=True)
    return found


def _served(config: Path, folder: Path, running: RunningServers, rng: random.Random, deadline: float) -> dict[str, int]:
    os.environ.update({name: value for name, value in running.environment.items() if name.startswith("AWS_")})
    uri = running.environment["MLFLOW_TRACKING_URI"]
    usual: Undisturbed = undisturbed(config, folder / "served", "--store", STORE, **running.environment)
    records, found = records_of(usual.output, uri), dict.fromkeys(COUNTED, 0)
    for number in range(SERVED_RUNS):
        if number and time.monotonic() > deadline:
            break
        output = folder / f"served-{number}"
        served_through_stops(config, output, running, usual, STOPS, rng)
        assert identical(usual.output, output), f"a run with other results: {output}"
        lost = lost_records(records, records_of(output, uri))
        missing = lost_artifacts(usual.output, output, folder / "fetched" / str(number))
        found["records_lost"] += len(lost)
        found["artifacts_lost"] += len(missing)
        print(f"served run {number}: {STOPS} stops, {_told(lost)}, artifacts lost: {missing or 'none'}", flush=True)
    return found


def _told(lost: list[tuple[str, ...]]) -> str:
    return f"{len(lost)} records lost" + (f" ({', '.join(map(' '.join, lost[:5]))})" if lost else "")


if __name__ == "__main__":
    main()
