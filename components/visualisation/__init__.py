"""The component of the stage visualisation."""
