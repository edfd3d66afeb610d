"""The settings of a run, as they are written down and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.configs import tiny_config
from tests.support.settings import configs_of, settings_of
from tests.support.training import seeded
from untrigger.attacks.registry import build_attack
from untrigger.errors import UserError
from untrigger.plugins import PLUGINS
from untrigger.profiles import config_for
from untrigger.settings.attacks import PatchSettings
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


def test_a_record_without_an_attack_is_that_of_an_early_version_and_means_the_papers() -> None:
    early = tiny_config().record()
    del early["attack"]
    assert DefenseConfig.of(early) == tiny_config() and tiny_config().attack == PatchSettings()


MIRRORED = """
from typing import Literal
from untrigger import Attack, register_attack
from untrigger.settings.attacks import AttackSettings

class MirroredSettings(AttackSettings):
    name: Literal["mirrored"] = "mirrored"
    axis: int = 3

class Mirrored(Attack):
    def __init__(self, settings, trigger):
        self.axis = settings.axis

    def stamp(self, images, rng):
        return images.flip(self.axis)

register_attack(MirroredSettings, Mirrored)
"""


def test_an_attack_of_ones_own_is_chosen_by_its_name_once_the_environment_names_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="registered in a module that UNTRIGGER_PLUGINS names, got 'mirrored'"):
        tiny_config(attack={"name": "mirrored"})
    (tmp_path / "mirroring_plugin.py").write_text(MIRRORED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "mirroring_plugin")
    config = tiny_config(attack={"name": "mirrored", "axis": 2})
    assert config.attack.record()["axis"] == 2 and DefenseConfig.of(config.record()) == config
    with pytest.raises(UserError, match="the attack mirrored: unknown setting ratio"):
        tiny_config(attack={"name": "mirrored", "ratio": 0.5})
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(build_attack(config.attack, images[0]).stamp(images, seeded()), images.flip(2))


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
