"""Verdicts: the rank among references, and how often a clean model is called backdoored."""

from __future__ import annotations

import numpy as np
import pytest

from untrigger.verdicts import references_needed, verdict_on

SEARCHES = ("2", "3", "5", "8", "mask")


def models(count: int, draw: np.random.Generator) -> list[dict[str, float]]:
    """Clean models: statistics that hang together, coarse where they are shares, so that there are ties."""
    kinds = draw.normal(size=(count, 1))
    values = kinds + draw.normal(size=(count, len(SEARCHES)))
    values[:, :2] = np.round(np.clip(values[:, :2], 0, None))
    return [dict(zip(SEARCHES, row, strict=True)) for row in values.tolist()]


@pytest.mark.parametrize(("references", "level"), [(19, 0.05), (19, 0.2), (10, 0.1)])
def test_clean_models_are_called_backdoored_at_the_level_at_most(references: int, level: float) -> None:
    draw, trials = np.random.default_rng(0), 400
    found = 0
    for _ in range(trials):
        suspect, *others = models(references + 1, draw)
        found += verdict_on(suspect, others, level).verdict == "backdoor found"
    error = 3 * (level * (1 - level) / trials) ** 0.5
    assert found / trials <= level + error
    assert found > 0


def test_all_models_alike_are_no_backdoor() -> None:
    alike = [dict.fromkeys(SEARCHES, 0.5)] * 20
    assert verdict_on(alike[0], alike[1:], 0.05).p_value == 1.0


def test_what_stands_out_in_one_search_is_found_with_19_references() -> None:
    references = models(19, np.random.default_rng(1))
    suspect = {**references[0], "3": 100.0}
    verdict = verdict_on(suspect, references, 0.05)
    assert (verdict.verdict, verdict.search, verdict.p_value) == ("backdoor found", "3", 1 / 20)


def test_the_least_suspicious_model_has_the_largest_p_value() -> None:
    references = models(19, np.random.default_rng(2))
    suspect = dict.fromkeys(SEARCHES, -100.0)
    verdict = verdict_on(suspect, references, 0.05)
    assert (verdict.verdict, verdict.p_value) == ("nothing found", 1.0)


def test_without_references_nothing_is_calibrated() -> None:
    verdict = verdict_on(dict.fromkeys(SEARCHES, 1.0), [], 0.05)
    assert (verdict.verdict, verdict.p_value, verdict.needed) == ("not calibrated", None, 19)


def test_too_few_references_are_told_with_how_many_are_needed() -> None:
    suspect, *references = models(19, np.random.default_rng(3))
    verdict = verdict_on({**suspect, "3": 100.0}, references, 0.05)
    assert (verdict.verdict, verdict.references, verdict.needed) == ("not calibrated", 18, 19)


@pytest.mark.parametrize(("level", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1), (0.9, 1)])
def test_a_level_needs_so_many_references(level: float, needed: int) -> None:
    assert references_needed(level) == needed
