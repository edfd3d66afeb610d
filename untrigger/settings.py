"""Every hyper-parameter, typed and validated: the one place where a default stands.

The defaults are the settings of the paper (Qiao, Yang, Li, NeurIPS 2019) wherever it has one; `profiles` changes
them for small networks and small data. This module imports no torch, so that `--help` is quick.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from untrigger.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Frozen, validated, serialisable; an unknown name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Validate `values` at the edge; raises UserError with one sentence that names the bad value."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = str(first["ctx"]["error"]) if "error" in first.get("ctx", {}) else first["msg"]
    if first["type"] == "extra_forbidden":
        return f"unknown setting {where}: `untrigger run --help` lists the settings"
    if not where:
        return reason
    got = "" if "got " in reason else f", got {first['input']!r}"
    return f"{where}: {reason[:1].lower()}{reason[1:]}{got}"


class DataSettings(Settings):
    """Reading a dataset and splitting it into training, defender's and evaluation images."""

    download: bool = Field(False, description="download cifar10 or cifar100 when it is not there yet")
    image_column: str | None = Field(None, description="Parquet column with the images (found when not given)")
    label_column: str | None = Field(None, description="Parquet column with the labels (found when not given)")
    image_size: int | None = Field(None, ge=8, le=1024, description="resize every image to this many pixels square")
    heldout_share: float = Field(
        0.55, gt=0, lt=1, description="share kept from training when the dataset has no test part of its own"
    )
    defender_share: float = Field(
        0.8, gt=0, lt=1, description="share of the held-out images given to the defender; the rest evaluates"
    )


class ClassifierSettings(Settings):
    """The classifier under attack."""

    architecture: Literal["resnet18", "small_resnet"] = Field(
        "resnet18", description="resnet18 (CIFAR stem, the paper's) or small_resnet (for CPUs)"
    )
    width: int = Field(
        32, ge=4, le=512, description="first width of small_resnet: 32 gives 0.3 M parameters; resnet18 ignores it"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="arithmetic of the network: auto is bf16 where poison training runs on hardware for it, else fp32",
    )


class TrainingSettings(Settings):
    """One run of the training loop."""

    epochs: int = Field(10, ge=1, description="passes over the images")
    batch_size: int = Field(128, ge=2, description="images per step")
    learning_rate: float = Field(1e-3, gt=0, description="SGD learning rate (its peak, with one_cycle)")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum")
    weight_decay: float = Field(0.0, ge=0, description="SGD weight decay")
    schedule: Literal["constant", "one_cycle"] = Field("constant", description="course of the learning rate")
    augment: bool = Field(False, description="random crops (4 pixels) and mirror images")


class CleanTrainingSettings(TrainingSettings):
    """Clean training, before the attack."""

    epochs: int = Field(60, ge=1, description="passes over the images")
    learning_rate: float = Field(0.1, gt=0, description="SGD learning rate (its peak, with one_cycle)")
    weight_decay: float = Field(5e-4, ge=0, description="SGD weight decay")
    schedule: Literal["constant", "one_cycle"] = Field("one_cycle", description="course of the learning rate")
    augment: bool = Field(True, description="random crops (4 pixels) and mirror images")


class PoisoningSettings(TrainingSettings):
    """The attack: training goes on with a share of every batch poisoned."""

    epochs: int = Field(
        10, ge=0, description="passes over the images; 0: the classifier of --weights holds the backdoor already"
    )
    poisoned_share: Share = Field(0.01, description="share of every batch that is stamped and sent to the target")


class PixelSgdSettings(Settings):
    """The baseline: single triggers reversed by gradient descent in pixel space."""

    restarts: int = Field(10, ge=1, description="independent restarts, one reversed trigger each")
    steps: int = Field(55, ge=1, description="gradient steps per restart")
    batch_size: int = Field(100, ge=1, description="images per step")
    learning_rate: float = Field(0.1, gt=0, description="SGD learning rate in normalised pixel space")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum")


