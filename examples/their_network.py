"""A network that others published, so that files with it can be opened: the small VGG of I-BAU's authors.

Their backdoored CIFAR-10 networks lie as `checkpoint/*.pth` in github.com/YiZeng623/I-BAU. With this folder on
PYTHONPATH and UNTRIGGER_PLUGINS=their_network:

    untrigger scan badnets_8_02_ckpt.pth --classifier.architecture their_vgg --dataset cifar10:PATH

By itself it prints what their own trigger, a white square, does to a network of theirs or to one that `untrigger
defend` wrote back: python their_network.py MODEL DATASET
"""

import sys

import torch
from torch import nn

import untrigger
from untrigger.checkpoints.models import open_model
from untrigger.metrics import predict
from untrigger.seeding import derived_seed
from untrigger.settings.methods import ClassifierSettings, DataSettings

TARGET, SQUARE = 8, slice(27, 31)


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

if __name__ == "__main__":
    _, model, dataset = sys.argv
    # The split of `untrigger defend`: none of these images was searched on or retrained with.
    data = untrigger.read_split(dataset, DataSettings(), seed=derived_seed(0, "split")).evaluation
    settings = ClassifierSettings(architecture="their_vgg")
    opened = open_model(model, settings, data, rng=torch.Generator().manual_seed(0))
    right = predict(opened.classifier, data.images).argmax(1) == data.labels
    stamped = data.images[data.labels != TARGET].clone()
    stamped[:, :, SQUARE, SQUARE] = 255
    success = predict(opened.classifier, stamped).argmax(1) == TARGET
    print(f"clean accuracy {right.double().mean():.1%}, attack success {success.double().mean():.1%}")
