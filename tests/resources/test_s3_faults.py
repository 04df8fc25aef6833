"""A network that breaks between us and a real S3: a proxy cuts connections after some bytes."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from threading import Thread
from urllib.parse import urlsplit

import pytest

from resources.s3 import ObjectStore
from resources.s3_errors import ObjectChangedError, StoreUnavailableError
from resources.s3_manifest import read_manifest, verify
from resources.s3_publication import Publication
from resources.s3_streams import PART_BYTES
from tests.resources.s3_rig import open_uploads

MIB = 1024 * 1024
SIZE = 2 * PART_BYTES + 5


class Proxy:
    """Passes TCP connections on to S3 and, if told so, resets them after a number of bytes.

    Attributes:
        cut_answers_after: bytes of an answer after which its connection is reset.
        cut_requests_after: bytes of requests after which their connection is reset.
        cuts: how many connections more are to be treated so.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.cut_answers_after = self.cut_requests_after = self.cuts = 0
        self._target = target
        self._open = ExitStack()
        self._listener = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._open.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for each in (client, server):
                    self._open.enter_context(each)
                Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                limit = self.cut_answers_after if is_answer else self.cut_requests_after
                if limit and passed > limit and self.cuts > 0:
                    self.cuts -= 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    address = urlsplit(environment["AWS_ENDPOINT_URL_S3"])
    proxy = Proxy((address.hostname or "", address.port or 0))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: Proxy, bucket: str) -> ObjectStore:
    return ObjectStore(bucket=bucket, max_attempts=3, read_timeout_seconds=10)


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


def test_a_part_whose_connection_broke_is_sent_again(store: ObjectStore, proxy: Proxy) -> None:
    data = os.urandom(SIZE)
    proxy.cut_requests_after, proxy.cuts = 3 * MIB, 2
    with Publication(store, "prefix") as publication:
        publication.put("data", data)
        publication.commit(partition="d", rows=1, code_version="1")
    assert proxy.cuts == 0
    assert verify(store, "prefix") == ()
    assert store.get_bytes("prefix/data", max_bytes=SIZE) == data


def test_an_upload_whose_connection_keeps_breaking_leaves_what_was_there(
    store: ObjectStore, proxy: Proxy
) -> None:
    with Publication(store, "prefix") as publication:
        publication.put("data", b"old")
        published = publication.commit(partition="d", rows=1, code_version="1")
    proxy.cut_requests_after, proxy.cuts = 3 * MIB, 1000

    def replace() -> None:
        with Publication(store, "prefix") as publication:
            publication.put("data", bytes(SIZE))
            publication.commit(partition="d", rows=1, code_version="1")

    with pytest.raises(StoreUnavailableError, match="run again"):
        replace()
    assert read_manifest(store, "prefix") == published.manifest
    assert verify(store, "prefix") == ()
    assert open_uploads(store) == []
