"""What the triggers of I-BAU's authors do to a network of theirs, or to one that `untrigger defend` wrote back.

TRIGGERS is the folder of that name in github.com/YiZeng623/I-BAU; a name is an attack and the target class, as their
files have it: python their_triggers.py MODEL DATASET TRIGGERS badnets_8
"""

import sys
from pathlib import Path

import numpy as np
import their_network  # noqa: F401  # registers it
import torch
from PIL import Image
from torch import Tensor

import untrigger
from untrigger.checkpoints.models import open_model
from untrigger.metrics import predict
from untrigger.seeding import derived_seed
from untrigger.settings.methods import ClassifierSettings, DataSettings


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