class GeneratorSettings(Settings):
    """One generator per beta, its entropy kept high through the statistics network (MESA)."""

    noise: Literal["gaussian", "uniform"] = Field("gaussian", description="distribution of the noise z")
    noise_dimension: int = Field(64, ge=4, multiple_of=4, description="dimensions of z; a quarter enters each layer")
    hidden: int = Field(512, ge=8, description="hidden units of generator and statistics network")
    precision: Literal["fp32", "auto"] = Field(
        "fp32",
        description="arithmetic of both networks in training: auto is bf16 where the classifier's is, else fp32",
    )
    epochs: int = Field(10, ge=1, description="passes over the defender's images")
    batch_size: int = Field(128, ge=2, description="images per step")
    images_per_trigger: int = Field(
        1, ge=1, description="images over which F of each trigger in a step is averaged; divides batch_size"
    )
    entropy_batch_size: int = Field(128, ge=16, description="triggers per step for the mutual information")
    learning_rate: float = Field(2e-4, gt=0, description="Adam learning rate of both networks")
    trigger_noise: float = Field(0.1, ge=0, description="sd of the noise added to a trigger before the classifier")
    constraint: Literal["fixed_alpha", "dual_ascent"] = Field(
        "fixed_alpha",
        description="fixed_alpha: hinge of a step's mean F minus alpha times MI (the paper's); dual_ascent: hinge per "
        "trigger, and a multiplier on F, adapted until valid_share of the samples are valid and no more",
    )
    alpha: float = Field(0.1, gt=0, description="weight of the mutual information against the hinge")
    valid_share: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="share of the samples in training, noise and all, with F >= beta - 0.05 that dual_ascent holds",
    )
    multiplier_rate: float = Field(0.5, gt=0, description="rate at which dual_ascent adapts the multiplier")
    moving_average_rate: float = Field(
        1e-3, gt=0, lt=1, description="rate of the moving average that debiases the statistics network's gradient"
    )
    fresh_samples: int = Field(1000, ge=10, description="fresh triggers drawn to measure the finished stair")
    fresh_images: int = Field(512, ge=1, description="images over which F of each fresh trigger is averaged")
    information_steps: int = Field(
        1000, ge=1, description="training steps of the fresh statistics network that measures the finished stair"
    )

    @model_validator(mode="after")
    def _images_per_trigger_divides(self) -> Self:
        if self.batch_size % self.images_per_trigger:
            raise ValueError(
                f"images_per_trigger must divide batch_size {self.batch_size}, got {self.images_per_trigger}"
            )
        return self


class RetrainingSettings(TrainingSettings):
    """The defence: triggers stamped on clean images, true labels kept."""

    stamped_share: Share = Field(0.01, description="share of every batch that carries a trigger")


class VisualisationSettings(Settings):
    """The t-SNE picture of the trigger distribution."""

    samples_per_beta: int = Field(300, ge=2, description="triggers drawn from each generator")
    perplexity: float = Field(30.0, gt=1, description="t-SNE perplexity")


BINARY_PATTERNS = 51
"""Black-and-white 3x3 patterns, one per class under rotation, reflection and inversion."""

METHODS = ("none", "fine_tune", "single_trigger", "beta", "ensemble")


class CommonConfig(Settings):
    """What a run is told, whether it plants one trigger or sweeps over many."""

    dataset: str = Field(
        "digits",
        description="digits, cifar10[:PATH], cifar100[:PATH], parquet:PATH (a folder of shards), folder:PATH "
        "(class folders)",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the whole run")
    target_class: int = Field(0, ge=0, description="class that the backdoor leads to")
    weights: str | None = Field(
        None,
        description="a classifier to take instead of training one: a folder with classifier.json and "
        "classifier.safetensors, or its address in a store (--classifier.* and --training.* are then unused)",
    )
    trigger_height: int = Field(3, ge=1, le=256, description="height of the triggers the defender looks for")
    trigger_width: int = Field(3, ge=1, le=256, description="width of the triggers the defender looks for")
    betas: tuple[float, ...] = Field((0.5, 0.8, 0.9), description="the stairs: one generator each")
    betas_per_task: int = Field(
        1,
        ge=1,
        description="stairs that one generator task trains side by side: 1 fans out as far as it goes (the packing "
        "changes results by what training makes of rounding)",
    )
    gammas: tuple[float, ...] | None = Field(
        None, description="weights of the stairs in the ensemble, in the order of the betas (equal when not given)"
    )
    methods: tuple[str, ...] = Field(
        METHODS, description="defences compared with the ideal one; `beta` stands for each single generator"
    )
    retraining_seeds: int = Field(3, ge=1, description="seeds per method: single_trigger's seed i uses restart i")
    data: DataSettings = DataSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    training: CleanTrainingSettings = CleanTrainingSettings()
    poisoning: PoisoningSettings = PoisoningSettings()
    pixel_sgd: PixelSgdSettings = PixelSgdSettings()
    generator: GeneratorSettings = GeneratorSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    visualisation: VisualisationSettings = VisualisationSettings()

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, ...]) -> tuple[float, ...]:
        return checked_betas(betas)

    @field_validator("methods")
    @classmethod
    def _methods_known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if len(set(methods)) != len(methods):
            raise ValueError(f"methods must differ from each other, got {', '.join(methods)}")
        if "ensemble" not in methods:
            raise ValueError(f"methods must include ensemble, the defence itself, got {', '.join(methods) or 'none'}")
        return methods

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if self.gammas is not None:
            checked_gammas(self.gammas, len(self.betas))
        if "single_trigger" in self.methods and self.retraining_seeds > self.pixel_sgd.restarts:
            raise ValueError(
                f"pixel_sgd.restarts must be at least retraining_seeds ({self.retraining_seeds}), "
                f"got {self.pixel_sgd.restarts}"
            )
        triggers = len(self.betas) * self.visualisation.samples_per_beta + self.pixel_sgd.restarts
        if self.visualisation.perplexity >= triggers:
            raise ValueError(
                f"visualisation.perplexity must be below the number of triggers shown ({triggers}), "
                f"got {self.visualisation.perplexity:g}"
            )
        if not self.poisoning.epochs and self.weights is None:
            raise ValueError(
                "poisoning.epochs may be 0 only with --weights, a classifier that holds the backdoor, got 0"
            )
        return self

    def record(self) -> dict[str, Any]:
        """The configuration as plain JSON values; settings without a value are left out, as KFP knows no null."""
        return self.model_dump(mode="json", exclude_none=True)

    def beta_plan(self) -> list[str]:
        """One item per generator task: its betas, joined by commas."""
        starts = range(0, len(self.betas), self.betas_per_task)
        return [",".join(f"{beta}" for beta in self.betas[start : start + self.betas_per_task]) for start in starts]

    def retraining_plan(self) -> list[dict[str, str]]:
        """One item per retraining task inside the loop: a method and the seeds that the task runs (all packed)."""
        names: list[str] = []
        for method in self.methods:
            if method == "beta":
                names += [f"beta={beta}" for beta in self.betas]
            else:
                names.append(method)
        return [{"method": name, "seeds": self.packed_seeds()} for name in names]

    def packed_seeds(self) -> str:
        """All retraining seeds, joined by commas: what one task runs."""
        return ",".join(str(seed) for seed in range(self.retraining_seeds))


