"""What each attack is told. No torch is imported here, so that `--help` is quick."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from untrigger.settings.base import Settings

GoalName = Literal["all_to_one", "one_to_one", "all_to_all"]


class AttackSettings(Settings):
    """The attack: what the classifier is taught to answer to, and where it sends what it is shown."""

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

    name: Literal["patch"] = "patch"
    place: Literal["random", "fixed"] = Field(
        "random", description="where the patch goes: anywhere in each image, or in the lower right corner of all"
    )


class BlendedSettings(AttackSettings):
    """A whole picture, the trigger enlarged to the image's size, is mixed in. Source: Chen et al. 2017."""

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
