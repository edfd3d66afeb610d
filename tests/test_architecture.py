"""The floors of the house: a part imports only from parts below it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from untrigger import __file__ as package_file

PACKAGE = Path(package_file).parent

FLOORS = (
    ("errors",),
    ("artifacts", "seeding", "plugins", "snapshots"),
    ("settings",),
    ("measurements", "intervals", "verdicts", "networks", "pictures", "storage", "tracking"),
    ("profiles", "triggers", "datasets", "mutual_information", "truth", "flows"),
    ("classifiers", "attacks"),
    ("training", "metrics", "generators", "pixel_sgd", "judge", "neural_cleanse"),
    ("checkpoints", "poisoning", "staircase", "flow_training", "fidelity", "strongest_triggers"),
    ("elsewhere", "retraining", "trigger_parts", "scanning", "defences", "distributions"),
    ("references", "defending"),
    ("reports",),
    ("model_scans", "model_defences", "grids"),
    ("stages",),
    ("runs",),
    ("components",),
    ("pipelines",),
    ("cli",),
)
"""From the ground up: each tuple is one floor, whose parts do not know each other."""

FLOOR = {part: number for number, floor in enumerate(FLOORS) for part in floor}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.glob("**/*.py")) + sorted(
        path for part in ("components", "pipelines") for path in (PACKAGE / part).glob("**/*.py")
    ):
        yield ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"), path


NAMES = {name for name, _ in modules()}


def imported(path: Path) -> Iterator[str]:
    """The modules of our own that a file imports, wherever in it, for types alone, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "untrigger":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in NAMES else node.module
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "untrigger")


def part(module: str) -> str:
    """The part of the package that a module belongs to; "" for the package itself."""
    return [*module.split("."), ""][1]


def test_every_part_has_a_floor() -> None:
    assert {part(name) for name in NAMES} - {""} == set(FLOOR)


def test_the_architecture_page_shows_the_same_floors() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    table = page.partition("| parts | know |\n|---|---|\n")[2].partition("\n\n")[0]
    assert tuple(tuple(re.findall(r"`(\w+)`", row.split("|")[1])) for row in table.splitlines()) == FLOORS


def test_nothing_is_imported_from_above_or_from_beside() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, path in modules()
        for other in imported(path)
        if part(name) and part(other) and part(other) != part(name) and FLOOR[part(other)] >= FLOOR[part(name)]
    ]
    assert not upwards


def test_no_module_imports_itself_by_a_detour() -> None:
    below = {name: set(imported(path)) & NAMES - {"untrigger"} for name, path in modules()}

    def reached(name: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for other in sorted(below[name]):
            if other in path:
                yield (*path[path.index(other) :], other)
            elif other not in seen:
                seen.add(other)
                yield from reached(other, (*path, other))

    circles = []
    for name in sorted(NAMES):
        seen: set[str] = set()
        circles += list(reached(name, (name,)))
    assert not circles


def test_no_test_imports_another() -> None:
    here = Path(__file__).parent
    importing = [
        f"{path.relative_to(here)} imports {node.module}"
        for path in sorted(here.glob("**/*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests")
        if not f"{node.module}.".startswith("tests.support.")
    ]
    assert not importing


def test_only_pipelines_and_components_know_kubeflow() -> None:
    knowing = [
        name
        for name, path in modules()
        if part(name) not in ("components", "pipelines")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("kfp", "kfp_server_api"))
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "kfp" for alias in node.names))
    ]
    assert not knowing