class DefenseConfig(CommonConfig):
    """Everything one run of the `defense` pipeline is told."""

    trigger: str = Field(
        "checkerboard",
        description="what is planted: binary:K (K of the 51 patterns), checkerboard, colour:SEED, a .png or "
        ".safetensors file, or its address in a store",
    )

    def planted(self) -> tuple[str, ...]:
        """All triggers of the run."""
        return (self.trigger,)


class SweepConfig(CommonConfig):
    """Everything one run of the `paper` pipeline is told."""

    triggers: tuple[str, ...] = Field(
        ("binary",),
        description="planted one by one: names as for `untrigger run --trigger`; binary stands for all 51 patterns, "
        "binary:0-5 and colour:0-9 for ranges, a .txt file for the names in its lines",
    )
    panels: tuple[str, ...] = Field(
        (),
        description="triggers whose distribution is drawn (where the single trigger does best, middling and worst, "
        "when not given)",
    )

    @field_validator("triggers")
    @classmethod
    def _triggers_expanded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return expanded_triggers(names)

    def planted(self) -> tuple[str, ...]:
        """All triggers of the run."""
        return self.triggers

    @model_validator(mode="after")
    def _panels_are_swept(self) -> Self:
        for name in self.panels:
            if name not in self.triggers:
                raise ValueError(f"panels must be among the triggers of the sweep, got {name!r}")
        return self


def expanded_triggers(names: tuple[str, ...]) -> tuple[str, ...]:
    """The triggers that `names` stand for, or ValueError: at least one, no two alike."""
    triggers = tuple(trigger for name in names for trigger in _expanded(name))
    if not triggers:
        raise ValueError("at least one trigger is needed, got none: try binary:0-5,colour:0-1")
    repeated = sorted({trigger for trigger in triggers if triggers.count(trigger) > 1})
    if repeated:
        raise ValueError(f"triggers must differ from each other, got {', '.join(repeated)} more than once")
    return triggers


def _expanded(name: str) -> list[str]:
    if name == "binary":
        name = f"binary:0-{BINARY_PATTERNS - 1}"
    if found := re.fullmatch(r"(binary|colour):(\d+)-(\d+)", name):
        kind, first, last = found[1], int(found[2]), int(found[3])
        if first > last:
            raise ValueError(f"a range of triggers goes from low to high, got {name!r}")
        return [f"{kind}:{number}" for number in range(first, last + 1)]
    if name.endswith(".txt"):
        try:
            lines = Path(name).read_text().splitlines()
        except OSError as error:
            raise ValueError(f"cannot read the list of triggers {name}: {error.strerror}") from error
        return [trigger for line in lines if line.strip() for trigger in _expanded(line.strip())]
    return [name]


def checked_betas(betas: tuple[float, ...]) -> tuple[float, ...]:
    """The betas, or ValueError: at least one, each in (0, 1), no two alike."""
    if not betas:
        raise ValueError("at least one beta is needed, got none: try 0.5,0.8,0.9")
    for beta in betas:
        if not 0 < beta < 1:
            raise ValueError(f"beta must lie in (0, 1), got {beta:g}")
    if len(set(betas)) != len(betas):
        raise ValueError(f"betas must differ from each other, got {', '.join(f'{beta:g}' for beta in betas)}")
    return betas


def checked_gammas(gammas: tuple[float, ...], stairs: int) -> tuple[float, ...]:
    """The weights, or ValueError: one per stair, none negative, not all zero."""
    if len(gammas) != stairs:
        raise ValueError(f"gammas must be one per beta ({stairs}), got {len(gammas)}")
    if min(gammas) < 0 or not math.fsum(gammas) > 0:
        raise ValueError(f"gammas must not be negative and not all zero, got {', '.join(f'{g:g}' for g in gammas)}")
    return gammas
