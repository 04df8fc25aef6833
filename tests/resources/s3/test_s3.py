"""Single objects in a real S3: what is written, what is refused, what a failure leaves."""

import io
import os
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from botocore.exceptions import ClientError

from numbercruncher.store import Store
from resources.s3 import (
    BucketMissingError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectStore,
    ObjectTooLargeError,
    StoreAccessDeniedError,
    StoreCredentialsError,
    StoreError,
    StoreUnavailableError,
)
from resources.s3.streams import PART_BYTES
from tests.resources.s3.s3_rig import commit, open_uploads
from tests.strict_aws import Strict, check_checksums, demand_checksum, demand_kms

MIB = 1024 * 1024
MISSING_BUCKET = "no-such-bucket-anywhere"


@pytest.mark.parametrize(
    "size",
    [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 5],
    ids=["empty", "one byte", "below a part", "just a part", "a byte more", "several parts"],
)
def test_what_is_uploaded_is_what_is_read(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    stored = store.upload("a/b", io.BytesIO(data))
    assert stored.sha256 == sha256(data).hexdigest()
    assert (stored.size, stored.etag) == (size, store.head("a/b").etag)
    assert store.get_bytes("a/b", max_bytes=size) == data
    with store.open("a/b") as stream:
        assert stream.read() == data
    assert store.fingerprint("a/b") == stored


@pytest.mark.parametrize("size", [1, PART_BYTES + 1], ids=["one request", "parts"])
@pytest.mark.parametrize(
    ("given", "kept"), [(None, "binary/octet-stream"), ("text/csv", "text/csv")]
)
def test_bytes_are_sent_with_a_type_that_stays(
    environment: Mapping[str, str], bucket: str, size: int, given: str | None, kept: str
) -> None:
    sent: list[str] = []
    store = ObjectStore(bucket=bucket)
    for request in ("PutObject", "UploadPart"):
        store.client.meta.events.register(
            f"before-send.s3.{request}",
            lambda request, **_: sent.append(bytes(request.headers["Content-Type"]).decode()),
        )
    writer = store.writer("a/b", content_type=given)
    writer.write(bytes(size))
    writer.complete()
    assert store.client.head_object(Bucket=bucket, Key="a/b")["ContentType"] == kept
    assert sent
    assert set(sent) <= {kept, "binary/octet-stream"}


@pytest.mark.parametrize("size", [10, 2 * PART_BYTES + 1], ids=["one request", "in parts"])
def test_nothing_is_visible_before_complete(store: ObjectStore, size: int) -> None:
    store.put_bytes("key", b"old")
    writer = store.writer("key")
    writer.write(bytes(size))
    assert store.get_bytes("key", max_bytes=size) == b"old"
    expected = writer.expected_etag()
    assert writer.complete() == expected == store.head("key").etag
    assert store.head("key").size == size


class BrokenSource(io.RawIOBase):
    """Yields some data and then fails."""

    def __init__(self, size: int, failure: BaseException) -> None:
        self.left = size
        self.failure = failure

    def read(self, size: int = -1, /) -> bytes:
        if self.left <= 0:
            raise self.failure
        self.left -= size
        return bytes(size)


@pytest.mark.parametrize("failure", [OSError("disk"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("size", [MIB, 3 * PART_BYTES], ids=["first part", "later part"])
def test_an_upload_that_fails_leaves_nothing(
    store: ObjectStore, size: int, failure: BaseException
) -> None:
    with pytest.raises(type(failure)):
        store.upload("key", BrokenSource(size, failure))
    assert not store.exists("key")
    assert open_uploads(store) == []


class Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        taken = min(size, self.left)
        self.left -= taken
        return bytes(taken)


def test_memory_does_not_grow_with_the_upload(store: ObjectStore) -> None:
    store.exists("warm-up")
    tracemalloc.start()
    store.upload("key", Zeros(96 * MIB))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert store.head("key").size == 96 * MIB
    assert peak < 6 * PART_BYTES


def test_an_object_larger_than_its_reader_allows_is_not_read(store: ObjectStore) -> None:
    store.put_bytes("key", bytes(100))
    with pytest.raises(ObjectTooLargeError, match="has 100 bytes and at most 99"):
        store.get_bytes("key", max_bytes=99)


def test_a_reader_can_ask_for_one_version(store: ObjectStore) -> None:
    etag = store.put_bytes("key", b"one").etag
    with store.open("key", etag=etag) as stream:
        assert stream.read() == b"one"
    store.put_bytes("key", b"two")
    with pytest.raises(ObjectChangedError) as caught:
        store.open("key", etag=etag)
    assert caught.value.transient


def test_all_threads_get_the_same_client(environment: Mapping[str, str], bucket: str) -> None:
    store = ObjectStore(bucket=bucket)
    with ThreadPoolExecutor(8) as pool:
        clients = set(pool.map(lambda _: store.client, range(8)))
    assert len(clients) == 1


def test_a_missing_object_is_told_from_a_missing_bucket(store: ObjectStore) -> None:
    assert not store.exists("nothing")
    with pytest.raises(ObjectMissingError, match="there is no such object"):
        store.head("nothing")
    with pytest.raises(BucketMissingError, match="does not exist"):
        store.sibling(MISSING_BUCKET).head("nothing")


OPERATIONS: dict[str, Callable[[ObjectStore], object]] = {
    "head": lambda store: store.head("key"),
    "exists": lambda store: store.exists("key"),
    "get_bytes": lambda store: store.get_bytes("key", max_bytes=1),
    "open": lambda store: store.open("key"),
    "put_bytes": lambda store: store.put_bytes("key", b"x"),
    "multipart": lambda store: store.upload("key", Zeros(2 * PART_BYTES)),
    "list": lambda store: list(store.list()),
    "delete_prefix": lambda store: store.delete_prefix("key"),
    "abort_uploads": lambda store: store.abort_uploads("key"),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_operation_names_a_missing_bucket(
    environment: Mapping[str, str], operation: Callable[[ObjectStore], object]
) -> None:
    with pytest.raises(BucketMissingError, match=f"bucket {MISSING_BUCKET} does not exist") as e:
        operation(ObjectStore(bucket=MISSING_BUCKET))
    assert not e.value.transient


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_called_so_and_not_shown(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "WRONGWRONGWRONG")
    store = ObjectStore(bucket=environment["PLATFORM_BUCKET"], max_attempts=2)
    for operation in OPERATIONS.values():
        with pytest.raises(StoreCredentialsError, match="does not accept the cred") as caught:
            operation(store)
        assert "WRONGWRONGWRONG" not in str(caught.value)
        assert environment["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)
        assert not caught.value.transient


def test_absent_credentials_are_called_so(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(StoreCredentialsError, match="Set AWS_ACCESS_KEY_ID"):
        ObjectStore(bucket=environment["PLATFORM_BUCKET"]).head("key")


def test_a_store_that_is_down_is_a_transient_fault(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    store = ObjectStore(bucket=environment["PLATFORM_BUCKET"], max_attempts=1)
    for operation in OPERATIONS.values():
        with pytest.raises(StoreUnavailableError, match="AWS_ENDPOINT_URL_S3") as caught:
            operation(store)
        assert caught.value.transient


@pytest.mark.parametrize("size", [1000, 20 * MIB], ids=["one request", "in parts"])
def test_a_copy_has_the_bytes_of_its_source(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    source = store.put_bytes("source", data)
    copied = store.copy_from(store, "source", "copy", etag=source.etag)
    assert copied.size == size
    assert store.get_bytes("copy", max_bytes=size) == data
    assert open_uploads(store) == []


@pytest.mark.parametrize("size", [1000, 20 * MIB], ids=["one request", "in parts"])
def test_a_copy_of_a_source_that_was_replaced_is_not_made(store: ObjectStore, size: int) -> None:
    """Also where it is replaced after it was looked at, which only the request's condition sees."""
    old = store.put_bytes("source", bytes(size)).etag
    store.put_bytes("source", b"x" * size)
    with pytest.raises(ObjectChangedError, match="was replaced"):
        store.copy_from(store, "source", "copy", etag=old)

    def replace(**_: object) -> None:
        store.client.meta.events.unregister(event, replace)
        store.put_bytes("source", b"y" * size)

    event = f"before-call.s3.{'CopyObject' if size < PART_BYTES else 'UploadPartCopy'}"
    store.client.meta.events.register(event, replace)
    with pytest.raises(ObjectChangedError):
        store.copy_from(store, "source", "copy")
    assert not store.exists("copy")
    assert open_uploads(store) == []


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1], ids=["one request", "in parts"])
def test_a_copy_has_no_tags_so_that_no_right_to_tag_is_needed(
    store: ObjectStore, size: int
) -> None:
    """By default S3 copies tags, and refuses the copy to those who may not read and write them."""
    store.put_bytes("source", bytes(size))
    store.client.put_object_tagging(
        Bucket=store.bucket,
        Key="source",
        Tagging={"TagSet": [{"Key": "owner", "Value": "somebody"}]},
    )
    sent: list[str] = []
    store.client.meta.events.register("before-call.s3", lambda model, **_: sent.append(model.name))
    store.copy_from(store, "source", "copy")
    assert not [name for name in sent if "Tagging" in name]
    assert store.client.get_object_tagging(Bucket=store.bucket, Key="copy")["TagSet"] == []


def test_a_copy_from_nowhere_says_what_is_missing(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError, match=f"s3://{store.bucket}/nothing"):
        store.copy_from(store, "nothing", "copy")
    with pytest.raises(BucketMissingError, match=MISSING_BUCKET):
        store.copy_from(store.sibling(MISSING_BUCKET), "source", "copy")


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.put_bytes("key", b"x"),
        lambda store: store.upload("key", Zeros(2 * PART_BYTES)),
        lambda store: store.copy_from(store, "small", "key"),
        lambda store: store.copy_from(store, "large", "key"),
    ],
    ids=["put", "multipart", "copy", "multipart copy"],
)
def test_a_bucket_that_wants_a_kms_key_takes_all_that_is_written_with_it(
    store: ObjectStore, strict: Strict, write: Callable[[ObjectStore], object]
) -> None:
    store.put_bytes("small", b"x")
    store.upload("large", Zeros(2 * PART_BYTES))
    strict(demand_kms("alias/mine"))
    with pytest.raises(StoreAccessDeniedError):
        write(ObjectStore(bucket=store.bucket))
    assert not store.exists("key")
    write(ObjectStore(bucket=store.bucket, kms_key_id="alias/mine"))
    assert store.exists("key")


def test_a_bucket_that_wants_checksums_takes_all_that_is_written(
    bucket: str, strict: Strict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one with Object Lock does, also where boto3 is told to send none by itself."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    aws = strict(demand_checksum, check_checksums())
    store = ObjectStore(bucket=bucket, max_attempts=1)
    with pytest.raises(ClientError, match="HTTP header is required"):
        store.client.put_object(Bucket=bucket, Key="bare", Body=b"x")
    aws.refused.clear()
    store.put_bytes("small", b"x")
    store.upload("large", Zeros(2 * PART_BYTES + 1))
    for name in ("small", "large"):
        store.copy_from(store, name, f"copy of {name}")
    commit(store, {"file": b"x"})
    store.delete_prefix("copy")
    crunched = Store(bucket)
    crunched.put("output", b"x", "text/plain")
    assert crunched.create("new output", b"x", "text/plain")
    assert not aws.refused


def test_a_prefix_is_listed_and_deleted_beyond_a_page(store: ObjectStore) -> None:
    keys = [f"many/{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put_bytes(key, b"x"), [*keys, "other"]))
    assert [info.key for info in store.list("many/")] == keys
    assert store.delete_prefix("many/") == len(keys)
    assert [info.key for info in store.list()] == ["other"]


def test_an_empty_prefix_does_not_empty_the_bucket(store: ObjectStore) -> None:
    store.put_bytes("key", b"x")
    with pytest.raises(ValueError, match="whole bucket"):
        store.delete_prefix("")
    assert store.exists("key")


def test_uploads_left_behind_are_ended_under_their_prefix_only(store: ObjectStore) -> None:
    for key in ("mine/a", "mine/b", "yours/a"):
        store.writer(key).write(bytes(2 * PART_BYTES))
    assert store.abort_uploads("mine/") == 2
    assert open_uploads(store) == ["yours/a"]


def test_a_writer_whose_upload_somebody_ended_says_so(store: ObjectStore) -> None:
    writer = store.writer("key")
    writer.write(bytes(2 * PART_BYTES))
    store.abort_uploads("key")
    with pytest.raises(ObjectChangedError):
        writer.complete()
    writer.abort()
    assert not store.exists("key")


def test_an_invalid_bucket_name_is_one_sentence(environment: Mapping[str, str]) -> None:
    with pytest.raises(StoreError, match="Invalid bucket name"):
        ObjectStore(bucket="not a bucket!").head("key")
