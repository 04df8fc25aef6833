"""A new password for the role whose database has the records, and the file that says it.

At every moment the password that works stands in that file or, once a rotation was broken off, in
the one beside it, which the next rotation finds.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class named in lower case
from psycopg2.extensions import encrypt_password

from deploy.records.database import Database, RecordsError

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def rotate(file: Path, environ: Mapping[str, str]) -> None:
    """Give the role a new random password, or finish a rotation that was broken off.

    Args:
        file: Has the password and nothing else. It is replaced by one that is as readable.
        environ: Where the database is, and of whom.

    Raises:
        RecordsError: Runs are under way, another rotation is, or the database lets nobody in. The
            password is the old one.
        psycopg2.Error: The database refused the change, or broke off. Run it again.
        OSError: The file cannot be written.
    """
    beside = file.with_name(f"next.{file.name}")
    with _alone_in(file.parent) as folder:
        if not _is_in_force(beside, environ):
            # Whoever gets in has the password in force: what lies beside, if anything, is not it.
            database = _database_of(file, environ)
            with closing(database.connect()) as connection:
                _refuse_while_runs_are_under_way()
                password = secrets.token_urlsafe(32)
                _write(beside, password, as_readable_as=file.stat())
                os.fsync(folder)
                _set_password(connection, database.user, password)
        if not _is_in_force(beside, environ):
            raise RecordsError(
                f"The database does not take the new password, which stands in {beside.name}: "
                "look at its log, and run this again."
            )
        beside.replace(file)
        os.fsync(folder)


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Keep others away from a folder; its file descriptor."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise RecordsError("Another rotation is under way: wait for its end.") from error
    finally:
        os.close(descriptor)


def _is_in_force(file: Path, environ: Mapping[str, str]) -> bool:
    """Whether there is such a file, and the database lets in who has its password."""
    if not file.exists():
        return False
    try:
        _database_of(file, environ).connect().close()
    except RecordsError:
        return False
    return True


def _database_of(file: Path, environ: Mapping[str, str]) -> Database:
    """The one that the environment names, with the password of a file."""
    return Database.of({**environ, "POSTGRES_PASSWORD": file.read_text().rstrip("\n")})


def _set_password(connection: Connection, user: str, password: str) -> None:
    """Give a role a password, of which the server and its log get the verifier alone."""
    verifier = encrypt_password(password, user, connection, "scram-sha-256")
    statement = sql.SQL("alter role {} password {}")
    with connection, connection.cursor() as cursor:
        cursor.execute(statement.format(sql.Identifier(user), sql.Literal(verifier)))


def _refuse_while_runs_are_under_way() -> None:
    with dg.DagsterInstance.get() as instance:
        count = instance.get_runs_count(dg.RunsFilter(statuses=_UNDER_WAY))
    if count:
        raise RecordsError(
            f"Runs wait or are under way ({count}); with the old password they would lose "
            "Dagster's records. Keep new ones from starting by `docker compose stop daemon`, wait "
            "for the end of these or terminate them, and run this again."
        )


def _write(file: Path, password: str, *, as_readable_as: os.stat_result) -> None:
    """Write a password, durably, for those to read who may read another file."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as sink:  # noqa: PTH123 - a file descriptor
        os.fchown(descriptor, as_readable_as.st_uid, as_readable_as.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(as_readable_as.st_mode))
        sink.write(f"{password}\n")
        sink.flush()
        os.fsync(descriptor)
