"""Settings: every hyper-parameter and every option of a run, typed and validated."""
