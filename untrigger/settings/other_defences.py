"""The hyper-parameters of the defences of others, typed and validated.

The defaults serve small networks and a few hundred clean images; the profile `paper` has those of the papers.
"""

from __future__ import annotations

from pydantic import Field

from untrigger.settings.base import Settings, Share
from untrigger.settings.methods import MaskSettings, TrainingSettings


class FineTuningSettings(TrainingSettings):
    """Fine-tuning on the defender's clean images, which most of these defences end with."""

    batch_size: int = Field(64, ge=2, description="images per step")
    learning_rate: float = Field(5e-3, gt=0, description="SGD learning rate (its peak, with one_cycle)")


class NeuralCleanseSettings(MaskSettings, FineTuningSettings):
    """Neural Cleanse (Wang et al., 2019): the smallest mask and pattern of each class, and unlearning of those flagged.

    Where no class is flagged the one with the smallest mask is unlearnt, since nothing would be done else.
    """

    stamped_share: Share = Field(0.2, description="share of every batch that is put under a flagged mask")


class FinePruningSettings(FineTuningSettings):
    """Fine-pruning (Liu et al., 2018): channels that clean images leave asleep are cut off, then fine-tuning."""

    accuracy_drop: Share = Field(
        0.04, description="channels are cut off as long as the accuracy on the defender's images falls by no more"
    )


class FtSamSettings(FineTuningSettings):
    """FT-SAM (Zhu et al., 2023): fine-tuning that descends where the loss around the weights is worst."""

    rho: float = Field(2.0, gt=0, description="radius of the ascent step, in weights' own sizes")


class IBauSettings(Settings):
    """I-BAU (Zeng et al., 2022): a perturbation for all images is searched for and unlearnt, in turns."""

    rounds: int = Field(5, ge=1, description="turns of search and unlearning")
    batch_size: int = Field(64, ge=2, description="images per step")
    learning_rate: float = Field(1e-3, gt=0, description="Adam learning rate of unlearning, one pass over the images")
    perturbed_share: Share = Field(0.1, description="share of every batch that is perturbed in unlearning")
    ascent_rate: float = Field(10.0, gt=0, description="step size of the search, one pass over the images a round")
    radius: float = Field(3.0, gt=0, description="largest L2 norm of the perturbation, of pixels in [0, 1]")
    penalty: float = Field(1e-3, ge=0, description="weight of its squared norm against the loss, in the search")
    fixed_point_rate: float = Field(
        0.01, gt=0, description="step size of the map whose fixed point the perturbation is taken for"
    )
    fixed_point_iterations: int = Field(5, ge=0, description="terms of the implicit gradient; 0: none of it")
