"""Compiling the DAGs."""

from __future__ import annotations

from pathlib import Path

from kfp import compiler

from untrigger.pipelines.arguments import COMPILED
from untrigger.pipelines.defend import defend
from untrigger.pipelines.defense import defense
from untrigger.pipelines.grid import grid
from untrigger.pipelines.references import references
from untrigger.pipelines.scan import scan
from untrigger.pipelines.sweep import sweep


def compile_all(folder: Path | None = None) -> list[Path]:
    """Write every DAG as YAML into `folder`, or over the committed files; returns what was written."""
    dags = {
        "defense": defense,
        "paper": sweep,
        "scan": scan,
        "references": references,
        "defend": defend,
        "grid": grid,
    }
    targets = {name: folder / path.name if folder else path for name, path in COMPILED.items()}
    for name, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(dags[name], str(target))
    return list(targets.values())
