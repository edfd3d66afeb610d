"""The component of the stage `retraining`."""

from kfp.dsl import Artifact, Dataset, Input, Model, Output

from untrigger.components.stage_component import stage_component


@stage_component("retraining")
def retraining(
    backdoored_classifier: Input[Model],
    defender_data: Input[Dataset],
    trigger_staircase: Input[Model],
    reversed_triggers: Input[Artifact],
    retrained: Output[Model],
    method: str,
    seeds: str,
    retraining: dict,
    target_class: int,
    seed: int,
    label: str = "",
) -> None:
    """Retrain with one method of defence, once per seed. It is never handed the true trigger.

    Args:
        backdoored_classifier: The classifier to be cured.
        defender_data: Clean images that the defender has.
        trigger_staircase: The ensemble of generators.
        reversed_triggers: The baseline's single triggers.
        retrained: One classifier per seed, and the curves.
        method: none, fine_tune, single_trigger, beta=B or ensemble.
        seeds: Seeds that this task runs, joined by commas.
        retraining: RetrainingSettings.
        target_class: Class under suspicion.
        seed: Seed of the whole run.
        label: Sets the stage apart from others of its kind in progress and tracking.
    """
    from untrigger.stages import retraining as stage

    stage.run(
        backdoored_classifier=backdoored_classifier.path,
        defender_data=defender_data.path,
        trigger_staircase=trigger_staircase.path,
        reversed_triggers=reversed_triggers.path,
        retrained=retrained.path,
        method=method,
        seeds=seeds,
        retraining=retraining,
        target_class=target_class,
        seed=seed,
        label=label,
    )
