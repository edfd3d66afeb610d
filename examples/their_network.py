"""A network that others published, so that files with it can be opened: the small VGG of I-BAU's authors.

Their backdoored CIFAR-10 networks lie as `checkpoint/*.pth` in github.com/YiZeng623/I-BAU. With this folder on
PYTHONPATH and UNTRIGGER_PLUGINS=their_network:

    untrigger scan badnets_8_02_ckpt.pth --classifier.architecture their_vgg --dataset cifar10:PATH

What their own triggers do to such a network, before and after `untrigger defend`, prints their_triggers.py.
"""

from torch import nn

import untrigger
from untrigger.settings.methods import ClassifierSettings


def build(settings: ClassifierSettings, classes: int) -> nn.Module:
    """Three pairs of convolutions, each under a max-pool, and a linear layer that sees every place by itself."""
    layers: list[nn.Module] = []
    before = 3
    for channels, dropped in ((32, 0.3), (64, 0.4), (128, 0.4)):
        for _ in range(2):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ELU()]
            before = channels
        layers += [nn.MaxPool2d(2), nn.Dropout(dropped)]
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*layers))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Linear(2048, classes))
    return network


untrigger.register_architecture("their_vgg", build)
