"""Backup, restore and upgrade of Dagster's records, on a real Postgres and S3.

What Dagster itself says of its history, by its instance, is what has to come back.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import dagster as dg
import psutil
import pytest

from deploy.records.backups import DUMP, back_up, find_backup
from deploy.records.database import Database
from resources.s3 import ObjectStore, Published
from tests.aws_requests import Recorder
from tests.conftest import CHECKOUT
from tests.deploy.iam_needs import Account, needs_of
from tests.deploy.iam_policies import PLATFORM, permissions
from tests.deploy.test_iam import FILLED_IN
from tests.s3_front import in_front_of

SCHEDULED = """
import dagster as dg

@dg.op
def sleep(): ...

@dg.job
def nightly(): sleep()

defs = dg.Definitions(schedules=[dg.ScheduleDefinition(job=nightly, cron_schedule="0 0 * * *")])
"""
# Compressed, more than a part of an upload: 600,000 random UUIDs.
BALLAST = "create table a_ballast as select gen_random_uuid() from generate_series(1, 600000)"
WIPE = "drop schema public cascade; create schema public"
# What the last migration that changes tables of Postgres adds, and the revision before it.
OLDER = (
    "alter table concurrency_limits drop column using_default_limit; "
    "update alembic_version set version_num = '6b7fb194ff9c'"
)
NEW_COLUMN = (
    "select count(*) from information_schema.columns "
    "where table_name = 'concurrency_limits' and column_name = 'using_default_limit'"
)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["x", "y"]))
def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    if context.partition_key == "y":
        raise dg.Failure("no such day")
    return dg.MaterializeResult(metadata={"rows": 7}, data_version=dg.DataVersion("one"))


@pytest.fixture
def records(production: dict[str, str]) -> Database:
    """The database of Dagster's records, with a history."""
    with dg.DagsterInstance.get() as instance:
        for partition in "xy":
            dg.materialize(
                [counted], instance=instance, partition_key=partition, raise_on_error=False
            )
    return Database.of(production)


@pytest.fixture
def store(production: dict[str, str]) -> ObjectStore:
    """The bucket of the backups."""
    return ObjectStore(bucket=production["PLATFORM_BUCKET"])


def start_schedule(folder: Path) -> None:
    """Switch a schedule on, as a user would."""
    (folder / "scheduled.py").write_text(SCHEDULED)
    dagster = [sys.executable, "-m", "dagster", "schedule", "start", "--start-all"]
    subprocess.run([*dagster, "-f", str(folder / "scheduled.py")], check=True)


def history() -> dict[str, Any]:
    """What Dagster knows of the past."""
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_run_records()
        return {
            "runs": runs,
            "events": [instance.all_logs(run.dagster_run.run_id) for run in runs],
            "materialisations": instance.fetch_materializations(counted.key, limit=100).records,
            "partitions": instance.get_materialized_partitions(counted.key),
            "schedules": [
                (state.instigator_name, state.status) for state in instance.all_instigator_state()
            ],
        }


