"""The pipelines on this machine: processes or containers."""
