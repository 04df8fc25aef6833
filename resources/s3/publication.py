"""Publishing: files are uploaded unseen, then appear together with the manifest that names them.

What readers may rely on (see `published.py` for how they read):

- Files read by way of the manifest are those it names, to the byte, or the reader gets an
  `ObjectChangedError`. Nobody ever gets files of two publications mixed.
- A commit of what is already there changes nothing, not even an ETag.
- A commit of something else removes the manifest, lets the new files appear (they were uploaded
  before, so this takes milliseconds) and writes the new manifest. Killed in between, the prefix is
  simply not published until the run is repeated. A half-written file is never seen.
- Of commits to one prefix at the same time the last one stands, or fails and says so; a manifest
  does not stay beside files of another commit.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from formats.columns import Column
from formats.manifest import NAME, Manifest, ManifestFile
from resources.s3.errors import (
    ManifestInvalidError,
    ObjectChangedError,
    ObjectMissingError,
    store_errors,
)
from resources.s3.published import Folder, Published
from resources.s3.store import ObjectStore, StoredObject
from resources.s3.streams import ObjectWriter

_COMMIT_ATTEMPTS = 3
C = TypeVar("C", bound=ObjectWriter | StoredObject)


class _Staged(ABC, Generic[C]):
    """A file that waits for the commit.

    Attributes:
        content: What knows its size and sha256.
        etag: Of the object in the file's place; empty until that is known to be the file.
    """

    def __init__(self, content: C, etag: str = "") -> None:
        self.content = content
        self.etag = etag

    @abstractmethod
    def matches_stored_object(self) -> bool:
        """Whether the object in the file's place is the file; sets `etag`.

        Raises:
            ObjectMissingError: There is no object.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Do all that can fail or takes long, so that `complete` is one request."""

    @abstractmethod
    def complete(self) -> None:
        """Let the file appear, and set `etag`."""

    def abort(self) -> None:
        """Forget the file, unless it has appeared."""
        return


class _Written(_Staged[ObjectWriter]):
    """A file that was uploaded from here."""

    def __init__(self, store: ObjectStore, writer: ObjectWriter) -> None:
        super().__init__(writer)
        self._store = store

    def matches_stored_object(self) -> bool:
        # An ETag of a plain upload says as much as its bytes. Under KMS it does not, so that the
        # file is written again, which does no harm.
        self.etag = self._store.head(self.content.key).etag
        return self.etag == self.content.expected_etag()

    def prepare(self) -> None:
        self.content.finish()

    def complete(self) -> None:
        self.etag = self.content.complete()

    def abort(self) -> None:
        self.content.abort()


class _Copied(_Staged[StoredObject]):
    """A file that the store copies by itself."""

    def __init__(
        self, store: ObjectStore, key: str, source: ObjectStore, original: StoredObject
    ) -> None:
        super().__init__(original)
        self._store = store
        self._key = key
        self._source = source

    def matches_stored_object(self) -> bool:
        # A copy's ETag depends on how it was made: only the bytes tell.
        stored = self._store.fingerprint(self._key)
        self.etag = stored.etag
        return stored.sha256 == self.content.sha256

    def prepare(self) -> None:
        self._source.check_etag(self.content.key, self.content.etag)

    def complete(self) -> None:
        original = self.content
        self.etag = self._store.copy_from(
            self._source, original.key, self._key, etag=original.etag
        ).etag


class _Adopted(_Staged[StoredObject]):
    """A file that another system has put in place, so that nothing is left to do."""

    def __init__(self, stored: StoredObject) -> None:
        super().__init__(stored, stored.etag)

    def matches_stored_object(self) -> bool:
        return True

    def prepare(self) -> None:
        return

    def complete(self) -> None:
        return


class Publication:
    """Writes the files of one folder and publishes them all at once.

    Nothing is visible before `commit`; leaving the block without it aborts everything.

    Example:
        folder = Folder(store, "airbnb/listings/date=2026-11-22")
        with Publication(folder) as publication:
            with io.BufferedWriter(publication.open("listings.csv")) as sink:
                sink.write(b"id\\n1\\n")
            published = publication.commit(partition="2026-11-22", rows=1, code_version="1")
    """

    def __init__(self, folder: Folder) -> None:
        """Asks nothing of the store yet."""
        self._folder = folder
        self._store = folder.store
        self._staged: dict[str, _Staged[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Aborts what was not committed."""
        for staged in self._staged.values():
            staged.abort()

    def open(self, name: str, *, content_type: str | None = None) -> ObjectWriter:
        """A raw binary stream to write a file to; its `complete` and `abort` are left to this.

        Wrap it in `io.BufferedWriter` where writes are small.
        """
        writer = self._store.writer(self._free_key(name), content_type=content_type)
        self._staged[name] = _Written(self._store, writer)
        return writer

    def put(self, name: str, data: bytes, *, content_type: str | None = None) -> None:
        """Adds a file that is in memory."""
        self.open(name, content_type=content_type).write(data)

    def copy(self, name: str, source: ObjectStore, source_key: str, *, etag: str) -> None:
        """Adds a server-side copy of an object; reads it once for its sha256.

        Raises:
            ObjectChangedError: the source has another ETag, here or at the commit.
            ObjectMissingError: there is no such source.
        """
        key = self._free_key(name)
        original = source.fingerprint(source_key, etag=etag)
        self._staged[name] = _Copied(self._store, key, source, original)

    def adopt(self, name: str) -> None:
        """Adds a file that another system already wrote under the prefix; reads it once."""
        stored = self._store.fingerprint(self._free_key(name))
        self._staged[name] = _Adopted(stored)

    def commit(
        self,
        *,
        partition: str,
        rows: int,
        code_version: str,
        columns: Sequence[Column] = (),
        inputs: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Published:
        """Publishes the files added so far; see `Manifest` for what the arguments mean.

        Files of the previous publication that this one does not have are removed. So are multipart
        uploads under the prefix that a killed process left.

        Raises:
            ObjectChangedError: another commit to this prefix was faster. Run again.
            StoreError: the store failed. Nothing, or what was there before, is published.
        """
        manifest = Manifest(
            partition=partition,
            rows=rows,
            columns=tuple(columns),
            files=tuple(
                ManifestFile(name=name, bytes=staged.content.size, sha256=staged.content.sha256)
                for name, staged in sorted(self._staged.items())
            ),
            code_version=code_version,
            inputs=dict(inputs or {}),
            extra=dict(extra or {}),
        )
        previous = self._previous()
        published = {file.name: file.sha256 for file in previous.files} if previous else {}
        outdated = [
            staged
            for name, staged in self._staged.items()
            if not _is_in_place(staged, published.get(name))
        ]
        changed = bool(outdated) or previous is None or previous.encode() != manifest.encode()
        if changed:
            self._replace(manifest, outdated)
            for name in published.keys() - self._staged.keys():
                self._store.delete(self._folder.key(name))
        for staged in self._staged.values():
            staged.abort()
        self._store.abort_uploads(self._folder.key(""))
        return Published(self._folder, manifest, changed)

    def _previous(self) -> Manifest | None:
        try:
            published = self._folder.published()
        except ManifestInvalidError:
            return None
        return published and published.manifest

    def _replace(self, manifest: Manifest, outdated: Sequence[_Staged[Any]]) -> None:
        key = self._folder.key(NAME)
        for staged in outdated:
            staged.prepare()
        self._store.delete(key)
        for staged in outdated:
            staged.complete()
        for _ in range(_COMMIT_ATTEMPTS):
            etag = self._put_new(key, manifest.encode())
            if self._files_are_ours():
                if etag is not None:
                    return
                # Somebody else's manifest stands beside our files: theirs were replaced by ours.
                self._store.delete(key)
                continue
            if etag is not None:
                self._withdraw(key, etag)
            break
        raise ObjectChangedError(
            f"{self._folder.uri} is being published by another run at the same time. Run again "
            "when that has ended."
        )

    def _put_new(self, key: str, data: bytes) -> str | None:
        """Writes the manifest where there is none; None where there is one."""
        try:
            with store_errors("publish", bucket=self._store.bucket, key=key):
                return self._store.client.put_object(
                    Bucket=self._store.bucket,
                    Key=key,
                    Body=data,
                    IfNoneMatch="*",
                    ContentType="application/json",
                    **self._store.write_options(),
                )["ETag"]
        except ObjectChangedError:
            return None

    def _withdraw(self, key: str, etag: str) -> None:
        try:
            with store_errors("withdraw", bucket=self._store.bucket, key=key):
                self._store.client.delete_object(Bucket=self._store.bucket, Key=key, IfMatch=etag)
        except (ObjectChangedError, ObjectMissingError):
            return  # Another run replaced or removed it.

    def _files_are_ours(self) -> bool:
        try:
            return all(
                self._store.head(self._folder.key(name)).etag == staged.etag
                for name, staged in self._staged.items()
            )
        except ObjectMissingError:
            return False

    def _free_key(self, name: str) -> str:
        if name in self._staged or name == NAME:
            raise ValueError(f"A publication cannot have two files named {name}.")
        return self._folder.key(name)


def _is_in_place(staged: _Staged[Any], published_sha256: str | None) -> bool:
    """Whether a file's object is there already, and published if it is ours."""
    if staged.etag:
        return True
    if staged.content.sha256 != published_sha256:
        return False
    try:
        return staged.matches_stored_object()
    except ObjectMissingError:
        return False
