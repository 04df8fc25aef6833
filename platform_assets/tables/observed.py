"""A source table, observed day by day: which days have other rows than when it was last looked."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import dagster as dg

from platform_assets.partitions import DAILY
from platform_assets.reports import DATA_VERSION_TAG, expected_errors_as_failures
from platform_assets.tables.source_table import ColumnNamesError, SourceTable
from resources.postgres import Fingerprint, PostgresResource

OBSERVED = ("platform/observed", "table")
"""The tag of all tables that are observed: by it, the job that looks at them finds them."""

_OBSERVATIONS_AT_ONCE = 1000
# The version of a day that has lost all its rows.
_NO_ROWS = hashlib.sha256().hexdigest()


def observed_table(spec: dg.AssetSpec, resource: str) -> dg.AssetsDefinition:
    """The asset of a table that is filled from outside; a day's data version is that of its rows.

    Args:
        spec: Of the asset.
        resource: The key of the resource that is its `SourceTable`.
    """

    @dg.multi_observable_source_asset(
        name=spec.key.to_python_identifier(),
        # It yields nothing: a result has no partition, so what it tells of each day is logged.
        specs=[spec.replace_attributes(skippable=True).merge_attributes(tags=dict([OBSERVED]))],
        partitions_def=DAILY,
        required_resource_keys={"postgres", resource},
    )
    def table(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
        source: SourceTable = getattr(context.resources, resource)
        with expected_errors_as_failures():
            days = read_days(context.resources.postgres, source)
        versions = observed_versions(context.instance, spec.key)
        if not source.date_column:  # what it held on earlier days is not gone
            today = {rows.day for rows in days}
            versions = {day: version for day, version in versions.items() if day in today}
        table_name = "" if source.query else source.table
        for observation in describe_days(spec.key, days, versions, table_name=table_name):
            context.log_event(observation)
        yield from ()

    return table


def read_days(postgres: PostgresResource, table: SourceTable) -> list[Fingerprint]:
    """The rows of each day that the table has now, in one pass over it.

    Raises:
        ColumnNamesError: As `SourceTable.compare` does; or columns that results need are missing.
        resources.postgres.errors.DatabaseError: The table cannot be read.
    """
    with postgres.connect() as session:
        columns, differences = table.compare(session)
        if differences.breaking:
            raise ColumnNamesError(
                f"The table {table.source} cannot be observed: {differences.describe()}. Correct "
                f"it, or map its names by {table.setting('columns')}."
            )
        content, day = table.content(columns)
        session.examine(content)
        days = session.fingerprints(content, day)
    if day is None:
        newest = DAILY.get_last_partition_key()
        return [replace(rows, day=newest) for rows in days]
    return days


def describe_days(
    key: dg.AssetKey, days: Sequence[Fingerprint], versions: Mapping[str, str], *, table_name: str
) -> Iterator[dg.AssetObservation]:
    """An observation of the table, after one of each day that has changed.

    Args:
        key: Of the table's asset.
        days: What the table has.
        versions: Day → its version when it was observed last.
        table_name: Empty where a query stands in the place of a table.
    """
    partitions = set(DAILY.get_partition_keys())
    known = {rows.day: rows for rows in days if rows.day in partitions}
    lost = partitions & (versions.keys() - known.keys())
    emptied = [Fingerprint(day, 0, _NO_ROWS) for day in sorted(lost)]
    changed = [
        rows for rows in [*known.values(), *emptied] if versions.get(str(rows.day)) != rows.digest
    ]
    for rows in changed:
        yield dg.AssetObservation(
            key,
            partition=rows.day,
            metadata={"dagster/partition_row_count": rows.rows},
            tags={DATA_VERSION_TAG: rows.digest},
        )
    outside = sum(rows.rows for rows in days) - sum(rows.rows for rows in known.values())
    whole = hashlib.sha256("".join(f"{d.day} {d.digest}\n" for d in days).encode())
    yield dg.AssetObservation(
        key,
        metadata={
            "dagster/row_count": sum(rows.rows for rows in days),
            "days": len(known),
            **({"newest_day": str(max(known, key=str))} if known else {}),
            "changed_days": len(changed),
            **({"dagster/table_name": table_name} if table_name else {}),
            **({"rows_of_no_partition": outside} if outside else {}),
        },
        tags={DATA_VERSION_TAG: whole.hexdigest()},
    )


def observed_versions(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str]:
    """Day → its version when it was observed last; a day is observed again only when it changes."""
    versions: dict[str, str] = {}
    cursor: str | None = None
    while True:
        page = instance.fetch_observations(key, limit=_OBSERVATIONS_AT_ONCE, cursor=cursor)
        for record in page.records:
            observation = record.asset_observation
            if observation and observation.partition:
                version = (observation.tags or {}).get(DATA_VERSION_TAG, "")
                versions.setdefault(observation.partition, version)
        if not page.has_more:
            return versions
        cursor = page.cursor
