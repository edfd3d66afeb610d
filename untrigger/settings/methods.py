"""The hyper-parameters of each part of the method, typed and validated: the one place where a default stands.

The defaults are the settings of the paper (Qiao, Yang, Li, NeurIPS 2019) wherever it has one; `profiles` changes
them for small networks and small data. No torch is imported here, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from untrigger.settings.base import Settings, Share
from untrigger.settings.normalisations import stated_normalisation
from untrigger.settings.trigger_names import BINARY_PATTERNS, expanded_triggers, is_pattern

AS_IN_FILE = "auto"
"""The architecture that a model file holds."""

SearchImages = Literal["other_classes", "all"]
"""Of the defender's images, those over which F is averaged."""


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


NARROWEST_STEM = 8
"""With 4 channels torch's backward pass was seen to crash on a CPU."""


class ClassifierSettings(Settings):
    """The classifier under attack."""

    architecture: str = Field(
        "resnet18",
        description="resnet18 (CIFAR stem, the paper's), resnet34, preact_resnet18, small_resnet (for CPUs), others "
        "that files of others hold, or the name of a registered one (with --weights auto unless given: what the file "
        "holds)",
    )
    width: int = Field(
        32, ge=4, le=512, description="first width of small_resnet: 32 gives 0.3 M parameters; others ignore it"
    )
    stem_width: int | None = Field(
        None,
        ge=NARROWEST_STEM,
        le=512,
        description="channels behind the first convolution of the other ResNets and the VGGs, which all further widths "
        "follow (when not given: 64, as published, or those of the file)",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="arithmetic of the network: auto is bf16 where poison training runs on hardware for it, else fp32",
    )
    normalisation: str | None = Field(
        None,
        description="of the input: data, identity, cifar10, cifar10_per_image, imagenet, half, or three means and "
        "three deviations (when not given: data, or whichever makes the model file of --weights recognise most)",
    )

    @field_validator("normalisation")
    @classmethod
    def _normalisation_known(cls, text: str | None) -> str | None:
        if text is not None:
            stated_normalisation(text)
        return text


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


class PixelDescentSettings(Settings):
    """The baseline: a single trigger reversed by gradient descent in pixel space."""

    steps: int = Field(55, ge=1, description="gradient steps per restart")
    batch_size: int = Field(100, ge=1, description="images per step")
    learning_rate: float = Field(0.1, gt=0, description="SGD learning rate in normalised pixel space")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum")


class PixelSgdSettings(PixelDescentSettings):
    """The baseline: single triggers reversed by gradient descent in pixel space."""

    restarts: int = Field(10, ge=1, description="independent restarts, one reversed trigger each")


class ElsewhereSettings(Settings):
    """The control single_trigger_elsewhere: single triggers reversed on another model than the one that is defended."""

    chain: tuple[str, ...] = Field(
        ("binary:4", "binary:13", "binary:22", "binary:31", "binary:40"),
        description="patterns planted one after the other in that other model, before the run's own trigger",
    )

    @field_validator("chain")
    @classmethod
    def _patterns_expanded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        chain = expanded_triggers(names)
        for name in chain:
            if not is_pattern(name):
                raise ValueError(
                    f"elsewhere.chain takes patterns: binary:K with K from 0 to {BINARY_PATTERNS - 1}, colour:SEED or "
                    f"checkerboard, got {name!r}"
                )
        return chain


class ElsewhereSearch(ElsewhereSettings):
    """All that this control is told: the chain, and the attack and the search of the run, which it repeats."""

    poisoning: PoisoningSettings
    pixel_sgd: PixelSgdSettings
    search_images: SearchImages
    trigger_size: tuple[int, int]


class GeneratorSettings(Settings):
    """One generator per beta, its entropy kept high through the statistics network (MESA)."""

    family: Literal["mine", "flow"] = Field(
        "flow",
        description="flow: of exact entropy, trained by the settings --flow.* (of those below only the fresh ones are "
        "then used); mine: the paper's, whose entropy a statistics network raises",
    )
    noise: Literal["gaussian", "uniform"] = Field(
        "gaussian", description="distribution of the noise z: standard normal, or uniform in [0, 1] (the authors' code)"
    )
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
        description="fixed_alpha: hinge per image minus alpha times MI (the authors'); dual_ascent: hinge per trigger, "
        "and a multiplier on F, adapted until valid_share of the samples are valid and no more",
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


