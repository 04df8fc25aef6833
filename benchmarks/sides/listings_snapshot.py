"""The platform's own export, the only place where the benchmarks touch it."""

from collections.abc import Callable, Sequence
from typing import Any

from platform_assets.airbnb.exporter import Exporter
from platform_assets.airbnb.listings import ListingsTable
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore


def ours(dsn: str, table: str, form: Any, store: ObjectStore) -> Callable[..., int]:
    """Exports dates over so many connections as there are `workers`, and returns the rows."""
    postgres = PostgresResource(dsn=dsn)

    def export(dates: Sequence[str], *, workers: int) -> int:
        rows = 0
        listings = ListingsTable(table=table, format=form, leave_out=[], connections=workers)
        for outcome in Exporter(postgres, listings, store).export(dates).values():
            if isinstance(outcome, Exception):
                raise outcome
            rows += outcome.metadata["dagster/partition_row_count"]
        return rows

    return export
