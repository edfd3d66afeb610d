"""Are the backdoored networks of a zoo closed by a defence, and the clean ones left alone?"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.zoo import PROFILES
from untrigger.artifacts import write_json
from untrigger.errors import UserError
from untrigger.networks.devices import device
from untrigger.profiles import defence_config
from untrigger.reports.defences import DefenceResult
from untrigger.runs.defences import Defending, defend_model
from untrigger.settings.defences import DefendConfig
from untrigger.tracking.watching import showing_work

KINDS = ("backdoored", "clean")


def measure_closing(dataset: str, address: str | None, zoo: Path, counts: Mapping[str, int], json_file: Path) -> None:
    """Defend the first networks of a zoo that was measured, as `untrigger defend` does, and print what became of them.

    counts: of references to compare with, and of networks of each of KINDS. What is done stays in the zoo's folder.
    """
    config = defence_config(PROFILES[dataset], {"dataset": address or dataset}, DefendConfig)
    references, console = _references(zoo, counts["references"]), Console()
    lines: list[dict[str, Any]] = []
    for kind in KINDS:
        for number in range(counts[kind]):
            network = zoo / f"{kind}-{number:02d}"
            if not network.is_dir():
                raise UserError(f"{zoo} holds no {network.name}: train it with `python -m benchmarks zoo {dataset}`")
            result = _defended(network, config, references)
            lines.append({"network": network.name, **result.model_dump(include=TOLD, mode="json")})
            write_json(json_file, {"networks": lines})
            console.print(f"{network.name}: {result.sentence}", soft_wrap=True)
    console.print(_table(lines))
    console.print(description(device()), soft_wrap=True)


TOLD = {"outcome", "scanned", "target_class", "size", "before", "after", "usual", "rounds", "seconds"}
"""What is kept of each result."""


def _references(zoo: Path, count: int) -> Path:
    """A folder with so many of the zoo's references, as `--references` takes it."""
    folder = zoo / f"references-{count}"
    for number in range(count):
        if not (folder / f"{number:03d}").exists():
            shutil.copytree(zoo / f"reference-{number:02d}", folder / f"{number:03d}")
    return folder


def _defended(network: Path, config: DefendConfig, references: Path) -> DefenceResult:
    """The result for a network, from the zoo's folder where it is there already."""
    output = network.parent / "closed"
    for kept in output.glob(f"{network.name}-*/{DefenceResult.FILE}"):
        return DefenceResult.load(kept.parent)
    with showing_work(Console(stderr=True)) as on_work:
        return defend_model(str(network), Defending(config, output, print, on_work, references))


def _table(lines: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="what opens each network, and its clean accuracy")
    for name in ("network", "outcome", "class", "size", "before", "after", "usual", "accuracy", "after", "seconds"):
        table.add_column(name, justify="right")
    for line in lines:
        before, after, usual = line["before"], line["after"], line.get("usual") or {}
        opened = [_percent(each.get("strongest")) for each in (before, after, usual)]
        accuracies = [_percent(each["accuracy"]) for each in (before, after)]
        size = line.get("size") or ("" if line.get("target_class") is None else "mask")
        known = (line["network"], line["outcome"], f"{line.get('target_class', '')}", f"{size}")
        table.add_row(*known, *opened, *accuracies, f"{line['seconds']:.0f}")
    lost = [line["before"]["accuracy"] - line["after"]["accuracy"] for line in lines]
    table.caption = f"accuracy lost: {_percent(statistics.mean(lost))} on average, {_percent(max(lost))} at most"
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
