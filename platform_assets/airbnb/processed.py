"""The assets `airbnb/price_changes` and `airbnb/neighbourhood_summary`, and their checks.

Both tables are computed and published by the number cruncher, in `numbercruncher/`; where it runs
stands in `resources/docker` and `resources/spark`. Here its messages become outcomes of dates.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from formats.columns import Column
from platform_assets.airbnb.column_descriptions import (
    NEIGHBOURHOOD_COLUMNS,
    NEIGHBOURHOOD_LINEAGE,
    PRICE_CHANGE_COLUMNS,
    PRICE_CHANGES_LINEAGE,
)
from platform_assets.airbnb.market_pictures import (
    MAX_RESULT_BYTES,
    Neighbourhoods,
    show_neighbourhoods,
    show_price_changes,
)
from platform_assets.airbnb.published_snapshots import count_bytes, require_snapshot
from platform_assets.airbnb.snapshots import SNAPSHOT
from platform_assets.chain import ChainAsset, ChainCheck, ChainRun, DatesOutcomes
from platform_assets.checks import Verdict
from platform_assets.lineage import place
from platform_assets.module_runs import refusal_of, run_module
from platform_assets.partitions import DUE_DAILY
from platform_assets.pictures import attempt_to_show, newest
from platform_assets.reports import Materialization, Outcome, table_schema
from resources.docker import ModuleRun
from resources.s3 import Folder, ObjectStore
from resources.spark import SparkResource

MODULE = "numbercruncher"
SPARK_MODULE = "numbercruncher.spark"
SCRATCH = "airbnb/spark"
CODE_VERSION = "1"
_FIELDS = ("id", "first_date", "first_price", "last_date", "last_price", "price_change_per_day")
_MOST = 5
_DESCRIPTIONS = {
    "price_changes": PRICE_CHANGE_COLUMNS,
    "neighbourhood_summary": NEIGHBOURHOOD_COLUMNS,
}
_OUTDATED = Verdict(
    False,
    "An earlier snapshot has come or changed since this was made: materialise it again.",
    severity="warn",
)


def result_folder(store: ObjectStore, key: dg.AssetKey, date: str) -> Folder:
    """Where a date's result stands."""
    return Folder(store, f"{'/'.join(key.path)}/date={date}")


def crunch(run: ChainRun, dates: Sequence[str], keys: Sequence[dg.AssetKey]) -> DatesOutcomes:
    """Make all results of all dates by one run of the number cruncher.

    Where it breaks off, the dates that it had reported count. Later dates whose price changes were
    made of other snapshots than there are now get a warning.
    """
    store: ObjectStore = run.resources.listings_store
    request = {
        "bucket": store.bucket,
        "dates": list(dates),
        "outputs": [key.path[-1] for key in keys],
        "code_version": CODE_VERSION,
        "kms_key_id": store.kms_key_id or "",
    }
    report = run_module(run, lambda: _run_cruncher(run, dates, request), name="The number cruncher")
    check = PRICE_CHANGES.check_key(PRICE_CHANGES.checks[0].name)
    for message in report.messages:
        for date in message.get("outdated", []):
            run.report_later(check, date, _OUTDATED)
    shown, places = newest(dates), Neighbourhoods(store)

    def show(key: dg.AssetKey, date: str) -> dict[str, Any]:
        if date not in shown:
            return {}
        return attempt_to_show(lambda: _show(store, key, date, places))

    return {
        date: {
            key: _outcome(report.by_date[date], key, store, report.run_metadata, show)
            if date in report.by_date
            else report.unreported
            for key in keys
        }
        for date in dates
    }


def _run_cruncher(run: ChainRun, dates: Sequence[str], request: Mapping[str, Any]) -> ModuleRun:
    """In a container, a process, or on Spark, by the settings and by the snapshots' size."""
    store: ObjectStore = run.resources.listings_store
    spark: SparkResource = run.resources.spark
    if not spark.should_run(lambda: count_bytes(store, dates)):
        return run.resources.docker.run(run.context, MODULE, extras=request)
    return spark.run(
        run.context,
        SPARK_MODULE,
        packages=("numbercruncher", "formats"),
        store=store,
        scratch=SCRATCH,
        extras=request,
    )


