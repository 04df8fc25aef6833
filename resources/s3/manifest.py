"""Functions that `Folder` and `Published` replace, until their last callers are gone."""

import io

from formats.manifest import Manifest, ManifestFile
from resources.s3.published import Folder, Published
from resources.s3.store import ObjectStore


def read_manifest(store: ObjectStore, prefix: str) -> Manifest | None:
    """As `Folder.published`."""
    published = Folder(store, prefix).published()
    return published and published.manifest


def open_file(store: ObjectStore, prefix: str, file: ManifestFile) -> io.BufferedReader:
    """As `Published.open`."""
    return _of(store, prefix, file).open(file.name)


def read_file(store: ObjectStore, prefix: str, file: ManifestFile, *, max_bytes: int) -> bytes:
    """As `Published.read`."""
    return _of(store, prefix, file).read(file.name, max_bytes=max_bytes)


def verify(store: ObjectStore, prefix: str) -> tuple[str, ...]:
    """As `Published.verify`."""
    published = Folder(store, prefix).published()
    return published.verify() if published else (f"Nothing is published under {prefix}.",)


def _of(store: ObjectStore, prefix: str, file: ManifestFile) -> Published:
    return Published(Folder(store, prefix), Manifest("", 0, (file,), ""))
