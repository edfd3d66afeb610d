"""Files in an S3 object store: uploaded whole, verified, never twice.

The usual variables say where it is: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_REGION or
AWS_DEFAULT_REGION.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import SplitResult, urlsplit

import urllib3
from minio import Minio
from minio.credentials.providers import EnvAWSProvider
from minio.error import InvalidResponseError, MinioException, S3Error
from urllib3.exceptions import HTTPError, SSLError

from untrigger.errors import UserError, without_credentials
from untrigger.settings.base import seconds_from

ENDPOINT = "AWS_ENDPOINT_URL"
PATIENCE = "UNTRIGGER_STORE_PATIENCE"
"""Environment variable: seconds to wait for a store that does not answer or cannot take more; 120 unless given."""

PART_BYTES = 16 * 2**20
"""Larger files go up in parts of this size, and appear under their key only when the last part is there."""

_SHA256 = "sha256"
_CREDENTIALS = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed"}
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_NOT_THERE = {"NoSuchKey", "NoSuchObject", "NotFound"}

_PASSING = (408, 409, 429)
"""HTTP answers below 500 that another attempt may change."""

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """A place in a store: `s3://bucket/prefix`."""

    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """UserError when `text` is not such an address."""
        parts = urlsplit(text)
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            shown = without_credentials(text)
            raise UserError(f"{shown!r} is no address in an object store: give s3://bucket or s3://bucket/prefix")
        return cls(parts.netloc, parts.path.strip("/"))

    def __truediv__(self, name: str) -> Address:
        return Address(self.bucket, f"{self.prefix}/{name}".strip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True)
class Checksums:
    """What identifies the content of a file: its size, its SHA-256, and the ETag that a store gives to it."""

    size: int
    sha256: str
    etag: str


def checksums(path: Path) -> Checksums:
    """Read the file once; the ETag is that of an upload in parts of `PART_BYTES`."""
    whole, size, parts = hashlib.sha256(), 0, []
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            whole.update(part)
            size += len(part)
            parts.append(hashlib.md5(part, usedforsecurity=False))
    if len(parts) > 1:
        joined = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False)
        etag = f"{joined.hexdigest()}-{len(parts)}"
    else:
        etag = (parts[0] if parts else hashlib.md5(usedforsecurity=False)).hexdigest()
    return Checksums(size, whole.hexdigest(), etag)


class ObjectStore:
    """One S3 store, and how to be patient with it.

    `on_wait` is told, in one sentence, when the store does not answer and the call waits for it. Every method raises
    UserError when the credentials or the bucket are wrong, or when the store stays away for longer than PATIENCE.
    """

    def __init__(self, on_wait: Callable[[str], None] = lambda _: None) -> None:
        self.endpoint = os.environ.get(ENDPOINT, "").strip()
        url = _checked_endpoint(self.endpoint)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            value = os.environ.get(name, "")
            if not value:
                raise UserError(f"the object store's credentials must stand in the environment: {name} is not set")
            if value.split() != [value]:
                raise UserError(f"{name} holds a blank or the end of a line: set it to the key alone")
        self.shown = self.endpoint
        self._on_wait = on_wait
        self._patience = seconds_from(PATIENCE, 120)
        region = next((region for name in _REGIONS if (region := os.environ.get(name))), "us-east-1")
        try:
            self._client = Minio(
                url.netloc,
                credentials=EnvAWSProvider(),
                secure=url.scheme == "https",
                region=region,
                http_client=urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=60), retries=urllib3.Retry(0)),
            )
        except ValueError as error:
            raise UserError(f"no store can be at {self.shown} in the region {region!r}: {error}") from error

    def check_bucket(self, bucket: str) -> None:
        """UserError when there is no such bucket."""
        if not self._patiently(f"look for the bucket {bucket}", lambda: self._client.bucket_exists(bucket)):
            raise self._no_bucket(bucket)

    def check_writable(self, base: Address) -> None:
        """UserError when the bucket is missing or nothing may be written below `base`."""
        self.check_bucket(base.bucket)
        probe = base / f".probe-{uuid.uuid4().hex}"
        self.put_bytes(b"", probe)
        self.delete(probe)

    def make_bucket(self, bucket: str) -> None:
        """Create the bucket unless it is there."""
        if not self._patiently(f"look for the bucket {bucket}", lambda: self._client.bucket_exists(bucket)):
            self._patiently(f"create the bucket {bucket}", lambda: self._client.make_bucket(bucket))

    def put(self, path: Path, target: Address, known: Checksums | None = None) -> bool:
        """Upload a file and verify it; False when the object was already there with the same content."""
        expected = known or checksums(path)
        if self._holds(target, expected):
            return False

        def upload() -> None:
            with path.open("rb") as file:
                self._client.put_object(
                    target.bucket,
                    target.prefix,
                    file,
                    expected.size,
                    metadata={_SHA256: expected.sha256},
                    part_size=PART_BYTES,
                )

        self._patiently(f"upload {target}", upload)
        if not self._holds(target, expected):
            self.delete(target)
            raise UserError(f"{target} arrived damaged and was deleted again: check the store at {self.shown}")
        return True

    def put_bytes(self, content: bytes, target: Address) -> None:
        """Write a small object, in place of an earlier one."""
        self._patiently(
            f"upload {target}",
            lambda: self._client.put_object(target.bucket, target.prefix, io.BytesIO(content), len(content)),
        )

    def get(self, source: Address, path: Path, sha256: str | None) -> None:
        """Download an object; the file appears whole and with the right checksum (if one is known) or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")

        def download() -> str:
            with partial.open("wb") as file:
                return self._copy(source, file)

        found = self._patiently(f"download {source}", download)
        if sha256 is not None and found != sha256:
            partial.unlink()
            raise UserError(f"{source} is damaged: its SHA-256 is {found}, it should be {sha256}")
        partial.replace(path)

    def read(self, source: Address) -> bytes | None:
        """The content of a small object, None when it is not there."""

        def load() -> bytes | None:
            try:
                response = self._client.get_object(source.bucket, source.prefix)
            except S3Error as error:
                if error.code in _NOT_THERE:
                    return None
                raise
            try:
                return response.data
            finally:
                response.close()
                response.release_conn()

        return self._patiently(f"read {source}", load)

    def names(self, below: Address, *, recursive: bool = False) -> list[str]:
        """The names directly below an address, those of folders with a slash behind; or the paths of all objects."""
        prefix = f"{below.prefix}/" if below.prefix else ""
        found = self._patiently(
            f"list {below}", lambda: list(self._client.list_objects(below.bucket, prefix, recursive=recursive))
        )
        return [item.object_name.removeprefix(prefix) for item in found if item.object_name]

    def changes(self, below: Address) -> dict[str, float]:
        """The paths of all objects below an address, with when each was written, in seconds since 1970."""
        prefix = f"{below.prefix}/" if below.prefix else ""
        found = self._patiently(
            f"list {below}", lambda: list(self._client.list_objects(below.bucket, prefix, recursive=True))
        )
        return {
            item.object_name.removeprefix(prefix): item.last_modified.timestamp()
            for item in found
            if item.object_name and item.last_modified
        }

    def delete(self, target: Address) -> None:
        """Delete an object; one that is not there is none the less gone."""
        self._patiently(f"delete {target}", lambda: self._client.remove_object(target.bucket, target.prefix))

    def _holds(self, target: Address, expected: Checksums) -> bool:
        def look() -> Any:
            try:
                return self._client.stat_object(target.bucket, target.prefix)
            except S3Error as error:
                if error.code in _NOT_THERE:
                    return None
                raise

        found = self._patiently(f"look for {target}", look)
        if found is None or found.size != expected.size:
            return False
        if (found.etag or "").strip('"') == expected.etag:
            return True
        # A store that encrypts gives ETags of its own: then only the content tells.
        return self._patiently(f"verify {target}", lambda: self._copy(target, None)) == expected.sha256

    def _copy(self, source: Address, file: BinaryIO | None) -> str:
        """Write an object to `file`; its SHA-256."""
        digest = hashlib.sha256()
        response = self._client.get_object(source.bucket, source.prefix)
        try:
            for piece in _pieces(response):
                digest.update(piece)
                if file is not None:
                    file.write(piece)
        finally:
            response.close()
            response.release_conn()
        return digest.hexdigest()

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        deadline, pause = 0.0, 0.5
        while True:
            try:
                return call()
            except ValueError as error:
                raise UserError(f"cannot {what}: {error}") from error
            except S3Error as error:
                self._check_hopeless(what, error)
                reason: Exception = error
            except (HTTPError, MinioException, ConnectionError) as error:
                self._check_understood(what, error)
                reason = error
            told_reason = _reason(reason)
            if not deadline:
                deadline = time.monotonic() + self._patience
                self._on_wait(f"the store at {self.shown} does not answer, waiting for it ({told_reason})")
            if time.monotonic() + pause > deadline:
                raise UserError(
                    f"cannot {what}: the store at {self.shown} did not do it within {self._patience:.0f} s "
                    f"({told_reason}); see that it runs and that its disk is not full"
                ) from reason
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _check_understood(self, what: str, error: Exception) -> None:
        """UserError where whatever answers is no store, or speaks another protocol than the endpoint says."""
        if isinstance(getattr(error, "reason", None), SSLError):
            raise UserError(
                f"cannot {what}: no TLS with the store at {self.shown} ({_reason(error)}): begin {ENDPOINT} with "
                "http:// if the store speaks none, or let SSL_CERT_FILE name its certificate"
            ) from error
        if isinstance(error, InvalidResponseError) and 300 <= error._code < 500 and error._code not in _PASSING:
            raise UserError(
                f"cannot {what}: what answers at {self.shown} is no object store, or wants another of http:// and "
                f"https:// ({_reason(error)}): mend {ENDPOINT}"
            ) from error

    def _check_hopeless(self, what: str, error: S3Error) -> None:
        """UserError where waiting does not help."""
        if "region" in (error.message or ""):
            raise UserError(
                f"cannot {what}: the store at {self.shown} is in another region, set AWS_REGION to it ({error.message})"
            ) from error
        if error.code in _CREDENTIALS:
            raise UserError(
                f"cannot {what}: the store at {self.shown} refuses the credentials in AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY ({error.code})"
            ) from error
        if error.code == "NoSuchBucket":
            raise self._no_bucket(error.bucket_name or "") from error
        if error.code in _NOT_THERE:
            raise UserError(f"cannot {what}: it is not in the store at {self.shown}") from error
        if 300 <= error.response.status < 500 and error.response.status not in _PASSING:
            raise UserError(f"cannot {what}: the store at {self.shown} refuses it: {error.message}") from error

    def _no_bucket(self, bucket: str) -> UserError:
        return UserError(
            f"the store at {self.shown} has no bucket {bucket!r}: create it with `untrigger store create s3://{bucket}`"
        )


def _checked_endpoint(text: str) -> SplitResult:
    """The address of a store, taken apart; UserError when it is none or says more than where the store is."""
    try:
        url = urlsplit(text)
        named = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        named = False
    if not named:
        raise UserError(
            f"the object store's address must stand in {ENDPOINT} (such as http://127.0.0.1:8333), "
            f"got {without_credentials(text)!r}; `untrigger store up` starts a store and says what to set"
        )
    if "@" in url.netloc or url.path.strip("/") or url.query or url.fragment:
        raise UserError(
            f"{ENDPOINT} must end with the store's host and port, got {without_credentials(text)!r}: a bucket stands "
            "in s3://bucket, credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return url


def _pieces(response: Any) -> Iterator[bytes]:
    yield from response.stream(2**20)


def _reason(error: Exception) -> str:
    return error.code if isinstance(error, S3Error) and error.code else " ".join(str(error).split())[:200]
