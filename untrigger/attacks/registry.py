"""The attacks that are known by name: those of untrigger and those that others register."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.attacks.blended import Blended
from untrigger.attacks.patch import Patch
from untrigger.attacks.sinusoidal import Sinusoidal
from untrigger.attacks.warped import Warped
from untrigger.errors import UserError
from untrigger.plugins import load_plugins
from untrigger.settings.attacks import (
    AttackSettings,
    BlendedSettings,
    PatchSettings,
    SinusoidalSettings,
    WarpedSettings,
)

Told = TypeVar("Told", bound=AttackSettings)

Build = Callable[[Any, Tensor], Attack]
"""From the attack's settings and the run's trigger, float (3, th, tw) in [0, 1], which many have no use for."""

BUILT_IN: dict[str, tuple[type[AttackSettings], Build]] = {
    "patch": (PatchSettings, Patch),
    "blended": (BlendedSettings, Blended),
    "sinusoidal": (SinusoidalSettings, Sinusoidal),
    "warped": (WarpedSettings, Warped),
}
_KNOWN = dict(BUILT_IN)


def register_attack(settings: type[Told], build: Callable[[Told, Tensor], Attack]) -> None:
    """Let an attack be chosen by the default of `name` in its `settings`; `build` makes it of these and a trigger.

    A name of one's own may be registered again; a built-in one is refused with a UserError. Stages are processes of
    their own: for them the call stands in a module that UNTRIGGER_PLUGINS names.
    """
    name = settings.model_fields["name"].default
    if name in BUILT_IN:
        raise UserError(f"the attack {name!r} is built in: register yours by another name")
    _KNOWN[name] = (settings, build)


def attack_settings(values: Mapping[str, Any]) -> AttackSettings:
    """The settings of the attack that `values` name, `patch` where they name none; UserError when a value is wrong."""
    name = values.get("name", "patch")
    settings, _ = _known(name)
    return settings.of(values, f"the attack {name}")


def build_attack(settings: AttackSettings, trigger: Tensor) -> Attack:
    """The attack of these settings; trigger: float (3, th, tw) in [0, 1], as `read_trigger` gives it."""
    _, build = _known(settings.name)
    return build(settings, trigger)


def _known(name: str) -> tuple[type[AttackSettings], Build]:
    if name not in _KNOWN:
        load_plugins()
    if name not in _KNOWN:
        raise UserError(
            f"unknown attack {name!r}: choose one of {', '.join(sorted(_KNOWN))}, or register yours in a module that "
            "UNTRIGGER_PLUGINS names"
        )
    return _KNOWN[name]
