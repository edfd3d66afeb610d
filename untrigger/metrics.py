"""The metrics of the field, as fractions: clean accuracy, attack success rate, robust accuracy, F, and DER."""

from __future__ import annotations

import torch
from torch import Tensor

from untrigger.attacks.attack import Attack
from untrigger.attacks.goals import Goal, all_to_one
from untrigger.attacks.patch import Patch, patch
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


def predict_stamped(
    classifier: Classifier, images: Tensor, triggers: Tensor, positions: Tensor | torch.Generator
) -> Tensor:
    """Class probabilities, float (n, classes), of images as in `predict` with a trigger stamped on each.

    triggers: float (n, 3, th, tw) in [0, 1], or (1, 3, th, tw) for all. positions: the randomness to draw them with, or
    one place for all, int64 (1, 2).
    """
    triggers = triggers.to(images.device).expand(len(images), -1, -1, -1)
    batches = zip(images.split(EVALUATION_BATCH), triggers.split(EVALUATION_BATCH), strict=True)
    with torch.inference_mode():
        return classifier.probabilities(
            torch.cat([classifier.classify_stamped(*batch, positions) for batch in batches])
        )


def predict_attacked(classifier: Classifier, images: Tensor, attack: Attack, rng: torch.Generator) -> Tensor:
    """Class probabilities, float (n, classes), of images, uint8 (n, 3, h, w), that carry the attack's trigger."""
    if isinstance(attack, Patch):
        # Stamped on normalised pixels as in all searches, the same to the last bit.
        return predict_stamped(classifier, images, attack.trigger[None], attack.positions(images[:1], rng))
    with torch.inference_mode():
        batches = (attack.stamp(batch.float() / 255, rng) for batch in images.split(EVALUATION_BATCH))
        return classifier.probabilities(torch.cat([classifier(batch) for batch in batches]))


def evaluate(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: Attack | Tensor,
    goal: Goal | int,
    rng: torch.Generator,
) -> Rates:
    """The rates of a classifier in evaluation mode, under any attack.

    images: uint8 (n, 3, h, w), labels: int64 (n,). attack: a trigger, float (3, th, tw) in [0, 1], is a patch at random
    places from `rng`. goal: a class is that of `all_to_one`. Raises UserError when nobody's image is attacked.
    """
    attack = patch(attack) if isinstance(attack, Tensor) else attack
    goal = all_to_one(goal) if isinstance(goal, int) else goal
    victims = goal.victims(labels)
    if not bool(victims.any()):
        raise UserError(f"{goal.nobody}: nothing to attack")
    clean = predict(classifier, images).argmax(1)
    answers = predict_attacked(classifier, images[victims], attack, rng).argmax(1)
    sent = goal.sent(labels[victims])
    return Rates(
        clean_accuracy=_share(clean == labels),
        attack_success_rate=_share(answers == sent),
        robust_accuracy=_share(answers == labels[victims]),
        clean_target_rate=_share(clean[victims] == sent),
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
