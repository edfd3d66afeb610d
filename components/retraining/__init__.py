"""The component of the stage retraining."""
