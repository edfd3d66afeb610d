"""The attacks that are known by name: those of untrigger and those that others register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.attacks.blended import Blended
from untrigger.attacks.patch import Patch
from untrigger.attacks.sinusoidal import Sinusoidal
from untrigger.attacks.warped import Warped
from untrigger.settings.attacks import AttackSettings, know_attack, known_attack

Told = TypeVar("Told", bound=AttackSettings)

Build = Callable[[Any, Tensor], Attack]
"""From the attack's settings and the run's trigger, float (3, th, tw) in [0, 1], which many have no use for."""

_BUILDS: dict[str, Build] = {"patch": Patch, "blended": Blended, "sinusoidal": Sinusoidal, "warped": Warped}


def register_attack(settings: type[Told], build: Callable[[Told, Tensor], Attack]) -> None:
    """Let an attack be chosen by the default of `name` in its `settings`; `build` makes it of these and a trigger.

    A name of one's own may be registered again; a built-in one is refused with a UserError. Stages are processes of
    their own: for them the call stands in a module that UNTRIGGER_PLUGINS names.
    """
    know_attack(settings)
    _BUILDS[settings.model_fields["name"].default] = build


def build_attack(settings: AttackSettings, trigger: Tensor) -> Attack:
    """The attack of these settings; trigger: float (3, th, tw) in [0, 1], as `read_trigger` gives it.

    UserError where no attack of that name is registered.
    """
    known_attack(settings.name)
    return _BUILDS[settings.name](settings, trigger)
