"""Manifests: what makes files under a prefix count as published, and how readers go by them.

Under a prefix lie some files and `manifest.json`, which is written last and names each file with
its size and sha256. Without it, or for a file it does not name, nothing is published, whatever
lies there. How files come to be published is in `publication.py`.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from formats.columns import Column
from resources.s3.errors import ObjectChangedError, ObjectMissingError, StoreError
from resources.s3.store import ObjectInfo, ObjectStore
from resources.s3.streams import MIB

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MANIFEST_NAME = "manifest.json"
DATE = r"\d{4}-\d\d-\d\d"
_LARGEST_MANIFEST = 16 * MIB
_FILES = r"(?:/[\w.-]+)+"
_SHOWN = 5


class ManifestInvalidError(StoreError):
    """A manifest is not of the form this module writes."""


class ManifestFile(BaseModel):
    """One file of a publication; `name` is relative to the prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What a publication consists of. Holds no times and no run ids: same content, same bytes.

    Attributes:
        partition: the partition's key, "2026-11-22" for instance, or "" where there is none.
        rows: rows (or examples) in all files together.
        columns: names and Arrow types, where the files are tables.
        files: the files, ordered by name.
        code_version: of the code that made them.
        inputs: S3 key or name of each input → its sha256, ETag or version.
        extra: anything else worth keeping, in JSON's types.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    partition: str
    rows: int = Field(ge=0)
    columns: tuple[Column, ...] = ()
    files: tuple[ManifestFile, ...]
    code_version: str
    inputs: dict[str, str] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)

    def encode(self) -> bytes:
        """The canonical bytes: UTF-8 JSON, sorted keys, two spaces, a newline at the end."""
        data = self.model_dump(mode="json")
        text = json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()

    @classmethod
    def decode(cls, data: bytes, source: str) -> Self:
        """Reads a manifest's bytes; `source` names them in the error.

        Raises:
            ManifestInvalidError: it is not a manifest of version 1.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise ManifestInvalidError(
                f"{source} is not a manifest of version 1 ({place}: {first['msg']}). Materialise "
                "the partition again, which replaces it."
            ) from error

    @property
    def sha256(self) -> str:
        """sha256 of the canonical bytes: changes if anything about the publication does."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def content_sha256(self) -> str:
        """sha256 over the files' names and hashes alone: changes if and only if the data do."""
        lines = "".join(f"{file.name}\0{file.sha256}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.bytes for file in self.files)

    def file(self, name: str) -> ManifestFile:
        """The file of that name.

        Raises:
            ObjectMissingError: the manifest names none such.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise ObjectMissingError(
            f"The manifest names no file {name}, only {[file.name for file in self.files]}. "
            "Materialise the partition again if the format was changed since."
        )


def file_key(prefix: str, name: str) -> str:
    """The key of a file under a prefix, which may end in a slash or not."""
    return f"{prefix.rstrip('/')}/{name}"


def read_manifest(store: ObjectStore, prefix: str) -> Manifest | None:
    """The manifest of a prefix, or None where nothing is published.

    Raises:
        ManifestInvalidError: there is one that cannot be read.
        StoreError: the store could not be asked.
    """
    key = file_key(prefix, MANIFEST_NAME)
    try:
        data = store.get_bytes(key, max_bytes=_LARGEST_MANIFEST)
    except ObjectMissingError:
        return None
    return Manifest.decode(data, store.uri(key))


def list_published(
    store: ObjectStore, beginning: str, name: str, *, warn: Callable[[str], None]
) -> list[tuple[str, ObjectInfo]]:
    """The prefixes that begin so and under which something is published, with their manifests.

    Args:
        store: the bucket.
        beginning: what they begin with, "mnist/models/date=" for instance.
        name: regular expression of what follows, up to a slash.
        warn: told, in a sentence, of objects that lie there and are nobody's file, which count for
            nothing: `date=x/manifest.json` for instance, or `date=2026-11-22//manifest.json`.

    Raises:
        StoreError: the store could not be asked.
    """
    published: list[tuple[str, ObjectInfo]] = []
    foreign: list[str] = []
    for info in store.list(beginning):
        rest = info.key.removeprefix(beginning)
        if not re.fullmatch(name + _FILES, rest, re.ASCII):
            foreign.append(info.key)
        elif rest.count("/") == 1 and rest.endswith(f"/{MANIFEST_NAME}"):
            published.append((info.key.removesuffix(f"/{MANIFEST_NAME}"), info))
    if foreign:
        keys = ", ".join(map(repr, foreign[:_SHOWN])) + (", …" if len(foreign) > _SHOWN else "")
        warn(
            f"Objects in s3://{store.bucket}/ that are not the platform's were left alone"
            f" ({len(foreign)}): {keys}. Move them out of its folders if nobody needs them there."
        )
    return published


def remove_published(store: ObjectStore, prefix: str) -> None:
    """Removes what is published under a prefix, and what was meant to be; foreign objects stay.

    The manifest goes first, so that what is half removed is not there at all.
    """
    store.delete(file_key(prefix, MANIFEST_NAME))
    store.delete_prefix(
        file_key(prefix, ""),
        ours=lambda key: bool(re.fullmatch(_FILES, key.removeprefix(prefix.rstrip("/")), re.ASCII)),
    )


def open_file(store: ObjectStore, prefix: str, file: ManifestFile) -> io.BufferedReader:
    """Opens a published file as a stream that compares its bytes with the manifest on the way.

    Raises:
        ObjectMissingError: the file is gone.
        ObjectChangedError: on opening, or on reading the last bytes: they are not the manifest's.
            Another run is publishing at the moment, or the object was damaged.
    """
    return io.BufferedReader(_CheckedReader(store, file_key(prefix, file.name), file), MIB)


def read_file(store: ObjectStore, prefix: str, file: ManifestFile, *, max_bytes: int) -> bytes:
    """Reads a published file whole, compared with the manifest; raises as `open_file` does.

    Raises:
        ObjectTooLargeError: it has more than `max_bytes`.
    """
    data = store.get_bytes(file_key(prefix, file.name), max_bytes=max_bytes)
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise _changed(store.uri(file_key(prefix, file.name)))
    return data


def verify(store: ObjectStore, prefix: str) -> tuple[str, ...]:
    """Reads every file of a publication and compares it with the manifest.

    Returns:
        What is wrong, a sentence each; empty if all is well.

    Raises:
        StoreError: the store could not be asked.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None:
        return (f"{store.uri(file_key(prefix, MANIFEST_NAME))} is missing: nothing is published.",)
    return tuple(
        problem for file in manifest.files if (problem := _problem(store, prefix, file)) is not None
    )


def publish(store: ObjectStore, prefix: str, manifest: Manifest) -> None:
    """Writes a manifest beside files that are in place already: the commit by itself.

    `Publication` is the usual way; this is for files that another system wrote.
    """
    store.put_bytes(
        file_key(prefix, MANIFEST_NAME), manifest.encode(), content_type="application/json"
    )


class _CheckedReader(io.RawIOBase):
    """Passes an object's bytes on and, at its end, compares them with the manifest."""

    def __init__(self, store: ObjectStore, key: str, file: ManifestFile) -> None:
        super().__init__()
        self._uri = store.uri(key)
        self._file = file
        self._hash = hashlib.sha256()
        self._left = file.bytes
        self._source = store.open_raw(key)
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


def _problem(store: ObjectStore, prefix: str, file: ManifestFile) -> str | None:
    key = file_key(prefix, file.name)
    try:
        found = store.fingerprint(key)
    except ObjectMissingError:
        return f"{store.uri(key)} is missing."
    if found.size != file.bytes:
        return f"{store.uri(key)} has {found.size:,} bytes, its manifest says {file.bytes:,}."
    if found.sha256 != file.sha256:
        return f"{store.uri(key)} has the sha256 {found.sha256}, its manifest says {file.sha256}."
    return None
