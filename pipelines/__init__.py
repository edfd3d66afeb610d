"""The DAGs and what they compile to."""
