"""Plant a backdoor, search for its triggers, and retrain the classifier to ignore them: all from Python, on a CPU."""

import torch

import untrigger
from untrigger.profiles import config_for
from untrigger.settings.runs import DefenseConfig

TARGET, SIZE = 0, (3, 3)
rng = torch.Generator().manual_seed(0)

# The settings of `untrigger run --profile demo`, but a shorter search.
shorter = {"betas": (0.5, 0.9), "poisoning": {"epochs": 20}, "flow": {"steps": 100}, "retraining": {"epochs": 5}}
settings = config_for("demo", shorter, DefenseConfig)
parts = untrigger.read_split("digits", settings.data, seed=0)
training, defender, evaluation = parts.training, parts.defender, parts.evaluation
trigger = untrigger.read_trigger("checkerboard")


def show(what: str, classifier: untrigger.Classifier) -> None:
    """Print what the attacker's trigger does on images that nobody has trained on."""
    rng = torch.Generator().manual_seed(1)
    rates = untrigger.evaluate(classifier, evaluation.images, evaluation.labels, trigger, TARGET, rng)
    print(f"{what:<14} clean accuracy {rates.clean_accuracy:.1%}, attack success {rates.attack_success_rate:.1%}")


# The attacker: a classifier of digits, trained on with a share of every batch stamped and sent to the target class.
classifier = untrigger.new_classifier(settings.classifier, len(training.class_names), training.images, rng)
untrigger.train(classifier, training.images, training.labels, settings.training, rng=rng)
untrigger.plant_backdoor(classifier, training.images, training.labels, trigger, TARGET, settings.poisoning, rng=rng)
show("backdoored", classifier)

# The defender, who never sees the trigger: one reversed by gradient descent, and the distribution of all of them.
searched = defender.for_search(TARGET, settings.search_images)
(single, *_) = untrigger.reverse_triggers(classifier, searched.images, TARGET, SIZE, settings.pixel_sgd, rng=rng)
judge = untrigger.new_judge(classifier, searched.images, TARGET, SIZE, rng=rng)
places = untrigger.find_parts(judge, rng=rng)  # where triggers lie: one flow for each
rngs = [rng.clone_state() for _ in settings.betas]
flows = untrigger.train_flows(judge, settings.betas, settings.flow, rngs=rngs, parts=places)
staircase = untrigger.build_staircase(list(zip(flows, settings.betas, strict=True)))

clean = (defender.images, defender.labels)
defended = {
    "fine-tuned": None,
    "single trigger": lambda count, _: single.expand(count, -1, -1, -1),
    "ensemble": staircase.sample,
}
for method, triggers in defended.items():
    show(method, untrigger.retrain(classifier, *clean, triggers, settings.retraining, rng=rng))
