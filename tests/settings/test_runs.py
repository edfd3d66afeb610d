"""The settings of a run, as they are written down and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.configs import tiny_config
from tests.support.settings import configs_of, settings_of
from untrigger.errors import UserError
from untrigger.profiles import config_for
from untrigger.settings.base import Settings
from untrigger.settings.runs import CommonConfig, DefenseConfig, SweepConfig

PARTS = [type(field.default) for field in CommonConfig.model_fields.values() if isinstance(field.default, Settings)]


@given(configs_of(DefenseConfig) | configs_of(SweepConfig))
def test_a_configuration_comes_back_from_its_record_and_through_json(config: DefenseConfig | SweepConfig) -> None:
    record = config.record()
    assert type(config).of(record) == config
    assert type(config).of(json.loads(json.dumps(record))) == config


@pytest.mark.parametrize("kind", PARTS)
@given(data=st.data())
def test_the_settings_of_a_part_come_back_through_json(kind: type[Settings], data: st.DataObject) -> None:
    settings = data.draw(settings_of(kind))
    assert kind.of(json.loads(settings.model_dump_json())) == settings


def test_the_control_from_elsewhere_is_for_who_asks_and_for_the_sweep_of_the_paper() -> None:
    asked = {
        (profile, kind): "single_trigger_elsewhere" in config_for(profile, {}, kind).methods
        for profile in ("paper", "tiny")
        for kind in (DefenseConfig, SweepConfig)
    }
    assert [which for which, wanted in asked.items() if wanted] == [("paper", SweepConfig)]
    assert config_for("paper", {"methods": ("ensemble",)}, SweepConfig).methods == ("ensemble",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights": "model", "dataset": "digits", "poisoning": {"epochs": 0}}, "needs poisoning.epochs of at least 1"),
        ({"retraining_seeds": 3}, "pixel_sgd.restarts must be at least retraining_seeds"),
        ({"elsewhere": {"chain": ("patch.png",)}}, "elsewhere.chain takes patterns: .* got 'patch.png'"),
        ({"elsewhere": {"chain": ("binary:51",)}}, "elsewhere.chain takes patterns: .* got 'binary:51'"),
        ({"elsewhere": {"chain": ()}}, "at least one trigger is needed"),
    ],
)
def test_a_control_from_elsewhere_that_cannot_be_had_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        tiny_config(methods=("single_trigger_elsewhere", "ensemble"), **changes)
