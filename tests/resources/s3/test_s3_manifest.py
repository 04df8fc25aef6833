"""Manifests in a real S3: their form, reading by them, and finding damage by them."""

from hashlib import sha256

import pytest

from formats.columns import Column
from formats.manifest import ManifestError
from resources.s3 import (
    Folder,
    Manifest,
    ManifestFile,
    ManifestInvalidError,
    NotPublishedError,
    ObjectChangedError,
    ObjectStore,
    ObjectTooLargeError,
    Publication,
)
from resources.s3.streams import PART_BYTES
from tests.resources.s3.s3_rig import PREFIX, commit

LARGE = 2 * PART_BYTES + 3


def test_a_manifest_has_one_canonical_form(store: ObjectStore) -> None:
    table = b"id\n1\n"
    with Publication(Folder(store, PREFIX)) as publication:
        publication.put("b.csv", table)
        publication.put("a.csv", b"")
        published = publication.commit(
            partition="2026-11-22",
            rows=1,
            code_version="7",
            columns=[Column(name="id", type="int64")],
            inputs={"z": "1", "é": "2"},
            extra={"largest": 9007199254740993},
        )
    expected = f"""{{
  "code_version": "7",
  "columns": [
    {{
      "name": "id",
      "type": "int64"
    }}
  ],
  "extra": {{
    "largest": 9007199254740993
  }},
  "files": [
    {{
      "bytes": 0,
      "name": "a.csv",
      "sha256": "{sha256(b"").hexdigest()}"
    }},
    {{
      "bytes": 5,
      "name": "b.csv",
      "sha256": "{sha256(table).hexdigest()}"
    }}
  ],
  "inputs": {{
    "z": "1",
    "é": "2"
  }},
  "partition": "2026-11-22",
  "rows": 1,
  "version": 1
}}
"""
    stored = store.get_bytes(f"{PREFIX}/manifest.json", max_bytes=10_000)
    assert stored.decode() == expected
    read = Folder(store, PREFIX).published()
    assert read is not None
    assert published.manifest == read.manifest
    assert published.manifest.sha256 == sha256(stored).hexdigest()
    assert published.folder.uri == f"s3://{store.bucket}/{PREFIX}"


def test_nothing_is_published_before_the_first_commit(store: ObjectStore) -> None:
    folder = Folder(store, PREFIX)
    assert folder.published() is None
    assert folder.published_if_current({}, "1") is None
    with pytest.raises(NotPublishedError, match=f"under s3://{store.bucket}/{PREFIX}: material"):
        folder.require("airbnb/snapshot")


def test_a_reader_of_a_replaced_file_is_told(store: ObjectStore) -> None:
    """Same size and, for the stream, replaced while it is open would be: only the hash tells."""
    published = commit(store, {"data": b"a" * 100})
    commit(store, {"data": b"b" * 100})
    with pytest.raises(ObjectChangedError, match="not the file that its manifest names"):
        published.read("data", max_bytes=100)
    with published.open("data") as stream, pytest.raises(ObjectChangedError):
        stream.read(100)
    commit(store, {"data": b"b" * 101})
    with pytest.raises(ObjectChangedError):
        published.open("data")


def test_a_published_file_is_streamed(store: ObjectStore) -> None:
    data = b"0123456789" * (LARGE // 10)
    with commit(store, {"data": data}).open("data") as stream:
        assert stream.read(5) == b"01234"
        assert stream.read() == data[5:]


def test_a_published_file_has_a_limit_too(store: ObjectStore) -> None:
    published = commit(store, {"data": bytes(10)})
    with pytest.raises(ObjectTooLargeError):
        published.read("data", max_bytes=9)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (b"ab", "has 2 bytes, its manifest says 3"),
        (b"abd", "has the sha256"),
        (None, "is missing"),
    ],
    ids=["truncated", "other bytes", "gone"],
)
def test_damage_is_found(store: ObjectStore, damage: bytes | None, problem: str) -> None:
    published = commit(store, {"data": b"abc", "fine": b"x"})
    store.delete(f"{PREFIX}/data")
    if damage is not None:
        store.put_bytes(f"{PREFIX}/data", damage)
    (result,) = published.verify()
    assert f"{PREFIX}/data" in result
    assert problem in result


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"version": 2}', b'{"version": 1, "partition": "d"}'],
    ids=["empty", "cut off", "a list", "another version", "fields lacking"],
)
def test_a_manifest_of_another_form_is_refused_and_can_be_replaced(
    store: ObjectStore, data: bytes
) -> None:
    store.put_bytes(f"{PREFIX}/manifest.json", data)
    with pytest.raises(ManifestInvalidError, match=r"manifest\.json is not a manifest"):
        Folder(store, PREFIX).published()
    assert commit(store, {"data": b"x"}).verify() == ()


def test_a_manifest_names_only_the_files_it_has(store: ObjectStore) -> None:
    manifest = commit(store, {"listings.csv": b"x"}).manifest
    with pytest.raises(ManifestError, match=r"no file listings\.parquet"):
        manifest.file("listings.parquet")


def test_content_has_one_hash_whatever_made_it(store: ObjectStore) -> None:
    first = commit(store, {"data": b"x"}, code_version="1").manifest
    second = commit(store, {"data": b"x"}, code_version="2").manifest
    third = commit(store, {"data": b"y"}, code_version="2").manifest
    assert first.content_sha256 == second.content_sha256 != third.content_sha256
    assert first.sha256 != second.sha256


def test_a_manifest_alone_publishes_what_lies_there(store: ObjectStore) -> None:
    stored = store.put_bytes(f"{PREFIX}/data", b"x")
    file = ManifestFile(name="data", bytes=1, sha256=stored.sha256)
    manifest = Manifest(partition="d", rows=1, files=(file,), code_version="1")
    store.put_bytes(f"{PREFIX}/manifest.json", manifest.encode())
    published = Folder(store, PREFIX).published()
    assert published is not None
    assert published.manifest == manifest
    assert published.verify() == ()
