"""How many rows a table has of each day, and a digest of them: one aggregate inside the database.

It tells cheaply whether anything was changed, however many rows there are; only a line a day leaves
the database.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from resources.postgres.casts import SourceColumn, cast
from resources.postgres.query import Extract, cast_of, relation, where_clause


@dataclass(frozen=True)
class Fingerprint:
    """The rows of one day.

    Attributes:
        day: `YYYY-MM-DD`; None of rows without a day, and where the table has none.
        rows: How many there are.
        digest: Changes if any value of them does (sha256, hexadecimal). It does not depend on the
            order in which they are read; another major version of Postgres may give another.
    """

    day: str | None
    rows: int
    digest: str


def select_fingerprints(extract: Extract, day: SourceColumn | None) -> sql.Composed:
    """SELECT of the rows and the digest of each day, for `read_fingerprints`."""
    values = [cast_of(extract, column.name).value for column in extract.columns]
    return sql.SQL(
        "select {day}, count(*), coalesce(sum(hashtextextended(row({values})::text, 0)), 0)::text "
        "from {table} as t{where} group by 1 order by 1"
    ).format(
        day=_day(day),
        values=sql.SQL(", ").join(values),
        table=relation(extract.table),
        where=where_clause(extract.where),
    )


def read_fingerprints(rows: Sequence[Sequence[Any]]) -> list[Fingerprint]:
    """The rows of `select_fingerprints`, in the order of their days."""
    return [
        Fingerprint(day, count, hashlib.sha256(f"{count} {hashes}".encode()).hexdigest())
        for day, count, hashes in rows
    ]


def _day(column: SourceColumn | None) -> sql.Composable:
    if column is None:
        return sql.SQL("null::text")
    if column.is_text:
        return sql.SQL("({})::text").format(cast(column, "date32").value)
    # Sessions have the time zone UTC.
    return sql.SQL("{}::date::text").format(sql.Identifier("t", column.name))
