"""The pipelines on a cluster, through Kubeflow Pipelines."""
