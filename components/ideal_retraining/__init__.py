"""The component of the stage ideal_retraining."""
