"""The entry of the image mlflow-server: make sure that the buckets are there, then become MLflow's server.

BUCKETS names them; AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the AWS credentials say where. Arguments are those of
`mlflow server`.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_SECONDS = 60


def ensure(bucket: str) -> None:
    """Create the bucket unless it is there; wait for a store that is still starting."""
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", region_name=region)
    # Amazon's first region has no name there.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if not exists(bucket, client):
                client.create_bucket(Bucket=bucket, **where)
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"the object store at {os.environ.get('AWS_ENDPOINT_URL')} gives no bucket {bucket}: {error}")
            time.sleep(1)


def exists(bucket: str, client: Any) -> bool:
    """Whether the bucket is there; it asks for no right beyond that bucket."""
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


if __name__ == "__main__":
    for name in os.environ.get("BUCKETS", "").split():
        ensure(name)
    os.environ.setdefault("MLFLOW_S3_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT_URL", ""))
    os.execvp("mlflow", ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", *sys.argv[1:]])
