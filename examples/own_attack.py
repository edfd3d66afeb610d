"""An attack of your own: registered by name, planted, and measured like a built-in one.

For `untrigger run --attack tinted` the parts at the top stand in a module that UNTRIGGER_PLUGINS names:
UNTRIGGER_PLUGINS=my_attacks, with my_attacks.py on PYTHONPATH. Its settings stand in the file that --config names:
{"attack": {"name": "tinted", "channel": 2}}.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

import untrigger
from untrigger.attacks.registry import build_attack
from untrigger.profiles import config_for
from untrigger.settings.attacks import AttackSettings, attack_settings
from untrigger.settings.runs import DefenseConfig


class TintedSettings(AttackSettings):
    """One channel is made brighter."""

    name: Literal["tinted"] = "tinted"
    channel: int = Field(0, ge=0, le=2, description="red, green or blue")
    shift: float = Field(0.3, gt=0, le=1, description="what is added, in pixel values in [0, 1]")


class Tinted(untrigger.Attack):
    """A constant is added to one channel of every pixel."""

    no_patch = "the trigger is no patch: the whole image is tinted"

    def __init__(self, settings: TintedSettings, trigger: Tensor) -> None:
        self.tint = torch.zeros(3, 1, 1)
        self.tint[settings.channel] = settings.shift

    def stamp(self, images: Tensor, rng: torch.Generator) -> Tensor:
        return (images + self.tint.to(images)).clamp(0, 1)


untrigger.register_attack(TintedSettings, Tinted)

if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    settings = config_for("demo", {"poisoning": {"epochs": 10}}, DefenseConfig)
    parts = untrigger.read_split("digits", settings.data, seed=0)
    images, labels = parts.training.images, parts.training.labels
    attack = build_attack(attack_settings({"name": "tinted", "channel": 2}), untrigger.read_trigger("checkerboard"))

    classifier = untrigger.new_classifier(settings.classifier, len(parts.training.class_names), images, rng)
    untrigger.train(classifier, images, labels, settings.training, rng=rng)
    untrigger.plant_backdoor(classifier, images, labels, attack, 0, settings.poisoning, rng=rng)
    rates = untrigger.evaluate(classifier, parts.evaluation.images, parts.evaluation.labels, attack, 0, rng)
    print(f"{attack.no_patch}; attack success {rates.attack_success_rate:.1%}, accuracy {rates.clean_accuracy:.1%}")
