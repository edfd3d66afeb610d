"""Settings as options of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from click.testing import CliRunner
from hypothesis import given

from tests.support.settings import configs_of
from untrigger.cli import main
from untrigger.cli.settings import GridSettingsCommand, SettingsCommand, SweepSettingsCommand, nested_settings
from untrigger.profiles import laid_over
from untrigger.settings.attacks import BlendedSettings, WarpedSettings
from untrigger.settings.grids import GridConfig
from untrigger.settings.runs import DefenseConfig, SweepConfig


def options(record: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """What a user would write to get the settings of this record."""
    for name, value in record.items():
        if name == "attack":
            yield f"--attack={value['name']}"
            yield from options({each: value[each] for each in value if each != "name"}, f"--{value['name']}.")
            continue
        option = prefix + name.replace("_", "-")
        if isinstance(value, Mapping):
            yield from options(value, f"{option}.")
        elif isinstance(value, bool):
            yield option if value else option.replace("--", "--no-", 1)
        else:
            yield f"{option}={','.join(map(str, value)) if isinstance(value, list) else value}"


@given(configs_of(DefenseConfig) | configs_of(SweepConfig))
def test_options_on_the_command_line_give_the_same_settings(config: DefenseConfig | SweepConfig) -> None:
    command = (SettingsCommand if isinstance(config, DefenseConfig) else SweepSettingsCommand)("run")
    with command.make_context("run", list(options(config.record()))) as context:
        assert type(config).of(nested_settings(context.params)) == config


def test_an_attack_is_chosen_by_its_name_and_told_its_own_settings_as_in_a_grid() -> None:
    words = [
        "--attack",
        "blended",
        "--blended.ratio",
        "0.3",
        "--blended.goal",
        "one_to_one",
        "--blended.source-class",
        "2",
    ]
    with SettingsCommand("run").make_context("run", list(words)) as context:
        chosen = DefenseConfig.of(nested_settings(context.params)).attack
    assert chosen == BlendedSettings(ratio=0.3, goal="one_to_one", source_class=2)
    with GridSettingsCommand("grid").make_context("grid", words[2:]) as context:
        assert GridConfig.of(nested_settings(context.params)).blended == chosen


def test_what_is_said_of_an_attack_completes_a_file_and_another_name_leaves_it_out() -> None:
    file = {"attack": {"name": "blended", "ratio": 0.3}}
    completed = laid_over(file, {"attack": {"name": "blended"}, "blended": {"clean_label": True}})
    assert DefenseConfig.of(completed).attack == BlendedSettings(ratio=0.3, clean_label=True)
    assert DefenseConfig.of(laid_over(file, {"blended": {"ratio": 0.1}})).attack == BlendedSettings(ratio=0.1)
    assert DefenseConfig.of(laid_over(file, {"attack": {"name": "warped"}})).attack == WarpedSettings()


def test_a_wrong_setting_of_flows_is_named() -> None:
    told = CliRunner().invoke(main, ["run", "--profile", "tiny", "--flow.samples", "4"])
    assert told.exit_code == 2 and "flow: triggers must be at most samples 4, got 8" in told.output
    told = CliRunner().invoke(main, ["run", "--generator.family", "diffusion"])
    assert told.exit_code == 2 and "generator.family" in told.output and "diffusion" in told.output
