"""The asset `airbnb/snapshot`: a day's listings as one object in S3, and its checks.

How days are exported stands in `exporter.py`, what their rows must be like in `quality.py`.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import numpy as np

from formats.columns import compare_columns
from platform_assets.airbnb import quality
from platform_assets.airbnb.column_descriptions import snapshot_lineage
from platform_assets.airbnb.exporter import CODE_VERSION, Exporter
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.airbnb.observed_listings import listings
from platform_assets.airbnb.published_snapshots import (
    TrailingProfiles,
    read_columns,
    read_profile,
    require_snapshot,
    snapshot_folder,
)
from platform_assets.chain import (
    ChainAsset,
    ChainCheck,
    ChainRun,
    DatesOutcomes,
)
from platform_assets.checks import Verdict
from platform_assets.lineage import place
from platform_assets.partitions import DAILY, DUE_DAILY
from resources.cancellation import Cancellation
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore, Published


def make_snapshots(
    run: ChainRun, dates: Sequence[str], keys: Sequence[dg.AssetKey]
) -> DatesOutcomes:
    """Export dates of the table, and publish those that no check of their rows refuses."""
    exporter = Exporter(
        run.resources.postgres,
        run.resources.listings_table,
        run.resources.listings_store,
        check_cancelled=Cancellation(run.context.instance, run.context.run).check,
    )
    return {date: dict.fromkeys(keys, outcome) for date, outcome in exporter.export(dates).items()}


def judge_published(
    store: ObjectStore, table: ListingsTable, dates: Sequence[str]
) -> dict[str, dict[str, Verdict]]:
    """Judge snapshots that are published, as the next export would: date → check → verdict."""
    trailing = TrailingProfiles(store, table.limits.drift_days)
    verdicts: dict[str, dict[str, Verdict]] = {}
    for date in dates:
        snapshot_and_profile = read_profile(store, date)
        if snapshot_and_profile is None:
            message = f"There is no snapshot with a profile of {date}: materialise it first."
            verdicts[date] = dict.fromkeys(quality.CHECKS, Verdict(False, message))
        else:
            snapshot, profile = snapshot_and_profile
            differences = compare_columns(table.exported_contract, snapshot.manifest.columns)
            candidate = quality.Candidate(profile, differences, trailing.before(date))
            verdicts[date] = quality.judge(candidate, table.limits)
    return verdicts


def judge_matches_table(
    postgres: PostgresResource, table: ListingsTable, store: ObjectStore, date: str
) -> Verdict:
    """Read the ids out of the object itself, and count the table's rows anew where it has days.

    The object must be what was exported, and all of it. A table that has lost rows since is a
    warning.
    """
    snapshot = require_snapshot(store, date)
    rows, repeated = count_ids(snapshot)
    expected = snapshot.manifest.rows
    counts = {"rows": rows, "rows_in_manifest": expected}
    if rows != expected:
        return Verdict(
            False,
            f"The object has {rows} rows, its manifest says {expected}: materialise the snapshot "
            "again.",
            counts,
        )
    if repeated:
        return Verdict(False, f"{repeated} rows do not follow the id before them.", counts)
    if not table.day:
        return Verdict(True, "As exported; the table holds what is now, and no days.", counts)
    with postgres.connect() as session:
        columns, _ = table.compare(session)
        in_table = session.count(table.source, table.where(columns, date))
    counts["rows_in_table"] = in_table
    difference = f"The table has {in_table} rows of that day by now, the object {rows}"
    if in_table > rows:
        return Verdict(
            False,
            f"{difference}: it was taken while the day was being loaded. Materialise the snapshot "
            "again.",
            counts,
        )
    if in_table < rows:
        message = f"{difference}: materialise the snapshot again."
        return Verdict(False, message, counts, severity="warn")
    return Verdict(True, "As in the table.", counts)


def count_ids(snapshot: Published) -> tuple[int, int]:
    """How many rows a snapshot has, and how many whose id is not above that of the row before.

    Rows are in the order of their ids, so that one pass in bounded memory finds repeated ones.
    """
    rows = wrong = 0
    last: Any = None
    for batch in read_columns(snapshot, "id"):
        ids = batch.column(0).to_numpy(zero_copy_only=False)
        if not len(ids):
            continue
        rows += len(ids)
        wrong += int(np.count_nonzero(ids[1:] <= ids[:-1])) + (last is not None and ids[0] <= last)
        last = ids[-1]
    return rows, wrong


SNAPSHOT = ChainAsset(
    spec=dg.AssetSpec(
        key=["airbnb", "snapshot"],
        deps=[listings],
        group_name="airbnb",
        kinds={"s3", "postgres"},
        owners=["team:data-engineering"],
        tags=place("listings", "raw"),
        description=(
            "The rows of one day as they were in one state of the table, ordered by id. A day "
            "without rows is an empty snapshot that says so; a day that a check refuses is not "
            "published."
        ),
        code_version=CODE_VERSION,
        freshness_policy=DUE_DAILY,
        metadata={"dagster/column_lineage": snapshot_lineage()},
    ),
    make=make_snapshots,
    resources=frozenset({"postgres", "listings_table", "listings_store"}),
    checks=[
        *(ChainCheck(name, check.description) for name, check in quality.CHECKS.items()),
        ChainCheck(
            "matches_table",
            "The object has as many rows as the table has of the day, in the order of their ids.",
            lambda resources, date: judge_matches_table(
                resources.postgres, resources.listings_table, resources.listings_store, date
            ),
        ),
    ],
    judge_published=lambda resources, dates: judge_published(
        resources.listings_store, resources.listings_table, dates
    ),
)


# A check of the table, so that no backfill of snapshots takes it along: it is of no partition.
@dg.asset_check(
    asset=listings.key,
    name="yesterday_is_there",
    description="The day that has just ended (UTC) is published and has listings.",
)
def yesterday_is_there(listings_store: ObjectStore) -> dg.AssetCheckResult:
    date = DAILY.get_last_partition_key() or ""
    snapshot = snapshot_folder(listings_store, date).published()
    rows = snapshot.manifest.rows if snapshot else 0
    if snapshot is None:
        message = f"There is no snapshot of {date}: look at the runs of listings_daily."
    elif not rows:
        message = f"The snapshot of {date} is empty: was the table filled that day?"
    else:
        message = f"{date} is there."
    return dg.AssetCheckResult(
        passed=rows > 0, description=message, metadata={"date": date, "rows": rows}
    )
