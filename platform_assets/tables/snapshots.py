"""The asset of a table's snapshots: a day's rows as one object in S3, and its checks.

How days are exported stands in `exporter.py`, what their rows must be like in `quality.py`.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import numpy as np

from formats.columns import compare_columns
from platform_assets.chain import ChainAsset, ChainCheck, ChainRun, Maker
from platform_assets.checks import Verdict
from platform_assets.reports import Outcomes
from platform_assets.tables import quality
from platform_assets.tables.exporter import Exporter
from platform_assets.tables.published_snapshots import (
    TrailingProfiles,
    read_columns,
    read_profile,
)
from platform_assets.tables.source_table import Rules, SourceTable
from resources.cancellation import Cancellation
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore, Published


def judge_published(
    store: ObjectStore, table: SourceTable, dates: Sequence[str]
) -> dict[str, dict[str, Verdict]]:
    """Judge snapshots that are published, as the next export would: date → check → verdict."""
    trailing = TrailingProfiles(lambda date: table.folder(store, date), table.limits.drift_days)
    verdicts: dict[str, dict[str, Verdict]] = {}
    for date in dates:
        snapshot_and_profile = read_profile(table.folder(store, date))
        if snapshot_and_profile is None:
            message = f"There is no snapshot with a profile of {date}: materialise it first."
            refusal = Verdict(False, message)
            verdicts[date] = dict.fromkeys(quality.checks_of(table.rules), refusal)
        else:
            snapshot, profile = snapshot_and_profile
            differences = compare_columns(table.exported_contract, snapshot.manifest.columns)
            candidate = quality.Candidate(profile, differences, trailing.before(date))
            verdicts[date] = quality.judge(candidate, table.limits, table.rules)
    return verdicts


def judge_matches_table(
    postgres: PostgresResource, table: SourceTable, store: ObjectStore, date: str
) -> Verdict:
    """Read the keys out of the object itself, and count the table's rows anew where it has days.

    The object must be what was exported, and all of it. A table that has lost rows since is a
    warning.
    """
    snapshot = table.folder(store, date).require(table.asset)
    rows, repeated = count_keys(snapshot, table.rules.key)
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
        message = f"{repeated} rows do not follow the {table.rules.key} before them."
        return Verdict(False, message, counts)
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


def count_keys(snapshot: Published, key: str) -> tuple[int, int]:
    """How many rows a snapshot has, and how many whose key is not above that of the row before.

    Rows are in the order of their keys, so that one pass in bounded memory finds repeated ones.
    """
    rows = wrong = 0
    last: Any = None
    for batch in read_columns(snapshot, key):
        ids = batch.column(0).to_numpy(zero_copy_only=False)
        if not len(ids):
            continue
        rows += len(ids)
        wrong += int(np.count_nonzero(ids[1:] <= ids[:-1])) + (last is not None and ids[0] <= last)
        last = ids[-1]
    return rows, wrong


def export_dates(run: ChainRun, table: SourceTable, dates: Sequence[str]) -> Outcomes:
    """Export dates of a table, and publish those that no check of their rows refuses."""
    exporter = Exporter(
        run.resources.postgres,
        table,
        run.resources.listings_store,
        check_cancelled=Cancellation(run.context.instance, run.context.run).check,
    )
    return exporter.export(dates)


def snapshot_asset(spec: dg.AssetSpec, rules: Rules, make: Maker) -> ChainAsset:
    """The asset of a table's snapshots, with its checks.

    Args:
        rules: Of the table, which is the resource that they name.
        make: Calls `export_dates` with the table.
    """
    key = rules.resource
    return ChainAsset(
        spec=spec,
        make=make,
        resources=frozenset({"postgres", key, "listings_store"}),
        checks=[
            *(
                ChainCheck(name, check.description)
                for name, check in quality.checks_of(rules).items()
            ),
            ChainCheck(
                "matches_table",
                "The object has as many rows as the table has of the day, in the order of their "
                f"{rules.key}s.",
                lambda resources, date: judge_matches_table(
                    resources.postgres, getattr(resources, key), resources.listings_store, date
                ),
            ),
        ],
        judge_published=lambda resources, dates: judge_published(
            resources.listings_store, getattr(resources, key), dates
        ),
    )
