"""A network that breaks between us and a real S3: a proxy cuts connections after some bytes."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resources.s3 import (
    Folder,
    ObjectChangedError,
    ObjectReader,
    ObjectStore,
    Publication,
    StoreError,
    StoreUnavailableError,
)
from resources.s3.streams import PART_BYTES
from tests.faulty_network import Proxy, proxied
from tests.resources.s3.s3_rig import open_uploads
from tests.resources.tls_server import tls_server

MIB = 1024 * 1024
SIZE = 2 * PART_BYTES + 5


@pytest.fixture
def proxy(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxied(environment, monkeypatch) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy, bucket: str) -> ObjectStore:
    return ObjectStore(bucket=bucket, max_attempts=3)


def test_reading_goes_on_where_the_connection_broke(store: ObjectStore, proxy: Proxy) -> None:
    data = os.urandom(SIZE)
    store.put_bytes("key", data)
    proxy.cut_answers_after, proxy.cuts = 4 * MIB, 3
    assert store.get_bytes("key", max_bytes=SIZE) == data
    assert proxy.cuts == 0


def test_reading_does_not_go_on_with_another_version(store: ObjectStore, proxy: Proxy) -> None:
    store.put_bytes("key", bytes(SIZE))
    with store.open("key") as stream:
        stream.read(MIB)
        store.put_bytes("key", b"x" * SIZE)
        # What is on its way already is delivered; the rest is asked for again.
        proxy.cut_answers_after, proxy.cuts = 1, 1
        with pytest.raises(ObjectChangedError):
            stream.read()


def test_reading_gives_up_where_the_connection_keeps_breaking(
    store: ObjectStore, proxy: Proxy
) -> None:
    store.put_bytes("key", bytes(SIZE))
    proxy.cut_answers_after, proxy.cuts = 1, 1000
    with pytest.raises(StoreUnavailableError) as caught:
        store.get_bytes("key", max_bytes=SIZE)
    assert caught.value.transient


def test_after_the_last_attempt_to_read_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of each answer comes the head alone, which the proxy cannot do."""

    def broken(*_: object) -> bytes:
        raise ConnectionResetError

    body = SimpleNamespace(read=broken, close=lambda: None)
    answer = {"Body": body, "ContentLength": 5, "ETag": '"x"', "LastModified": None}
    client: Any = SimpleNamespace(get_object=lambda **_: answer)
    waits: list[float] = []
    monkeypatch.setattr("resources.s3.streams.time.sleep", waits.append)
    with (
        pytest.raises(StoreUnavailableError, match="at byte 0 of 5, 5 times"),
        ObjectReader(client, "bucket", "key") as reader,
    ):
        reader.read(5)
    assert waits == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("goes_away", [False, True])
def test_a_certificate_that_is_not_trusted_is_told_from_a_connection_that_broke(
    goes_away: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    with tls_server(tmp_path, goes_away=goes_away) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(StoreError) as caught:
            ObjectStore(bucket="bucket", max_attempts=1).head("key")
    assert caught.value.transient is goes_away
    assert ("is not trusted" in str(caught.value)) is not goes_away


def test_a_part_whose_connection_broke_is_sent_again(store: ObjectStore, proxy: Proxy) -> None:
    data = os.urandom(SIZE)
    proxy.cut_requests_after, proxy.cuts = 3 * MIB, 2
    with Publication(Folder(store, "prefix")) as publication:
        publication.put("data", data)
        published = publication.commit(partition="d", rows=1, code_version="1")
    assert proxy.cuts == 0
    assert published.verify() == ()
    assert store.get_bytes("prefix/data", max_bytes=SIZE) == data


def test_an_upload_whose_connection_keeps_breaking_leaves_what_was_there(
    store: ObjectStore, proxy: Proxy
) -> None:
    with Publication(Folder(store, "prefix")) as publication:
        publication.put("data", b"old")
        published = publication.commit(partition="d", rows=1, code_version="1")
    proxy.cut_requests_after, proxy.cuts = 3 * MIB, 1000

    def replace() -> None:
        with Publication(Folder(store, "prefix")) as publication:
            publication.put("data", bytes(SIZE))
            publication.commit(partition="d", rows=1, code_version="1")

    with pytest.raises(StoreUnavailableError, match="run again"):
        replace()
    read = Folder(store, "prefix").published()
    assert read is not None
    assert read.manifest == published.manifest
    assert read.verify() == ()
    assert open_uploads(store) == []
