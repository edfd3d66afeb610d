"""`report.html`: one self-contained file that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from untrigger import __version__
from untrigger.reports.results import Results, RunTruth
from untrigger.reports.sweep import SweepResults, folder_name, sweep_methods
from untrigger.settings.stairs import beta_name


@dataclass(frozen=True)
class Picture:
    """A figure file and what it shows."""

    path: Path
    caption: str

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


CAPTIONS = {
    "attack": "Evaluation images, the same with the trigger, and the trigger where it is a picture",
    "methods": "Attack success rate per method: mean (bar) and each seed (dot), and that of the strongest trigger "
    "found after the defence (triangle)",
    "tsne": "t-SNE of the triggers: samples of each generator, the single reversed triggers, and the true trigger "
    "(left out when it is no patch of the size that was looked for)",
    "stairs": "F and mutual information (of flows: entropy) in training, and F over fresh samples",
    "training": "Training curves: clean and poison training, the attack, the defences",
}
"""Of the figures of a run, by the names of their files."""


def samples_name(beta: float) -> str:
    """The name of the figure with samples of one stair."""
    return f"samples_beta_{beta_name(beta)}.png"


def write_report(path: Path, found: Results, truth: RunTruth | None = None) -> None:
    """Write the report of what one run found, and where it is known the truth about its stairs.

    Its figures lie in the folder `figures` beside it.
    """
    drawn = path.parent / "figures"
    pictures = {name: Picture(drawn / f"{name}.png", caption) for name, caption in CAPTIONS.items()}
    samples = [
        Picture(drawn / samples_name(stair.beta), f"Fresh samples of the generator for beta = {stair.name}")
        for stair in found.stairs
    ]
    write_page(
        path,
        "report",
        found=found,
        pictures=pictures,
        samples=samples,
        truths={stair.beta: stair for stair in truth.stairs} if truth else {},
        truth=truth,
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
    """Write what `template` makes of the values shown; its filter `percent` is for rates, `nats` for entropies."""
    environment = Environment(
        loader=PackageLoader("untrigger.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda rate: "" if rate is None else f"{100 * rate:.1f}"
    environment.filters["nats"] = lambda value: "" if value is None else f"{value:.2f}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(f"{template}.html.j2").render(shown), encoding="utf-8")
