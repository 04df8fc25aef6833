"""The number cruncher's store against the embedded S3, and against a network that breaks."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from threading import Thread

import pytest

from numbercruncher.errors import MissingObjectError, StoreError, StoreUnavailableError
from numbercruncher.store import Store
from tests.faulty_network import Proxy, proxied
from tests.local_servers import QuietHandler, serving
from tests.strict_aws import Strict, check_checksums, demand_checksum, demand_kms, redirect

MIB = 1 << 20
KEY = "airbnb/listings/date=2026-01-01/listings.csv"


@pytest.fixture
def proxy(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxied(environment, monkeypatch) as proxy:
        yield proxy


@pytest.fixture
def store(environment: Mapping[str, str], bucket: str) -> Store:
    return Store(bucket)


def test_a_listing_is_in_the_order_of_keys_and_begins_after_one(store: Store) -> None:
    for name in ("b/2", "a/1", "b/1", "bb/1"):
        store.put(f"shelf/{name}", name.encode(), "text/plain")
    assert [entry.key for entry in store.entries("shelf")] == [
        "shelf/a/1",
        "shelf/b/1",
        "shelf/b/2",
        "shelf/bb/1",
    ]
    assert [entry.key for entry in store.entries("shelf/b")] == ["shelf/b/1", "shelf/b/2"]
    later = list(store.entries("shelf", after="shelf/b/1"))
    assert [entry.key for entry in later] == ["shelf/b/2", "shelf/bb/1"]
    assert (later[0].bytes, later[0].etag) == (3, hashlib.md5(b"b/2").hexdigest())


def test_what_is_not_there_is_missing_and_can_be_removed(store: Store) -> None:
    with pytest.raises(MissingObjectError, match=r"no object s3://[^/]+/nothing/here"):
        store.get("nothing/here")
    store.put("some/thing", b"x", "text/plain")
    assert store.get_many(["nothing/here", "some/thing"]) == {"some/thing": b"x"}
    store.delete("nothing/here")


def test_a_stream_gives_every_byte_in_pieces_of_any_size(store: Store) -> None:
    data = os.urandom(3 * MIB + 7)
    store.put(KEY, data, "text/csv")
    content = store.open(KEY)
    pieces = [content.read(5), content.read(MIB), content.read(2 * MIB)]
    assert all(pieces)
    assert b"".join(pieces) + content.read() == data
    assert content.read(1) == b""
    assert content.finish() == hashlib.sha256(data).hexdigest()


def test_the_digest_is_that_of_the_content_whichever_threads_read_it(store: Store) -> None:
    """A parser that has given up may be reading ahead while the rest is read for the digest."""
    data = os.urandom(8 * MIB)
    store.put(KEY, data, "text/csv")
    content = store.open(KEY)
    sizes: list[int] = []

    def read() -> None:
        while piece := content.read(1000):
            sizes.append(len(piece))

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sizes) == len(data)
    assert content.finish() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("cut_after", [1000, 2 * MIB])
def test_an_answer_that_breaks_off_is_read_to_its_end(
    proxy: Proxy, bucket: str, cut_after: int
) -> None:
    data = os.urandom(4 * MIB)
    store = Store(bucket)
    store.put(KEY, data, "text/csv")
    proxy.cut_answers_after, proxy.cuts = cut_after, 1
    content = store.open(KEY)
    assert content.read() == data
    assert not proxy.cuts
    proxy.cuts = 1
    assert store.get(KEY) == data
    assert not proxy.cuts


def test_a_request_that_breaks_off_is_sent_again(proxy: Proxy, bucket: str) -> None:
    data = os.urandom(MIB)
    proxy.cut_requests_after, proxy.cuts = MIB // 2, 1
    store = Store(bucket)
    store.put(KEY, data, "text/csv")
    assert not proxy.cuts
    assert store.get(KEY) == data


def test_a_store_that_does_not_answer_is_a_sentence_and_may_be_back_later(
    proxy: Proxy, bucket: str
) -> None:
    store = Store(bucket)
    proxy.close()
    with pytest.raises(StoreUnavailableError, match="could not be reached") as caught:
        store.put(KEY, b"x", "text/csv")
    assert caught.value.transient
    assert f"s3://{bucket}/{KEY}" in str(caught.value)
    assert "Debug source" not in str(caught.value)


@pytest.fixture
def refusing(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int, str], Store]]:
    """A store that answers everything with one status and one of S3's codes."""
    servers = ExitStack()

    def make(status: int, code: str) -> Store:
        body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()

        class Handler(QuietHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.reply(body, status)

            do_GET = do_PUT = do_DELETE = do_POST = answer  # noqa: N815 - http.server's names

        port = servers.enter_context(serving(Handler))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        return Store("some-bucket")

    with servers:
        yield make


@pytest.mark.parametrize(
    ("status", "code", "sentence", "transient"),
    [
        (403, "AccessDenied", "is denied; give the credentials s3:ListBucket", False),
        (403, "ExpiredToken", r"not accepted for .* \(ExpiredToken\); renew", False),
        (403, "RequestTimeTooSkewed", r"refuses the request .* \(RequestTimeTooSkewed\)", False),
        (301, "PermanentRedirect", "set AWS_DEFAULT_REGION", False),
        (400, "AuthorizationHeaderMalformed", "set AWS_DEFAULT_REGION", False),
        (412, "PreconditionFailed", "was replaced while it was read", True),
        (503, "SlowDown", r"The store failed on .* \(SlowDown\)", True),
    ],
)
def test_a_refusal_says_what_to_do_and_whether_it_may_pass(
    refusing: Callable[[int, str], Store],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    sentence: str,
    transient: bool,
) -> None:
    monkeypatch.setattr("numbercruncher.store.RETRIES", {"max_retries": 0})
    store = refusing(status, code)
    requests: list[Callable[[], object]] = [
        lambda: store.get(KEY),
        lambda: store.put(KEY, b"x", "text/csv"),
        lambda: store.delete(KEY),
        lambda: list(store.entries("airbnb")),
    ]
    for request in requests:
        with pytest.raises(StoreError, match=sentence) as caught:
            request()
        assert caught.value.transient is transient


def test_the_kms_key_and_a_checksum_go_with_whatever_is_written(
    bucket: str, strict: Strict
) -> None:
    strict(demand_kms("alias/ours"), demand_checksum, check_checksums())
    with pytest.raises(StoreError, match="denied"):
        Store(bucket).put(KEY, b"x", "text/csv")
    store = Store(bucket, "alias/ours")
    assert store.create(KEY, b"x", "text/csv")
    store.put(KEY, b"y", "text/csv")
    assert store.get(KEY) == b"y"


@pytest.mark.parametrize("region", ["eu-west-1", "ap-south-1"])
def test_a_bucket_of_another_region_is_one_sentence(
    bucket: str, strict: Strict, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    """S3 has two answers: one to whoever asks where it lives itself, one to all others."""
    strict(redirect("eu-west-1", {bucket: "us-east-1"}))
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    with pytest.raises(StoreError, match="set AWS_DEFAULT_REGION to that of the bucket") as caught:
        Store(bucket).put(KEY, b"x", "text/csv")
    assert not caught.value.transient
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    Store(bucket).put(KEY, b"x", "text/csv")
