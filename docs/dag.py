"""Draws the compiled pipeline: python docs/dag.py writes docs/images/defense.svg from pipelines/defense.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipelines" / "defense.yaml"
PICTURE = ROOT / "docs" / "images" / "defense.svg"

WIDTH, HEIGHT, GAP_X, GAP_Y = 136, 34, 44, 18
STYLE = "text{font:13px sans-serif;text-anchor:middle}rect{fill:#eef3f8;stroke:#36506c}path{fill:none;stroke:#8a99a8}"


class Dag:
    """Stages by name, those that run once per item of a loop, and what each waits for."""

    def __init__(self, compiled: dict[str, Any]) -> None:
        self.components = compiled["components"]
        self.looped: set[str] = set()
        self.waits: dict[str, set[str]] = {}
        self._walk(compiled["root"]["dag"]["tasks"], set(), looped=False)

    def _walk(self, tasks: dict[str, Any], before: set[str], *, looped: bool) -> set[str]:
        """Take in the tasks of one (sub-)DAG that starts after the stages in `before`; the stages that it ends with."""
        ends: dict[str, set[str]] = {}
        left = dict(tasks)
        while left:
            name = next(name for name in left if set(left[name].get("dependentTasks", ())) <= ends.keys())
            task = left.pop(name)
            earlier = set().union(*(ends[other] for other in task.get("dependentTasks", ()))) or before
            inner = self.components[task["componentRef"]["name"]].get("dag")
            in_loop = looped or "parameterIterator" in task
            if inner is not None:
                ends[name] = self._walk(inner["tasks"], earlier, looped=in_loop)
                continue
            self.waits[name], ends[name] = earlier, {name}
            self.looped |= {name} if in_loop else set()
        waited_for = {other for task in tasks.values() for other in task.get("dependentTasks", ())}
        return set().union(*(ends[name] for name in tasks if name not in waited_for))

    def followers(self, name: str) -> int:
        """How many stages at least run one after the other behind this one."""
        return max((self.followers(other) + 1 for other in self.waits if name in self.waits[other]), default=0)

    def direct(self, name: str) -> set[str]:
        """What a stage waits for, without what those wait for themselves."""
        return self.waits[name] - {far for near in self.waits[name] for far in self._all_before(near)}

    def _all_before(self, name: str) -> set[str]:
        return self.waits[name].union(*(self._all_before(other) for other in self.waits[name]))


def picture(compiled: dict[str, Any]) -> str:
    """The SVG: stages from left to right, a stack for one that runs once per item of a loop."""
    dag = Dag(compiled)
    columns: dict[int, list[str]] = {}
    for name in sorted(dag.waits, key=lambda name: (-dag.followers(name), name)):
        columns.setdefault(dag.followers(name), []).append(name)
    rows = max(map(len, columns.values()))
    corner = {
        name: (8.0 + x * (WIDTH + GAP_X), 8 + (y + (rows - len(names)) / 2) * (HEIGHT + GAP_Y))
        for x, names in enumerate(columns.values())
        for y, name in enumerate(names)
    }
    width, height = len(columns) * (WIDTH + GAP_X) - GAP_X + 24, rows * (HEIGHT + GAP_Y) + 8
    lines = [*_arrows(dag, corner), *(line for name in corner for line in _stage(name, *corner[name], dag.looped))]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *lines, "</svg>"]) + "\n"


def _arrows(dag: Dag, corner: dict[str, tuple[float, float]]) -> Iterator[str]:
    for name, (x, y) in corner.items():
        for other in sorted(dag.direct(name)):
            start, end = corner[other][0] + WIDTH, x
            above, below = corner[other][1] + HEIGHT / 2, y + HEIGHT / 2
            bend = (start + end) / 2
            yield f'<path d="M{start:g} {above:g}C{bend:g} {above:g} {bend:g} {below:g} {end:g} {below:g}"/>'


def _stage(name: str, x: float, y: float, looped: set[str]) -> Iterator[str]:
    for shift in (6, 3, 0) if name in looped else (0,):
        yield f'<rect x="{x + shift:g}" y="{y + shift:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
    yield f'<text x="{x + WIDTH / 2:g}" y="{y + HEIGHT / 2 + 5:g}">{name.replace("-", " ")}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(next(yaml.safe_load_all(PIPELINE.read_text()))))
