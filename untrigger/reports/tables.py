"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from untrigger.reports.comparison import ComparedRate, ComparedRun, compared, differing_settings, methods
from untrigger.reports.results import Results, RunTruth
from untrigger.reports.sweep import BEFORE, SweepResults


def final_tables(found: Results | SweepResults) -> list[Table]:
    """What a finished run shows: one table, or those of a sweep."""
    return [results_table(found)] if isinstance(found, Results) else sweep_tables(found)


def sweep_tables(found: SweepResults) -> list[Table]:
    """The attack success rates of a sweep, one table per group of triggers, beside the published ones.

    The column `- ensemble` is how much more than the ensemble a method leaves, paired by trigger: the mean ± half the
    width of its 95 % interval by Student's t.
    """
    tables = []
    for group in dict.fromkeys(line.group for line in found.summary):
        lines = [line for line in found.summary if line.group == group]
        title = f"{found.dataset}, {lines[0].triggers} {group} triggers, attack success %"
        caption = "worst: of a trigger's mean; seed: of a single seed"
        if any(line.published_mean for line in lines):
            caption += "; paper: CIFAR-10, ResNet-18"
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
            table.add_row(line.method, spread, *worst, more, *rates, end_section=line.method == BEFORE)
        tables.append(table)
    return tables


def _percent(rate: float | None, sign: str = "") -> str:
    return "" if rate is None else f"{100 * rate:{sign}.1f}"


def results_table(found: Results) -> Table:
    """The before/after table, rates in percent, and below it the floor of attack success."""
    floors = [_percent(rates.clean_target_rate) for rates in (found.before, found.ensemble.mean)]
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=f"{found.dataset}, {found.trigger.name} -> class {found.target_class}",
        caption=f"without a trigger: {floors[0]} % to the target class before, {floors[1]} % after ensemble",
    )
    table.add_column("method", no_wrap=True)
    for name in ("seeds", "ASR %", "clean %", "robust %", "DER %"):
        table.add_column(name, justify="right", no_wrap=True)
    rates = ("attack_success_rate", "clean_accuracy", "robust_accuracy")
    table.add_row("before", "", *(_percent(getattr(found.before, rate)) for rate in rates), "", end_section=True)
    for line in found.summary:
        cells = (
            f"{_percent(getattr(line.mean, rate))} ± {_percent(getattr(line.std, rate))}"
            for rate in (*rates, "defense_effectiveness_rating")
        )
        table.add_row(line.method, str(line.n), *cells)
    return table


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
            f"{stair.beta}",
            _percent(stair.valid),
            f"{stair.log_volume:.2f} ± {stair.log_volume_error95:.2f}",
            *(_nats(value) for value in (stair.entropy, stair.gap, stair.forward_gap)),
            f"{_percent(stair.coverage)} ({_percent(stair.truth_coverage)})",
        )
    return table


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def comparison_tables(runs: Sequence[ComparedRun]) -> list[Table]:
    """Attack success and clean accuracy per method, one column per run, and the settings that differ."""
    tables = []
    for rate, title in (("attack_success_rate", "attack success %"), ("clean_accuracy", "clean accuracy %")):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title)
        table.add_column("method", no_wrap=True)
        for run in runs:
            table.add_column(run.name, justify="right", overflow="fold")
        for method in methods(runs):
            table.add_row(method, *(_compared_text(cell) for cell in compared(runs, method, rate)))
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
