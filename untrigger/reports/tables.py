"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from untrigger.measurements import Rates
from untrigger.reports.comparison import ComparedRate, ComparedRun, compared, differing_settings, methods
from untrigger.reports.defences import DefenceResult
from untrigger.reports.endings import RunResults
from untrigger.reports.grid_tables import grid_tables
from untrigger.reports.grids import GridResult
from untrigger.reports.model_tables import classes_table, defence_table, verdicts_table
from untrigger.reports.references import GatheredReferences
from untrigger.reports.results import PlantedAttack, Results, RunTruth
from untrigger.reports.scans import ScanReport
from untrigger.reports.sweep import BEFORE, GroupLine, SweepResults
from untrigger.settings.plans import ELSEWHERE

SPREAD_SHOWN = ("attack_success_rate", "clean_accuracy", "robust_accuracy")
"""Rates that a terminal shows with their standard deviation: 80 columns have no room for that of all."""


def final_lines(found: RunResults) -> list[str]:
    """What is said below the tables of a finished run."""
    if isinstance(found, ScanReport):
        return found.sentences
    if isinstance(found, DefenceResult):
        return [found.sentence]
    if isinstance(found, GatheredReferences):
        return [f"{found.count} references{f': {found.address}' if found.address else ''}"]
    return []


def final_tables(found: RunResults) -> list[Table]:
    """What a finished run shows: one table, or those of a sweep, of scans or of a grid."""
    if isinstance(found, ScanReport):
        return [*map(classes_table, found.results), verdicts_table(found.results)]
    if isinstance(found, DefenceResult):
        return [defence_table(found)]
    if isinstance(found, GatheredReferences):
        return []
    if isinstance(found, GridResult):
        return grid_tables(found)
    return [results_table(found)] if isinstance(found, Results) else sweep_tables(found)