def sql(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement; its rows, if it has any."""
    with closing(database.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`docker compose run --rm records …`, without Docker."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.records", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def done(*arguments: str, **environ: str) -> str:
    """The output of a command that must succeed, and shows no password."""
    finished = command(*arguments, **environ)
    assert finished.returncode == 0, finished.stderr
    assert os.environ["POSTGRES_PASSWORD"] not in finished.stdout + finished.stderr
    return finished.stdout


def refused(*arguments: str, **environ: str) -> str:
    """The error of a command that must fail, in one piece and without a traceback."""
    finished = command(*arguments, **environ)
    assert finished.returncode == 1, finished.stdout
    assert "Traceback" not in finished.stderr
    assert os.environ["POSTGRES_PASSWORD"] not in finished.stdout + finished.stderr
    return finished.stderr


def keys_of(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list("dagster/backups/")]


def test_the_whole_history_comes_back(
    records: Database, store: ObjectStore, tmp_path: Path
) -> None:
    start_schedule(tmp_path)
    before = history()
    assert len(before["runs"]) == 2
    assert before["partitions"] == {"x"}
    assert [name for name, _ in before["schedules"]] == ["nightly_schedule"]
    recorder = Recorder("platform")
    with in_front_of(os.environ["AWS_ENDPOINT_URL_S3"]) as front:
        front.observe = recorder.keep
        done("backup", AWS_ENDPOINT_URL_S3=front.url)
        sql(records, WIPE)
        done("restore", AWS_ENDPOINT_URL_S3=front.url)
    assert history() == before
    # And Dagster goes on where it was: nothing new gets the number of something old.
    with dg.DagsterInstance.get() as instance:
        assert dg.materialize([counted], instance=instance, partition_key="x").success
        newest, *older = instance.fetch_materializations(counted.key, limit=100).records
    assert newest.storage_id > max(record.storage_id for record in older)
    assert_allowed(recorder, store.bucket)


def assert_allowed(recorder: Recorder, bucket: str) -> None:
    """Nobody needs more than the platform's own policy for it."""
    account = Account("aws", "eu-west-1", "123456789012")
    allowed = permissions(PLATFORM, FILLED_IN | {"bucket": bucket})
    requests = [request for _, request in recorder.requests()]
    assert {"PutObject", "GetObject"} <= {request.operation for request in requests}
    assert not any(request.problems() for request in requests)
    for need in (need for request in requests for need in needs_of(request, account)):
        assert any(one.allows(need) for one in allowed), need


def test_a_backup_says_what_it_is_of(records: Database, store: ObjectStore) -> None:
    backup = back_up(records, store)
    facts = find_backup(store).manifest.extra
    [(schema, events)] = sql(
        records,
        "select (select version_num from alembic_version), (select count(*) from event_logs)",
    )
    assert (facts["dagster"], facts["schema"]) == (dg.__version__, schema)
    assert facts["rows"]["public.runs"] == 2
    assert facts["rows"]["public.event_logs"] == events > 0
    assert backup.verify() == ()


def test_what_is_written_during_a_backup_is_left_out_of_all_of_it(
    records: Database, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(records, "create table late (n int)")
    first = tmp_path / "programs"
    first.mkdir()
    real = Path(os.environ["PATH"].partition(os.pathsep)[0]) / "pg_dump"
    (first / "pg_dump").write_text(
        f'#!/bin/sh\npsql --quiet --command "insert into late values (1)"\nexec "{real}" "$@"\n'
    )
    (first / "pg_dump").chmod(0o700)
    monkeypatch.setenv("PATH", f"{first}{os.pathsep}{os.environ['PATH']}")
    backup = back_up(records, store)
    assert sql(records, "select count(*) from late") == [(1,)]
    assert backup.manifest.extra["rows"]["public.late"] == 0
    sql(records, WIPE)
    done("restore")  # which counts


def test_a_backup_is_restored_by_its_name_and_the_newest_without_one(
    records: Database, store: ObjectStore
) -> None:
    names = [back_up(records, store).folder.prefix.rpartition("/")[2] for _ in range(2)]
    assert find_backup(store, names[0]).folder.prefix.endswith(names[0])
    assert find_backup(store).folder.prefix.endswith(names[1])
    assert names[1] in refused("restore", "2020-01-01T000000.000000Z")


def test_a_database_that_is_not_empty_is_left_alone(records: Database, store: ObjectStore) -> None:
    back_up(records, store)
    before = history()
    assert "is not empty" in refused("restore")
    assert history() == before


@pytest.fixture
def damaged(records: Database, store: ObjectStore, s3_client: Any) -> Published:
    """A backup of which a byte in the middle was changed."""
    backup = back_up(records, store)
    key = backup.folder.key(DUMP)
    content = bytearray(store.get_bytes(key, max_bytes=2**30))
    content[len(content) // 2] ^= 1
    s3_client.put_object(Bucket=store.bucket, Key=key, Body=bytes(content))
    sql(records, WIPE)
    return backup


def test_a_damaged_backup_is_not_restored(damaged: Published, records: Database) -> None:
    assert "is damaged" in refused("restore")
    assert sql(records, "select * from pg_tables where schemaname = 'public'") == []


def test_a_restore_that_fails_leaves_the_database_empty(
    records: Database, store: ObjectStore
) -> None:
    back_up(records, store)
    # Not a table, so that it is noticed by pg_restore alone, when half of all is there.
    sql(records, f"{WIPE}; create sequence runs_id_seq")
    assert "pg_restore failed" in refused("restore")
    assert sql(records, "select * from pg_tables where schemaname = 'public'") == []


@pytest.fixture
def held(records: Database) -> Iterator[tuple[subprocess.Popen[bytes], Event]]:
    """A backup that has sent its first part to S3, and an event that lets it go on."""
    sql(records, BALLAST)
    is_sending, may_go_on = Event(), Event()

    def hold(request: BaseHTTPRequestHandler, _body: bytes, _status: int) -> None:
        if "partNumber=" in request.path:
            is_sending.set()
            may_go_on.wait()

    with in_front_of(os.environ["AWS_ENDPOINT_URL_S3"]) as front:
        front.observe = hold
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.records", "backup"],
            cwd=CHECKOUT,
            env={**os.environ, "AWS_ENDPOINT_URL_S3": front.url},
        )
        while not is_sending.wait(1):
            assert process.poll() is None
        yield process, may_go_on
        may_go_on.set()
        process.kill()
        process.wait()


def test_a_backup_that_is_killed_is_none(
    held: tuple[subprocess.Popen[bytes], Event], store: ObjectStore
) -> None:
    process, may_go_on = held
    process.kill()
    process.wait()
    may_go_on.set()
    assert keys_of(store) == []
    assert "There is no backup" in refused("restore")


def test_no_password_stands_on_a_command_line(
    held: tuple[subprocess.Popen[bytes], Event],
) -> None:
    process = psutil.Process(held[0].pid)
    for one in (process, *process.children(recursive=True)):
        assert os.environ["POSTGRES_PASSWORD"] not in " ".join(one.cmdline())


def test_a_dump_that_breaks_off_leaves_nothing_behind(
    records: Database, store: ObjectStore, s3_client: Any
) -> None:
    # pg_dump refuses the last table when it comes to it, after a part has gone to S3.
    sql(records, f"{BALLAST}; create table z_guarded (n int)")
    sql(records, "alter table z_guarded enable row level security")
    sql(records, "alter table z_guarded force row level security")
    assert "row-level security" in refused("backup")
    assert keys_of(store) == []
    assert not s3_client.list_multipart_uploads(Bucket=store.bucket).get("Uploads")


def test_a_database_without_records_is_not_backed_up(
    production: dict[str, str], store: ObjectStore
) -> None:
    assert "has no records of Dagster" in refused("backup")
    assert keys_of(store) == []


def test_a_wrong_password_is_told_and_not_shown(production: dict[str, str]) -> None:
    message = refused("backup", POSTGRES_PASSWORD="pl4nted")
    assert "password authentication failed" in message
    assert "pl4nted" not in message


def test_an_upgrade_migrates_older_tables_and_keeps_them_as_a_backup(
    records: Database, store: ObjectStore
) -> None:
    current = sql(records, "select version_num from alembic_version")
    before = history()
    sql(records, OLDER)
    assert "`docker compose up -d --wait` starts it" in done("upgrade")
    assert sql(records, NEW_COLUMN) == [(1,)]
    assert sql(records, "select version_num from alembic_version") == current
    assert history() == before
    assert find_backup(store).manifest.extra["schema"] == "6b7fb194ff9c"


def test_an_upgrade_of_current_tables_changes_nothing(
    records: Database, store: ObjectStore
) -> None:
    before = history()
    done("upgrade")
    assert history() == before
    assert len(keys_of(store)) == 2


def test_an_upgrade_that_fails_names_the_way_back(records: Database, store: ObjectStore) -> None:
    sql(records, "update alembic_version set version_num = 'of another Dagster'")
    finished = command("upgrade")
    assert finished.returncode == 1
    name = find_backup(store).folder.prefix.rpartition("/")[2]
    assert f"records restore {name}" in finished.stderr
