"""Tables like `listings` of any size, and the platform's own export of them. For sides only.

`snapshot` is the only place where the benchmarks call the export of the platform.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import psycopg2
from psycopg2 import sql

_FIRST = date(2024, 1, 1)
# 17 columns as the platform expects them, in lengths as in real files: 194 bytes a row as CSV.
_ROWS = """
    select
        day * {rows} + i + 600000000000000000 as id,
        (array['Cosy', 'Bright', 'Quiet, central', 'Stylish', '"Lovely"'])[1 + i % 5]
            || ' apartment ' || i || ' near the ' || (array['canal', 'park', 'museum'])[1 + i % 3]
            || ', free Wi-Fi' as name,
        100000 + i / 2 * 37 as host_id,
        (array['Anna', 'Bartholomeus', 'Zoë', 'Jan & Piet'])[1 + i % 4] as host_name,
        null::text as neighbourhood_group,
        (array['Centrum-West', 'De Baarsjes - Oud-West', 'Noord', 'Zuidoost', ''])[1 + i % 5]
            as neighbourhood,
        52.3 + (i * 7919 % 100000) / 1000000.0::double precision as latitude,
        4.8 + (i * 104729 % 100000) / 1000000.0::double precision as longitude,
        (array['Entire home/apt', 'Entire home/apt', 'Private room'])[1 + i % 3] as room_type,
        case when i % 7 > 0 then 40 + (i * 31 + day * 3) % 400 end::double precision as price,
        (1 + i % 14)::int as minimum_nights,
        (i * 13 % 900)::int as number_of_reviews,
        case when i % 9 > 0 then date '2023-01-01' + (i % 700)::int end as last_review,
        case when i % 9 > 0 then (i % 900) / 100.0 end::double precision as reviews_per_month,
        (1 + i % 40)::int as calculated_host_listings_count,
        (i % 366)::int as availability_365,
        ({first} + day)::date as download_date
    from generate_series(0, {days} - 1) day, generate_series(1::bigint, {rows}) i
    order by day, i
"""


def dsn() -> str:
    """Of the services' Postgres."""
    return os.environ["PLATFORM_POSTGRES_DSN"]


def days(count: int) -> list[str]:
    """The first `count` dates of a table, in the ISO format."""
    return [(_FIRST + timedelta(n)).isoformat() for n in range(count)]


def table(rows: int, day_count: int = 1) -> str:
    """The name of a table with so many rows on each of so many days, made unless it exists."""
    name = f"listings_{rows}_{day_count}"
    with closing(psycopg2.connect(dsn())) as connection, connection, connection.cursor() as cursor:
        cursor.execute("select to_regclass(%s)", (name,))
        if cursor.fetchone() == (None,):
            create = sql.SQL(f"create table {{name}} as {_ROWS}").format(
                name=sql.Identifier(name),
                rows=sql.Literal(rows),
                first=sql.Literal(_FIRST),
                days=sql.Literal(day_count),
            )
            cursor.execute(create)
            key = sql.SQL("alter table {} add primary key (download_date, id)")
            cursor.execute(key.format(sql.Identifier(name)))
            cursor.execute(sql.SQL("analyze {}").format(sql.Identifier(name)))
    return name


def snapshot(table: str, form: Any, store: Any, dates: Sequence[str], *, workers: int) -> int:
    """Exports dates of a table as the asset `airbnb/snapshot` does; returns the number of rows.

    Args:
        table: Name of the table.
        form: `csv` or `parquet`.
        store: The platform's ObjectStore.
        dates: ISO dates.
        workers: How many of them are exported at the same time.
    """
    from platform_assets.airbnb.listings import ListingsTable
    from platform_assets.tables.exporter import Exporter
    from resources.postgres import PostgresResource

    listings = ListingsTable(table=table, format=form, leave_out=[], connections=workers)
    exporter = Exporter(PostgresResource(dsn=dsn()), listings, store)
    rows = 0
    for outcome in exporter.export(dates).values():
        if isinstance(outcome, Exception):
            raise outcome
        rows += outcome.metadata["dagster/partition_row_count"]
    return rows
