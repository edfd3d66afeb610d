"""What a run says while it is at work: progress for a person, records for MLflow."""
