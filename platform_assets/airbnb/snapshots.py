"""A day's listings as one object in S3, published with a manifest that says what is in it."""

import dagster as dg

from platform_assets.airbnb.listings import ListingsTable, listings
from platform_assets.outcomes import Made, make_each, report
from platform_assets.partitions import DAILY, ONE_RUN, RETRIES
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore
from resources.s3_manifest import Manifest
from resources.s3_publication import Publication

CODE_VERSION = "1"
PREFIX = "airbnb/listings"
# Dates that are exported at the same time, each over connections of its own.
_AT_ONCE = 2


class ContractBrokenError(Exception):
    """The table no longer has what readers rely on; nothing was published."""


def prefix(date: str) -> str:
    """Where a date's snapshot stands."""
    return f"{PREFIX}/date={date}"


@dg.asset(
    key=["airbnb", "snapshot"],
    deps=[listings],
    group_name="airbnb",
    kinds={"s3", "postgres"},
    owners=["team:data-engineering"],
    description=(
        "The rows of one day as they were in one state of the table, ordered by id. A day without "
        "rows is an empty snapshot that says so."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    retry_policy=RETRIES,
)
def airbnb_snapshot(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    listings_table: ListingsTable,
    listings_store: ObjectStore,
) -> dg.MaterializeResult:
    outcomes = make_each(
        context.partition_keys,
        lambda date: snapshot(postgres, listings_table, listings_store, date),
        workers=_AT_ONCE,
    )
    return report(context, outcomes)


def snapshot(
    postgres: PostgresResource, table: ListingsTable, store: ObjectStore, date: str
) -> Made:
    """Export and publish a date's rows. The same rows leave what is there as it is.

    Raises:
        ContractBrokenError: A column has gone or changed its type.
        resources.errors.ResourceError: The database or the store failed.
    """
    file = f"listings.{table.format}"
    with postgres.connect() as session, Publication(store, prefix(date)) as publication:
        columns, differences = table.compare(session)
        if differences.breaking:
            raise ContractBrokenError(
                f"The table {table.table} is not what its readers rely on: "
                f"{differences.describe()}. Give it back, or change the contract and its readers."
            )
        extract = table.extract(columns, date)
        exported = session.export(extract, publication.open(file), format=table.format)
        published = publication.commit(
            partition=date,
            rows=exported.rows,
            columns=exported.columns,
            code_version=CODE_VERSION,
        )
    return Made(
        metadata={
            **_described(published.manifest),
            "dagster/uri": published.uri + file,
            "new_columns": [column.name for column in differences.new],
            "left_out": table.leave_out,
            "unchanged": not published.changed,
        },
        data_version=published.manifest.content_sha256,
    )


def _described(manifest: Manifest) -> dict[str, object]:
    said = {} if manifest.rows else {"empty": "The table has no rows of this day."}
    return {
        "dagster/partition_row_count": manifest.rows,
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(column.name, column.type) for column in manifest.columns]
        ),
        "bytes": manifest.size,
        **said,
    }
