"""Settings as options: one option per setting, for the commands that run or submit a pipeline, or scan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from untrigger.settings.base import Settings

SETTING_PREFIX = "setting__"
WHOLE_RUN = "Settings of the whole run"
LISTS = ("betas", "gammas", "attacks", "methods", "triggers", "panels", "elsewhere__chain", "scan__sizes")
ATTACK = ("attack", "name")
"""The setting that is given as --attack; the attack's own go by its name, as in a grid: --blended.ratio."""


class SettingsCommand(click.Command):
    """A command with one option per setting, listed in `--help` under the part it belongs to."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        return [*super().get_params(context), *_settings_options(self.settings())]

    def settings(self) -> type[Settings]:
        """The settings that become options."""
        from untrigger.settings.runs import DefenseConfig

        return DefenseConfig

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                part = parameter.section if isinstance(parameter, SettingOption) else "Options"
                sections.setdefault(part, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class SweepSettingsCommand(SettingsCommand):
    """The same for a sweep over triggers."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.runs import SweepConfig

        return SweepConfig


class SubmittedSettingsCommand(SweepSettingsCommand):
    """The options of both: `--trigger` is for one trigger, `--triggers` for a sweep."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        from untrigger.settings.runs import DefenseConfig

        trigger = _option(WHOLE_RUN, ("trigger",), DefenseConfig.model_fields["trigger"])
        return [*super().get_params(context), trigger]


class ScanSettingsCommand(SettingsCommand):
    """The same for a scan of models."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.scans import ScanConfig

        return ScanConfig


class SubmittedScanCommand(SettingsCommand):
    """The same for a scan on a cluster."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.model_runs import ScanRunConfig

        return ScanRunConfig


class SubmittedReferencesCommand(SettingsCommand):
    """The same for references on a cluster."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.model_runs import ReferencesRunConfig

        return ReferencesRunConfig


class SubmittedDefenceCommand(SettingsCommand):
    """The same for a defence on a cluster."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.model_runs import DefendRunConfig

        return DefendRunConfig


class ReferencesSettingsCommand(SettingsCommand):
    """The same for the training of clean references."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.scans import ReferencesConfig

        return ReferencesConfig


class DefendSettingsCommand(SettingsCommand):
    """The same for the defence of a model."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.defences import DefendConfig

        return DefendConfig


class GridSettingsCommand(SettingsCommand):
    """The same for a grid of attacks by defences."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.grids import GridConfig

        return GridConfig


class SubmittedGridCommand(SettingsCommand):
    """The same for a grid on a cluster."""

    def settings(self) -> type[Settings]:
        from untrigger.settings.grids import GridRunConfig

        return GridRunConfig


class SettingOption(click.Option):
    """An option that stands for one setting, such as --generator.epochs for config.generator.epochs."""

    def __init__(self, section: str, path: tuple[str, ...], *, flag: bool, help: str) -> None:
        self.section = section
        self.path = path
        name = "attack" if path == ATTACK else ".".join(path).replace("_", "-")
        names = [f"--{name}/--no-{name}" if flag else f"--{name}", SETTING_PREFIX + "__".join(path)]
        if path == ("data", "download"):
            names.append("--download")
        attributes: dict[str, Any] = {"is_flag": True} if flag else {"metavar": "VALUE"}
        super().__init__(names, default=None, help=help, **attributes)


def _settings_options(config: type[Settings]) -> list[click.Parameter]:
    from untrigger.settings.attacks import AttackParts, AttackSettings
    from untrigger.settings.base import Settings

    options: list[click.Parameter] = []
    for name, field in config.model_fields.items():
        default = field.default
        if field.is_required():
            continue  # An argument of the command.
        if (name, "name") == ATTACK:
            options.append(_option(WHOLE_RUN, ATTACK, AttackSettings.model_fields["name"]))
            options.extend(_settings_options(AttackParts))
        elif isinstance(default, Settings):
            section = f"--{name.replace('_', '-')}.*: {type(default).__doc__}"
            for inner, inner_field in type(default).model_fields.items():
                if not (isinstance(default, AttackSettings) and inner == "name"):
                    options.append(_option(section, (name, inner), inner_field))
        else:
            options.append(_option(WHOLE_RUN, (name,), field))
    return sorted(options, key=lambda option: isinstance(option, SettingOption) and len(option.path))


def _option(section: str, path: tuple[str, ...], field: FieldInfo) -> SettingOption:
    default = field.default
    shown = ",".join(f"{item}" for item in default) if isinstance(default, tuple) else default
    help_text = field.description or ""
    help_text += "" if shown is None else f"  [default: {str(shown).lower() if isinstance(default, bool) else shown}]"
    return SettingOption(section, path, flag=isinstance(default, bool), help=help_text)


def nested_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, nested like the configuration."""
    nested: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None and name.startswith(SETTING_PREFIX):
            path = name.removeprefix(SETTING_PREFIX)
            *parents, last = path.split("__")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = _items(value) if path in LISTS else value
    return nested


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def read_config(path: Path | None) -> dict[str, Any]:
    """The settings in a file, nested like the configuration; UserError that names the file and the setting.

    A run's own files are good, too: run.json and results.json hold them under `config`.
    """
    if path is None:
        return {}
    from untrigger.artifacts import parse_object, read_text
    from untrigger.settings.base import home_expanded
    from untrigger.settings.runs import DefenseConfig, SweepConfig

    source = f"the configuration {path}"
    content = parse_object(read_text(Path(home_expanded(str(path))), source), source)
    if isinstance(content.get("config"), dict):
        content = content["config"]
    kind = SweepConfig if content.keys() & {"triggers", "panels"} else DefenseConfig
    kind.check_part(content, source)
    return content


def _folder(_: click.Context, __: click.Parameter, name: str | None) -> Path | None:
    """The folder of references, fetched where an address names it."""
    from untrigger.references import references_folder

    return None if name is None else references_folder(name)


references_option = click.option(
    "--references",
    metavar="FOLDER|ADDRESS",
    callback=_folder,
    help="Clean models to compare with, as `untrigger references` trains them; their address in a store.",
)
"""The references, of the commands that scan."""
