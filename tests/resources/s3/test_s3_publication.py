"""What readers of a published prefix get, whatever its writers do."""

import io
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from resources.s3 import (
    Folder,
    ManifestFile,
    ObjectChangedError,
    ObjectMissingError,
    ObjectStore,
    Publication,
    Published,
)
from resources.s3.streams import PART_BYTES
from tests.resources.s3.s3_rig import PREFIX, commit, open_uploads

SMALL, LARGE = 10, 2 * PART_BYTES + 3


def contents(store: ObjectStore) -> dict[str, str]:
    """Every object of the bucket with its ETag."""
    return {info.key.removeprefix(f"{PREFIX}/"): info.etag for info in store.list()}


def published_bytes(store: ObjectStore, name: str) -> bytes:
    published = Folder(store, PREFIX).published()
    assert published is not None
    return published.read(name, max_bytes=LARGE)


def whole(store: ObjectStore) -> bool:
    """Whether something is published, with all its files as its manifest names them."""
    published = Folder(store, PREFIX).published()
    return published is not None and published.verify() == ()


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one request", "in parts"])
def test_files_appear_with_the_commit_only(store: ObjectStore, size: int) -> None:
    with Publication(Folder(store, PREFIX)) as publication:
        publication.put("data", bytes(size))
        assert contents(store) == {}
        published = publication.commit(partition="d", rows=1, code_version="1")
    assert published.changed
    assert published_bytes(store, "data") == bytes(size)
    assert whole(store)
    assert open_uploads(store) == []


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one request", "in parts"])
@pytest.mark.parametrize("failure", [ValueError(), KeyboardInterrupt()], ids=repr)
def test_a_block_left_without_commit_leaves_what_was_there(
    store: ObjectStore, size: int, failure: BaseException
) -> None:
    commit(store, {"data": b"old"})
    before = contents(store)

    def fail_in_block() -> None:
        with Publication(Folder(store, PREFIX)) as publication:
            publication.put("data", bytes(size))
            publication.put("more", bytes(size))
            raise failure

    with pytest.raises(type(failure)):
        fail_in_block()
    assert contents(store) == before
    assert open_uploads(store) == []


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one request", "in parts"])
def test_a_commit_of_the_same_changes_nothing(store: ObjectStore, size: int) -> None:
    commit(store, {"data": bytes(size)})

    def times() -> dict[str, object]:
        answer = store.client.list_objects_v2(Bucket=store.bucket)
        return {
            item.get("Key", ""): (item.get("ETag"), item.get("LastModified"))
            for item in answer.get("Contents", [])
        }

    before = times()
    writes: list[str] = []
    for name in ("PutObject", "CompleteMultipartUpload", "DeleteObject", "CopyObject"):
        store.client.meta.events.register(
            f"before-call.s3.{name}", lambda model, **_: writes.append(model.name)
        )
    assert not commit(store, {"data": bytes(size)}).changed
    assert times() == before
    assert writes == []
    assert open_uploads(store) == []


def test_a_commit_replaces_only_the_files_that_differ(store: ObjectStore) -> None:
    commit(store, {"same": b"1", "other": b"2"})
    written: list[str] = []
    store.client.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: written.append(params["Key"])
    )
    assert commit(store, {"same": b"1", "other": b"3"}).changed
    assert written == [f"{PREFIX}/other", f"{PREFIX}/manifest.json"]
    assert published_bytes(store, "other") == b"3"


def test_a_damaged_file_is_repaired_by_a_commit_of_the_same(store: ObjectStore) -> None:
    commit(store, {"data": b"good"})
    store.put_bytes(f"{PREFIX}/data", b"evil")
    assert commit(store, {"data": b"good"}).changed
    assert whole(store)


def test_files_that_are_no_longer_part_of_it_are_removed(store: ObjectStore) -> None:
    commit(store, {"listings.csv": b"1"})
    store.put_bytes(f"{PREFIX}/foreign", b"not ours")
    commit(store, {"listings.parquet": b"2"})
    assert set(contents(store)) == {"listings.parquet", "manifest.json", "foreign"}


def test_uploads_that_a_killed_run_left_are_ended(store: ObjectStore) -> None:
    store.writer(f"{PREFIX}/data").write(bytes(LARGE))
    store.writer("elsewhere/data").write(bytes(LARGE))
    commit(store, {"data": b"1"})
    assert open_uploads(store) == ["elsewhere/data"]


@pytest.mark.parametrize("request_name", ["PutObject", "CompleteMultipartUpload"])
def test_killed_between_files_and_manifest_it_is_unpublished_and_repaired_by_a_rerun(
    store: ObjectStore, request_name: str
) -> None:
    commit(store, {"data": b"old"})

    def die(**_: object) -> None:
        raise KeyboardInterrupt

    doomed = ObjectStore(bucket=store.bucket)
    doomed.client.meta.events.register(f"before-call.s3.{request_name}", die)
    with pytest.raises(KeyboardInterrupt):
        commit(doomed, {"data": bytes(LARGE)})
    assert Folder(store, PREFIX).published() is None
    assert commit(store, {"data": bytes(LARGE)}).changed
    assert whole(store)
    assert open_uploads(store) == []


