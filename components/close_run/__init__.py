"""The component of the stage close_run."""
