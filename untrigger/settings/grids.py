"""What a grid of attacks by defences is told."""

from __future__ import annotations

from pydantic import Field, field_validator

from untrigger.settings.attacks import ATTACKS, AttackParts, AttackSettings, attack_settings
from untrigger.settings.base import Inputs, SourceName
from untrigger.settings.defences import StaircaseSettings
from untrigger.settings.methods import (
    ClassifierSettings,
    CleanTrainingSettings,
    DataSettings,
    PixelDescentSettings,
    PoisoningSettings,
    StampingSettings,
)
from untrigger.settings.other_defences import (
    FinePruningSettings,
    FtSamSettings,
    IBauSettings,
    NeuralCleanseSettings,
)
from untrigger.settings.plans import batched

OTHER_DEFENCES = ("neural_cleanse", "fine_pruning", "ft_sam", "i_bau")
"""The defences of others that are built in; each has its settings under its name."""

GRID_METHODS = ("none", "fine_tune", "single_trigger", "ensemble", "ideal", *OTHER_DEFENCES)


class GridConfig(AttackParts, StaircaseSettings):
    """Everything that `untrigger grid` is told."""

    dataset: SourceName = Field(
        "digits",
        description="digits, cifar10[:PATH], cifar100[:PATH], parquet:PATH (a folder of shards), folder:PATH "
        "(class folders)",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the split and of the clean classifier")
    attacks: tuple[str, ...] = Field(
        ATTACKS, description="attacks, by name; beside these, attacks registered in UNTRIGGER_PLUGINS"
    )
    trigger: SourceName = Field(
        "checkerboard",
        description="what patches show and what is blended in: binary:K, checkerboard, colour:SEED, a .png or "
        ".safetensors file, or its address in a store",
    )
    methods: tuple[str, ...] = Field(
        GRID_METHODS,
        description="methods set against each attack; beside these, defences registered in UNTRIGGER_PLUGINS",
    )
    seeds: int = Field(3, ge=1, description="repetitions, each with a planting, a search and a retraining of its own")
    target_class: int = Field(0, ge=0, description="class that the backdoors lead to")
    trigger_height: int = Field(3, ge=1, le=256, description="height of the triggers that are searched for")
    trigger_width: int = Field(3, ge=1, le=256, description="width of the triggers that are searched for")
    data: DataSettings = DataSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    training: CleanTrainingSettings = CleanTrainingSettings()
    poisoning: PoisoningSettings = PoisoningSettings()
    pixel_sgd: PixelDescentSettings = PixelDescentSettings()
    retraining: StampingSettings = StampingSettings()
    neural_cleanse: NeuralCleanseSettings = NeuralCleanseSettings()
    fine_pruning: FinePruningSettings = FinePruningSettings()
    ft_sam: FtSamSettings = FtSamSettings()
    i_bau: IBauSettings = IBauSettings()

    @field_validator("attacks", "methods")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) != len(names):
            raise ValueError(f"give at least one name, and each once, got {', '.join(names) or 'none'}")
        return names

    def attack(self, name: str) -> AttackSettings:
        """The settings of an attack, of a registered one its own defaults; UserError where there is none."""
        return getattr(self, name) if name in ATTACKS else attack_settings({"name": name})


class GridRunConfig(GridConfig):
    """Everything one run of the `grid` pipeline is told."""

    methods_per_task: int = Field(
        3, ge=1, description="methods that one task sets against a backdoor, one after the other"
    )

    def inputs(self) -> Inputs:
        """What it reads beside the data."""
        return [("trigger", self.trigger)]

    def planted(self) -> tuple[str, ...]:
        """The triggers that must fit the images as they are."""
        return (self.trigger,) if "patch" in self.attacks else ()

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"grid {self.dataset}"

    def method_plan(self) -> list[tuple[str, ...]]:
        """The methods of each task."""
        return batched(self.methods, self.methods_per_task)
