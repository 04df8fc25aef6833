"""The asset `airbnb/listings`: the source table, observed day by day.

Which table it is, and what of it may leave the database, stands in `listings.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import dagster as dg

from platform_assets.airbnb.column_descriptions import LISTING_COLUMNS
from platform_assets.airbnb.listings import CONTRACT, ListingsTable
from platform_assets.errors import EXPECTED
from platform_assets.lineage import place
from platform_assets.partitions import DAILY
from platform_assets.reports import DATA_VERSION_TAG, table_schema, to_failure
from platform_assets.tables.source_table import ColumnNamesError
from resources.postgres import Fingerprint, PostgresResource

LISTINGS = dg.AssetKey(["airbnb", "listings"])
_OBSERVATIONS_AT_ONCE = 1000
# The version of a day that has lost all its rows.
_NO_ROWS = hashlib.sha256().hexdigest()


@dg.multi_observable_source_asset(
    name="airbnb__listings",
    specs=[
        dg.AssetSpec(
            LISTINGS,
            group_name="airbnb",
            kinds={"postgres", "table"},
            owners=["team:data-engineering"],
            tags=place("listings", "source"),
            description=(
                "Listings as downloaded, a row for each listing and day; filled from outside. A "
                "day's data version changes with any of its rows."
            ),
            metadata={
                "dagster/table_name": "listings",
                "dagster/column_schema": table_schema(CONTRACT, LISTING_COLUMNS),
            },
            # It yields nothing: a result has no partition, so what it tells of each day is logged.
            skippable=True,
        )
    ],
    partitions_def=DAILY,
)
def listings(
    context: dg.AssetExecutionContext, postgres: PostgresResource, listings_table: ListingsTable
) -> Iterator[dg.ObserveResult]:
    try:
        days = read_days(postgres, listings_table)
    except EXPECTED as error:
        raise to_failure(error) from error
    seen = versions_seen(context.instance)
    if not listings_table.date_column:  # what it held on earlier days is not gone
        seen = {day: version for day, version in seen.items() if day == days[0].day} if days else {}
    for observation in describe_days(days, seen):
        context.log_event(observation)
    yield from ()


def read_days(postgres: PostgresResource, table: ListingsTable) -> list[Fingerprint]:
    """The rows of each day that the table has now, in one pass over it.

    Raises:
        ColumnNamesError: As `ListingsTable.compare` does; or columns that results need are missing.
        resources.postgres.errors.DatabaseError: The table cannot be read.
    """
    with postgres.connect() as session:
        columns, differences = table.compare(session)
        if differences.breaking:
            raise ColumnNamesError(
                f"The table {table.source} cannot be observed: {differences.describe()}. Correct "
                "it, or map its names by PLATFORM_LISTINGS_COLUMNS."
            )
        content, day = table.content(columns)
        session.examine(content)
        days = session.fingerprints(content, day)
    if day is None:
        newest = DAILY.get_last_partition_key()
        return [replace(rows, day=newest) for rows in days]
    return days


def describe_days(
    days: Sequence[Fingerprint], seen: Mapping[str, str]
) -> Iterator[dg.AssetObservation]:
    """An observation of the table, after one of each day whose version is not the one in `seen`."""
    partitions = set(DAILY.get_partition_keys())
    known = {rows.day: rows for rows in days if rows.day in partitions}
    emptied = [
        Fingerprint(day, 0, _NO_ROWS) for day in sorted(partitions & (seen.keys() - known.keys()))
    ]
    changed = [
        rows for rows in [*known.values(), *emptied] if seen.get(str(rows.day)) != rows.digest
    ]
    for rows in changed:
        yield dg.AssetObservation(
            LISTINGS,
            partition=rows.day,
            metadata={"dagster/partition_row_count": rows.rows},
            tags={DATA_VERSION_TAG: rows.digest},
        )
    outside = sum(rows.rows for rows in days) - sum(rows.rows for rows in known.values())
    whole = hashlib.sha256("".join(f"{d.day} {d.digest}\n" for d in days).encode())
    yield dg.AssetObservation(
        LISTINGS,
        metadata={
            "dagster/row_count": sum(rows.rows for rows in days),
            "days": len(known),
            "newest_day": str(max(known, key=str, default=None)),
            "changed_days": len(changed),
            **({"rows_of_no_partition": outside} if outside else {}),
        },
        tags={DATA_VERSION_TAG: whole.hexdigest()},
    )


def versions_seen(instance: dg.DagsterInstance) -> dict[str, str]:
    """Day → its version when it was observed last; a day is observed again only when it changes."""
    versions: dict[str, str] = {}
    cursor: str | None = None
    while True:
        page = instance.fetch_observations(LISTINGS, limit=_OBSERVATIONS_AT_ONCE, cursor=cursor)
        for record in page.records:
            observation = record.asset_observation
            if observation and observation.partition:
                version = (observation.tags or {}).get(DATA_VERSION_TAG, "")
                versions.setdefault(observation.partition, version)
        if not page.has_more:
            return versions
        cursor = page.cursor
