"""A market of listings for tests: days of it, and what SQL on the table says should come out."""

import io
import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg2.extensions import connection

if TYPE_CHECKING:
    from tests.platform_assets.conftest import Platform

DATES = [(date(2026, 3, 1) + timedelta(n)).isoformat() for n in range(4)]
FIRST, LAST = DATES[0], DATES[-1]
WEEK = [(date(2026, 4, 1) + timedelta(n)).isoformat() for n in range(9)]
SNAPSHOT, CHANGES = "airbnb/snapshot", "airbnb/price_changes"
SUMMARY = "airbnb/neighbourhood_summary"
CHANGES_SQL = """
    with priced as (
        select id, download_date as day, price from listings
        where download_date <= %(day)s and price is not null
    ), ends as (
        select id, min(day) as first_date, max(day) as last_date from priced group by id
        having min(day) < max(day)
    )
    select e.id, e.first_date::text, f.price, e.last_date::text, l.price,
           (l.price - f.price) / (e.last_date - e.first_date) as change
    from ends e
    join priced f on f.id = e.id and f.day = e.first_date
    join priced l on l.id = e.id and l.day = e.last_date
"""
SUMMARY_SQL = """
    select neighbourhood, room_type, count(*), count(price), avg(price),
           percentile_cont(0.25) within group (order by price),
           percentile_cont(0.5) within group (order by price),
           percentile_cont(0.75) within group (order by price)
    from listings where download_date = %(day)s group by neighbourhood, room_type
"""


def ask(table: connection, query: str, **values: object) -> list[tuple[Any, ...]]:
    with table.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def change(table: connection, statement: str, **values: object) -> None:
    with table.cursor() as cursor:
        cursor.execute(statement, values)


def result(platform: "Platform", asset: str, day: str, name: str) -> Any:
    data = platform.store.get_bytes(f"{asset}/date={day}/{name}", max_bytes=2**24)
    return json.loads(data)


def parquet(platform: "Platform", key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(platform.store.get_bytes(key, max_bytes=2**24)))


def biggest(table: connection, day: str, order: str) -> list[dict[str, object]]:
    sign, direction = (">", "desc") if order == "rises" else ("<", "asc")
    rows = ask(
        table,
        f"select * from ({CHANGES_SQL}) c where change {sign} 0 "
        f"order by change {direction}, id limit 5",
        day=day,
    )
    names = ("id", "first_date", "first_price", "last_date", "last_price", "price_change_per_day")
    return [dict(zip(names, row, strict=True)) for row in rows]
