"""What the defence of somebody else's model is told."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from untrigger.settings.base import Settings, Share
from untrigger.settings.methods import FlowSettings, RetrainingSettings, StrongestLeftSettings
from untrigger.settings.scans import ScanConfig
from untrigger.settings.stairs import TOP, Beta, checked_betas


class RoundsSettings(RetrainingSettings):
    """The defence: triggers stamped on clean images, true labels kept, in rounds until the search finds nothing.

    The dose is that of the profiles for small networks: how little poison was planted nobody knows, and a dose that
    cures no backdoor does not pay. A model of somebody else is to be used afterwards, so less may be left than in an
    experiment.
    """

    learning_rate: float = Field(5e-3, gt=0, description="SGD learning rate (its peak, with one_cycle)")
    stamped_share: Share = Field(0.2, description="share of every batch that carries a trigger")
    rounds: int = Field(
        5,
        ge=1,
        description="retrainings one after the other, at most: after each the strongest triggers left are searched for "
        "(--strongest-left.*), and stamped beside those of the flows in the next; 1: no search in between",
    )
    round_level: Share = Field(0.05, description="no further round is made where no trigger with F above this is found")


class StaircaseSettings(Settings):
    """How the distribution of the triggers of known class and patch size is learnt, by flows alone."""

    betas: tuple[Beta, ...] = Field(
        (0.5, 0.8, 0.9, TOP), description="the stairs, one flow each: levels of F, and `top` (see `untrigger run`)"
    )
    samples: int = Field(1000, ge=10, description="fresh triggers of each flow, of which the valid ones are stamped")
    flow: FlowSettings = FlowSettings()

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, ...]) -> tuple[float, ...]:
        return checked_betas(betas)


class DefenceSettings(StaircaseSettings):
    """How a backdoor of known class and patch size is closed."""

    retraining: RoundsSettings = RoundsSettings()
    strongest_left: StrongestLeftSettings = StrongestLeftSettings()


class DefendConfig(ScanConfig, DefenceSettings):
    """Everything that `untrigger defend` is told."""

    target_class: int | None = Field(
        None, ge=0, description="class that the backdoor leads to (when not given: what the scan finds)"
    )
    patch_size: int | None = Field(
        None,
        ge=1,
        le=256,
        description="height and width of the triggers (when not given: what the scan finds; of a target class that is "
        "given, the smallest mask on the whole image is closed)",
    )

    @model_validator(mode="after")
    def _a_size_needs_a_class(self) -> Self:
        if self.patch_size is not None and self.target_class is None:
            raise ValueError("patch_size needs target_class: give both, or neither and let the scan find them")
        return self

    @property
    def scans(self) -> bool:
        """Whether the model is scanned first: of a target class alone, to see how large the masks of others are."""
        return self.patch_size is None