def _outcome(
    message: Mapping[str, Any],
    key: dg.AssetKey,
    store: ObjectStore,
    run_metadata: Mapping[str, Any],
    show: Callable[[dg.AssetKey, str], dict[str, Any]],
) -> Outcome:
    output = message["outputs"].get(key.path[-1], message)
    if refusal := refusal_of(output):
        return refusal
    return Materialization(
        metadata={
            "dagster/uri": store.uri(output["prefix"]),
            "dagster/partition_row_count": output["rows"],
            "dagster/column_schema": table_schema(
                (Column(**column) for column in output["columns"]), _DESCRIPTIONS[key.path[-1]]
            ),
            "bytes": sum(file["bytes"] for file in output["files"]),
            "unchanged": output["status"] == "unchanged",
            **output["metadata"],
            **run_metadata,
            **show(key, message["date"]),
        },
        data_version=output["data_version"],
    )


def _show(
    store: ObjectStore, key: dg.AssetKey, date: str, places: Neighbourhoods
) -> dict[str, Any]:
    """Tables and pictures of a date's result."""
    result = result_folder(store, key, date).require(key.to_user_string())
    if key == PRICE_CHANGES.key:
        return show_price_changes(result, places)
    return show_neighbourhoods(result, require_snapshot(store, date))


def judge_price_changes(store: ObjectStore, date: str) -> Verdict:
    """Find the biggest rises and falls anew in the whole table, by another library."""
    result = result_folder(store, PRICE_CHANGES.key, date).require("airbnb/price_changes")
    content = result.read("price_changes.parquet", max_bytes=MAX_RESULT_BYTES)
    table = pq.read_table(io.BytesIO(content))
    if problem := _odd_row(table, date):
        return Verdict(False, problem)
    for name, order in (("biggest_increase", "descending"), ("biggest_decrease", "ascending")):
        rows = json.loads(result.read(f"{name}.json", max_bytes=MAX_RESULT_BYTES))
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
    folder = result_folder(store, NEIGHBOURHOOD_SUMMARY.key, date)
    result = folder.require("airbnb/neighbourhood_summary")
    rows = require_snapshot(store, date).manifest.rows
    groups = json.loads(result.read("neighbourhood_summary.json", max_bytes=MAX_RESULT_BYTES))
    listings = sum(group["listings"] for group in groups)
    if listings != rows:
        return Verdict(False, f"The groups have {listings} listings, the snapshot {rows}.")
    for group in groups:
        quartiles = [group["lower_quartile"], group["median"], group["upper_quartile"]]
        if not 0 <= group["priced"] <= group["listings"]:
            return Verdict(False, f"A group has more priced listings than listings: {group}.")
        if group["priced"] and quartiles != sorted(quartiles):
            return Verdict(False, f"A group's quartiles are not in order: {group}.")
    return Verdict(True, "Adds up.", {"groups": len(groups), "listings": listings})


def _asset(
    name: str, description: str, lineage: dg.TableColumnLineage, check: ChainCheck
) -> ChainAsset:
    return ChainAsset(
        spec=dg.AssetSpec(
            key=["airbnb", name],
            deps=[SNAPSHOT.spec],
            group_name="airbnb",
            kinds={"docker", "pandas", "s3"},
            owners=["team:data-engineering"],
            tags=place("listings", "derived"),
            description=description,
            code_version=CODE_VERSION,
            freshness_policy=DUE_DAILY,
            metadata={"dagster/column_lineage": lineage},
        ),
        make=crunch,
        resources=frozenset({"docker", "listings_store", "spark"}),
        checks=[check],
    )


PRICE_CHANGES = _asset(
    "price_changes",
    "How each listing's price changed from its first to its last priced snapshot up to the day; "
    "with the five biggest rises and falls.",
    PRICE_CHANGES_LINEAGE,
    ChainCheck(
        "real_rises_and_falls",
        "The five biggest rises and falls are real ones, in order, and those of the whole table.",
        lambda resources, date: judge_price_changes(resources.listings_store, date),
    ),
)
NEIGHBOURHOOD_SUMMARY = _asset(
    "neighbourhood_summary",
    "Listings and prices of the day by neighbourhood and room type.",
    NEIGHBOURHOOD_LINEAGE,
    ChainCheck(
        "adds_up",
        "The groups add up to the snapshot, and their quartiles are in order.",
        lambda resources, date: judge_neighbourhoods(resources.listings_store, date),
    ),
)
