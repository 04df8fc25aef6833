"""The outputs of a day: the files of each, and the manifest that commits them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from formats import manifest as manifests
from formats.manifest import Manifest, content_sha256, describe_file
from numbercruncher import neighbourhood_summary, price_changes
from numbercruncher.errors import ConcurrentRunError
from numbercruncher.price_history import STATE_FILE
from numbercruncher.snapshot_index import LEFT_OUT, SnapshotIndex
from numbercruncher.snapshot_rows import Snapshot, Source
from numbercruncher.store import Store
from numbercruncher.tables import columns_of, json_bytes, parquet_bytes

PRICE_CHANGES = "price_changes"
NEIGHBOURHOOD_SUMMARY = "neighbourhood_summary"
OUTPUTS = (NEIGHBOURHOOD_SUMMARY, PRICE_CHANGES)
"""In the order in which they are made: the one that needs earlier days comes last."""

JSON_TYPE = "application/json"
PARQUET_TYPE = "application/vnd.apache.parquet"
COMMIT_ATTEMPTS = 3


@dataclass(frozen=True)
class Output:
    """The files of one output of one day, by name, and what their manifest says."""

    files: Mapping[str, bytes]
    manifest: Manifest


def make_price_changes(
    snapshot: Snapshot,
    state: pd.DataFrame,
    index: SnapshotIndex,
    left_out: Mapping[str, str],
    code_version: str,
) -> Output:
    """The price changes as of a day, and the state that the next day starts from."""
    tables = make_price_tables(snapshot.date, state, code_version)
    return replace(tables, manifest=name_sources(tables.manifest, snapshot, index, left_out))


def make_price_tables(date: str, state: pd.DataFrame, code_version: str) -> Output:
    """All that of price changes is made of the state alone; the manifest lacks its sources."""
    table = price_changes.changes(state)
    whole = price_changes.to_arrow(table, price_changes.SCHEMA)
    files = {
        "biggest_decrease.json": _json(price_changes.biggest_decreases(table)),
        "biggest_increase.json": _json(price_changes.biggest_increases(table)),
        "price_changes.parquet": parquet_bytes(whole),
        STATE_FILE: parquet_bytes(price_changes.to_arrow(state, price_changes.STATE_SCHEMA)),
    }
    change = table["price_change_per_day"]
    return Output(
        files,
        Manifest(
            partition=date,
            rows=len(table),
            columns=columns_of(whole.schema),
            files=tuple(describe_file(name, data) for name, data in files.items()),
            code_version=code_version,
            extra={
                "listings_ever_priced": len(state),
                "rises": int((change > 0).sum()),
                "falls": int((change < 0).sum()),
            },
        ),
    )


def name_sources(
    manifest: Manifest, source: Source, index: SnapshotIndex, left_out: Mapping[str, str]
) -> Manifest:
    """The manifest of price changes, with the snapshots that they are made of.

    Args:
        manifest: as `make_price_tables` makes it.
        source: the day's snapshot.
        index: of all snapshots.
        left_out: those that could not be used, with their fingerprints.
    """
    included = index.included(source.date, left_out)
    extra = {
        "snapshot_rows": source.row_count,
        "snapshots": len(included),
        "first_snapshot": included[0],
        **manifest.extra,
        LEFT_OUT: dict(left_out),
        "note": _note(source, None if manifest.rows else "No listing has prices on two dates yet."),
    }
    return replace(manifest, inputs=index.inputs(source, left_out), extra=extra)


def make_neighbourhood_summary(snapshot: Snapshot, code_version: str) -> Output:
    """The summary of a day."""
    table = neighbourhood_summary.summarise(snapshot.rows)
    files = {
        "neighbourhood_summary.json": json_bytes(table),
        "neighbourhood_summary.parquet": parquet_bytes(table),
    }
    extra = {
        "snapshot_rows": snapshot.row_count,
        "neighbourhoods": len(table["neighbourhood"].unique()),
        "priced": int(table["priced"].to_numpy().sum()),
        "note": _note(snapshot, None),
    }
    return Output(
        files,
        Manifest(
            partition=snapshot.date,
            rows=table.num_rows,
            columns=columns_of(neighbourhood_summary.SCHEMA),
            files=tuple(describe_file(name, data) for name, data in files.items()),
            code_version=code_version,
            inputs={snapshot.manifest_key: snapshot.manifest_sha256},
            extra=extra,
        ),
    )


def publish(store: Store, prefix: str, output: Output, *, replaces: bool) -> str:
    """Writes an output, its manifest last and only if there is none, as the platform does.

    Args:
        store: the bucket.
        prefix: folder of the day.
        output: its files and manifest.
        replaces: True if there is a manifest already: it is deleted first, so that no reader takes
            it for that of the new files.

    Returns:
        The sha256 of the manifest.

    Raises:
        ConcurrentRunError: another run publishes the same output at the same time. Either nothing
            is published, or the other run's output.
        StoreError: the store failed.
    """
    key = f"{prefix}/{manifests.NAME}"
    if replaces:
        store.delete(key)
    etags = {
        f"{prefix}/{name}": store.put(
            f"{prefix}/{name}", data, JSON_TYPE if name.endswith(".json") else PARQUET_TYPE
        )
        for name, data in output.files.items()
    }
    data = output.manifest.encode()
    for _ in range(COMMIT_ATTEMPTS):
        if store.create(key, data, JSON_TYPE):
            return hashlib.sha256(data).hexdigest()
        # There is another run's manifest; which run's files it stands beside decides.
        stored = {entry.key: entry.etag for entry in store.entries(prefix)}
        are_ours = [stored.get(name) == etag for name, etag in etags.items()]
        if any(are_ours):
            store.delete(key)
        if not all(are_ours):
            break
    raise ConcurrentRunError(
        f"s3://{store.bucket}/{prefix}/ is being published by another run at the same time; run"
        " this again when that has ended."
    )


def describe(manifest: Manifest, prefix: str, status: str, manifest_sha256: str) -> dict[str, Any]:
    """An output, as the message about its date reports it."""
    metadata = {
        name: value
        for name, value in manifest.extra.items()
        if name != LEFT_OUT and value is not None
    }
    if manifest.extra.get(LEFT_OUT):
        metadata[LEFT_OUT] = sorted(manifest.extra[LEFT_OUT])
    return {
        "status": status,
        "error": None,
        "transient": False,
        "prefix": prefix,
        "rows": manifest.rows,
        "files": [vars(file) for file in manifest.files],
        "columns": [vars(column) for column in manifest.columns],
        # The state is an input of the next day, not part of what readers see.
        "data_version": content_sha256(f for f in manifest.files if f.name != STATE_FILE),
        "manifest_sha256": manifest_sha256,
        "metadata": metadata,
    }


def _json(frame: pd.DataFrame) -> bytes:
    return json_bytes(price_changes.to_arrow(frame, price_changes.SCHEMA))


def _note(source: Source, otherwise: str | None) -> str | None:
    return otherwise if source.row_count else "The snapshot of this day has no rows."
