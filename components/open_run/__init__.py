"""The component of the stage open_run."""
