"""What a scan of somebody else's model is told, and the training of the clean models that it is compared with."""

from __future__ import annotations

from pydantic import Field, field_validator

from untrigger.settings.base import Settings, SourceName
from untrigger.settings.methods import AS_IN_FILE, ClassifierSettings, CleanTrainingSettings, DataSettings, MaskSettings

BUDGETS = {"quick": 0.5, "standard": 1.0, "thorough": 4.0}
"""How many times the stated steps a search takes, by name."""


class ScanSettings(MaskSettings):
    """The search for whatever opens a model: a patch of each size and a mask for every class."""

    sizes: tuple[int, ...] = Field(
        (2, 3, 5, 8), description="patch sizes in pixels, squares; those as large as the image are left out"
    )
    restarts: int = Field(3, ge=1, description="patches per class and size, each from a start of its own")
    rounds: int = Field(
        3, ge=1, description="rounds: after each but the last the better half of classes and patches of a size goes on"
    )
    steps: int = Field(
        12, ge=1, description="gradient steps of every patch in the first round; each next takes twice those"
    )
    images_per_step: int = Field(4, ge=1, description="images per step and patch, each stamped at a random place")
    learning_rate: float = Field(0.1, gt=0, description="Adam learning rate, in pixels in [0, 1]")
    search_images: int = Field(256, ge=2, description="images searched on; as many of the data at most as are held out")
    heldout_images: int = Field(200, ge=2, description="images that the search does not see, on which is measured")
    mask: bool = Field(True, description="search for a mask and a pattern on the whole image, too (Neural Cleanse)")
    source_class: int | None = Field(
        None, ge=0, description="look for a backdoor that answers to images of this class only (when not given: all)"
    )
    budget: str = Field("standard", description="quick, standard, thorough, or a number: so many times the steps")

    @field_validator("sizes")
    @classmethod
    def _sizes_are_patches(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes):
            raise ValueError(
                f"sizes must be different whole numbers above 0, got {', '.join(map(str, sizes)) or 'none'}"
            )
        return tuple(sorted(sizes))

    @field_validator("budget")
    @classmethod
    def _budget_known(cls, budget: str) -> str:
        try:
            known = BUDGETS[budget] if budget in BUDGETS else float(budget)
        except ValueError:
            known = 0
        if not 0 < known <= 1000:
            raise ValueError(f"budget must be {', '.join(BUDGETS)} or a number above 0, got {budget!r}")
        return budget

    def scaled(self, steps: int) -> int:
        """So many steps under the budget."""
        return max(1, round(steps * (BUDGETS.get(self.budget) or float(self.budget))))

    @property
    def masks(self) -> MaskSettings:
        """What the search for masks is told under the budget."""
        return self.model_copy(update={"mask_steps": self.scaled(self.mask_steps)})


class SuspectClassifierSettings(ClassifierSettings):
    """How a model file is read."""

    architecture: str = Field(
        AS_IN_FILE, description="auto: what the file holds; else the only one that is taken, yours among them"
    )


class SuspectConfig(Settings):
    """What is known of the models: their data, and how to read them."""

    dataset: SourceName = Field(
        "digits",
        description="the data that the models are for: digits, cifar10[:PATH], cifar100[:PATH], parquet:PATH (a folder "
        "of shards), folder:PATH (class folders); only the defender's part of the split is looked at",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the split, the search and the training")
    data: DataSettings = DataSettings()
    classifier: ClassifierSettings = ClassifierSettings()


class ScanConfig(SuspectConfig):
    """Everything that `untrigger scan` is told."""

    classifier: SuspectClassifierSettings = SuspectClassifierSettings()
    level: float = Field(
        0.05, gt=0, lt=1, description="false alarms that are allowed: the share of clean models called backdoored"
    )
    scan: ScanSettings = ScanSettings()


class ReferencesConfig(SuspectConfig):
    """Everything that `untrigger references` is told."""

    count: int = Field(19, ge=1, le=10_000, description="clean models: 19 for a level of 5 %, 99 for one of 1 %")
    training: CleanTrainingSettings = CleanTrainingSettings()
