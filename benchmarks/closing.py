"""Are the backdoored networks of a zoo closed by a defence, and the clean ones left alone?"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import description
from benchmarks.zoo import PROFILES
from untrigger import __version__
from untrigger.artifacts import write_json
from untrigger.errors import UserError
from untrigger.networks.devices import device
from untrigger.profiles import defence_config
from untrigger.reports.defences import DefenceResult
from untrigger.runs.defences import Defending, defend_model
from untrigger.settings.defences import DefendConfig
from untrigger.tracking.watching import showing_work

KINDS = ("backdoored", "clean")

TOLD = {"outcome", "scanned", "target_class", "size", "before", "after", "usual", "rounds", "seconds", "version"}
"""What is kept of each result."""


def measure_closing(
    dataset: str, address: str | None, zoo: Path, counts: Mapping[str, int], json_file: Path | None
) -> None:
    """Defend the first networks of a zoo that was measured, as `untrigger defend` does, and print what became of them.

    counts: of references to compare with, and of networks of each of KINDS. What is done stays in the zoo's folder.
    Raises UserError when the zoo has not all of them.
    """
    config = defence_config(PROFILES[dataset], {"dataset": address or dataset}, DefendConfig)
    networks = [network for kind in KINDS for network in _networks(zoo, kind, counts[kind])]
    if not networks:
        raise UserError("no network to defend: raise --backdoored or --clean")
    references, console = _references(zoo, counts["references"]), Console()
    results: dict[str, DefenceResult] = {}
    for network in networks:
        results[network.name] = _defended(network, config, references)
        console.print(f"{network.name}: {results[network.name].sentence}", soft_wrap=True)
        if json_file is not None:
            write_json(json_file, {name: each.model_dump(include=TOLD, mode="json") for name, each in results.items()})
    console.print(_table(results))
    console.print(description(device()), soft_wrap=True)


def _networks(zoo: Path, kind: str, count: int) -> list[Path]:
    """The folders of the first networks of a kind."""
    networks = [zoo / f"{kind}-{number:02d}" for number in range(count)]
    for network in networks:
        if not network.is_dir():
            raise UserError(
                f"{zoo} holds no {network.name}: train it with `python -m benchmarks zoo`, or ask for fewer"
            )
    return networks


def _references(zoo: Path, count: int) -> Path:
    """A folder with so many of the zoo's references, as `--references` takes it."""
    folder = zoo / f"references-{count}"
    for place in _networks(zoo, "reference", count):
        # Anew each time, over what an interrupted copy left; what scans keep beside it stays.
        shutil.copytree(place, folder / place.name, dirs_exist_ok=True)
    return folder


def _defended(network: Path, config: DefendConfig, references: Path) -> DefenceResult:
    """The result for a network, from the zoo's folder where the same was done already."""
    output = network.parent / f"closed-with-{references.name}"
    for place in output.glob(f"{network.name}-*/{DefenceResult.FILE}"):
        kept = DefenceResult.load(place.parent)
        if (kept.config, kept.version) == (config.record(), __version__):
            return kept
    with showing_work(Console(stderr=True)) as on_work:
        return defend_model(str(network), Defending(config, output, print, on_work, references))


def _table(results: Mapping[str, DefenceResult]) -> Table:
    table = Table(title="what opens each network, and its clean accuracy")
    for column in ("network", "outcome", "class", "size", "before", "after", "usual", "accuracy", "after", "seconds"):
        table.add_column(column, justify="right")
    for name, found in results.items():
        usual = None if found.usual is None else found.usual.strongest
        opened = [_percent(share) for share in (found.before.strongest, found.after.strongest, usual)]
        accuracies = [_percent(each.accuracy) for each in (found.before, found.after)]
        closed = ("", "") if found.target_class is None else (f"{found.target_class}", f"{found.size or 'mask'}")
        table.add_row(name, found.outcome, *closed, *opened, *accuracies, f"{found.seconds:.0f}")
    lost = [found.before.accuracy - found.after.accuracy for found in results.values()]
    table.caption = f"accuracy lost: {_percent(statistics.mean(lost))} on average, {_percent(max(lost))} at most"
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
