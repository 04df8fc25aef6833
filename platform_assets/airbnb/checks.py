"""What must hold of what is published, date by date, and whether yesterday is.

What a day's rows must be like before they are published stands in `quality.py`.
"""

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from platform_assets.airbnb import processed, snapshots
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.outcomes import Verdict
from platform_assets.partitions import DAILY
from platform_assets.upstream import require_manifest
from resources.postgres import PostgresResource
from resources.s3 import Manifest, ObjectStore, open_file, read_file, read_manifest

_MAX_RESULT_BYTES = 512 * 2**20
_BLOCK_BYTES = 1 << 20
_FIELDS = ("id", "first_date", "first_price", "last_date", "last_price", "price_change_per_day")
_MOST = 5


def judge_snapshot(
    postgres: PostgresResource, table: ListingsTable, store: ObjectStore, date: str
) -> Verdict:
    """Read the ids out of the object itself, and count the table's rows anew where it has days.

    The object must be what was exported, and all of it. Of a table that has lost rows since is
    only told.
    """
    manifest = require_manifest(store, snapshots.prefix(date), "airbnb/snapshot")
    rows, repeated = count_ids(store, date, manifest)
    found = {"rows": rows, "rows_in_manifest": manifest.rows}
    if rows != manifest.rows:
        said = f"The object has {rows} rows, its manifest says {manifest.rows}: materialise the "
        return Verdict(False, f"{said}snapshot again.", found)
    if repeated:
        return Verdict(False, f"{repeated} rows do not follow the id before them.", found)
    if not table.day:
        return Verdict(True, "As exported; the table holds what is now, and no days.", found)
    with postgres.connect() as session:
        columns, _ = table.compare(session)
        in_table = session.count(table.source, table.where(columns, date))
    found["rows_in_table"] = in_table
    if in_table > rows:
        said = f"The table has {in_table} rows of that day by now, the object {rows}: it was taken "
        said += "while the day was being loaded. Materialise the snapshot again."
        return Verdict(False, said, found)
    if rows != in_table:
        said = f"The table has {in_table} rows of that day by now, the object {rows}: materialise "
        return Verdict(False, f"{said}the snapshot again.", found, severity="warn")
    return Verdict(True, "As in the table.", found)


def count_ids(store: ObjectStore, date: str, manifest: Manifest) -> tuple[int, int]:
    """How many rows a snapshot has, and how many whose id is not above that of the row before.

    Rows are in the order of their ids, so that one pass in bounded memory finds repeated ones.
    """
    rows = wrong = 0
    last: Any = None
    for batch in _id_batches(store, date, manifest):
        ids = batch.to_numpy(zero_copy_only=False)
        if not len(ids):
            continue
        rows += len(ids)
        wrong += int(np.count_nonzero(ids[1:] <= ids[:-1])) + (last is not None and ids[0] <= last)
        last = ids[-1]
    return rows, wrong


def _id_batches(store: ObjectStore, date: str, manifest: Manifest) -> Iterator[pa.Array]:
    (file,) = manifest.files
    (id_type,) = (column.type for column in manifest.columns if column.name == "id")
    with ExitStack() as stack:
        plain: Any = stack.enter_context(open_file(store, snapshots.prefix(date), file))
        if file.name.endswith(".parquet"):
            # Parquet is read from its end: on disk it takes no memory.
            seekable = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(plain, seekable, _BLOCK_BYTES)
            batches = pq.ParquetFile(seekable).iter_batches(columns=["id"])
        else:
            if file.name.endswith(".gz"):
                plain = stack.enter_context(pa.CompressedInputStream(plain, "gzip"))
            batches = pa_csv.open_csv(
                plain,
                read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=["id"], column_types={"id": pa.type_for_alias(id_type)}
                ),
            )
        for batch in batches:
            yield batch.column(0)