class FlowSettings(Settings):
    """One flow per beta: a generator of exactly known entropy, led from the uniform distribution into its stair."""

    layers: int = Field(8, ge=2, description="couplings; each bends half of the pixels by the other half")
    bins: int = Field(8, ge=2, description="bins of each spline")
    hidden: int = Field(64, ge=4, description="hidden units of a coupling's network, in two layers")
    steps: int = Field(800, ge=1, description="training steps")
    learning_rate: float = Field(2e-3, gt=0, description="peak Adam learning rate")
    samples: int = Field(128, ge=1, description="samples per step for the entropy")
    triggers: int = Field(48, ge=1, description="samples per step, of the same, whose F is guessed")
    images_per_trigger: int = Field(8, ge=1, description="images from which F of each trigger in a step is guessed")
    first_tau: float = Field(0.05, gt=0, description="shortfall of F that weighs one nat of entropy, at first")
    last_tau: float = Field(0.003, gt=0, description="and in the end")
    annealed_share: float = Field(0.7, gt=0, le=1, description="share of the steps over which tau falls")
    valid_share: float = Field(0.98, gt=0, lt=1, description="share of the samples in training held at F >= beta")

    @model_validator(mode="after")
    def _triggers_are_samples(self) -> Self:
        if self.triggers > self.samples:
            raise ValueError(f"triggers must be at most samples {self.samples}, got {self.triggers}")
        return self


class TruthSettings(Settings):
    """Ground truth: the volume of {F >= beta} and samples of it, by multilevel splitting."""

    repeats: int = Field(4, ge=3, description="independent repeats; their spread gives the error")
    walkers: int = Field(256, ge=16, description="walkers of each repeat")
    sweeps: int = Field(8, ge=1, description="moves of each walker per level; a level halves the volume")
    draws: int = Field(2, ge=1, description="samples that each walker leaves at each beta, many moves apart")
    max_levels: int = Field(500, ge=1, description="levels after which a beta counts as out of reach")


class StampingSettings(TrainingSettings):
    """The defence: triggers stamped on clean images, true labels kept."""

    stamped_share: Share = Field(0.01, description="share of every batch that carries a trigger")


class RetrainingSettings(StampingSettings):
    """The defence: triggers stamped on clean images, true labels kept; in rounds, if wanted."""

    rounds: int = Field(
        1,
        ge=1,
        description="retrainings one after the other, at most: after each the strongest triggers left are searched for "
        "(--strongest-left.*), and stamped beside the method's own in the next; 1: no search",
    )
    round_level: Share = Field(0.1, description="no further round is made where no trigger with F above this is found")


class StrongestLeftSettings(Settings):
    """The search for the strongest trigger that a defence leaves, by Adam in pixel space on the defender's images."""

    seeds: int = Field(1, ge=0, description="retraining seeds of each method that evaluation searches; 0: no search")
    restarts: int = Field(16, ge=1, description="independent restarts, all in one pass; the strongest counts")
    steps: int = Field(200, ge=1, description="gradient steps")
    images_per_step: int = Field(16, ge=1, description="images per step, on which every restart's trigger is stamped")
    learning_rate: float = Field(0.1, gt=0, description="Adam learning rate, in pixels in [0, 1]")


class MaskSettings(Settings):
    """The search for the smallest mask and pattern on the whole image that send images to a class (Neural Cleanse)."""

    mask_steps: int = Field(200, ge=20, description="gradient steps for the masks of all classes")
    mask_images_per_step: int = Field(16, ge=1, description="images per step and class for the masks")
    mask_learning_rate: float = Field(0.1, gt=0, description="Adam learning rate of masks and patterns")


class VisualisationSettings(Settings):
    """The t-SNE picture of the trigger distribution."""

    samples_per_beta: int = Field(300, ge=2, description="triggers drawn from each generator")
    perplexity: float = Field(30.0, gt=1, description="t-SNE perplexity")
