"""A consistent, read-only session: tables are described, counted, profiled and exported in it.

How an export becomes bytes is in `export.py`, which statements it runs in `query.py`. How a
session is configured is in `resource.py`.
"""

import io
from collections.abc import Collection, Generator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class named in lower case

from formats import postgres_dsn
from resources.postgres import rights
from resources.postgres.casts import SourceColumn
from resources.postgres.errors import (
    DatabaseBusyError,
    DatabaseRequestError,
    FilteredRowsError,
    TableMissingError,
    database_errors,
)
from resources.postgres.export import Exported, ExportFormat, write_csv
from resources.postgres.fingerprint import Fingerprint, read_fingerprints, select_fingerprints
from resources.postgres.profile import Profile, read_profile, select_profile
from resources.postgres.query import (
    Extract,
    Query,
    Table,
    copy_as_csv,
    count_rows,
    relation,
    select_lost,
    select_rows,
)

_EXPORT_SNAPSHOT = sql.SQL("select pg_export_snapshot()")
_CURRENT_STATE = sql.SQL("select txid_current_snapshot()::text")
_NO_PRECISION = 65535  # of a numeric without
# Missing tables, materialised views, foreign tables, and tables granted column by column.
_NOT_LOCKABLE = (
    psycopg2.errors.InsufficientPrivilege,
    psycopg2.errors.InvalidSchemaName,
    psycopg2.errors.UndefinedTable,
    psycopg2.errors.WrongObjectType,
)


