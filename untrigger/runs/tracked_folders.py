"""Where the tracking of a run in an output folder goes: to the server of the environment, or the folder's own."""

from __future__ import annotations

import os

from untrigger.runs.output_folder import OutputFolder, database_uri
from untrigger.tracking.records import ARTIFACT_LOCATION, RECORDS, RUN_ID, TRACKING_URI


def tracking_environment(output: OutputFolder) -> dict[str, str]:
    """The variables by which what is tracked reaches MLflow."""
    environment = {RUN_ID: output.run_id, RECORDS: str(output.tracking_records)}
    if not os.environ.get(TRACKING_URI):
        environment[TRACKING_URI] = output.tracking_uri
        environment[ARTIFACT_LOCATION] = output.tracked_files.as_uri()
    return environment


def lay_out_database(output: OutputFolder) -> None:
    """Make the run's own MLflow database, which appears whole or not at all: of a part MLflow makes nothing."""
    if os.environ[TRACKING_URI] != output.tracking_uri or output.tracking_database.exists():
        return
    from untrigger.tracking.mlflow import check_server

    partial = output.tracking_database.with_name("mlflow.db.partial")
    partial.unlink(missing_ok=True)
    check_server(database_uri(partial))
    partial.replace(output.tracking_database)
