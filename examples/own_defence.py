"""A defence of your own: registered by name, and compared with plain fine-tuning on a backdoor.

For `untrigger grid --methods fine_tune,ensemble,shaken` the parts at the top stand in a module that UNTRIGGER_PLUGINS
names: UNTRIGGER_PLUGINS=my_defences, with my_defences.py on PYTHONPATH.
"""

import copy

import torch
from pydantic import Field

import untrigger
from untrigger.profiles import config_for
from untrigger.settings.other_defences import FineTuningSettings
from untrigger.settings.runs import DefenseConfig
from untrigger.training import OnEpoch


class ShakenSettings(FineTuningSettings):
    """Fine-tuning from weights that are shaken first."""

    shake: float = Field(0.3, gt=0, description="standard deviation of the noise, as a share of each weight")


def shaken(
    classifier: untrigger.Classifier,
    data: untrigger.ImageData,
    settings: ShakenSettings,
    *,
    rng: torch.Generator,
    on_epoch: OnEpoch | None = None,
) -> untrigger.Classifier:
    """What `register_defence` wants: from a classifier and clean images to another classifier."""
    tuned = copy.deepcopy(classifier)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.mul_(1 + settings.shake * torch.randn(weight.shape, generator=rng).to(weight.device))
    untrigger.train(tuned, data.images, data.labels, settings, rng=rng, on_epoch=on_epoch)
    return tuned


untrigger.register_defence("shaken", shaken, ShakenSettings())

if __name__ == "__main__":
    rng = torch.Generator().manual_seed(0)
    settings = config_for("demo", {}, DefenseConfig)
    parts = untrigger.read_split("digits", settings.data, seed=0)
    training, defender, evaluation = parts.training, parts.defender, parts.evaluation
    trigger = untrigger.read_trigger("checkerboard")

    classifier = untrigger.new_classifier(settings.classifier, len(training.class_names), training.images, rng)
    untrigger.train(classifier, training.images, training.labels, settings.training, rng=rng)
    untrigger.plant_backdoor(classifier, training.images, training.labels, trigger, 0, settings.poisoning, rng=rng)
    clean = (defender.images, defender.labels)
    fine_tuned = untrigger.retrain(classifier, *clean, None, settings.retraining, rng=rng)
    own = shaken(classifier, defender, ShakenSettings(), rng=rng)
    for name, defended in {"backdoored": classifier, "fine-tuned": fine_tuned, "shaken": own}.items():
        rates = untrigger.evaluate(defended, evaluation.images, evaluation.labels, trigger, 0, rng)
        print(f"{name:<12} clean accuracy {rates.clean_accuracy:.1%}, attack success {rates.attack_success_rate:.1%}")
