"""Proxies between the number cruncher and S3: used where they should be, named where they fail."""

import os
from collections.abc import Mapping

import pytest
from botocore.utils import should_bypass_proxies

from formats.proxies import proxy_variables
from numbercruncher.errors import StoreUnavailableError
from numbercruncher.store import Store
from resources.s3 import ObjectStore
from resources.s3.errors import StoreUnavailableError as UnreachableError
from tests.s3_front import in_front_of

ELSEWHERE = "http://s3.test.invalid"
DEAD = "http://me:pl4nted@127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_store_elsewhere_is_reached_through_the_proxy(
    environment: Mapping[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nobody but the proxy knows the host."""
    with in_front_of(environment["AWS_ENDPOINT_URL_S3"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ELSEWHERE)
        monkeypatch.setenv(name, proxy.url)
        store = Store(bucket)
        store.put("a/b", b"x", "text/plain")
        assert store.get("a/b") == b"x"
        assert [entry.key for entry in store.entries("a")] == ["a/b"]
        assert all(target.startswith(f"{ELSEWHERE}/{bucket}") for _, target in proxy.requests)
        assert len(proxy.requests) == 3


def test_loopback_is_sent_to_no_proxy(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, DEAD)
    for name, value in proxy_variables(os.environ).items():
        monkeypatch.setenv(name, value)
    Store(bucket).put("a/b", b"x", "text/plain")
    assert ObjectStore(bucket=bucket).get_bytes("a/b", max_bytes=1) == b"x"


def test_a_proxy_that_is_not_to_be_had_is_named_without_its_password(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numbercruncher.store.RETRIES", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ELSEWHERE)
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    with pytest.raises(StoreUnavailableError, match=r"the proxy 127\.0\.0\.1:9 lets") as caught:
        Store(bucket).get("a/b")
    assert "pl4nted" not in str(caught.value)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9.*NO_PROXY") as other:
        ObjectStore(bucket=bucket, max_attempts=1).head("a/b")
    assert "pl4nted" not in str(other.value)


def test_without_a_proxy_nothing_is_set() -> None:
    assert proxy_variables({"NO_PROXY": "x", "HTTP_PROXY": ""}) == {}


@pytest.mark.parametrize("names", ["*", "example.com, *"])
def test_a_star_keeps_everything_from_the_proxy(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in proxy_variables({"http_proxy": DEAD, "no_proxy": names}, "more").items():
        monkeypatch.setenv(name, value)
    for url in ("https://s3.eu-west-1.amazonaws.com", "http://127.0.0.1:9000"):
        assert should_bypass_proxies(url)
