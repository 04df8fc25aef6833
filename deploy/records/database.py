"""The database with Dagster's records: how it is reached, and which tables it has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class named in lower case

# The variables that deploy/dagster.yaml names, in the order of the attributes of `Database`.
_VARIABLES = (
    "DAGSTER_POSTGRES_HOST",
    "DAGSTER_POSTGRES_PORT",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
)


class RecordsError(Exception):
    """It cannot be done as things are; the message says what to do."""


@dataclass(frozen=True)
class Database:
    """Where the records are. How connections are encrypted is up to libpq's PGSSLMODE."""

    host: str
    port: str
    user: str
    password: str = field(repr=False)
    name: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Database:
        """The one that an environment names.

        Raises:
            RecordsError: Something is not set.
        """
        unset = [name for name in _VARIABLES if not environ.get(name)]
        if unset:
            raise RecordsError(
                f"Set {', '.join(unset)}, in platform.env and in the file records_password."
            )
        return cls(*(environ[name] for name in _VARIABLES))

    def connect(self) -> Connection:
        """A connection, which the caller closes.

        Raises:
            RecordsError: The server does not answer, or lets nobody in with this password.
        """
        try:
            return psycopg2.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname=self.name,
                connect_timeout=60,
            )
        except psycopg2.OperationalError as error:
            raise RecordsError(
                f"Cannot connect to Dagster's database: {str(error).strip()}. Check that it runs, "
                "and platform.env and the file records_password."
            ) from error

    @contextmanager
    def running(
        self, *command: str, stdin: IO[bytes] | None = None, stdout: int | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """One of Postgres's programs, which has to succeed by the end of the block.

        The password is in its environment alone. What ends the block by an error kills it.

        Args:
            *command: The program and its options.
            stdin: A file that it reads, from where that stands.
            stdout: `subprocess.PIPE`, to read what it writes.

        Raises:
            RecordsError: It is not installed, or failed: with its own words.
        """
        environ = os.environ | {
            "PGHOST": self.host,
            "PGPORT": self.port,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.name,
        }
        with TemporaryFile() as words:
            try:
                process = subprocess.Popen(
                    command, env=environ, stdin=stdin, stdout=stdout, stderr=words
                )
            except FileNotFoundError as error:
                raise RecordsError(
                    f"There is no program {command[0]}: build the image with the argument "
                    "POSTGRES_CLIENT, which names a package that has it."
                ) from error
            with process:
                try:
                    yield process
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                words.seek(0)
                reason = words.read().decode(errors="replace").strip()
                raise RecordsError(f"{command[0]} failed: {reason or process.returncode}")


def list_tables(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of each table that is not Postgres's own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select schemaname, tablename from pg_tables "
            "where schemaname <> 'information_schema' and left(schemaname, 3) <> 'pg_' "
            "order by 1, 2"
        )
        return cursor.fetchall()


def count_rows(connection: Connection) -> dict[str, int]:
    """Table, such as `public.runs`, → how many rows it has."""
    counts: dict[str, int] = {}
    with connection.cursor() as cursor:
        for schema, table in list_tables(connection):
            cursor.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, table)))
            [(counts[f"{schema}.{table}"],)] = cursor.fetchall()
    return counts
