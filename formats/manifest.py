"""The manifest: the JSON object that names the files published under a prefix, with their digests.

Bytes and plain data, by the standard library alone: the platform uses this module, and so does the
number cruncher in its container. Reading and writing in a store does not belong here.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from formats.columns import Column
from formats.errors import FormatError

NAME = "manifest.json"
"""Name of the object that holds the manifest, beside the files that it names."""
VERSION = 1
MOST_NAMED = 5
"""How many foreign objects a warning names."""

_SHA256 = re.compile("[0-9a-f]{64}")


class ManifestError(FormatError):
    """The bytes are not a manifest, or it names no file of that name."""


@dataclass(frozen=True)
class ManifestFile:
    """One published file.

    Attributes:
        name: Relative to the prefix, "listings.csv" for instance.
        bytes: Its size.
        sha256: Of its content, hexadecimal.
    """

    name: str
    bytes: int
    sha256: str


def describe_file(name: str, content: bytes) -> ManifestFile:
    """A file as the manifest names it."""
    return ManifestFile(name, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """What is published under a prefix. Holds no times and no run ids: same content, same bytes.

    Attributes:
        partition: Key of the partition, "2026-11-22" for instance, or "" where there is none.
        rows: Rows (or examples) in all files together.
        files: The files, in the order of their names.
        code_version: Of the code that made them.
        columns: Names and Arrow types, where the files are tables.
        inputs: S3 key or name of each input → its sha256, ETag or version.
        extra: Anything else worth keeping, in JSON's types. A float that is NaN or infinite, which
            JSON does not have, is written as null.
    """

    partition: str
    rows: int
    files: tuple[ManifestFile, ...]
    code_version: str
    columns: tuple[Column, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def encode(self) -> bytes:
        """The canonical bytes: UTF-8 JSON, sorted keys, two spaces, a newline at the end."""
        fields = {
            "version": VERSION,
            "partition": self.partition,
            "rows": self.rows,
            "columns": [vars(column) for column in self.columns],
            "files": [vars(file) for file in self.files],
            "code_version": self.code_version,
            "inputs": dict(self.inputs),
            "extra": _without_nan(self.extra),
        }
        text = json.dumps(fields, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()

    @property
    def sha256(self) -> str:
        """sha256 of the canonical bytes: changes if anything about the publication does."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def content_sha256(self) -> str:
        """sha256 over the files' names and digests: changes if and only if their content does."""
        return content_sha256(self.files)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.bytes for file in self.files)

    def file(self, name: str) -> ManifestFile:
        """The file of that name.

        Raises:
            ManifestError: The manifest names no such file.
        """
        for file in self.files:
            if file.name == name:
                return file
        names = [file.name for file in self.files]
        raise ManifestError(
            f"The manifest of {self.partition} names no file {name}, only {names}. "
            "Materialise the partition again if the format was changed since."
        )


def content_sha256(files: Iterable[ManifestFile]) -> str:
    """One sha256 over the names and digests of files."""
    lines = "".join(f"{file.name}\0{file.sha256}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def decode(data: bytes) -> Manifest:
    """Reads the bytes of a manifest.

    Raises:
        ManifestError: They are not a manifest of version 1; the message says what is wrong where,
            as in "files.0.bytes is -1, not a whole number from 0 up".
    """
    try:
        # Without its default, the constants NaN and Infinity, which are not JSON, would be read.
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"it is not JSON: {error}") from error
    fields = _object(value, "the whole")
    if fields.get("version", VERSION) != VERSION:
        raise ManifestError(f"version is {fields['version']!r:.40}, and known is {VERSION}")
    _check_names(
        fields,
        "",
        required=("partition", "rows", "files", "code_version"),
        optional=("version", "columns", "inputs", "extra"),
    )
    inputs = _object(fields.get("inputs", {}), "inputs")
    return Manifest(
        partition=_text(fields["partition"], "partition"),
        rows=_count(fields["rows"], "rows"),
        files=tuple(
            _file(item, f"files.{number}.")
            for number, item in enumerate(_list(fields["files"], "files"))
        ),
        code_version=_text(fields["code_version"], "code_version"),
        columns=tuple(
            _column(item, f"columns.{number}.")
            for number, item in enumerate(_list(fields.get("columns", []), "columns"))
        ),
        inputs={name: _text(digest, f"inputs.{name}") for name, digest in inputs.items()},
        extra=_object(fields.get("extra", {}), "extra"),
    )


def describe_foreign(bucket: str, keys: Sequence[str], count: int) -> str:
    """A warning about objects in the platform's folders that are not the platform's.

    Args:
        bucket: Where they are.
        keys: At least the first `MOST_NAMED` of them, which are named.
        count: How many there are.
    """
    # As literals: a line break in a key must not look like another line of the log.
    named = ", ".join(map(repr, keys[:MOST_NAMED])) + (", …" if count > MOST_NAMED else "")
    return (
        f"Objects in s3://{bucket}/ that are not the platform's were left alone ({count}): {named}."
        " Move them out of its folders if nobody needs them there."
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {name: _without_nan(item) for name, item in items}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in cast("Iterable[Any]", value)]
    return value


def _refuse_constant(name: str) -> None:
    raise ManifestError(f"it has the number {name}")


def _file(value: object, place: str) -> ManifestFile:
    fields = _object(value, place.rstrip("."))
    _check_names(fields, place, required=("name", "bytes", "sha256"))
    sha256 = _text(fields["sha256"], f"{place}sha256")
    if not _SHA256.fullmatch(sha256):
        raise ManifestError(f"{place}sha256 is {sha256!r:.80}, not 64 hexadecimal digits")
    name = _text(fields["name"], f"{place}name", empty=False)
    return ManifestFile(name, _count(fields["bytes"], f"{place}bytes"), sha256)


def _column(value: object, place: str) -> Column:
    fields = _object(value, place.rstrip("."))
    _check_names(fields, place, required=("name", "type"))
    return Column(
        _text(fields["name"], f"{place}name", empty=False),
        _text(fields["type"], f"{place}type", empty=False),
    )


def _check_names(
    fields: Mapping[str, Any],
    place: str,
    *,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> None:
    for name in required:
        if name not in fields:
            raise ManifestError(f"{place}{name} is missing")
    for name in fields:
        if name not in required and name not in optional:
            raise ManifestError(f"{place}{name[:40]} is not known")


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{place} is {value!r:.40}, not an object")
    return cast("dict[str, Any]", value)


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ManifestError(f"{place} is {value!r:.40}, not a list")
    return cast("list[Any]", value)


def _text(value: object, place: str, *, empty: bool = True) -> str:
    if not isinstance(value, str) or not (value or empty):
        raise ManifestError(f"{place} is {value!r:.40}, not a text")
    return value


def _count(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestError(f"{place} is {value!r:.40}, not a whole number from 0 up")
    return value
