"""Backups of the records in S3: a pg_dump, and beside it, written last, a manifest.

Without its manifest nothing is a backup. They stay until somebody removes them: the platform's own
policy does not let it.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from tempfile import TemporaryFile
from typing import IO, cast

from deploy.records.database import Database, RecordsError, count_rows, list_tables
from formats import manifest as manifests
from resources.s3 import (
    Folder,
    Manifest,
    ManifestFile,
    ObjectChangedError,
    ObjectMissingError,
    ObjectStore,
    Published,
    list_published,
)

PREFIX = "dagster/backups/"
DUMP = "records.dump"
_NAME = r"[\dTZ.-]+"
_BLOCK_BYTES = 1024 * 1024
_logger = logging.getLogger(__name__)


def back_up(database: Database, store: ObjectStore) -> Published:
    """Write all records, as they are at one moment; Dagster may go on meanwhile.

    Memory does not grow with the records: four parts of an upload, of 8 MiB each.

    Raises:
        RecordsError: There are no records, or pg_dump failed. Nothing looks like a backup.
        StoreError: S3 did not take it. Nothing looks like a backup.
    """
    now = datetime.now(UTC)
    folder = Folder(store, f"{PREFIX}{now:%Y-%m-%dT%H%M%S.%fZ}")
    with closing(database.connect()) as connection:
        # What is counted and what is dumped are the same: both see the exported snapshot.
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        rows = count_rows(connection)
        if "public.alembic_version" not in rows:
            raise RecordsError(
                f"The database {database.name} has no records of Dagster: check POSTGRES_DB."
            )
        with connection.cursor() as cursor:
            cursor.execute(
                "select pg_export_snapshot(), current_setting('server_version'), "
                "(select max(version_num) from public.alembic_version)"
            )
            [(snapshot, server, schema)] = cursor.fetchall()
        file = _dump(database, snapshot, folder)
    manifest = Manifest(
        partition="",
        rows=sum(rows.values()),
        files=(file,),
        code_version="1",
        extra={
            "time": now.isoformat(),
            "dagster": version("dagster"),
            "schema": schema,
            "postgres": server,
            "rows": rows,
        },
    )
    key = folder.key(manifests.NAME)
    store.put_bytes(key, manifest.encode(), content_type="application/json")
    return Published(folder, manifest, changed=True)


def _dump(database: Database, snapshot: str, folder: Folder) -> ManifestFile:
    """Stream pg_dump's output of a snapshot into S3, where it appears once it is whole."""
    writer = folder.store.writer(folder.key(DUMP))
    try:
        with database.running(
            *("pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--no-password"),
            f"--snapshot={snapshot}",
            stdout=subprocess.PIPE,
        ) as process:
            shutil.copyfileobj(cast("IO[bytes]", process.stdout), writer, _BLOCK_BYTES)
        writer.complete()
    except BaseException:
        writer.abort()
        raise
    return ManifestFile(DUMP, writer.size, writer.sha256)


def find_backup(store: ObjectStore, name: str | None = None) -> Published:
    """The backup of that name, or the newest.

    Raises:
        RecordsError: There is none.
        StoreError: S3 cannot be asked.
    """
    listed = list_published(store, PREFIX, _NAME, warn=_logger.warning)
    names = [folder.prefix.removeprefix(PREFIX) for folder, _ in listed]
    if not names:
        raise RecordsError(f"There is no backup in {store.uri(PREFIX)}: check PLATFORM_BUCKET.")
    if name is not None and name not in names:
        raise RecordsError(f"There is no backup {name}. The newest are {', '.join(names[-5:])}.")
    return Folder(store, f"{PREFIX}{name or names[-1]}").require("the backup")


def restore(database: Database, backup: Published) -> None:
    """Fill an empty database with a backup: all of it, or nothing.

    The dump passes through a temporary file, since it is compared with its digest before Postgres
    gets anything of it.

    Raises:
        RecordsError: The database is not empty, the backup is damaged, or pg_restore failed. The
            database is as it was, unless the message says something else.
        StoreError: S3 cannot be asked.
    """
    with closing(database.connect()) as connection:
        if list_tables(connection):
            raise RecordsError(
                f"The database {database.name} is not empty, and a backup is restored into an "
                "empty one only. If its records may go: `docker compose down --volumes` removes "
                "those of the service `postgres`."
            )
    with TemporaryFile() as dump:
        try:
            with backup.open(DUMP) as source:
                shutil.copyfileobj(source, dump, _BLOCK_BYTES)
        except (ObjectChangedError, ObjectMissingError) as error:
            raise RecordsError(
                f"The backup {backup.folder.uri} is damaged: {DUMP} is missing, or is not the "
                "one that its manifest names. Nothing was restored: choose another backup."
            ) from error
        dump.seek(0)
        with database.running(
            *("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner"),
            *("--no-privileges", "--no-password", f"--dbname={database.name}"),
            stdin=dump,
        ):
            pass
    _compare_rows(database, backup)


def _compare_rows(database: Database, backup: Published) -> None:
    """Hold the restored tables against the counts of the backup."""
    with closing(database.connect()) as connection:
        restored = count_rows(connection)
    expected = backup.manifest.extra["rows"]
    different = [
        table
        for table in sorted(restored.keys() | expected.keys())
        if restored.get(table) != expected.get(table)
    ]
    if different:
        raise RecordsError(
            "The database was restored, and has not as many rows as the backup in "
            f"{', '.join(different)}. If Dagster was started meanwhile: stop it, empty the "
            "database, and restore again."
        )
