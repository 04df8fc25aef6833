"""A new password for the role whose database has the records, and the file that says it.

At every moment the password that works stands in records.env or, once a rotation was broken off, in
the file beside it, which the next rotation finds.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class named in lower case
from psycopg2.extensions import encrypt_password

from deploy.env_file import read_env_file
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
        file: records.env. It is replaced by one that its owner alone can read.
        environ: Where the database is; user, password and name are taken from the file.

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
                _write_beside(file, beside, password)
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
    """As a file says it, which may be half of one; the environment has its address alone."""
    place = {name: environ[name] for name in environ if name.startswith("DAGSTER_POSTGRES_")}
    return Database.of(place | read_env_file(file))


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


def _write_beside(file: Path, beside: Path, password: str) -> None:
    """Write the file with another password, durably, for its owner alone to read."""
    line = f"POSTGRES_PASSWORD={password}"
    owner = file.stat()
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as sink:  # noqa: PTH123 - a file descriptor
        os.fchmod(descriptor, 0o600)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        sink.write(re.sub(r"^POSTGRES_PASSWORD=.*$", line, file.read_text(), flags=re.M))
        sink.flush()
        os.fsync(descriptor)
