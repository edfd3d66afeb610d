"""The metrics of the field, as fractions: clean accuracy, attack success rate, robust accuracy, F, and DER."""

from __future__ import annotations

import torch
from torch import Tensor

from untrigger.classifiers import Classifier
from untrigger.errors import UserError
from untrigger.measurements import Rates as Rates
from untrigger.triggers import stamp

EVALUATION_BATCH = 512


def predict(classifier: Classifier, images: Tensor) -> Tensor:
    """Class probabilities, float (n, classes), of images (n, 3, h, w), uint8 or float in [0, 1].

    Raises UserError, as all rates here do, when a logit is NaN or infinite.
    """
    with torch.inference_mode():
        return classifier.probabilities(torch.cat([classifier(batch) for batch in images.split(EVALUATION_BATCH)]))


def predict_stamped(classifier: Classifier, images: Tensor, triggers: Tensor, rng: torch.Generator) -> Tensor:
    """Class probabilities, float (n, classes), of images as in `predict` with a trigger stamped on each.

    triggers: float (n, 3, th, tw) in [0, 1], or (1, 3, th, tw) for all. Positions as in `stamp`, from `rng`.
    """
    triggers = triggers.to(images.device).expand(len(images), -1, -1, -1)
    batches = zip(images.split(EVALUATION_BATCH), triggers.split(EVALUATION_BATCH), strict=True)
    with torch.inference_mode():
        return classifier.probabilities(torch.cat([classifier.classify_stamped(*batch, rng) for batch in batches]))


def evaluate(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    trigger: Tensor,
    target_class: int,
    rng: torch.Generator,
) -> Rates:
    """The rates of a classifier in evaluation mode.

    images: uint8 (n, 3, h, w), labels: int64 (n,); trigger: float (3, th, tw), stamped at a position per image
    from `rng`. Raises UserError when every image belongs to the target class.
    """
    others = labels != target_class
    if not bool(others.any()):
        raise UserError(f"every evaluation image belongs to the target class {target_class}: nothing to attack")
    clean = predict(classifier, images).argmax(1)
    answers = predict_stamped(classifier, images[others], trigger[None], rng).argmax(1)
    return Rates(
        clean_accuracy=_share(clean == labels),
        attack_success_rate=_share(answers == target_class),
        robust_accuracy=_share(answers == labels[others]),
        clean_target_rate=_share(clean[others] == target_class),
    )


def testing_function(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    triggers: Tensor,
    target_class: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """F of each trigger, and its attack success rate: two float (k,) on the CPU.

    F(x) is the probability of the target class averaged over `images`, uint8 (n, 3, h, w), stamped with trigger x at a
    position per image; which images these are, `ImageData.for_search` decides. The attack success rate counts those of
    other classes only, by `labels`, int64 (n,). triggers: float (k, 3, th, tw) in [0, 1]. Source: section 4.1 of the
    paper.
    """
    others = labels != target_class
    strengths, successes = [], []
    with torch.inference_mode():
        normalised = classifier.normalise(images)
        for trigger in classifier.normalise(triggers.to(images.device)).split(1):
            stamped = stamp(normalised, trigger, rng)
            logits = torch.cat([classifier.classify(batch) for batch in stamped.split(EVALUATION_BATCH)])
            strengths.append(classifier.probabilities(logits)[:, target_class].mean())
            successes.append((logits.argmax(1) == target_class)[others].float().mean())
    return torch.stack(strengths).cpu(), torch.stack(successes).cpu()


def defense_effectiveness_rating(before: Rates, after: Rates) -> float:
    """DER in [0, 1]: half of 1 + the drop of the attack success rate - the drop of clean accuracy, drops at least 0."""
    attack_drop = max(0.0, before.attack_success_rate - after.attack_success_rate)
    accuracy_drop = max(0.0, before.clean_accuracy - after.clean_accuracy)
    return (attack_drop - accuracy_drop + 1) / 2


def _share(mask: Tensor) -> float:
    return mask.double().mean().item()