class Session:
    """A read-only transaction that sees one state of the database throughout.

    Made by `PostgresResource.connect`. Not to be shared among threads, `cancel` excepted.
    """

    def __init__(self, connection: Connection, dsn: str, *, can_pseudonymise: bool) -> None:
        """Takes an open connection and the DSN to open another of the same settings."""
        self._connection = connection
        self._dsn = dsn
        self._can_pseudonymise = can_pseudonymise

    def describe(self, table: Table) -> tuple[SourceColumn, ...]:
        """The table's columns in their order; of those that may not be read only the names.

        The table then keeps them, and its rows, until the session ends. Asked for first, they are
        those of the state that the session sees.

        Raises:
            TableMissingError: there is no such table.
            DatabaseAccessDeniedError: none of its columns may be read.
            FilteredRowsError: row-level security would show a part of its rows only.
            DatabaseError: any other failure.
        """
        held = not isinstance(table, Query) and self._hold(table)
        names = {} if isinstance(table, Query) else self._names(table)
        readable = [sql.Identifier("t", name) for name, granted in names.items() if granted]
        nothing = sql.SQL("select {} from {} as t limit 0").format(
            sql.SQL("*") if isinstance(table, Query) else sql.SQL(", ").join(readable),
            relation(table),
        )
        with self._errors(table), self._connection.cursor() as cursor:
            cursor.execute(nothing)
            described = list(cursor.description or ())
        if not held:
            self._refuse_rewritten(table)
        oids = [column.type_code for column in described]
        query = sql.SQL(rights.TYPES).format(oids=sql.Literal(oids or [0]))
        types = {oid: (name, category) for oid, name, category in self._fetch(query, table)}
        columns = {name: SourceColumn(name, "", readable=False) for name in names}
        for column in described:
            declared, category = types[column.type_code]
            if column.precision not in (None, _NO_PRECISION):
                declared += f"({column.precision},{column.scale})"
            columns[column.name] = SourceColumn(column.name, declared, category)
        return tuple(columns.values())

    @property
    def _place(self) -> str:
        return postgres_dsn.target(self._dsn)

    def count(self, table: Table, where: Mapping[str, object] | None = None) -> int:
        """How many rows the table has whose columns have the values of `where`."""
        return int(self._fetch(count_rows(table, where or {}), table)[0][0])

    def examine(self, extract: Extract) -> rights.Reading:
        """How the rows of an extract are read; nothing is read for it.

        Raises:
            FilteredRowsError: which rows there are depends on who reads them.
            DatabaseError: any other failure.
        """
        reading = rights.examine(lambda query: self._fetch(query, extract.table), extract)
        if reading.hidden:
            raise FilteredRowsError(
                f"Cannot read table {extract.table} of {self._place}: {reading.hidden}"
            )
        return reading

    def profile(self, extract: Extract, column: str | None, ids: Collection[str] = ()) -> Profile:
        """The rows that `export` writes, in figures.

        Args:
            extract: which rows and columns.
            column: one whose values are a number's; None for none.
            ids: columns of ids, of which digits may have been lost.

        Raises:
            DatabaseError: the database failed.
        """
        (figures,) = self._fetch(select_profile(extract, column, ids), extract.table)
        return read_profile(extract, ids, figures)

    def fingerprints(self, extract: Extract, day: SourceColumn | None) -> list[Fingerprint]:
        """How many rows an extract has of each day, and a digest of them; reads all of them once.

        Args:
            extract: which rows, and which of their columns count.
            day: the table's column with the day; None where it has none.

        Raises:
            DatabaseError: the database failed.
        """
        return read_fingerprints(self._fetch(select_fingerprints(extract, day), extract.table))

    def lost_value(self, extract: Extract, column: str) -> str | None:
        """One of the values that the column's cast would change; at most 60 characters of it."""
        values = self._fetch(select_lost(extract, column), extract.table)
        return values[0][0][:60] if values else None

    def rows_by_now(self, extract: Extract, rows: int, *, foreign: bool) -> int:
        """Row count of an extract in a fresh snapshot; ends this session's snapshot.

        Args:
            rows: the count in this session's. They are not counted where nobody has written
                anything since.
            foreign: whether some come from another server (`Reading.foreign`), of which this one
                does not know whether anybody has written: they are counted.
        """
        before = self._fetch(_CURRENT_STATE, extract.table)
        with self._errors(extract.table):
            self._connection.rollback()
        if not foreign and self._fetch(_CURRENT_STATE, extract.table) == before:
            return rows
        return self.count(extract.table, extract.where)

    def export(self, extract: Extract, sink: io.RawIOBase, *, format: ExportFormat) -> Exported:  # noqa: A002 - the word everybody uses
        """Writes an extract into a raw binary stream, in bounded memory.

        The same rows give the same bytes. Null and the empty string stay different: in CSV as
        nothing and as two quotes.

        Args:
            sink: where to; written by another thread, not closed.
            format: "csv", "csv.gz" (gzip level 1) or "parquet" (typed, zstd).

        Raises:
            DatabaseError: the database failed, or holds a value that the format cannot. What is in
                `sink` then must be discarded.
            Exception: whatever `sink` raises; the same holds.
        """
        if extract.pseudonymised and not self._can_pseudonymise:
            raise DatabaseRequestError(
                f"Columns {', '.join(sorted(extract.pseudonymised))} of {extract.table} are to be "
                "pseudonymised but there is no key: configure pseudonym_key, or leave them out."
            )
        select = select_rows(extract)
        with self._errors(extract.table):
            copy = copy_as_csv(select, header=format != "parquet").as_string(self._connection)
            if format == "parquet":
                # Here, since pyarrow takes 40 MB, which no other format needs.
                from resources.postgres.parquet import write_parquet

                rows = write_parquet(
                    self._connection, copy, extract.exported_columns, sink, table=str(extract.table)
                )
            else:
                rows = write_csv(self._connection, copy, sink, compressed=format == "csv.gz")
        return Exported(rows, extract.exported_columns)

    @contextmanager
    def second_session(self, table: Table) -> Generator["Session"]:
        """Opens another session that sees the same state of the database, for another thread.

        Args:
            table: what it is to read, as errors name it.

        Raises:
            DatabaseError: it cannot be opened.
        """
        with closing(open_connection(self._dsn)) as connection:
            snapshot = self._fetch(_EXPORT_SNAPSHOT, table)[0][0]
            with self._errors(table), connection.cursor() as cursor:
                cursor.execute("set transaction snapshot %s", (snapshot,))
            yield Session(connection, self._dsn, can_pseudonymise=self._can_pseudonymise)

    def cancel(self) -> None:
        """Ends the statement that another thread is running in this session, if there is one."""
        with suppress(psycopg2.Error):  # it is closed, or its server is gone
            self._connection.cancel()

    def _hold(self, table: str) -> bool:
        """Locks the table: who would empty or alter it waits, readers and writers do not.

        A table that is truncated or rewritten after the session's first query shows no rows to
        it, so the lock comes before that query.

        Returns:
            Whether the table is locked. Views, and tables without the right to lock them, are not.
        """
        lock = sql.SQL("savepoint hold; lock table {} in access share mode; release hold")
        with self._errors(table), self._connection.cursor() as cursor:
            try:
                cursor.execute(lock.format(relation(table)))
            except _NOT_LOCKABLE:
                cursor.execute("rollback to hold; release hold")
                return False
        return True

    def _refuse_rewritten(self, table: Table) -> None:
        """Refuses a table that was emptied just before the session's first query locked it."""
        if rewritten := self._fetch(sql.SQL(rights.REWRITTEN), table):
            raise DatabaseBusyError(
                f"Cannot read table {table} of {self._place}: {rewritten[0][0]} was emptied "
                "or rewritten at this moment. Run again."
            )

    def _names(self, table: str) -> dict[str, bool]:
        """The table's columns, with whether they may be read."""
        name = relation(table).as_string(self._connection)
        query = sql.SQL(rights.COLUMNS_OF_TABLE).format(table=sql.Literal(name))
        if names := self._fetch(query, table):
            return dict(names)
        raise TableMissingError(
            f"Cannot read table {table} of {self._place}: there is no such table. "
            "Create and load it, or correct the table's name."
        )

    def _fetch(self, query: sql.Composable, table: Table) -> list[tuple[Any, ...]]:
        with self._errors(table), self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    @contextmanager
    def _errors(self, table: Table) -> Generator[None]:
        with database_errors(f"read table {table} of", target=self._place, dsn=self._dsn):
            try:
                yield
            except psycopg2.errors.InsufficientPrivilege as error:
                if error.diag.source_function != "check_enable_rls":
                    raise
                raise self._filtered(error.diag.message_primary or "", table) from None

    def _filtered(self, message: str, table: Table) -> FilteredRowsError:
        # In a session of its own: this one's transaction is broken.
        with closing(open_connection(self._dsn)) as connection, connection.cursor() as cursor:

            def fetch(query: sql.Composable) -> list[tuple[Any, ...]]:
                cursor.execute(query)
                return cursor.fetchall()

            hidden = rights.hidden_by_policies(fetch, message)
        return FilteredRowsError(f"Cannot read table {table} of {self._place}: {hidden}")


def open_connection(dsn: str) -> Connection:
    """Opens a connection.

    Raises:
        DatabaseError: it cannot be opened.
    """
    with database_errors("connect to", target=postgres_dsn.target(dsn), dsn=dsn):
        return psycopg2.connect(dsn)
