"""Folders of a bucket whose files are published as one, and how readers go by their manifest.

In a folder lie some files and `manifest.json`, which is written last and names each file with its
size and sha256. Without it, or for a file it does not name, nothing is published, whatever lies
there. How files come to be published is in `publication.py`; how a manifest is written as bytes,
in `formats.manifest`.
"""

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from formats import manifest as manifests
from formats.manifest import Manifest, ManifestError, ManifestFile
from resources.s3.errors import (
    ManifestInvalidError,
    NotPublishedError,
    ObjectChangedError,
    ObjectMissingError,
)
from resources.s3.store import ObjectStore
from resources.s3.streams import MIB

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DATE = r"\d{4}-\d\d-\d\d"
_LARGEST_MANIFEST = 16 * MIB
_FILE_PATH = r"(?:/[\w.-]+)+"


@dataclass(frozen=True)
class Folder:
    """A place in a bucket where files are published as one. Making it asks nothing of the store.

    Attributes:
        store: The bucket.
        prefix: What its keys begin with, without the slash at the end.
    """

    store: ObjectStore
    prefix: str

    @property
    def uri(self) -> str:
        """Its s3:// address, without a slash at the end."""
        return self.store.uri(self.prefix)

    def key(self, name: str) -> str:
        """The key of a file in it."""
        return f"{self.prefix}/{name}"

    def file_uri(self, name: str) -> str:
        """The s3:// address of a file in it."""
        return self.store.uri(self.key(name))

    def published(self) -> "Published | None":
        """What is published there now, or None where nothing is.

        Raises:
            ManifestInvalidError: There is a manifest that cannot be read.
            StoreError: The store could not be asked.
        """
        try:
            data = self.store.get_bytes(self.key(manifests.NAME), max_bytes=_LARGEST_MANIFEST)
        except ObjectMissingError:
            return None
        try:
            return Published(self, manifests.decode(data))
        except ManifestError as error:
            raise ManifestInvalidError(
                f"{self.file_uri(manifests.NAME)} is not a manifest of version "
                f"{manifests.VERSION}: {error}. Materialise the partition again, which replaces it."
            ) from error

    def require(self, asset: str) -> "Published":
        """What `asset` has published there, "mnist/raw" for instance.

        Raises:
            NotPublishedError: Nothing is published there.
            ManifestInvalidError: There is a manifest that cannot be read.
            StoreError: The store could not be asked.
        """
        published = self.published()
        if published is None:
            raise NotPublishedError(
                f"Nothing is published under {self.uri}: materialise {asset} for this date first."
            )
        return published

    def published_if_current(
        self, inputs: Mapping[str, str], code_version: str
    ) -> "Published | None":
        """What is published there, if it was made of these inputs by this code, and is whole.

        Every file is read: what was damaged or removed does not count, and is made again.
        """
        published = self.published()
        if published is None or published.manifest.code_version != code_version:
            return None
        if published.manifest.inputs != inputs or published.verify():
            return None
        return published

    def remove(self) -> None:
        """Removes what is published there, and what was meant to be; other objects stay.

        The manifest goes first, so that what is half removed is not published any more.
        """
        self.store.delete(self.key(manifests.NAME))
        self.store.delete_prefix(
            self.key(""),
            ours=lambda key: bool(
                re.fullmatch(_FILE_PATH, key.removeprefix(self.prefix), re.ASCII)
            ),
        )


@dataclass(frozen=True)
class Published:
    """The files of a folder as one manifest names them.

    Attributes:
        changed: Of what a commit returned: whether the commit changed anything.
    """

    folder: Folder
    manifest: Manifest
    changed: bool = False

    def open(self, name: str) -> io.BufferedReader:
        """Opens a file as a stream that compares its bytes with the manifest on the way.

        Raises:
            ManifestError: The manifest names no such file.
            ObjectMissingError: The file is gone.
            ObjectChangedError: On opening, or on reading the last bytes: they are not the
                manifest's. Another run is publishing at the moment, or the object was damaged.
        """
        return io.BufferedReader(_CheckedReader(self.folder, self.manifest.file(name)), MIB)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Reads a file whole, compared with the manifest; raises as `open` does.

        Raises:
            ObjectTooLargeError: It has more than `max_bytes`.
        """
        file = self.manifest.file(name)
        data = self.folder.store.get_bytes(self.folder.key(name), max_bytes=max_bytes)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise _changed(self.folder.file_uri(name))
        return data

    def verify(self) -> tuple[str, ...]:
        """Reads every file and compares it with the manifest.

        Returns:
            What is wrong, a sentence for each file; empty if all is well.

        Raises:
            StoreError: The store could not be asked.
        """
        problems = (self._problem(file) for file in self.manifest.files)
        return tuple(problem for problem in problems if problem is not None)

    def _problem(self, file: ManifestFile) -> str | None:
        uri = self.folder.file_uri(file.name)
        try:
            stored = self.folder.store.fingerprint(self.folder.key(file.name))
        except ObjectMissingError:
            return f"{uri} is missing."
        if stored.size != file.bytes:
            return f"{uri} has {stored.size:,} bytes, its manifest says {file.bytes:,}."
        if stored.sha256 != file.sha256:
            return f"{uri} has the sha256 {stored.sha256}, its manifest says {file.sha256}."
        return None


def list_published(
    store: ObjectStore, beginning: str, name: str, *, warn: Callable[[str], None]
) -> list[tuple[Folder, datetime]]:
    """The folders in which something is published, each with when its manifest was written.

    Args:
        beginning: What their prefixes begin with, "mnist/models/date=" for instance.
        name: Regular expression of the rest of their prefixes, `DATE` for instance.
        warn: Called with a sentence about objects that lie there and cannot be the platform's,
            which count for nothing: `date=x/manifest.json` for instance, or
            `date=2026-11-22//manifest.json`.

    Raises:
        StoreError: The store could not be asked.
    """
    published: list[tuple[Folder, datetime]] = []
    foreign: list[str] = []
    for info in store.list(beginning):
        rest = info.key.removeprefix(beginning)
        if not re.fullmatch(name + _FILE_PATH, rest, re.ASCII):
            foreign.append(info.key)
        elif rest.count("/") == 1 and rest.endswith(f"/{manifests.NAME}"):
            folder = Folder(store, info.key.removesuffix(f"/{manifests.NAME}"))
            published.append((folder, info.modified))
    if foreign:
        warn(manifests.describe_foreign(store.bucket, foreign, len(foreign)))
    return published


class _CheckedReader(io.RawIOBase):
    """Passes an object's bytes on and, at its end, compares them with the manifest."""

    def __init__(self, folder: Folder, file: ManifestFile) -> None:
        super().__init__()
        self._uri = folder.file_uri(file.name)
        self._file = file
        self._hash = hashlib.sha256()
        self._left = file.bytes
        self._source = folder.store.open(folder.key(file.name))
        if self._source.size != file.bytes:
            self._source.close()
            raise _changed(self._uri)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        count = self._source.readinto(view)
        self._hash.update(view[:count])
        self._left -= count
        # With the last bytes, not after them: not every reader asks for the end of the file.
        if self._left == 0 and self._hash.hexdigest() != self._file.sha256:
            raise _changed(self._uri)
        return count

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def _changed(uri: str) -> ObjectChangedError:
    return ObjectChangedError(
        f"{uri} is not the file that its manifest names. If another run is publishing it, run "
        "again when that has ended; if none is, materialise the partition again."
    )
