"""Fixtures for the number cruncher against the embedded S3."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from numbercruncher.crunch import crunch
from numbercruncher.errors import StoreUnavailableError
from numbercruncher.request import parse_request
from numbercruncher.store import Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Crunch = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def client(s3_client: "S3Client") -> "S3Client":
    """A client of the embedded S3."""
    return s3_client


@pytest.fixture
def warnings() -> list[str]:
    """What the crunching of a test warned of."""
    return []


@pytest.fixture
def run(environment: Mapping[str, str], bucket: str, warnings: list[str]) -> Crunch:
    """Crunches dates of the bucket in this process; returns the messages by date."""

    def crunch_dates(*dates: str, **extras: Any) -> dict[str, dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        request = {"bucket": bucket, "dates": dates, "code_version": "1", **extras}
        crunch(Store(bucket), parse_request(request), messages.append, warnings.append)
        assert [message["date"] for message in messages] == sorted(dates)
        json.dumps(messages)  # as Pipes will
        return {message["date"]: message for message in messages}

    return crunch_dates


@pytest.fixture
def fail_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a method of the store fail for keys, or folders, that end in some way."""

    def fail(method: str, ending: str) -> None:
        right = getattr(Store, method)

        def refused(self: Store, key: str, **options: Any) -> Any:
            if key.endswith(ending):
                raise StoreUnavailableError("The store is away.")
            return right(self, key, **options)

        monkeypatch.setattr(Store, method, refused)

    return fail


@pytest.fixture
def objects(client: "S3Client", bucket: str) -> Callable[[str], dict[str, bytes]]:
    """Reads all objects under a prefix."""

    def read(prefix: str) -> dict[str, bytes]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry.get("Key", "") for page in pages for entry in page.get("Contents", [])]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    return read
