"""The table `listings` in Postgres: its columns, and writing whole days into it.

The generator (`seed_listings`) and the loader of real files (`load_listings`) write by it. The
platform reads the table by code of its own.
"""

import datetime as dt
import io
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pyarrow as pa
import pyarrow.csv as pacsv
from psycopg2 import sql
from psycopg2.extensions import connection

from embedded.errors import StackError
from formats import postgres_dsn

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("host_id", pa.int64()),
        ("host_profile_id", pa.string()),
        ("host_name", pa.string()),
        ("neighbourhood_group", pa.string()),
        ("neighbourhood", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("room_type", pa.string()),
        ("price", pa.float64()),
        ("minimum_nights", pa.int32()),
        ("number_of_reviews", pa.int32()),
        ("last_review", pa.date32()),
        ("reviews_per_month", pa.float64()),
        ("calculated_host_listings_count", pa.int32()),
        ("availability_365", pa.int32()),
        ("number_of_reviews_ltm", pa.int32()),
        ("license", pa.string()),
        ("download_date", pa.date32()),
    ]
)

# Classes of SQLSTATE: data exceptions and integrity constraint violations.
_ABOUT_DATA = {"22", "23"}
_COPY_COLUMN = re.compile(r"^COPY \w+, line [0-9]+, column (\w+)")


class ListingsError(StackError):
    """Listings cannot be put into the table; the message names what, where, and what to do."""


class DatabaseError(ListingsError):
    """Postgres does not answer, or does not take what it is given."""


@contextmanager
def writing(dsn: str) -> Iterator[connection]:
    """A transaction that may write to the table, alone; readers are not held up.

    The table is made if there is none. All is undone unless the block ends without an error.

    Raises:
        DatabaseError: Postgres does not answer or refuses. The message holds no password.
    """
    # Not chained by `from error`: the driver's text could hold what is to stay secret.
    try:
        postgres_dsn.parse(dsn)
        with closing(psycopg2.connect(postgres_dsn.libpq_dsn(dsn))) as opened, opened:
            with opened.cursor() as cursor:
                # Two who begin at once would both find no table.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('listings'))")
                cursor.execute(Path(__file__).with_name("listings_table.sql").read_text("utf-8"))
                cursor.execute("LOCK TABLE listings IN SHARE ROW EXCLUSIVE MODE")
            yield opened
    except postgres_dsn.DsnError as error:
        raise DatabaseError(f"PLATFORM_POSTGRES_DSN is wrong. {error}") from None
    except psycopg2.OperationalError as error:
        raise DatabaseError(
            f"Postgres does not answer or broke off: {_first_line(error, dsn)}. "
            "Is it running (`make up`), and is PLATFORM_POSTGRES_DSN right?"
        ) from None
    except psycopg2.Error as error:
        raise DatabaseError(
            f"Postgres does not take the listings: {_without_values(error, dsn)}. "
            "The table must be as embedded/listings_table.sql says; nothing was changed."
        ) from None


def copy(opened: connection, rows: pa.Table) -> None:
    """Appends rows of `SCHEMA`; NULL and '' stay what they are."""
    # With all_valid every value is quoted and no null is: just what COPY tells them apart by.
    options = pacsv.WriteOptions(include_header=False, quoting_style="all_valid")
    content = io.BytesIO()
    pacsv.write_csv(rows, content, options)
    content.seek(0)
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    statement = sql.SQL("COPY listings ({}) FROM STDIN WITH (FORMAT csv)").format(columns)
    with opened.cursor() as cursor:
        cursor.copy_expert(statement, content)


def days_with_rows(opened: connection, days: list[dt.date]) -> set[dt.date]:
    """Those of the days that have any row."""
    with opened.cursor() as cursor:
        cursor.execute(
            "SELECT day FROM unnest(%s::date[]) AS day "
            "WHERE EXISTS (SELECT FROM listings WHERE download_date = day)",
            (days,),
        )
        return {row[0] for row in cursor.fetchall()}


def _without_values(error: psycopg2.Error, dsn: str) -> str:
    """What Postgres says; of data that it does not take, only where and by which of its rules.

    Its own words about those quote the row.
    """
    if (error.pgcode or "")[:2] not in _ABOUT_DATA:
        return _first_line(error, dsn)
    place = error.diag.column_name or error.diag.constraint_name
    if not place and (line := _COPY_COLUMN.search(error.diag.context or "")):
        place = line[1]
    return f"{type(error).__name__}, SQLSTATE {error.pgcode}" + (f", at {place}" if place else "")


def _first_line(error: Exception, dsn: str) -> str:
    return postgres_dsn.redact(str(error).strip().split("\n", 1)[0].rstrip("."), dsn)
