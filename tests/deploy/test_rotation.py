"""A new password for the database of Dagster's records, on a real Postgres.

Wherever a rotation ends, a file says the password that works, and the next rotation finishes it.
"""

import fcntl
import os
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class named in lower case

from deploy.records.database import Database, RecordsError
from tests.conftest import CHECKOUT, Services

OLD = "an-old-password"


@pytest.fixture
def admin(services: Services) -> Iterator[Cursor]:
    with closing(psycopg2.connect(services.admin_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@pytest.fixture
def file(
    production: dict[str, str], admin: Cursor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The password of a role with a database of its own; what the role does is logged."""
    name = sql.Identifier(f"test_{secrets.token_hex(6)}")
    for statement in (
        "create role {} login password %s",
        "alter role {} set log_statement = 'all'",
        "create database {} owner {}",
    ):
        parts = [name] * statement.count("{}")
        admin.execute(sql.SQL(statement).format(*parts), [OLD] if "%s" in statement else None)
    path = tmp_path / "platform" / "records_password"
    path.parent.mkdir()
    path.write_text(f"{OLD}\n")
    path.chmod(0o640)
    for variable in ("POSTGRES_USER", "POSTGRES_DB"):
        monkeypatch.setenv(variable, name.string)
    monkeypatch.setenv("POSTGRES_PASSWORD", OLD)
    yield path
    admin.execute(sql.SQL("drop database {} with (force)").format(name))
    admin.execute(sql.SQL("drop role {}").format(name))


def rotate(file: Path) -> subprocess.CompletedProcess[str]:
    """`docker compose run --rm records rotate`, without Docker."""
    return subprocess.run(command(file), cwd=CHECKOUT, capture_output=True, text=True, check=False)


def command(file: Path) -> list[str]:
    return [sys.executable, "-m", "deploy.records", "rotate", str(file)]


def password_of(file: Path) -> str:
    return file.read_text().rstrip("\n")


def lets_in(password: str) -> bool:
    """Whether the database takes a password."""
    try:
        Database.of({**os.environ, "POSTGRES_PASSWORD": password}).connect().close()
    except RecordsError as error:
        if "password authentication failed" not in str(error):
            raise
        return False
    return True


def beside(file: Path) -> Path:
    return file.with_name("next.records_password")


def assert_rotated(file: Path) -> None:
    """The file alone is left, and says a new password, which is the one that works."""
    assert list(file.parent.iterdir()) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert lets_in(password_of(file))
    assert not lets_in(OLD)


def test_the_role_gets_a_new_password_and_the_file_says_it(file: Path) -> None:
    done = rotate(file)
    assert done.returncode == 0, done.stderr
    assert_rotated(file)
    assert len(password_of(file)) > 40
    assert password_of(file) not in done.stdout + done.stderr
    assert "docker compose up -d --wait" in done.stdout


def test_no_log_of_the_server_has_the_password(file: Path, services: Services) -> None:
    assert rotate(file).returncode == 0
    role = os.environ["POSTGRES_USER"]
    log = services.home.logs / "postgres.log"
    # Which gets what the server says by way of another process.
    deadline = time.monotonic() + 120
    while f'alter role "{role}" password \'SCRAM-SHA-256$' not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert password_of(file) not in log.read_text()


def test_a_rotation_that_ended_before_its_last_step_is_finished(file: Path) -> None:
    before = file.read_text()
    assert rotate(file).returncode == 0
    password = password_of(file)
    # As a kill leaves it between the change of the role and that of the file.
    file.rename(beside(file))
    file.write_text(before)
    assert lets_in(password_of(beside(file)))
    done = rotate(file)
    assert done.returncode == 0, done.stderr
    assert_rotated(file)
    assert password_of(file) == password


@pytest.mark.parametrize("length", [0, 30, None], ids=["empty", "half", "whole"])
def test_a_rotation_that_ended_before_its_first_step_is_begun_anew(
    file: Path, length: int | None
) -> None:
    beside(file).write_text(file.read_text().replace(OLD, "never-in-force")[:length])
    done = rotate(file)
    assert done.returncode == 0, done.stderr
    assert_rotated(file)
    assert password_of(file) != "never-in-force"


def test_a_rotation_that_is_killed_while_the_role_is_changed_loses_no_password(
    file: Path, services: Services, admin: Cursor
) -> None:
    role = os.environ["POSTGRES_USER"]
    with closing(psycopg2.connect(services.admin_dsn)) as connection:
        # Whoever changes the role has to wait for this one, which is never committed.
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("alter role {} connection limit 9").format(sql.Identifier(role)))
        with subprocess.Popen(command(file), cwd=CHECKOUT) as process:
            while not waiting(admin, role):
                assert process.poll() is None
                time.sleep(0.1)
            process.kill()
    assert password_of(file) == OLD
    assert lets_in(OLD) != lets_in(password_of(beside(file)))
    assert rotate(file).returncode == 0
    assert_rotated(file)


def waiting(admin: Cursor, role: str) -> bool:
    """Whether a session of the role waits for a lock."""
    admin.execute(
        "select count(*) from pg_stat_activity where usename = %s and wait_event_type = 'Lock'",
        [role],
    )
    return admin.fetchall() == [(1,)]


def test_nothing_is_changed_while_a_run_is_under_way(file: Path) -> None:
    @dg.asset
    def rotates() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"said": rotate(file).stderr})

    before = file.read_text()
    with dg.DagsterInstance.get() as instance:
        done = dg.materialize([rotates], instance=instance)
    (materialisation,) = done.asset_materializations_for_node("rotates")
    assert "Runs wait or are under way (1)" in str(materialisation.metadata["said"].value)
    assert file.read_text() == before
    assert lets_in(OLD)


def test_two_rotations_at_once_are_one(file: Path) -> None:
    descriptor = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    done = rotate(file)
    os.close(descriptor)
    assert done.returncode == 1
    assert "Another rotation is under way" in done.stderr
    assert lets_in(OLD)


def test_both_passwords_are_kept_while_the_database_does_not_answer(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(file).write_text(file.read_text().replace(OLD, "perhaps-in-force"))
    monkeypatch.setenv("DAGSTER_POSTGRES_PORT", "9")
    done = rotate(file)
    assert done.returncode == 1
    assert "Cannot connect to Dagster's database" in done.stderr
    assert (password_of(file), password_of(beside(file))) == (OLD, "perhaps-in-force")
