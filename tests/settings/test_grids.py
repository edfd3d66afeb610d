"""What a grid is told, and what the profiles tell it."""

from __future__ import annotations

import pytest

from untrigger.errors import UserError
from untrigger.profiles import PROFILES, grid_config
from untrigger.settings.attacks import ATTACKS
from untrigger.settings.grids import GRID_METHODS, GridConfig


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_sets_all_attacks_against_all_methods(profile: str) -> None:
    config = grid_config(profile, {}, GridConfig)
    assert (config.attacks, config.methods) == (ATTACKS, GRID_METHODS)


def test_the_profile_paper_has_the_papers_hyper_parameters() -> None:
    config = grid_config("paper", {"ft_sam": {"epochs": 3}}, GridConfig)
    assert (config.ft_sam.epochs, config.ft_sam.learning_rate, config.ft_sam.rho) == (3, 0.01, 2.0)
    assert (config.i_bau.radius, config.i_bau.fixed_point_rate, config.i_bau.fixed_point_iterations) == (10.0, 0.1, 5)
    assert (config.neural_cleanse.epochs, config.neural_cleanse.stamped_share) == (1, 0.2)


@pytest.mark.parametrize("name", ["attacks", "methods"])
def test_names_are_given_once_each(name: str) -> None:
    with pytest.raises(UserError, match="each once, got patch, patch"):
        grid_config(None, {name: ("patch", "patch")}, GridConfig)


def test_each_attack_has_its_part_and_one_that_nobody_knows_is_refused() -> None:
    config = grid_config(None, {"warped": {"strength": 2.0}}, GridConfig)
    assert config.attack("warped") == config.warped and config.warped.strength == 2.0
    with pytest.raises(UserError, match=r"must be one of .*, got 'seed'"):
        config.attack("seed")
