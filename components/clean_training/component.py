"""The component of the stage `clean_training`."""

from kfp.dsl import Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component
def clean_training(training_data: Input[Dataset], clean_classifier: Output[Model], task: dict) -> None:
    """Train a classifier before any attack, or take a ready-made one.

    Args:
        training_data: Images that the attacker trains on.
        clean_classifier: The classifier, and its curve.
        task: The parameters classifier, training, weights, seed of the stage.
    """
    from untrigger.stages import clean_training

    clean_training.run(training_data=training_data.path, clean_classifier=clean_classifier.path, **task)
