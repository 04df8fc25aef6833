"""The asset `airbnb/snapshot`: a day's listings as one object in S3, and its checks.

How days of a table are exported, judged and published stands in `platform_assets.tables`.
"""

from collections.abc import Sequence

import dagster as dg

from platform_assets.airbnb.column_descriptions import SNAPSHOT_LINEAGE
from platform_assets.airbnb.listings import RULES
from platform_assets.airbnb.observed_listings import listings
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.chain import ChainRun, make_together
from platform_assets.checks import Verdict, to_result
from platform_assets.lineage import place
from platform_assets.partitions import DAILY, DUE_DAILY
from platform_assets.reports import Outcomes, expected_errors_as_failures
from platform_assets.tables.exporter import CODE_VERSION
from platform_assets.tables.snapshots import export_dates, snapshot_asset
from resources.s3 import ObjectStore


@make_together
def make_snapshots(run: ChainRun, dates: Sequence[str]) -> Outcomes:
    """Export dates of the table, and publish those that no check of their rows refuses."""
    return export_dates(run, run.resources.listings_table, dates)


SNAPSHOT = snapshot_asset(
    dg.AssetSpec(
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
        metadata={"dagster/column_lineage": SNAPSHOT_LINEAGE},
    ),
    RULES,
    make_snapshots,
)


# A check of the table, so that no backfill of snapshots takes it along: it is of no partition.
@dg.asset_check(
    asset=listings.key,
    name="yesterday_is_there",
    description="The day that has just ended (UTC) is published and has listings.",
)
def yesterday_is_there(listings_store: ObjectStore) -> dg.AssetCheckResult:
    # Not a failed check alone: of failed runs there are alerts.
    with expected_errors_as_failures():
        verdict = judge_yesterday(listings_store, DAILY.get_last_partition_key())
    return to_result(verdict)


def judge_yesterday(store: ObjectStore, date: str | None) -> Verdict:
    """Look whether a day's snapshot is published and has listings.

    Args:
        date: The day; None where none has ended that can be materialised.

    Raises:
        resources.s3.StoreError: The store could not be asked.
    """
    if date is None:
        return Verdict(False, "No day has ended yet since PLATFORM_FIRST_PARTITION: correct it.")
    snapshot = snapshot_folder(store, date).published()
    rows = snapshot.manifest.rows if snapshot else 0
    if snapshot is None:
        message = f"There is no snapshot of {date}: look at the runs of listings_daily."
    elif not rows:
        message = f"The snapshot of {date} is empty: was the table filled that day?"
    else:
        message = f"{date} is there."
    return Verdict(rows > 0, message, {"date": date, "rows": rows})
