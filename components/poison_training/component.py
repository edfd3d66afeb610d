"""The component of the stage `poison_training`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output
from untrigger.components.stage_component import stage_component


@stage_component("poison_training")
def poison_training(
    training_data: Input[Dataset],
    evaluation_data: Input[Dataset],
    backdoored_classifier: Output[Model],
    true_trigger: Output[Artifact],
    classifier: dict,
    training: dict,
    poisoning: dict,
    target_class: int,
    seed: int,
) -> None:
    """Train a classifier clean, then plant the backdoor in it.

    Args:
        training_data: Images that the attacker trains on.
        evaluation_data: Images for the curves only.
        backdoored_classifier: The classifier with the backdoor, and its curves.
        true_trigger: The planted trigger, for the evaluation and the ideal control only.
        classifier: ClassifierSettings.
        training: CleanTrainingSettings.
        poisoning: PoisoningSettings.
        target_class: Class that the backdoor leads to.
        seed: Seed of the whole run.
    """
    from untrigger.stages import poison_training

    poison_training.run(
        training_data=training_data.path,
        evaluation_data=evaluation_data.path,
        backdoored_classifier=backdoored_classifier.path,
        true_trigger=true_trigger.path,
        classifier=classifier,
        training=training,
        poisoning=poisoning,
        target_class=target_class,
        seed=seed,
    )
