"""What is written for a day: the files of each output and the manifest that commits them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from numbercruncher import neighbourhood_summary, price_changes
from numbercruncher.history import LEFT_OUT, History
from numbercruncher.manifests import (
    MANIFEST,
    Manifest,
    file_of,
    record_json,
)
from numbercruncher.price_history import STATE_FILE
from numbercruncher.snapshots import Snapshot
from numbercruncher.store import Store
from numbercruncher.tables import columns_of, parquet_bytes, records_of

PRICE_CHANGES = "price_changes"
NEIGHBOURHOOD_SUMMARY = "neighbourhood_summary"
OUTPUTS = (NEIGHBOURHOOD_SUMMARY, PRICE_CHANGES)
"""In the order in which they are made: what needs the past as well comes last."""

JSON_TYPE = "application/json"
PARQUET_TYPE = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Output:
    """The files of one output of one day, by name, and what their manifest says."""

    files: Mapping[str, bytes]
    manifest: Manifest


def make_price_changes(
    snapshot: Snapshot,
    state: pd.DataFrame,
    history: History,
    left_out: Mapping[str, str],
    code_version: str,
) -> Output:
    """The price changes as of a day, and the state that the next day starts from."""
    table = price_changes.changes(state)
    whole = price_changes.to_arrow(table, price_changes.SCHEMA)
    files = {
        "biggest_decrease.json": _named(price_changes.biggest_decreases(table)),
        "biggest_increase.json": _named(price_changes.biggest_increases(table)),
        "price_changes.parquet": parquet_bytes(whole),
        STATE_FILE: parquet_bytes(price_changes.to_arrow(state, price_changes.STATE_SCHEMA)),
    }
    included = history.included(snapshot.date, left_out)
    change = table["price_change_per_day"]
    extra = {
        "snapshot_rows": len(snapshot.rows),
        "snapshots": len(included),
        "first_snapshot": included[0],
        "listings_ever_priced": len(state),
        "rises": int((change > 0).sum()),
        "falls": int((change < 0).sum()),
        LEFT_OUT: dict(left_out),
        "note": _note(snapshot, None if len(table) else "No listing has prices on two dates yet."),
    }
    return Output(
        files,
        Manifest(
            partition=snapshot.date,
            rows=len(table),
            columns=columns_of(whole.schema),
            files=tuple(file_of(name, data) for name, data in files.items()),
            code_version=code_version,
            inputs=history.inputs(snapshot, left_out),
            extra=extra,
        ),
    )


def make_neighbourhood_summary(snapshot: Snapshot, code_version: str) -> Output:
    """The summary of a day."""
    table = neighbourhood_summary.summarise(snapshot.rows)
    files = {
        "neighbourhood_summary.json": record_json(list(records_of(table))),
        "neighbourhood_summary.parquet": parquet_bytes(table),
    }
    extra = {
        "snapshot_rows": len(snapshot.rows),
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
            files=tuple(file_of(name, data) for name, data in files.items()),
            code_version=code_version,
            inputs={snapshot.manifest_key: snapshot.manifest_sha256},
            extra=extra,
        ),
    )


def publish(store: Store, prefix: str, output: Output, *, replaces: bool) -> str:
    """Writes an output, its manifest last.

    Args:
        store: where to.
        prefix: folder of the day.
        output: what.
        replaces: True where a manifest is there: it goes first, so that no reader and no later run
            takes the old manifest for that of the new files.

    Returns:
        The sha256 of the manifest.
    """
    if replaces:
        store.delete(f"{prefix}/{MANIFEST}")
    for name, data in output.files.items():
        store.put(f"{prefix}/{name}", data, JSON_TYPE if name.endswith(".json") else PARQUET_TYPE)
    data = output.manifest.encode()
    store.put(f"{prefix}/{MANIFEST}", data, JSON_TYPE)
    return file_of(MANIFEST, data).sha256


def describe(manifest: Manifest, prefix: str, status: str, manifest_sha256: str) -> dict[str, Any]:
    """An output as the message about its date tells of it."""
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
        "data_version": manifest.data_version(without=STATE_FILE),
        "manifest_sha256": manifest_sha256,
        "metadata": metadata,
    }


def _named(frame: pd.DataFrame) -> bytes:
    return record_json(list(records_of(price_changes.to_arrow(frame, price_changes.SCHEMA))))


def _note(snapshot: Snapshot, otherwise: str | None) -> str | None:
    return otherwise if len(snapshot.rows) else "The snapshot of this day has no rows."
