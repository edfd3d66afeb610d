"""What a finished run shows on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from tests.support.configs import tiny_config
from tests.support.results import FOUND, SWEEP
from untrigger.metrics import Rates
from untrigger.reports.results import defense_row, results
from untrigger.reports.sweep import sweep_results
from untrigger.reports.tables import final_tables

BEFORE = Rates(clean_accuracy=1.0, attack_success_rate=1.0, robust_accuracy=0.0, clean_target_rate=0.02)


def shown(found: dict[str, object]) -> str:
    console = Console(width=80, file=io.StringIO())
    for table in final_tables(found):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_results_fit_a_terminal_of_80_columns_and_tell_the_floor() -> None:
    after = (Rates(1.0, 1.0, 1.0, 0.01), Rates(0.8, 0.7, 0.6, 0.03))
    rows = [defense_row(m, i, BEFORE, each) for m in ("single_trigger", "ensemble") for i, each in enumerate(after)]
    text = shown(results(tiny_config(), "small_resnet", {"name": "checkerboard"}, BEFORE, rows, [], []))
    assert "single_trigger" in text and "85.0 ± 21.2" in text and "…" not in text
    assert "without a trigger: 2.0 % to the target class before, 2.0 % after ensemble" in text


def test_a_sweep_fits_a_terminal_of_80_columns() -> None:
    text = shown(sweep_results(SWEEP, FOUND))
    assert "single_trigger" in text and "+17.0 ± 11.0" in text and "…" not in text
