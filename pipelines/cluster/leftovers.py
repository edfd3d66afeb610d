"""What a run leaves behind in MLflow that ended without its last stage, close run."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

from untrigger.pipelines.cluster.states import GOING_ON
from untrigger.pipelines.cluster.whole import ClusterRun
from untrigger.tracking.records import TRACKING_URI


def close_leftovers(runs: Iterable[ClusterRun], lost: Iterable[str] = ()) -> list[str]:
    """End what is still open in MLflow of `runs` that have failed, and of those with the ids `lost`; their ids.

    MLflow is that of the environment; without one nothing is done. UserError when it does not answer.
    """
    ended = [*lost, *(run.id for run in runs if run.state not in ("SUCCEEDED", *GOING_ON))]
    uri = os.environ.get(TRACKING_URI)
    if not (uri and ended) or importlib.util.find_spec("mlflow") is None:
        return []
    from untrigger.tracking.mlflow import close_left_open

    return close_left_open(uri, ended)
