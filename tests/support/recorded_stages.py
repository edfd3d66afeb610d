"""What became of each stage of the recorded runs."""

from __future__ import annotations

from datetime import datetime

from tests.support.recordings import Recording
from untrigger.pipelines.cluster.workflow import Stage, Workflow

ONE = [
    "open run",
    "prepare data",
    "clean training",
    "poison training",
    "pixel SGD",
    "ideal retraining",
    "generator beta=0.9",
    "generator beta=0.5",
    "staircase",
    "t-SNE visualisation",
    *(f"retraining {m}" for m in ("none", "fine_tune", "single_trigger", "beta=0.9", "beta=0.5", "ensemble")),
    "evaluation",
    "close run",
]
SHARED = ["open run", "prepare data", "clean training", "aggregation", "close run"]
SWEPT = SHARED + [f"binary:{n} {stage}" for n in (1, 2) for stage in ONE if stage not in SHARED]
FRESH = {"open run", "evaluation", "close run"}
BEFORE_GENERATORS = ["open run", "prepare data", "clean training", "poison training", "pixel SGD", "ideal retraining"]
OMITTED = "omitted since what it needs failed"
CALLED_OFF = "omitted since the run was terminated"

EXPECTED: dict[str, dict[str, str]] = {
    "succeeded": dict.fromkeys(ONE, "finished"),
    "sweep_of_two": dict.fromkeys(SWEPT, "finished"),
    "cached": {stage: "finished" if stage in FRESH else "reused" for stage in ONE},
    "partly_cached_goes_on": {
        **dict.fromkeys(ONE, "finished"),
        **dict.fromkeys(ONE[1:8], "reused"),
        **dict.fromkeys(("generator beta=0.4", "retraining beta=0.4"), "finished"),
    },
    "partly_cached_fails": {
        **dict.fromkeys(ONE[1:8], "reused"),
        "open run": "finished",
        "generator beta=0.3": "finished",
        "staircase": "failed after 5 s: exit code 1",
        "t-SNE visualisation": OMITTED,
        "evaluation": OMITTED,
        "close run": "finished",
    },
    "out_of_memory": {
        "open run": "finished",
        "prepare data": "finished",
        "clean training": "failed after 4 s: out of memory, it may have 120Mi (OOMKilled)",
        "close run": "finished",
    },
    "store_settings_reset": {
        "open run": "failed after 9 s: exit code 1",
        "prepare data": OMITTED,
        "clean training": OMITTED,
        "close run": "failed after 8 s: exit code 1",
    },
    "workflow_deleted_while_pending": {
        "open run": "finished",
        "prepare data": "waits for a node: 0/1 nodes are available: 1 Insufficient cpu",
    },
    "terminated": {
        **dict.fromkeys(BEFORE_GENERATORS, "finished"),
        "generator beta=0.9": "terminated after 2 min 41 s",
        "generator beta=0.5": "terminated after 2 min 42 s",
        **dict.fromkeys(("staircase", "t-SNE visualisation", "evaluation"), CALLED_OFF),
        "close run": "finished",
    },
    "driver_pod_lost": {
        "open run": "finished",
        "prepare data": "finished",
        "clean training": "failed after 3 s: KFP's driver: exit code 1",
        "close run": "failed after 18 s: KFP's driver: exit code 1",
    },
}


def stages(run: Recording, moment: datetime | None = None) -> dict[str, Stage]:
    workflow = Workflow.read(run.manifest(moment))
    assert workflow is not None
    found = workflow.stages(run.parameters)
    assert len({stage.stage for stage in found}) == len(found), "each by a name of its own"
    return {stage.stage: stage for stage in found}
