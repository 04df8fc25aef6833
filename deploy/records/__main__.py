"""Dagster's records: `python -m deploy.records backup|restore|upgrade|rotate`.

What is reached, and how, stands in the environment, as `deploy.with_settings` makes it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from deploy.records.backups import PREFIX, back_up, find_backup, restore
from deploy.records.database import Database, RecordsError
from deploy.records.rotation import rotate
from formats.errors import FormatError
from resources.errors import ResourceError
from resources.s3 import ObjectStore

_EXPECTED = (
    RecordsError,
    ResourceError,
    FormatError,
    psycopg2.Error,
    SQLAlchemyError,
    OSError,
)


def store_of_backups() -> ObjectStore:
    """The bucket of the digits."""
    bucket = os.environ.get("PLATFORM_BUCKET")
    if not bucket:
        raise RecordsError("Set PLATFORM_BUCKET: backups are in it.")
    return ObjectStore(bucket=bucket, kms_key_id=os.environ.get("PLATFORM_KMS_KEY_ID") or None)


def run_backup(_: argparse.Namespace) -> str:
    """Make a backup; its name."""
    backup = back_up(Database.of(os.environ), store_of_backups())
    name = backup.folder.prefix.removeprefix(PREFIX)
    facts = backup.manifest.extra
    print(
        f"Backup {name}: {backup.manifest.rows:,} rows of Dagster {facts['dagster']} "
        f"(schema {facts['schema']}), {backup.manifest.size:,} bytes in {backup.folder.uri}/"
    )
    return name


def run_restore(arguments: argparse.Namespace) -> None:
    """Restore a backup."""
    backup = find_backup(store_of_backups(), arguments.name)
    restore(Database.of(os.environ), backup)
    print(f"Restored {backup.folder.uri}/: {backup.manifest.rows:,} rows.")
    made_by = backup.manifest.extra["dagster"]
    if made_by != version("dagster"):
        print(f"They are of Dagster {made_by}: run `upgrade` before Dagster {version('dagster')}.")


def run_upgrade(arguments: argparse.Namespace) -> None:
    """Make a backup, then bring the tables to what this Dagster wants."""
    name = run_backup(arguments)
    # In a process of its own: what it prints is for who reads along.
    migration = [sys.executable, "-m", "dagster", "instance", "migrate"]
    if subprocess.run(migration, check=False).returncode:
        raise RecordsError(
            "The migration failed; above stands why. To go back to how it was: set PLATFORM_IMAGE "
            "to the image before, `docker compose down --volumes` (or empty the managed database), "
            f"`docker compose run --rm records restore {name}`, `docker compose up -d --wait`."
        )
    print("The records are those of this version: `docker compose up -d --wait` starts it.")


def run_rotate(arguments: argparse.Namespace) -> None:
    """Give the database's role a new password."""
    rotate(arguments.file, os.environ)
    print(
        "The database has a new password, and the file records_password has it. `docker compose "
        "restart` has all services take it, and then `docker compose up -d --wait` waits for them."
    )


def main() -> None:
    """Run one command. Exit code 0 only if all of it is done."""
    parser = argparse.ArgumentParser(prog="records", description="Commands on Dagster's records.")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("backup", help="write a backup to S3").set_defaults(run=run_backup)
    command = commands.add_parser("restore", help="fill an empty database with a backup")
    command.add_argument("name", nargs="?", help="of the backup; the newest if none is given")
    command.set_defaults(run=run_restore)
    commands.add_parser(
        "upgrade", help="make a backup, then migrate to this image's Dagster"
    ).set_defaults(run=run_upgrade)
    command = commands.add_parser("rotate", help="give the database's role a new password")
    command.add_argument("file", nargs="?", type=Path, default="/run/platform/records_password")
    command.set_defaults(run=run_rotate)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except _EXPECTED as error:
        sys.exit(str(error).strip())


if __name__ == "__main__":
    main()