def judge_price_changes(store: ObjectStore, date: str) -> Verdict:
    """Find the biggest rises and falls anew in the whole table, by another library."""
    at = processed.prefix(processed.PRICE_CHANGES, date)
    manifest = require_manifest(store, at, "airbnb/price_changes")
    table = pq.read_table(
        io.BytesIO(
            read_file(
                store, at, manifest.file("price_changes.parquet"), max_bytes=_MAX_RESULT_BYTES
            )
        )
    )
    if problem := _odd_row(table, date):
        return Verdict(False, problem)
    for name, order in (("biggest_increase", "descending"), ("biggest_decrease", "ascending")):
        rows = json.loads(
            read_file(store, at, manifest.file(f"{name}.json"), max_bytes=_MAX_RESULT_BYTES)
        )
        expected = _biggest(table, order)
        if rows != expected:
            return Verdict(False, f"{name}.json is {rows}; the whole table gives {expected}.")
    return Verdict(True, "Real rises and falls.", {"listings": table.num_rows})


def _odd_row(table: pa.Table, date: str) -> str | None:
    """What is wrong with the whole table, in a sentence."""
    if set(table.column_names) != set(_FIELDS):
        return f"The whole table has the columns {table.column_names} instead of {list(_FIELDS)}."
    ids = np.sort(table["id"].to_numpy())
    if np.any(ids[1:] == ids[:-1]):
        return "The whole table has an id twice."
    first, last = (table[name].cast(pa.int32()).to_numpy() for name in ("first_date", "last_date"))
    if np.any(first >= last):
        return "The whole table has a listing whose first price is not before its last."
    if np.any(last > np.datetime64(date, "D").astype(int)):
        return f"The whole table has a price of a day after {date}."
    change = (table["last_price"].to_numpy() - table["first_price"].to_numpy()) / (last - first)
    if not np.array_equal(change, table["price_change_per_day"].to_numpy()):
        return "The whole table has a change per day that does not follow from its prices."
    return None


def _biggest(table: pa.Table, order: str) -> list[dict[str, Any]]:
    """The five biggest real rises ("descending") or falls ("ascending"), ties by id."""
    sign = 1 if order == "descending" else -1
    keys = [("price_change_per_day", order), ("id", "ascending")]
    # pyarrow makes its functions when it is imported.
    select: Any = pc.select_k_unstable  # pyright: ignore[reportAttributeAccessIssue]
    top = table.take(select(table, _MOST, keys))
    return [
        {
            name: value if isinstance(value, int | float | str) else value.isoformat()
            for name, value in row.items()
        }
        for row in top.select(_FIELDS).to_pylist()
        if sign * row["price_change_per_day"] > 0
    ]


def judge_neighbourhoods(store: ObjectStore, date: str) -> Verdict:
    """Compare the groups with the snapshot they are made of."""
    at = processed.prefix(processed.NEIGHBOURHOOD_SUMMARY, date)
    manifest = require_manifest(store, at, "airbnb/neighbourhood_summary")
    source = require_manifest(store, snapshots.prefix(date), "airbnb/snapshot")
    file = manifest.file("neighbourhood_summary.json")
    groups = json.loads(read_file(store, at, file, max_bytes=_MAX_RESULT_BYTES))
    listings = sum(group["listings"] for group in groups)
    if listings != source.rows:
        return Verdict(False, f"The groups have {listings} listings, the snapshot {source.rows}.")
    for group in groups:
        quartiles = [group["lower_quartile"], group["median"], group["upper_quartile"]]
        if not 0 <= group["priced"] <= group["listings"]:
            return Verdict(False, f"A group has more priced listings than listings: {group}.")
        if group["priced"] and quartiles != sorted(quartiles):
            return Verdict(False, f"A group's quartiles are not in order: {group}.")
    return Verdict(True, "Adds up.", {"groups": len(groups), "listings": listings})


@dg.asset_check(
    asset=snapshots.SPEC.key,
    name="yesterday_is_there",
    description="The day that has just ended (UTC) is published and has listings.",
)
def yesterday_is_there(listings_store: ObjectStore) -> dg.AssetCheckResult:
    date = DAILY.get_last_partition_key() or ""
    manifest = read_manifest(listings_store, snapshots.prefix(date))
    metadata = {"date": date, "rows": manifest.rows if manifest else 0}
    if manifest is None:
        said = f"There is no snapshot of {date}: look at the runs of listings_daily."
    elif not manifest.rows:
        said = f"The snapshot of {date} is empty: was the table filled that day?"
    else:
        said = f"{date} is there."
    return dg.AssetCheckResult(
        passed=bool(manifest and manifest.rows), description=said, metadata=metadata
    )
