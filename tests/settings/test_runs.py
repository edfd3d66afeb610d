"""The settings of a run, as they are written down and read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.settings import configs_of, settings_of
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
