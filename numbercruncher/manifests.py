"""Manifests: the small JSON objects that say of what and of which files an object set consists.

Only bytes and plain data here; nothing is read or written. The shape is the one that the
platform's S3 resource writes for snapshots.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MANIFEST = "manifest.json"
VERSION = 1


class ManifestError(ValueError):
    """The bytes are no manifest."""


@dataclass(frozen=True)
class File:
    """One file under the manifest's prefix, with its size in bytes."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Column:
    """One column and its type as Arrow calls it: int64, double, string, date32, bool."""

    name: str
    type: str


@dataclass(frozen=True)
class Manifest:
    """What stands under a prefix for one partition.

    Attributes:
        partition: the date, YYYY-MM-DD.
        rows: number of rows of the partition's table.
        inputs: keys of what it was made of, with a digest each.
        extra: facts that follow from the inputs alone, since the bytes must be reproducible.
    """

    partition: str
    rows: int
    columns: tuple[Column, ...]
    files: tuple[File, ...]
    code_version: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The canonical bytes: the same facts always give the same object."""
        value = {
            "version": VERSION,
            "partition": self.partition,
            "rows": self.rows,
            "columns": [vars(column) for column in self.columns],
            "files": [vars(file) for file in self.files],
            "code_version": self.code_version,
            "inputs": dict(self.inputs),
            "extra": dict(self.extra),
        }
        return canonical_json(value)

    def data_version(self, *, without: str) -> str:
        """A digest of the files' content, one of them left out, wherever it came from."""
        lines = "".join(f"{f.name} {f.sha256}\n" for f in self.files if f.name != without)
        return hashlib.sha256(lines.encode()).hexdigest()


def decode(data: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        ManifestError: the bytes are no manifest of a version known here.
    """
    try:
        value = json.loads(data)
        if value["version"] != VERSION:
            raise ManifestError(f"its version is {value['version']}, known is {VERSION}")
        return Manifest(
            partition=str(value["partition"]),
            rows=int(value["rows"]),
            columns=tuple(Column(str(c["name"]), str(c["type"])) for c in value["columns"]),
            files=tuple(
                File(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in value["files"]
            ),
            code_version=str(value.get("code_version", "")),
            inputs=dict(value.get("inputs") or {}),
            extra=dict(value.get("extra") or {}),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"it is not a manifest: {type(error).__name__}: {error}") from error


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, two spaces and a newline at the end; floats at their shortest."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def record_json(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A list of records as JSON, a line each, keys in the order in which they are given."""
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records]
    return ("[\n  " + ",\n  ".join(lines) + "\n]\n" if lines else "[]\n").encode()


def file_of(name: str, data: bytes) -> File:
    """Describes the content of a file."""
    return File(name, len(data), hashlib.sha256(data).hexdigest())
