"""The kinds of failure of a Postgres database, and how the driver's exceptions become them.

Nothing here talks to a database.
"""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg2

from formats.postgres_dsn import redact
from resources.errors import ResourceError


class DatabaseError(ResourceError):
    """A database did not do what was asked of it."""


class DatabaseAccessDeniedError(DatabaseError):
    """The user may not read this."""


class FilteredRowsError(DatabaseAccessDeniedError):
    """The user would see a part of the table's rows only."""


class TableMissingError(DatabaseError):
    """There is no such table."""


class DatabaseRequestError(DatabaseError):
    """The database refuses the request as it is."""


class UnwritableValueError(DatabaseError):
    """A value of the table has no place in the file's format: the database did its part."""


class DatabaseBusyError(DatabaseError):
    """A lock, a connection or memory is not to be had at the moment."""

    transient = True


class DatabaseUnavailableError(DatabaseError):
    """The server cannot be reached, is starting or stopping, or broke off."""

    transient = True


_Kind = tuple[type[DatabaseError], str]

# SQLSTATE, or its first two characters, → kind and what to do. The longer match counts.
_BY_STATE: dict[str, _Kind] = {
    "08": (DatabaseUnavailableError, "Check that the server runs; then run again."),
    "28": (DatabaseError, "Check user, password and pg_hba.conf."),
    "3D": (DatabaseError, "Create it, or correct the database's name in the DSN."),
    "40": (DatabaseBusyError, "Run again."),
    "42501": (
        DatabaseAccessDeniedError,
        "Grant SELECT on the columns that are read, and USAGE on their schema, to the DSN's user.",
    ),
    "42703": (DatabaseError, "Add the column, or adapt the expected columns."),
    "42P01": (TableMissingError, "Create and load it, or correct the table's name."),
    "53": (DatabaseBusyError, "Run again later, with fewer connections if this stays."),
    "55P03": (DatabaseBusyError, "Somebody holds a lock on the table: run again later."),
    "57014": (DatabaseError, "Raise statement_timeout_seconds, or add an index."),
    "57P": (DatabaseUnavailableError, "The server ended the connection: run again."),
}
_AUTHORITY: _Kind = (
    DatabaseError,
    "Set PGSSLROOTCERT, or sslrootcert in the DSN, to a PEM file of the authorities that sign "
    "such servers' certificates.",
)
# Failed and broken connections have no SQLSTATE, only a message.
_BY_MESSAGE: tuple[tuple[tuple[str, ...], _Kind], ...] = (
    # The second is what OpenSSL calls an authority of the same name with another key.
    (("certificate verify failed", "signature failure", "root certificate file"), _AUTHORITY),
    (
        ("does not match host name",),
        (
            DatabaseError,
            "Write the DSN with a host name that the certificate has: of RDS, its endpoint.",
        ),
    ),
    (
        ("server does not support SSL",),
        (
            DatabaseError,
            "Turn SSL on in the server, or ask for less by PGSSLMODE, or sslmode in the DSN.",
        ),
    ),
    (
        ("no encryption",),
        (
            DatabaseError,
            "Check user, password and pg_hba.conf. If the server takes encrypted connections only, "
            "set PGSSLMODE, or sslmode in the DSN, to verify-full.",
        ),
    ),
    (("password authentication failed", "no password supplied", "pg_hba.conf"), _BY_STATE["28"]),
    (("role ",), _BY_STATE["28"]),
    (("too many clients", "remaining connection slots"), _BY_STATE["53"]),
    (("unsupported startup parameter",), (DatabaseRequestError, "Connect without a pooler.")),
    (("permission denied",), _BY_STATE["42501"]),
    (("closed the connection", "terminating connection"), _BY_STATE["57P"]),
    (("the database system is",), _BY_STATE["08"]),
    (("database ",), _BY_STATE["3D"]),
)
_UNREACHABLE: _Kind = (
    DatabaseUnavailableError,
    "Check that the server runs and that the DSN names its host and port; then run again.",
)


@contextmanager
def database_errors(action: str, *, target: str, dsn: str) -> Generator[None]:
    """Raises the driver's failures inside the block as one of this module's kinds.

    Args:
        action: what was being done ("connect to", "read table listings of").
        target: the database it was done to, "host:port/name".
        dsn: whose password is never to appear in a message.
    """
    try:
        yield
    except psycopg2.Error as error:
        sentence = _sentence(error, dsn)
        kind, advice = _kind(error.pgcode or "", sentence)
        # Not chained by `from error`: libpq's text could hold what is to stay secret.
        raise kind(f"Cannot {action} {target}: {sentence}. {advice}") from None


def _kind(state: str, sentence: str) -> _Kind:
    if not state:
        matches = (kind for words, kind in _BY_MESSAGE if any(word in sentence for word in words))
        return next(matches, _UNREACHABLE)
    for length in (5, 3, 2):
        if state[:length] in _BY_STATE:
            return _BY_STATE[state[:length]]
    return DatabaseRequestError, f"Postgres calls this {state}."


def _sentence(error: psycopg2.Error, dsn: str) -> str:
    """The server's primary message in one line, without the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:1]) if lines else type(error).__name__
    # Before these words the driver says what it was doing, which the action says already.
    for word in ("FATAL:", "ERROR:", "failed:"):
        text = text.rpartition(word)[2].strip() or text
    return redact(text, dsn).rstrip(".")
