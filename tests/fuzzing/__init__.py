"""Whatever is read gives a result or one sentence for the user."""
