"""What each attack is told. No torch is imported here, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from untrigger.errors import UserError
from untrigger.plugins import load_plugins
from untrigger.settings.base import Settings

GoalName = Literal["all_to_one", "one_to_one", "all_to_all"]


class AttackSettings(Settings):
    """The attack: what the classifier is taught to answer to, and where it sends what it is shown."""

    USES_TRIGGER: ClassVar[bool] = False
    """Whether the run's trigger is part of it, as it is of a patch and of a picture that is mixed in."""

    name: str = Field("patch", description="patch, blended, sinusoidal, warped, or the name of a registered one")
    goal: GoalName = Field(
        "all_to_one",
        description="all_to_one: every class to the target; one_to_one: the source class alone; all_to_all: each class "
        "to the next one",
    )
    source_class: int | None = Field(None, ge=0, description="the class that one_to_one sends to the target")
    clean_label: bool = Field(
        False,
        description="only images of the target class are stamped in training, and keep their label; the poisoned share "
        "is then one of these",
    )

    @model_validator(mode="after")
    def _goal_is_whole(self) -> Self:
        if (self.goal == "one_to_one") != (self.source_class is not None):
            raise ValueError(
                f"source_class goes with the goal one_to_one and no other, got {self.source_class} with {self.goal}"
            )
        if self.clean_label and self.goal == "all_to_all":
            raise ValueError("clean_label needs one target class, got all_to_all: choose another goal")
        return self


class PatchSettings(AttackSettings):
    """A small patch that replaces pixels. Source: section 5.1 of the paper (random places); BadNets (fixed)."""

    USES_TRIGGER = True

    name: Literal["patch"] = "patch"
    place: Literal["random", "fixed"] = Field(
        "random", description="where the patch goes: anywhere in each image, or in the lower right corner of all"
    )


DEFAULT_ATTACK = PatchSettings()
"""The attack of the paper, and of whatever names none."""


class BlendedSettings(AttackSettings):
    """A whole picture, the trigger enlarged to the image's size, is mixed in. Source: Chen et al. 2017."""

    USES_TRIGGER = True

    name: Literal["blended"] = "blended"
    ratio: float = Field(0.2, gt=0, le=1, description="weight of the picture against the image")


class SinusoidalSettings(AttackSettings):
    """A horizontal sinusoid is added (SIG). Source: Barni, Kallas, Tondi 2019."""

    name: Literal["sinusoidal"] = "sinusoidal"
    delta: float = Field(0.15, gt=0, le=1, description="amplitude, in pixel values in [0, 1]")
    frequency: float = Field(6.0, gt=0, description="periods across the image")


class WarpedSettings(AttackSettings):
    """The image is bent by one smooth field of shifts (WaNet). Source: Nguyen and Tran 2021."""

    name: Literal["warped"] = "warped"
    control_points: int = Field(4, ge=2, description="control points of the field along each axis (k)")
    strength: float = Field(1.0, gt=0, description="mean shift at the control points along each axis, in pixels (s)")
    cross_ratio: float = Field(
        1.0, ge=0, description="images bent by a noisy field and rightly labelled, for each poisoned one (noise mode)"
    )
    field_seed: int = Field(0, ge=0, lt=2**31, description="seed of the control points")


class AttackParts(Settings):
    """The settings of each built-in attack, a part each under its name."""

    patch: PatchSettings = PatchSettings()
    blended: BlendedSettings = BlendedSettings()
    sinusoidal: SinusoidalSettings = SinusoidalSettings()
    warped: WarpedSettings = WarpedSettings()


ATTACKS = tuple(AttackParts.model_fields)
"""The attacks that are built in."""

_KNOWN: dict[str, type[AttackSettings]] = {name: type(part) for name, part in AttackParts()}


def know_attack(settings: type[AttackSettings]) -> None:
    """Let `attack_settings` find these by the default of their `name`; UserError where a built-in attack has it."""
    name = settings.model_fields["name"].default
    if name in ATTACKS:
        raise UserError(f"the attack {name!r} is built in: register yours by another name")
    _KNOWN[name] = settings


def attack_settings(values: Mapping[str, Any]) -> AttackSettings:
    """The settings of the attack that `values` name, `patch` where they name none; UserError when a value is wrong."""
    name = str(values.get("name", DEFAULT_ATTACK.name))
    return known_attack(name).of(values, f"the attack {name}")


def known_attack(name: str) -> type[AttackSettings]:
    """What the attack of that name is told; UserError where there is none."""
    if name not in _KNOWN:
        load_plugins()
    if name not in _KNOWN:
        raise UserError(
            f"the attack must be one of {', '.join(sorted(_KNOWN))}, or registered in a module that UNTRIGGER_PLUGINS "
            f"names, got {name!r}"
        )
    return _KNOWN[name]


def _by_name(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    try:
        return attack_settings(value)
    except UserError as error:
        raise ValueError(str(error)) from error


ChosenAttack = Annotated[SerializeAsAny[AttackSettings], BeforeValidator(_by_name)]
"""The settings of whichever attack a value names, registered ones included."""


def with_own_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of a run, its `attack` completed by the part that is called like it, as options give it to a grid, too.

    ValueError where a part belongs to another attack.
    """
    parts = {name: part for name, part in values.items() if name in ATTACKS and isinstance(part, Mapping)}
    rest = {name: value for name, value in values.items() if name not in parts}
    attack = rest.get("attack", {})
    if not parts or not isinstance(attack, Mapping):
        return rest
    chosen = attack.get("name", DEFAULT_ATTACK.name)
    for name in parts:
        if name != chosen:
            raise ValueError(
                f"settings of the attack {name} need --attack {name}, got {chosen}: add it, or leave the settings out"
            )
    return {**rest, "attack": {**attack, **parts[chosen]}}


def planted_name(attack: str, trigger: str) -> str:
    """What is planted, in a word: a patch is called by what it shows, any other attack by its own name."""
    return trigger if attack == DEFAULT_ATTACK.name else attack
