"""The component of the stage prepare_data."""
