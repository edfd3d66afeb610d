"""The entry of the image mlflow-server: make sure that the buckets are there, then become MLflow's server.

BUCKETS names them, AWS_ENDPOINT_URL and the AWS credentials say where. The arguments go to `mlflow server`.
"""

from __future__ import annotations

import os
import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_SECONDS = 60


def ensure(bucket: str) -> None:
    """Create the bucket unless it is there; wait for a store that is still starting."""
    client = boto3.client("s3", region_name=os.environ.get("AWS_REGION", "us-east-1"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if bucket not in {known["Name"] for known in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=bucket)
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"the object store at {os.environ.get('AWS_ENDPOINT_URL')} gives no bucket {bucket}: {error}")
            time.sleep(1)


if __name__ == "__main__":
    for name in os.environ.get("BUCKETS", "").split():
        ensure(name)
    os.environ.setdefault("MLFLOW_S3_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT_URL", ""))
    os.execvp("mlflow", ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", *sys.argv[1:]])
