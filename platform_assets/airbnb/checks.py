"""What must hold of listings and results, date by date; all of it stops what is downstream."""

import io
import json
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from platform_assets.airbnb import processed, snapshots
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.outcomes import Verdict, check_each
from platform_assets.partitions import DAILY, RETRIES
from platform_assets.upstream import require_manifest
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore
from resources.s3_manifest import Manifest, open_file, read_file

_MAX_RESULT_BYTES = 512 * 2**20
_FIELDS = ("id", "first_date", "first_price", "last_date", "last_price", "price_change_per_day")
_MOST = 5


@dg.asset_check(
    asset=snapshots.airbnb_snapshot,
    name="matches_table",
    blocking=True,
    retry_policy=RETRIES,
    partitions_def=DAILY,
    description="The object has as many rows as the table has of the day, and each id once.",
)
def snapshot_matches_table(
    context: dg.AssetCheckExecutionContext,
    postgres: PostgresResource,
    listings_table: ListingsTable,
    listings_store: ObjectStore,
) -> dg.AssetCheckResult:
    return check_each(
        context, lambda date: judge_snapshot(postgres, listings_table, listings_store, date)
    )


def judge_snapshot(
    postgres: PostgresResource, table: ListingsTable, store: ObjectStore, date: str
) -> Verdict:
    """Read the ids out of the object itself and count the table's rows anew."""
    manifest = require_manifest(store, snapshots.prefix(date), "airbnb/snapshot")
    ids = read_ids(store, date, manifest)
    with postgres.connect() as session:
        in_table = session.count(table.table, {"download_date": date})
    distinct = len(ids.unique())
    found = {"rows": len(ids), "rows_in_table": in_table, "distinct_ids": distinct}
    if not len(ids) == manifest.rows == in_table:
        return Verdict(
            False,
            f"The object has {len(ids)} rows, its manifest says {manifest.rows} and the table has "
            f"{in_table} of that day: materialise the snapshot again.",
            found,
        )
    if distinct != len(ids):
        return Verdict(False, f"{len(ids) - distinct} rows repeat an id.", found)
    return Verdict(True, "As in the table.", found)


def read_ids(store: ObjectStore, date: str, manifest: Manifest) -> pa.ChunkedArray:
    """The column `id` of a snapshot, int64, whatever its format."""
    (file,) = manifest.files
    with open_file(store, snapshots.prefix(date), file) as stream:
        if file.name.endswith(".parquet"):
            data = io.BytesIO(stream.read())
            return pq.read_table(data, columns=["id"])["id"]
        compression = "gzip" if file.name.endswith(".gz") else None
        with pa.CompressedInputStream(stream, compression) if compression else stream as plain:
            return pa_csv.read_csv(
                plain,
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=["id"], column_types={"id": pa.int64()}
                ),
            )["id"]


@dg.asset_check(
    asset=processed.PRICE_CHANGES,
    name="real_rises_and_falls",
    blocking=True,
    retry_policy=RETRIES,
    partitions_def=DAILY,
    description=(
        "The five biggest rises and falls are real ones, in order, and those of the whole table."
    ),
)
def price_changes_well_formed(
    context: dg.AssetCheckExecutionContext, listings_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_price_changes(listings_store, date))


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
    if len(table["id"].unique()) != table.num_rows:
        return "The whole table has an id twice."
    first, last = (table[name].cast(pa.int32()).to_numpy() for name in ("first_date", "last_date"))
    if np.any(first >= last):
        return "The whole table has a listing whose first price is not before its last."
    if table.num_rows and max(table["last_date"].to_pylist()).isoformat() > date:
        return f"The whole table has a price of a day after {date}."
    change = (table["last_price"].to_numpy() - table["first_price"].to_numpy()) / (last - first)
    if not np.array_equal(change, table["price_change_per_day"].to_numpy()):
        return "The whole table has a change per day that does not follow from its prices."
    return None


def _biggest(table: pa.Table, order: str) -> list[dict[str, Any]]:
    """The five biggest real rises ("descending") or falls ("ascending"), ties by id."""
    change = table["price_change_per_day"].to_numpy()
    real = table.filter(pa.array(change > 0 if order == "descending" else change < 0))
    top = real.sort_by([("price_change_per_day", order), ("id", "ascending")]).slice(0, _MOST)
    return [
        {
            name: value if isinstance(value, int | float) else value.isoformat()
            for name, value in row.items()
        }
        for row in top.select(_FIELDS).to_pylist()
    ]


@dg.asset_check(
    asset=processed.NEIGHBOURHOOD_SUMMARY,
    name="adds_up",
    blocking=True,
    retry_policy=RETRIES,
    partitions_def=DAILY,
    description="The groups add up to the snapshot, and their quartiles are in order.",
)
def neighbourhood_summary_adds_up(
    context: dg.AssetCheckExecutionContext, listings_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_neighbourhoods(listings_store, date))


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