def sweep_tables(found: SweepResults) -> list[Table]:
    """The attack success rates of a sweep, one table per group of triggers, beside the published ones.

    The column `- ensemble` is how much more than the ensemble a method leaves, paired by trigger: the mean ± half the
    width of its 95 % interval by Student's t.
    Where it was searched for, a further table per group has the attack success of the strongest trigger left.
    """
    tables = []
    for group in dict.fromkeys(line.group for line in found.summary):
        lines = [line for line in found.summary if line.group == group]
        title = f"{found.dataset}, {lines[0].triggers} {group} triggers, attack success %"
        caption = "worst: of a trigger's mean; seed: of a single seed"
        if any(line.published_mean for line in lines):
            caption += "; paper: CIFAR-10, ResNet-18"
        if found.attack != PlantedAttack():
            caption += f"; attack {found.attack.name} on images of {found.attack.victims}"
        if found.attack.beyond_search:
            caption += f"; {found.attack.beyond_search}"
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title, caption=caption)
        table.add_column("method", no_wrap=True)
        for name in ("mean ± sd", "worst", "seed", "- ensemble", "clean %", "paper", "worst"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            spread = f"{_percent(line.mean)} ± {_percent(line.std)}"
            error = line.over_ensemble_error95
            more = _percent(line.over_ensemble, "+") + ("" if error is None else f" ± {_percent(error)}")
            rates = map(_percent, (line.clean_accuracy, line.published_mean, line.published_worst))
            worst = (_percent(line.worst), _percent(line.worst_of_seeds))
            table.add_row(_broken(line.method), spread, *worst, more, *rates, end_section=line.method == BEFORE)
        tables.append(table)
        if any(line.strongest_left is not None for line in lines):
            tables.append(_left_table(lines))
    return tables


def _left_table(lines: Sequence[GroupLine]) -> Table:
    """What search still found after each defence of a group of triggers."""
    title = f"{lines[0].group} triggers, attack success % of the strongest trigger left"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, min_width=len(title))
    table.add_column("method", no_wrap=True)
    for name in ("mean", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        if line.strongest_left is not None:
            table.add_row(line.method, _percent(line.strongest_left), _percent(line.worst_strongest_left))
    return table


def _percent(rate: float | None, sign: str = "") -> str:
    return "" if rate is None else f"{100 * rate:{sign}.1f}"


def _broken(method: str) -> str:
    """The name on two lines where one would leave the rates too little of 80 columns."""
    return "single_trigger\n  _elsewhere" if method == ELSEWHERE else method


def results_table(found: Results) -> Table:
    """The before/after table, rates in percent, and below it the floor of attack success.

    The column `left` is the attack success of the strongest trigger that was found after the defence.
    """
    searched = any(line.mean.strongest_left is not None for line in found.summary)
    source = found.attack.source_class
    sent = found.planted if source is None else f"{found.planted}, class {source}"
    floors = [_percent(rates.clean_target_rate) for rates in (found.before, found.ensemble.mean)]
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=f"{found.dataset}, {sent} -> class {found.target_class}",
        caption=f"without a trigger: {floors[0]} % to the target class before, {floors[1]} % after ensemble"
        + ("\nleft: attack success of the strongest trigger found after the defence" if searched else "")
        + (f"\n{found.attack.beyond_search}" if found.attack.beyond_search else ""),
    )
    table.add_column("method", no_wrap=True)
    for name in ("seeds", "ASR %", *(["left"] if searched else []), "clean %", "robust %", "DER %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("before", "", *_cells(found.before, None, searched), end_section=True)
    for line in found.summary:
        table.add_row(_broken(line.method), str(line.n), *_cells(line.mean, line.std if line.n > 1 else None, searched))
    return table


def _cells(mean: Rates, std: Rates | None, searched: bool) -> list[str]:
    """The rates of one line, in the order of the columns."""
    spread = {rate: "" if std is None else f" ± {_percent(getattr(std, rate))}" for rate in SPREAD_SHOWN}
    success, *others = (_percent(getattr(mean, rate)) + spread[rate] for rate in SPREAD_SHOWN)
    left = [_percent(mean.strongest_left)] if searched else []
    return [success, *left, *others, _percent(mean.defense_effectiveness_rating)]


def truth_table(known: RunTruth) -> Table:
    """How close the generators of a run come to the truth: nats, and shares in percent."""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=f"{known.repeats} repeats of {known.walkers} walkers, F over {known.images} images",
        caption="in brackets: what a second true sample covers",
    )
    for name in ("beta", "valid %", "log-volume", "entropy", "gap", "forward gap", "coverage %"):
        table.add_column(name, justify="right", no_wrap=True)
    for stair in known.stairs:
        table.add_row(
            stair.name,
            _percent(stair.valid),
            f"{stair.log_volume:.2f} ± {stair.log_volume_error95:.2f}",
            *(_nats(value) for value in (stair.entropy, stair.gap, stair.forward_gap)),
            f"{_percent(stair.coverage)} ({_percent(stair.truth_coverage)})",
        )
    return table


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def comparison_tables(runs: Sequence[ComparedRun]) -> list[Table]:
    """Attack success, what is left, and clean accuracy per method, one column per run; and the settings that differ."""
    tables = []
    shown = {
        "attack_success_rate": "attack success %",
        "strongest_left": "attack success % of the strongest trigger left",
        "clean_accuracy": "clean accuracy %",
    }
    for rate, title in shown.items():
        rows = {method: compared(runs, method, rate) for method in methods(runs)}
        if not any(cell for cells in rows.values() for cell in cells):
            continue
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title)
        table.add_column("method", no_wrap=True)
        for run in runs:
            table.add_column(run.name, justify="right", overflow="fold")
        for method, cells in rows.items():
            table.add_row(method, *map(_compared_text, cells))
        tables.append(table)
    settings = Table(box=SIMPLE_HEAD, pad_edge=False, title="settings that differ")
    for name in ("setting", *(run.name for run in runs)):
        settings.add_column(name, overflow="fold")
    for name, values in differing_settings(runs).items():
        settings.add_row(name, *map(str, values))
    return [*tables, settings]


def _compared_text(cell: ComparedRate | None) -> str:
    if cell is None:
        return "-"
    text = f"{100 * cell.mean:.1f}" + ("" if cell.std is None else f" ± {100 * cell.std:.1f}")
    if cell.difference is not None:
        text += f" ({100 * cell.difference:+.1f}){' *' if cell.differs else '  '}"
    return text
