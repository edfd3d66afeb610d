"""Where a store is said to be: what cannot be one is refused in one sentence, at once."""

from __future__ import annotations

import time

import pytest

from tests.support.answering import answering
from untrigger.errors import UserError
from untrigger.storage.objects import Address, ObjectStore

WRONG_REGION = (
    "<?xml version='1.0'?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; "
    "expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>"
)


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9", "must stand in AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:port", "must stand in AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", "http://[::1", "must stand in AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9/untrigger", "must end with the store's host and port"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9?x", "must end with the store's host and port"),
        ("AWS_ENDPOINT_URL", "http://me:secret@127.0.0.1:9", "must end with the store's host and port"),
        ("AWS_SECRET_ACCESS_KEY", "something\n", "AWS_SECRET_ACCESS_KEY holds a blank or the end of a line"),
        ("AWS_REGION", "eu central", "in the region 'eu central'"),
        ("UNTRIGGER_STORE_PATIENCE", "long", "UNTRIGGER_STORE_PATIENCE must be a number of seconds, got 'long'"),
    ],
)
def test_a_description_of_a_store_that_cannot_be_meant_is_refused(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told) as refused:
        ObjectStore()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9/", " http://127.0.0.1:9", "HTTP://127.0.0.1:9"])
def test_a_slash_a_blank_or_capitals_do_no_harm(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert ObjectStore().shown.lower().startswith("http://127.0.0.1:9")


def test_what_speaks_no_tls_or_is_no_store_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with answering(400, "Client sent an HTTP request to an HTTPS server.", Content_Type="text/plain") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(UserError, match="is no object store, or wants another of http:// and https://"):
            ObjectStore().names(Address("bucket"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", address.replace("http:", "https:"))
        with pytest.raises(UserError, match="no TLS with the store"):
            ObjectStore().names(Address("bucket"))
    assert time.monotonic() - began < 10


def test_a_store_in_another_region_is_told_by_the_variable_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(400, WRONG_REGION, Content_Type="application/xml", x_amz_bucket_region="eu-central-1") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(UserError, match=r"set AWS_REGION to it .*eu-central-1"):
            ObjectStore().names(Address("bucket"))
        with pytest.raises(UserError, match=r"set AWS_REGION to it .*eu-central-1"):
            ObjectStore().check_bucket("bucket")


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_either_variable_names_the_region(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "not a region")
    with pytest.raises(UserError, match="in the region 'not a region'"):
        ObjectStore()
