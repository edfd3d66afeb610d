"""Settings as options of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from click.testing import CliRunner
from hypothesis import given

from tests.support.settings import configs_of
from untrigger.cli import main
from untrigger.cli.settings import SettingsCommand, SweepSettingsCommand, nested_settings
from untrigger.settings.runs import DefenseConfig, SweepConfig


def options(record: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """What a user would write to get the settings of this record."""
    for name, value in record.items():
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


def test_a_wrong_setting_of_flows_is_named() -> None:
    told = CliRunner().invoke(main, ["run", "--profile", "tiny", "--flow.samples", "4"])
    assert told.exit_code == 2 and "flow: triggers must be at most samples 4, got 8" in told.output
    told = CliRunner().invoke(main, ["run", "--generator.family", "diffusion"])
    assert told.exit_code == 2 and "generator.family" in told.output and "diffusion" in told.output
