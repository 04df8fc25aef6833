"""The rows of one day's snapshot of the listings, read by its manifest.

Only the four columns that are crunched are read, and checked against the manifest's digests. Which
snapshots exist is in `snapshot_index.py`.
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from formats import manifest as manifests
from formats.manifest import Manifest, ManifestError, ManifestFile
from numbercruncher.errors import (
    MissingObjectError,
    SnapshotInvalidError,
    StoreUnavailableError,
)
from numbercruncher.store import Content, Store

CATEGORY = pa.dictionary(pa.int32(), pa.string())
COLUMNS: Mapping[str, pa.DataType] = {
    "id": pa.int64(),
    "price": pa.float64(),
    "neighbourhood": CATEGORY,
    "room_type": CATEGORY,
}
ATTEMPTS = 3


@dataclass(frozen=True)
class Source:
    """A snapshot that was read and is right, without its rows."""

    date: str
    manifest_key: str
    manifest_md5: str
    manifest_sha256: str
    row_count: int


@dataclass(frozen=True)
class Snapshot(Source):
    """The rows of one day: `id` unique, int64 or text, `price` float64 (NaN where there is none),
    `neighbourhood` and `room_type` as categories (missing where null)."""

    rows: pd.DataFrame


def decode_manifest(data: bytes, place: str, date: str) -> Manifest:
    """A snapshot's manifest, checked for what is needed of it.

    Raises:
        SnapshotInvalidError: it is none, belongs to another date, or lacks a column.
    """
    try:
        manifest = manifests.decode(data)
    except ManifestError as error:
        raise SnapshotInvalidError(
            f"The manifest {place} cannot be read: it is not a manifest, since {error}."
            f" Materialise the snapshot of {date} again."
        ) from error
    if manifest.partition != date:
        raise SnapshotInvalidError(
            f"The manifest {place} is that of {manifest.partition}; materialise the snapshot of"
            f" {date} again."
        )
    missing = [name for name in COLUMNS if name not in {c.name for c in manifest.columns}]
    if missing:
        raise SnapshotInvalidError(
            f"The snapshot of {date} has no column {' and no column '.join(missing)};"
            " export it with the columns id, price, neighbourhood and room_type."
        )
    return manifest


def read_snapshot(store: Store, date: str, manifest_key: str, data: bytes) -> Snapshot:
    """Reads the columns that are crunched of one day's snapshot.

    Args:
        store: where it is.
        date: the day.
        manifest_key: where its manifest is.
        data: its manifest's bytes.

    Raises:
        SnapshotInvalidError: it is not what its manifest promises, or cannot be crunched.
        StoreError: it could not be read.
    """
    manifest = decode_manifest(data, f"s3://{store.bucket}/{manifest_key}", date)
    folder = manifest_key.removesuffix(manifests.NAME)
    schema = _schema(manifest)
    tables = [_read_file(store, folder, file, date, schema) for file in manifest.files]
    table = pa.concat_tables([schema.empty_table(), *tables]).unify_dictionaries()
    return Snapshot(
        date=date,
        manifest_key=manifest_key,
        manifest_md5=md5(data),
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        row_count=table.num_rows,
        rows=_checked_frame(table, manifest),
    )


def md5(data: bytes) -> str:
    """The MD5 of a manifest, to compare with ETags."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _schema(manifest: Manifest) -> pa.Schema:
    """The columns that are crunched; ids are texts where the manifest says so."""
    texts = {column.name for column in manifest.columns if column.type == "string"}
    ids = {"id": pa.string()} if "id" in texts else {}
    return pa.schema(list({**COLUMNS, **ids}.items()))


def _read_file(
    store: Store, folder: str, file: ManifestFile, date: str, schema: pa.Schema
) -> pa.Table:
    place = f"s3://{store.bucket}/{folder}{file.name}"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _read_once(store, folder + file.name, file, place, schema)
        except MissingObjectError as error:
            raise SnapshotInvalidError(
                f"{place} is missing though its manifest names it; materialise the snapshot of"
                f" {date} again."
            ) from error
        except StoreUnavailableError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(0.5 * attempt)
    raise AssertionError("unreachable")


def _read_once(
    store: Store, key: str, file: ManifestFile, place: str, schema: pa.Schema
) -> pa.Table:
    failure: Exception | None = None
    table: pa.Table | None = None
    content = store.open(key)
    try:
        table = _parse(content, file.name, schema)
    except (pa.ArrowException, OSError) as error:
        failure = error
    digest = content.finish()
    if digest != file.sha256:
        raise SnapshotInvalidError(
            f"{place} is not what its manifest promises (its sha256 is {digest[:12]}…, not"
            f" {file.sha256[:12]}…); materialise this snapshot again."
        )
    if table is None:
        raise SnapshotInvalidError(
            f"{place} cannot be read: {failure}. Export the snapshot again with columns of the"
            " types id int64 or string, price double, neighbourhood and room_type string."
        )
    return table


def _parse(content: Content, name: str, schema: pa.Schema) -> pa.Table:
    if name.endswith(".parquet"):
        names = [field.name for field in schema if field.type == CATEGORY]
        file = pq.ParquetFile(pa.BufferReader(content.read()), read_dictionary=names)
        table = file.read(columns=schema.names, use_threads=False)
        return table.select(schema.names).cast(schema)
    stream = pa.PythonFile(content, mode="r")
    if name.endswith(".gz"):
        stream = pa.CompressedInputStream(stream, "gzip")
    return csv.open_csv(
        stream,
        read_options=csv.ReadOptions(block_size=1 << 20, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=schema.names,
            column_types=schema,
            # As COPY writes it: an empty field is null, "" is an empty text, NA is a text.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ).read_all()


def _checked_frame(table: pa.Table, manifest: Manifest) -> pd.DataFrame:
    date = manifest.partition
    again = f"correct the table and materialise the snapshot of {date} again"
    if table.num_rows != manifest.rows:
        raise SnapshotInvalidError(
            f"The snapshot of {date} has {table.num_rows} rows where its manifest says"
            f" {manifest.rows}; {again}."
        )
    if table["id"].null_count:
        raise SnapshotInvalidError(f"The snapshot of {date} has a row without an id; {again}.")
    frame = table.to_pandas()
    invalid = np.isfinite(frame["price"].to_numpy()) != table["price"].is_valid().to_numpy()
    if invalid.any():
        listing = frame["id"].to_numpy()[invalid][0]
        raise SnapshotInvalidError(
            f"The price of listing {listing} in the snapshot of {date} is not a number; {again}."
        )
    if not frame["id"].is_unique:
        listing = frame["id"][frame["id"].duplicated()].iloc[0]
        raise SnapshotInvalidError(
            f"The snapshot of {date} has listing {listing} more than once; {again}."
        )
    return frame
