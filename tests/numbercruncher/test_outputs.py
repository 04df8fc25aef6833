"""Two runs that publish one output at the same time."""

import pytest

from formats import manifest as manifests
from formats.manifest import Manifest, describe_file
from numbercruncher.errors import ConcurrentRunError
from numbercruncher.outputs import Output, publish
from numbercruncher.store import Store

PREFIX = "airbnb/price_changes/date=2026-01-05"
KEY = f"{PREFIX}/{manifests.NAME}"


def output(content: bytes) -> Output:
    names = ("price_changes.parquet", "state.parquet")
    files = tuple(describe_file(name, content) for name in names)
    manifest = Manifest("2026-01-05", 1, files, code_version="1")
    return Output(dict.fromkeys(names, content), manifest)


@pytest.fixture
def store(environment: object, bucket: str) -> Store:
    return Store(bucket)


def test_a_manifest_that_appears_meanwhile_is_replaced_by_that_of_the_last_files(
    store: Store,
) -> None:
    publish(store, PREFIX, output(b"theirs"), replaces=False)
    publish(store, PREFIX, output(b"ours"), replaces=False)
    assert manifests.decode(store.get(KEY)) == output(b"ours").manifest
    assert store.get(f"{PREFIX}/state.parquet") == b"ours"


def test_what_another_run_has_published_whole_meanwhile_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(key: str, data: bytes, content_type: str) -> bool:
        """The other run writes all its files and its manifest just before ours."""
        monkeypatch.undo()
        publish(store, PREFIX, output(b"theirs"), replaces=False)
        return store.create(key, data, content_type)

    monkeypatch.setattr(store, "create", lose)
    with pytest.raises(ConcurrentRunError, match="another run"):
        publish(store, PREFIX, output(b"ours"), replaces=False)
    assert manifests.decode(store.get(KEY)) == output(b"theirs").manifest
    assert store.get(f"{PREFIX}/state.parquet") == b"theirs"


def test_no_manifest_stays_beside_files_of_two_runs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(key: str, data: bytes, content_type: str) -> bool:
        """The other run writes one file and its manifest just before ours."""
        monkeypatch.undo()
        store.put(f"{PREFIX}/state.parquet", b"theirs", content_type)
        assert store.create(key, output(b"theirs").manifest.encode(), content_type)
        return store.create(key, data, content_type)

    monkeypatch.setattr(store, "create", lose)
    with pytest.raises(ConcurrentRunError, match="another run") as caught:
        publish(store, PREFIX, output(b"ours"), replaces=False)
    assert caught.value.transient
    assert KEY not in [entry.key for entry in store.entries(PREFIX)]
    publish(store, PREFIX, output(b"ours"), replaces=False)
    assert manifests.decode(store.get(KEY)) == output(b"ours").manifest
