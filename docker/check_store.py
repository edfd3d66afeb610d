"""Write one object below each address, read it back and delete it: check_store.py s3://BUCKET/PREFIX...

AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the AWS credentials say where. Ends with one sentence, and with status 1 when
the store did not keep an object within a minute.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_SECONDS = 60


def check(address: str, client: Any) -> None:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    key = f"{prefix}/.check-{uuid.uuid4().hex}".lstrip("/")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            client.put_object(Bucket=bucket, Key=key, Body=key.encode())
            read = client.get_object(Bucket=bucket, Key=key)["Body"].read()
            client.delete_object(Bucket=bucket, Key=key)
            break
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"error: {address} at {os.environ.get('AWS_ENDPOINT_URL')} does not keep an object: {error}")
            time.sleep(1)
    if read != key.encode():
        sys.exit(f"error: {address} at {os.environ.get('AWS_ENDPOINT_URL')} gives back other bytes than it was given")
    print(f"{address} at {os.environ.get('AWS_ENDPOINT_URL')}: written and read")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        check(each, boto3.client("s3", region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1")))
