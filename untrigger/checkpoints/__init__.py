"""Model files of others: read without running anything in them, recognised, and made classifiers."""
