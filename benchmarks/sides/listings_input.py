"""Tables like `listings` of any size, made in the database, and the parts of the platform to read
them with. Shared by all sides that export.
"""

import os
from contextlib import closing
from datetime import date, timedelta

import psycopg2
from psycopg2 import sql

FIRST = date(2024, 1, 1)
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
    """Of the benchmarks' own Postgres."""
    return os.environ["PLATFORM_POSTGRES_DSN"]


def days(count: int) -> list[str]:
    """ISO dates, one after the other."""
    return [(FIRST + timedelta(n)).isoformat() for n in range(count)]


def table(rows: int, count: int = 1) -> str:
    """The name of a table with so many rows on each of so many days; made if there is none."""
    name = f"listings_{rows}_{count}"
    with closing(psycopg2.connect(dsn())) as connection, connection, connection.cursor() as cursor:
        cursor.execute("select to_regclass(%s)", (name,))
        if cursor.fetchone() == (None,):
            made = sql.SQL(f"create table {{name}} as {_ROWS}").format(
                name=sql.Identifier(name),
                rows=sql.Literal(rows),
                first=sql.Literal(FIRST),
                days=sql.Literal(count),
            )
            cursor.execute(made)
            key = sql.SQL("alter table {} add primary key (download_date, id)")
            cursor.execute(key.format(sql.Identifier(name)))
            cursor.execute(sql.SQL("analyze {}").format(sql.Identifier(name)))
    return name
