"""A run that is killed at random moments; `make test-chaos` has many more, and servers that come and go."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.chaos import (
    identical,
    killed_and_resumed,
    lost_records,
    records_of,
    undisturbed,
    write_config,
)

KILLS = 5


@pytest.mark.slow
@pytest.mark.pipeline
def test_a_run_that_is_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    config, rng, output = write_config(tmp_path), random.Random(0), tmp_path / "killed"
    usual = undisturbed(config, tmp_path / "undisturbed")
    assert killed_and_resumed(config, output, usual.moments(KILLS, rng), rng) == KILLS
    assert identical(usual.output, output)
    assert lost_records(records_of(usual.output), records_of(output)) == []
