"""Records of a stage that no other process forwards: it does so itself."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from untrigger.tracking.records import RECORDS, RUN_ID, TRACKING_URI


@contextmanager
def forwarding_own_records(*, patiently: bool = True) -> Iterator[None]:
    """Let MLflow have what is tracked in this block, where no other process forwards it.

    UserError at the beginning when MLflow refuses, or, unless `patiently`, when it cannot be reached.
    """
    pipeline_run, uri = os.environ.get(RUN_ID), os.environ.get(TRACKING_URI)
    if os.environ.get(RECORDS) or not (pipeline_run and uri) or importlib.util.find_spec("mlflow") is None:
        yield
        return
    from untrigger.tracking.forwarding import forwarding_own

    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        os.environ[RECORDS] = str(records)
        try:
            with forwarding_own(records, uri, pipeline_run, patiently=patiently):
                yield
        finally:
            del os.environ[RECORDS]