def test_readers_never_get_files_of_two_commits(store: ObjectStore) -> None:
    """Two writers replace both files again and again; a reader compares what it gets."""
    over = Event()

    def write(letter: bytes) -> int:
        conflicts = 0
        for number in range(12):
            token = letter * (number + 1)
            try:
                commit(store, {"left": token, "right": token})
            except ObjectChangedError:
                conflicts += 1
        return conflicts

    def read() -> tuple[int, int]:
        pairs = answer = 0
        while not over.is_set():
            try:
                left, right = (published_pair(store)) or (b"", b"")
                assert left == right
                pairs += bool(left)
            except (ObjectChangedError, ObjectMissingError):
                answer += 1
        return pairs, answer

    with ThreadPoolExecutor(3) as threads:
        reader = threads.submit(read)
        writers = [threads.submit(write, letter) for letter in (b"a", b"b")]
        conflicts = sum(writer.result() for writer in writers)
        over.set()
        pairs, _ = reader.result()
    assert pairs > 0
    assert conflicts < 24
    assert Folder(store, PREFIX).published() is None or whole(store)
    commit(store, {"left": b"end", "right": b"end"})
    assert published_pair(store) == (b"end", b"end")


def published_pair(store: ObjectStore) -> tuple[bytes, bytes] | None:
    published = Folder(store, PREFIX).published()
    if published is None:
        return None
    return published.read("left", max_bytes=1000), published.read("right", max_bytes=1000)


def test_a_commit_overtaken_by_another_withdraws(store: ObjectStore) -> None:
    """Another run replaces the data after ours appeared: our manifest must not vouch for it."""

    def overtake(params: dict[str, Any], **_: object) -> None:
        if params["Key"].endswith("manifest.json"):
            store.put_bytes(f"{PREFIX}/data", b"theirs")

    ours = ObjectStore(bucket=store.bucket)
    ours.client.meta.events.register("provide-client-params.s3.PutObject", overtake)
    with pytest.raises(ObjectChangedError, match="published by another run"):
        commit(ours, {"data": b"ours"})
    assert Folder(store, PREFIX).published() is None


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one request", "in parts"])
def test_a_copied_file_is_published_and_left_alone_the_next_time(
    store: ObjectStore, size: int
) -> None:
    original = store.put_bytes("elsewhere/original", b"x" * size)

    def copy() -> Published:
        with Publication(Folder(store, PREFIX)) as publication:
            publication.copy("mnist.pkl.gz", store, "elsewhere/original", etag=original.etag)
            return publication.commit(partition="d", rows=1, code_version="1")

    published = copy()
    assert published.changed
    assert published.manifest.file("mnist.pkl.gz").sha256 == original.sha256
    before = contents(store)
    assert published_bytes(store, "mnist.pkl.gz") == b"x" * size
    assert not copy().changed
    assert contents(store) == before


def test_a_copy_whose_source_changes_before_the_commit_is_not_published(store: ObjectStore) -> None:
    commit(store, {"data": b"old"})
    original = store.put_bytes("original", b"one")
    with Publication(Folder(store, PREFIX)) as publication:
        publication.copy("data", store, "original", etag=original.etag)
        store.put_bytes("original", b"two")
        with pytest.raises(ObjectChangedError, match="was replaced"):
            publication.commit(partition="d", rows=1, code_version="1")
    assert published_bytes(store, "data") == b"old"


def test_files_of_another_system_are_adopted(store: ObjectStore) -> None:
    stored = store.put_bytes(f"{PREFIX}/job-1/output/model.tar.gz", b"model")
    with Publication(Folder(store, PREFIX)) as publication:
        publication.adopt("job-1/output/model.tar.gz")
        manifest = publication.commit(partition="d", rows=0, code_version="1").manifest
    assert manifest.files == (
        ManifestFile(name="job-1/output/model.tar.gz", bytes=5, sha256=stored.sha256),
    )
    assert store.head(stored.key).etag == stored.etag
    assert whole(store)


@pytest.mark.parametrize("name", ["data", "manifest.json"])
def test_a_name_is_taken_once(store: ObjectStore, name: str) -> None:
    with Publication(Folder(store, PREFIX)) as publication:
        publication.put("data", b"x")
        with pytest.raises(ValueError, match="cannot have two files"):
            publication.put(name, b"y")


def test_small_writes_through_a_buffer_arrive(store: ObjectStore) -> None:
    with Publication(Folder(store, PREFIX)) as publication:
        with io.BufferedWriter(publication.open("data")) as sink:
            for number in range(1000):
                sink.write(b"%d\n" % number)
        published = publication.commit(partition="d", rows=1000, code_version="1")
    assert published_bytes(store, "data") == b"".join(b"%d\n" % n for n in range(1000))
    assert published.manifest.size == 3890
