"""A task that gathers a loop's artifacts goes on when some of them are cached, in every compiled DAG.

KFP's launcher opens the store of an earlier run only for the first artifact of each input: a fresh first item hides a
cached one behind it, unless another input comes from an earlier run whenever an item does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from untrigger.pipelines.arguments import COMPILED

Task = dict[str, Any]


def parts(spec: dict[str, Any]) -> Iterator[dict[str, Task]]:
    """The tasks of each DAG in a compiled one."""
    for part in (spec["root"], *spec["components"].values()):
        if "dag" in part:
            yield part["dag"]["tasks"]


def artifacts(task: Task) -> dict[str, Any]:
    return dict(task.get("inputs", {}).get("artifacts", {}))


def source(given: dict[str, Any]) -> str:
    """Where an input comes from, as a loop hands it through under one name more."""
    taken = given.get("taskOutputArtifact")
    if taken:
        return f"{taken['producerTask']}-{taken['outputArtifactKey']}"
    return str(given["componentInputArtifact"])


def always_anew(spec: dict[str, Any], loop: Task) -> bool:
    """Whether what the loop's tasks put out is never taken from the cache."""
    inside = [loop["componentRef"]["name"]]
    kept = set()
    while inside:
        dag = spec["components"][inside.pop()]["dag"]
        for produced in dag["outputs"]["artifacts"].values():
            for selected in produced["artifactSelectors"]:
                task = dag["tasks"][selected["producerSubtask"]]
                component = task["componentRef"]["name"]
                if "dag" in spec["components"][component]:
                    inside.append(component)
                else:
                    kept.add(task.get("cachingOptions", {}).get("enableCache", False))
    return kept == {False}


def exposed(spec: dict[str, Any]) -> list[str]:
    """The tasks that would fail, and the inputs that they gather."""
    found = []
    for tasks in parts(spec):
        loops = {name for name, task in tasks.items() if "parameterIterator" in task}
        for name, task in tasks.items():
            gathered = {
                key: given["taskOutputArtifact"]["producerTask"]
                for key, given in artifacts(task).items()
                if given.get("taskOutputArtifact", {}).get("producerTask") in loops
            }
            others = {source(given) for key, given in artifacts(task).items() if key not in gathered}
            for key, loop in gathered.items():
                into_loop = {source(given) for given in artifacts(tasks[loop]).values()}
                if not others & into_loop and not always_anew(spec, tasks[loop]):
                    found.append(f"{name}.{key}")
    return found


@pytest.mark.parametrize("path", COMPILED.values(), ids=COMPILED)
def test_whoever_gathers_a_loop_takes_an_artifact_more_that_every_item_takes_too(path: Path) -> None:
    spec = next(yaml.safe_load_all(path.read_text()))
    gathering = [
        name
        for tasks in parts(spec)
        for name, task in tasks.items()
        for given in artifacts(task).values()
        if tasks.get(given.get("taskOutputArtifact", {}).get("producerTask"), {}).get("parameterIterator")
    ]
    expected = {
        "defense": {"staircase", "evaluation"},
        "paper": {"staircase", "evaluation", "aggregation"},
        "scan": {"verdicts"},
        "references": {"gathered-references"},
        "defend": {"verdicts"},
        "grid": {"gathered-cells", "grid-report"},
    }
    assert expected[path.stem] == set(gathering)
    assert exposed(spec) == []


def test_the_dag_that_failed_on_a_real_cluster_is_found_out() -> None:
    from tests.support.recordings import recording

    spec = next(yaml.safe_load_all(recording("partly_cached_fails").spec))
    assert exposed(spec) == ["staircase.generators"]
    repaired = next(yaml.safe_load_all(recording("partly_cached_goes_on").spec))
    assert exposed(repaired) == []
