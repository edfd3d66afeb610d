"""What a finished run shows on a terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console

from tests.support.results import FOUND, SWEEP, left, rates
from untrigger.reports.results import PlantedAttack, Results
from untrigger.reports.sweep import SweepResults, sweep_results
from untrigger.reports.tables import final_tables

BLENDED = PlantedAttack(name="blended", goal="one_to_one", source_class=3, no_patch="the trigger is no patch: mixed")


def shown(found: Results | SweepResults) -> str:
    console = Console(width=80, file=io.StringIO())
    for table in final_tables(found):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_results_fit_a_terminal_of_80_columns_and_tell_the_floor() -> None:
    after = (rates(1.0, 1.0, 1.0, 0.01, strongest_left=1.0), rates(0.8, 0.7, 0.6, 0.03))
    methods = ("single_trigger", "single_trigger_elsewhere", "ensemble")
    text = shown(left("checkerboard", rates(1.0, 1.0, 0.0), dict.fromkeys(methods, after)))
    assert "single_trigger" in text and "_elsewhere" in text and "85.0 ± 21.2" in text and "…" not in text
    assert "without a trigger: 2.0 % to the target class before, 2.0 % after ensemble" in text
    assert "left: attack success of the strongest trigger found after the defence" in text
    unsearched = shown(left("checkerboard", rates(1.0, 1.0, 0.0), {"ensemble": [rates(1.0, 1.0, 1.0)]}))
    assert " left" not in unsearched


def test_a_table_names_attack_and_victims_and_says_what_a_search_for_patches_misses() -> None:
    found = left("checkerboard", rates(1.0, 1.0, 0.0), {"ensemble": [rates(1.0, 1.0, 1.0, strongest_left=0.1)]})
    text = shown(found.model_copy(update={"attack": BLENDED}))
    assert "digits, blended, class 3 -> class 0" in text
    assert "the trigger is no patch: mixed; all searches, that for what is left too" in " ".join(text.split())
    assert "no patch" not in shown(found)


def test_the_tables_of_a_sweep_do_so_too() -> None:
    found = sweep_results(SWEEP, FOUND)
    text = " ".join(shown(found.model_copy(update={"attack": BLENDED})).split())
    assert (
        "attack blended on images of class 3; the trigger is no patch: mixed; all searches" in text and "…" not in text
    )
    assert "attack patch" not in shown(found)


def test_a_sweep_fits_a_terminal_of_80_columns() -> None:
    text = shown(sweep_results(SWEEP, FOUND))
    assert "single_trigger" in text and "+17.0 ± 139.8" in text and "…" not in text
    assert "black-and-white triggers, attack success % of the strongest trigger left" in text
    assert re.search(r"ensemble +6.0 +8.0", text), "mean and worst over two triggers"
