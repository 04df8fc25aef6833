"""The Postgres resource: which database, and with which settings its sessions are opened.

What a session does is in `session.py`.
"""

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

import dagster as dg
from psycopg2.extensions import make_dsn
from pydantic import Field

from formats import postgres_dsn
from resources.postgres.errors import DatabaseRequestError
from resources.postgres.query import key_settings
from resources.postgres.session import Session, open_connection

_CONNECT_SECONDS = 10
# In seconds: a server that vanished without a word is noticed within a minute.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# What makes the text of values the same whatever the server's or user's defaults are.
_TEXT_SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO",
    "extra_float_digits": "3",  # every bit, before Postgres 12 too
    "intervalstyle": "postgres",
    "timezone": "UTC",
}


class PostgresResource(dg.ConfigurableResource[Any]):
    """A Postgres database to read from.

    Connections are read-only, repeatable-read and have deadlines. Settings travel with the
    connection's start (`options`), which poolers in transaction mode refuse: connect directly.
    """

    dsn: str = Field(
        repr=False,
        description="Connection string with its password, from an EnvVar so that it stays secret.",
    )
    pseudonym_key: str | None = Field(
        default=None,
        repr=False,
        description="Key of the hash that replaces pseudonymised columns, from an EnvVar.",
    )
    statement_timeout_seconds: int = Field(
        default=3600, ge=1, description="How long one statement, an export included, may take."
    )
    lock_timeout_seconds: int = Field(
        default=10, ge=1, description="How long to wait for a lock somebody else holds."
    )
    application_name: str = Field(
        default="data-platform", description="How the connections show in pg_stat_activity."
    )

    @contextmanager
    def connect(self) -> Generator[Session]:
        """Opens a session: a connection, and one more for a second session.

        Raises:
            DatabaseUnavailableError: the server cannot be reached.
            DatabaseError: any other failure, permanent: a wrong password or certificate, no such
                database.
        """
        dsn = self._full_dsn()
        # Nothing is written, so closing is all: after a broken COPY a rollback would fail.
        with closing(open_connection(dsn)) as connection:
            yield Session(connection, dsn, can_pseudonymise=self.pseudonym_key is not None)

    def _full_dsn(self) -> str:
        try:
            parameters = postgres_dsn.parse(self.dsn)
        except postgres_dsn.DsnError as error:
            raise DatabaseRequestError(str(error)) from None
        settings = {
            "default_transaction_isolation": r"repeatable\ read",
            "default_transaction_read_only": "on",
            "statement_timeout": f"{self.statement_timeout_seconds}s",
            "lock_timeout": f"{self.lock_timeout_seconds}s",
            # A table of which policies would hide rows is refused, and not read in part.
            "row_security": "off",
            "idle_in_transaction_session_timeout": f"{self.statement_timeout_seconds}s",
            # Nor does a client that vanished hold its locks for longer.
            **{f"tcp_{name}": str(value) for name, value in _KEEPALIVES.items()},
            **_TEXT_SETTINGS,
            **(key_settings(self.pseudonym_key) if self.pseudonym_key is not None else {}),
        }
        options = [parameters.get("options", "")]
        options += [f"-c {name}={value}" for name, value in settings.items()]
        return make_dsn(
            postgres_dsn.libpq_dsn(self.dsn),
            options=" ".join(options).strip(),
            connect_timeout=_CONNECT_SECONDS,
            application_name=self.application_name,
            client_encoding="UTF8",
            **_KEEPALIVES,
        )
