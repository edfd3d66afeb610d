"""A network that others published, so that files with it can be opened: the small VGG of I-BAU's authors.

Their backdoored CIFAR-10 networks lie as `checkpoint/*.pth` in github.com/YiZeng623/I-BAU. With this folder on
PYTHONPATH and UNTRIGGER_PLUGINS=their_network:

    untrigger scan badnets_8_02_ckpt.pth --classifier.architecture their_vgg --dataset cifar10:PATH

By itself it prints what their own trigger does to a network of theirs, or to one that `untrigger defend` wrote back
(their TRIGGERS are the folder of that name): python their_network.py MODEL DATASET TRIGGERS badnets_8
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import untrigger
from untrigger.checkpoints.models import open_model
from untrigger.metrics import predict
from untrigger.seeding import derived_seed
from untrigger.settings.methods import ClassifierSettings, DataSettings


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


def stamped(images: Tensor, attack: str, triggers: Path) -> Tensor:
    """`images` (bytes) with the trigger that their attacks of that name stamp: a square, or a picture that is added."""
    if attack == "badnets":
        images = images.clone()
        images[:, :, 27:31, 27:31] = 255
        return images
    picture = torch.from_numpy(np.asarray(Image.open(triggers / f"{attack}.png"), dtype=np.int32)).permute(2, 0, 1)
    if attack == "l0_inv":
        images = images * torch.from_numpy(np.load(triggers / "mask.npy") == 0)
    return (images + picture).clamp(max=255).byte()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("error: give MODEL DATASET TRIGGERS NAME, a name such as badnets_8")
    _, model, dataset, triggers, name = sys.argv
    attack, target = name[:-2], int(name[-1])
    # The split of `untrigger defend`: none of these images was searched on or retrained with.
    data = untrigger.read_split(dataset, DataSettings(), seed=derived_seed(0, "split")).evaluation
    settings = ClassifierSettings(architecture="their_vgg")
    opened = open_model(model, settings, data, rng=torch.Generator().manual_seed(0))
    right = predict(opened.classifier, data.images).argmax(1) == data.labels
    attacked = stamped(data.images[data.labels != target], attack, Path(triggers))
    success = predict(opened.classifier, attacked).argmax(1) == target
    print(f"clean accuracy {right.double().mean():.1%}, attack success {success.double().mean():.1%}")
