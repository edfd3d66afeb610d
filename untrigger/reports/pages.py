"""`report.html`: one self-contained file that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    page = (
        page_templates()
        .get_template("report.html.j2")
        .render(
            found=found,
            counts=counts,
            target_name=class_names[found.target_class],
            pictures=pictures,
            config=json.dumps(found.config, indent=2),
            command=command_line(found.config["seed"]),
            version=__version__,
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def write_sweep_report(path: Path, found: SweepResults, pictures: Mapping[str, Picture]) -> None:
    """Write the report of a sweep; `pictures` are sweep and panels."""
    page = page_templates().get_template("sweep.html.j2")
    groups = dict.fromkeys(line.group for line in found.summary)
    config = json.dumps(found.config, indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        page.render(
            found=found,
            groups=groups,
            methods=sweep_methods(found.triggers),
            pictures=pictures,
            folder_name=folder_name,
            config=config,
            version=__version__,
        ),
        encoding="utf-8",
    )


def page_templates() -> Environment:
    """The templates of our pages, with rates shown as percent."""
    environment = Environment(
        loader=PackageLoader("untrigger.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda rate: f"{100 * rate:.1f}"
    return environment


def command_line(seed: int) -> str:
    """The command that repeats the run, given the configuration printed in the report as config.json."""
    return f"untrigger run --config config.json --output runs/again --seed {seed}"
