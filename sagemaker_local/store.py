"""All state: resources as JSON documents, tags and log events, in one SQLite file.

It survives the process, and belongs to one process at a time. The modules that write a document
know what it means.
"""

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import ConfigError

# The primary codes, beside which there are more precise ones.
_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_FULL = "This SageMaker cannot write to its own disk ({}): free some space on it."
_SCHEMA = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL, modified REAL NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS resource_created ON resource (kind, created, name);
CREATE TABLE IF NOT EXISTS tag (
    arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (arn, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, log_group TEXT NOT NULL, stream TEXT NOT NULL,
    timestamp INTEGER NOT NULL, ingested INTEGER NOT NULL, message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_stream ON event (log_group, stream, id);
CREATE TABLE IF NOT EXISTS stream (
    log_group TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL,
    first_event INTEGER, last_event INTEGER, last_ingestion INTEGER,
    PRIMARY KEY (log_group, name)
) WITHOUT ROWID;
"""
Document = dict[str, Any]


class Store:
    """One SQLite connection behind one lock: writes are few and small, readers do not wait long."""

    def __init__(self, folder: Path) -> None:
        """Opens the state of a folder, which is made if there is none.

        Raises:
            ConfigError: The folder cannot be used, or another server uses it.
        """
        self._lock = threading.RLock()
        try:
            with ExitStack() as opened:
                folder.mkdir(parents=True, exist_ok=True)
                in_use = opened.enter_context((folder / "lock").open("w"))
                # Until the process ends, by kill -9 too. A second server would take the jobs of
                # the first one for interrupted ones.
                fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._db = opened.enter_context(closing(_connect(folder / "state.sqlite")))
                # FULL: what was acknowledged survives a power cut, not only a killed process.
                self._db.executescript(
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA
                )
                self._opened = opened.pop_all()
        except BlockingIOError:
            raise ConfigError(
                f"{folder} is in use by another server: choose another folder with --data-dir."
            ) from None
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{folder} cannot be used ({error}): choose another folder with --data-dir."
            ) from error

    def close(self) -> None:
        """Closes the files; the store is of no use afterwards."""
        with self._lock:
            self._opened.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens or nothing does; nested calls join the outer one.

        Raises:
            AwsError: The disk is full.
        """
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                # SQLite may have undone it by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in _DISK:
                    raise AwsError("ResourceLimitExceeded", _FULL.format(error)) from error
                raise

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Runs one statement and returns its rows."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Runs one statement for each row, in one transaction."""
        with self.transaction():
            self._db.executemany(sql, rows)

    def get(self, kind: str, name: str) -> Document | None:
        """A resource's document, or None."""
        rows = self.execute(
            "SELECT document FROM resource WHERE kind = ? AND name = ?", (kind, name)
        )
        return json.loads(rows[0]["document"]) if rows else None

    def insert(self, kind: str, name: str, document: Mapping[str, Any], status: str = "") -> bool:
        """Adds a resource; False if it exists already."""
        now = time.time()
        with self.transaction():
            if self.get(kind, name) is not None:
                return False
            self.execute(
                "INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?)",
                (kind, name, status, document.get("CreationTime", now), now, json.dumps(document)),
            )
            return True

    def update(
        self, kind: str, name: str, change: Callable[[Document], str | None]
    ) -> Document | None:
        """Changes a document under the lock.

        Args:
            kind: Kind of resource.
            name: Its name.
            change: Gets the document, changes it in place and returns its new status, or None to
                leave everything as it was.

        Returns:
            The document after the change, or None if there is no such resource.
        """
        with self.transaction():
            document = self.get(kind, name)
            if document is None:
                return None
            status = change(document)
            if status is None:
                return document
            now = time.time()
            document["LastModifiedTime"] = now
            self.execute(
                "UPDATE resource SET status = ?, modified = ?, document = ?"
                " WHERE kind = ? AND name = ?",
                (status, now, json.dumps(document), kind, name),
            )
            return document

    def delete(self, kind: str, name: str, arn: str) -> bool:
        """Removes a resource and its tags; False if there was none."""
        with self.transaction():
            if self.get(kind, name) is None:
                return False
            self.execute("DELETE FROM resource WHERE kind = ? AND name = ?", (kind, name))
            self.execute("DELETE FROM tag WHERE arn = ?", (arn,))
            return True

    def names(self, kind: str, statuses: Sequence[str] = ()) -> list[str]:
        """Names of a kind in order of creation, of all or of certain statuses."""
        rows = self.execute(
            "SELECT name, status FROM resource WHERE kind = ? ORDER BY created, name", (kind,)
        )
        return [row["name"] for row in rows if not statuses or row["status"] in statuses]


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection
