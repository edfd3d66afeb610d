"""Records on their way to MLflow: as they come, or from a file that other processes fill."""

from __future__ import annotations

import json
import shlex
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from untrigger.errors import UserError, without_credentials
from untrigger.settings.base import seconds_from
from untrigger.tracking.json_lines import following, read_new_lines
from untrigger.tracking.mlflow import MlflowWriter, is_away, is_in_trouble
from untrigger.tracking.progress import Reporter

PATIENCE = "UNTRIGGER_TRACKING_PATIENCE"
"""Environment variable: seconds that the end of a run waits for an MLflow that went away.

Unless given, 30 where its records stay for `deliver`, and 300 for a stage on a cluster, where they would be lost.
"""


RETRY_SECONDS, LAST_RETRY_SECONDS = 5.0, 1.0
"""Between attempts to reach a server that is away, while the run goes on and when it has ended."""

ATTEMPTS, FILE_ATTEMPTS = 60, 5
"""How often a record, or a file, is sent to a server that answers but is in trouble, before the next ones are tried.

Without its `begin` a run's later records mean nothing; files alone depend on the store behind the server.
"""


_REPORTER = Reporter("MLflow")


@contextmanager
def forwarding(records: Path, uri: str, pipeline_run: str) -> Iterator[Forwarder]:
    """Write the records that other processes append to `records` as they come, until the block ends.

    Raises UserError when MLflow does not answer at the beginning. When it goes away later, records wait for it; those
    that it has not taken soon after the block stay in `records`, to be forwarded another time. Otherwise the file goes.
    A record that MLflow refuses is reported and left out; `refused` of what the block gets counts them. The block goes
    on: its results do not depend on it.
    """
    patience = seconds_from(PATIENCE, 30)
    writer = MlflowWriter(uri, pipeline_run)
    writer.connect()
    forwarder = Forwarder(writer, own_folder=records.parent)
    try:
        with following(records, forwarder.take):
            yield forwarder
    finally:
        _keep(forwarder.finish(patience), writer, records)


@contextmanager
def forwarding_own(records: Path, uri: str, pipeline_run: str, *, patiently: bool) -> Iterator[None]:
    """Write the records that this process appends to `records` as they come, until the block ends.

    As `forwarding`, but with `patiently` an MLflow that is away at the beginning is waited for, too. What it has not
    taken some minutes after the block is lost, which a warning says, or, unless `patiently`, a UserError.
    """
    patience = seconds_from(PATIENCE, 300)
    writer = MlflowWriter(uri, pipeline_run)
    try:
        writer.connect()
    except UserError as error:
        if not patiently or not (is_away(error) or is_in_trouble(error)):
            raise
        _REPORTER.say("warning", str(error))
    # The records are this very process's own: their files may lie anywhere.
    forwarder = Forwarder(writer, own_folder=None)
    try:
        with following(records, forwarder.take):
            yield
    finally:
        lost = len(forwarder.finish(patience)) + forwarder.refused
        if lost:
            _REPORTER.say(
                "warning",
                f"{lost} tracking records are lost, since {without_credentials(uri)} did not take them: what the stage "
                f"found is in its outputs and complete ({PATIENCE}, in seconds, waits longer)",
            )
    if lost and not patiently:
        raise UserError(f"MLflow at {without_credentials(uri)} did not take what must be there before the work begins")


def deliver(records: Path, uri: str, pipeline_run: str) -> int:
    """Write the records that `forwarding` left in `records`; how many there were.

    Raises UserError when MLflow is not the one that they wait for, does not answer, or goes away again.
    """
    patience = seconds_from(PATIENCE, 30)
    try:
        with records.open(encoding="utf-8") as file:
            first, *waiting = read_new_lines(file)
    except ValueError as error:
        raise UserError(f"{records} is damaged, its records cannot be delivered: delete it ({error})") from error
    writer = MlflowWriter(uri, pipeline_run)
    writer.connect()
    writer.take_up(first)
    forwarder = Forwarder(writer, own_folder=records.parent)
    for record in waiting:
        forwarder.take(record)
    left = forwarder.finish(patience)
    _keep(left, writer, records)
    if left:
        raise UserError(f"{len(left)} of {len(waiting)} records are still not delivered and stay in {records}")
    return len(waiting)


def _keep(records: Sequence[Mapping[str, Any]], writer: MlflowWriter, path: Path) -> None:
    """Leave undelivered records in the file at `path` for `deliver`; without any, the file goes."""
    if not records:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(record) + "\n" for record in (writer.known_runs(), *records)))
    partial.replace(path)
    _REPORTER.say(
        "warning",
        f"{len(records)} records are not delivered and lie in {path}: "
        f"`untrigger track {shlex.quote(str(path.parent))}` delivers them when the server is back",
    )


class Forwarder:
    """Hands records to the writer in their order; keeps them while MLflow is away.

    Only files in `own_folder` are sent, if one is given. `refused` counts the records that MLflow will never take.
    """

    def __init__(self, writer: MlflowWriter, own_folder: Path | None) -> None:
        self.refused = 0
        self._writer = writer
        self._own_folder = own_folder
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._set_aside: list[Mapping[str, Any]] = []
        self._attempts = 0
        self._not_before = 0.0

    def take(self, record: Mapping[str, Any]) -> None:
        # Stages run what they do not trust: their records may name any file.
        own = self._own_folder
        if own and record["kind"] == "files" and not Path(record["path"]).resolve().is_relative_to(own):
            _REPORTER.say("warning", f"not tracked: {record['path']} lies outside the run")
            return
        self._waiting.append(record)
        if time.monotonic() >= self._not_before:
            self._deliver()

    def finish(self, patience: float) -> list[Mapping[str, Any]]:
        """Wait some seconds for a server that is away; the records that it has not taken then."""
        deadline = time.monotonic() + patience
        self._waiting.extend(self._set_aside)
        self._set_aside.clear()
        self._deliver()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(LAST_RETRY_SECONDS)
            self._deliver()
        return [*self._set_aside, *self._waiting]

    def _deliver(self) -> None:
        while self._waiting:
            record = self._waiting[0]
            try:
                self._writer.write(record)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                attempts = FILE_ATTEMPTS if record["kind"] == "files" else ATTEMPTS
                if is_away(error) or (is_in_trouble(error) and self._attempts < attempts):
                    self._attempts += not is_away(error)
                    if not self._not_before:
                        _REPORTER.say("warning", f"does not answer, records wait for it: {reason}")
                    self._not_before = time.monotonic() + RETRY_SECONDS
                    return
                if is_in_trouble(error):
                    self._set_aside.append(record)
                else:
                    self.refused += 1
                    _REPORTER.say("warning", f"not tracked: {record['kind']}: {reason}")
            self._waiting.popleft()
            self._attempts = 0
        if self._not_before:
            _REPORTER.say("warning", "answers again")
            self._not_before = 0.0
