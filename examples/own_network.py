"""A network of your own: registered by name, attacked, and searched for triggers like a built-in one.

For `untrigger run --classifier.architecture plain` the two parts at the top stand in a module that UNTRIGGER_PLUGINS
names: UNTRIGGER_PLUGINS=my_networks, with my_networks.py on PYTHONPATH.
"""

import torch
from torch import Tensor, nn

import untrigger
from untrigger.profiles import config_for
from untrigger.settings.methods import ClassifierSettings
from untrigger.settings.runs import DefenseConfig


class PlainNetwork(nn.Module):
    """Four convolutions and a linear layer: normalised images, float (n, 3, h, w), to logits, float (n, classes)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width, 4 * width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, stride in zip(widths, widths[1:], (1, 2, 2, 1), strict=False)
        )
        self.last = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = images
        for block in self.blocks:
            features = block(features)
        return self.last(features.mean((2, 3)))


def build(settings: ClassifierSettings, classes: int) -> nn.Module:
    """What `register_architecture` wants: from the settings and the number of classes to an untrained network."""
    return PlainNetwork(settings.width, classes)


untrigger.register_architecture("plain", build)

if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    settings = config_for("demo", {"classifier": {"architecture": "plain"}}, DefenseConfig)
    parts = untrigger.read_split("digits", settings.data, seed=0)
    images, labels = parts.training.images, parts.training.labels
    trigger = untrigger.read_trigger("binary:7")

    classifier = untrigger.new_classifier(settings.classifier, len(parts.training.class_names), images, rng)
    untrigger.train(classifier, images, labels, settings.training, rng=rng)
    untrigger.plant_backdoor(classifier, images, labels, trigger, 0, settings.poisoning, rng=rng)
    searched = parts.defender.for_search(0, settings.search_images)
    found = untrigger.reverse_triggers(classifier, searched.images, 0, (3, 3), settings.pixel_sgd, rng=rng)
    for name, patch in {"planted": trigger, "found": found[0]}.items():
        rates = untrigger.evaluate(classifier, parts.evaluation.images, parts.evaluation.labels, patch, 0, rng)
        print(f"the trigger {name}: attack success {rates.attack_success_rate:.1%}")
