"""`report.html`: one self-contained file that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from untrigger import __version__
from untrigger.reports.results import Results
from untrigger.reports.sweep import SweepResults, folder_name, sweep_methods


@dataclass(frozen=True)
class Picture:
    """A figure file and what it shows."""

    path: Path
    caption: str

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


def write_report(
    path: Path,
    found: Results,
    class_names: Sequence[str],
    counts: Mapping[str, int],
    pictures: Mapping[str, Picture | list[Picture]],
) -> None:
    """Write the report of what one run found.

    counts: images in the defender's and the evaluation data. pictures: attack, methods, embedding, stairs, training,
    and the list `samples`.
    """
    write_page(
        path,
        "report",
        found=found,
        counts=counts,
        target_name=class_names[found.target_class],
        pictures=pictures,
        config=json.dumps(found.config, indent=2),
        version=__version__,
    )


def write_sweep_report(path: Path, found: SweepResults, pictures: Mapping[str, Picture]) -> None:
    """Write the report of a sweep; `pictures` are sweep and panels."""
    write_page(
        path,
        "sweep",
        found=found,
        groups=dict.fromkeys(line.group for line in found.summary),
        methods=sweep_methods(found.triggers),
        pictures=pictures,
        folder_name=folder_name,
        config=json.dumps(found.config, indent=2),
        version=__version__,
    )


def write_page(path: Path, template: str, **shown: Any) -> None:
    """Write what `template` makes of the values that it is shown; its filter `percent` is for rates."""
    environment = Environment(
        loader=PackageLoader("untrigger.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda rate: f"{100 * rate:.1f}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(f"{template}.html.j2").render(shown), encoding="utf-8")
