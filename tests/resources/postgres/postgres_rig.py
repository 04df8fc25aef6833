"""What the Postgres tests share: statements beside the session, and a sink that remembers."""

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from formats.columns import Column
from resources.postgres import ExportFormat, Session, Table

FORMATS: tuple[ExportFormat, ...] = ("csv", "csv.gz", "parquet")
each_format = pytest.mark.parametrize("form", FORMATS)
Row = tuple[object, ...]


class Memory(io.RawIOBase):
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.data += data
        return len(data)


def readable_columns(session: Session, table: Table) -> tuple[Column, ...]:
    """The columns that may be read, as they leave if nothing is cast."""
    return tuple(
        Column(name=source.name, type=source.type)
        for source in session.describe(table)
        if source.readable
    )


def run(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def rows_of(connection: Connection, query: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def others(connection: Connection, what: str) -> list[Row]:
    """Something of every other connection to this database."""
    return rows_of(
        connection,
        f"select {what} from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and backend_type = 'client backend'",
    )


def wait_until(condition: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if condition():
            return True
        time.sleep(0.1)
    return False
