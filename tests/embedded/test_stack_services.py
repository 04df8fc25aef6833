"""Starting, stopping and surviving, on services without Dagster: fast enough for many cases."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from embedded import ports, postgres, processes, stack
from embedded.aws import aws_client
from embedded.dagster_parts import dagster_parts
from embedded.errors import NoSpaceError, PortInUseError, ServiceFailedError
from embedded.plan import Plan, make_plan
from embedded.programs import postgres_part, s3_part
from tests.conftest import CHECKOUT, clean_environ, free_port_base, temporary_home


def plan_at(home: Path) -> Plan:
    return make_plan(clean_environ(PLATFORM_HOME=str(home), PLATFORM_PORT_BASE=free_port_base()))


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """One home for all tests: each puts the stack into the state from which it starts."""
    with temporary_home() as home:
        yield plan_at(home)


def alive(plan: Plan) -> list[psutil.Process]:
    return processes.of_stack(plan.credentials.stack_id, plan.home.postgres_data)


def kill(processes: list[psutil.Process]) -> None:
    """By -9; a child may be gone before its turn, since its parent is."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=60)


def execute(plan: Plan, statement: str) -> list[tuple[object, ...]]:
    with (
        closing(psycopg2.connect(plan.environment["PLATFORM_POSTGRES_DSN"])) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_down_leaves_no_process_and_frees_the_ports(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan), s3_part(plan)])
    assert {process.name() for process in alive(plan)} >= {"postgres", "weed"}

    assert stack.down(plan.home) > 0

    assert alive(plan) == []
    ports.require_free({"Postgres": plan.ports.postgres, "S3": plan.ports.s3})
    assert stack.down(plan.home) == 0


def test_killing_everything_loses_nothing_that_was_acknowledged(plan: Plan) -> None:
    parts = [postgres_part(plan), s3_part(plan)]
    stack.up(plan, parts)
    client = aws_client(plan.environment, "s3")
    bucket = plan.environment["PLATFORM_BUCKET"]
    execute(plan, "CREATE TABLE kept (number integer)")
    for number in range(20):
        client.put_object(Bucket=bucket, Key=f"kept/{number}", Body=b"%d" % number * 1000)
        execute(plan, f"INSERT INTO kept VALUES ({number})")

    kill(alive(plan))
    stack.up(plan, parts)

    assert execute(plan, "SELECT array_agg(number ORDER BY number) FROM kept") == [
        (list(range(20)),)
    ]
    for number in range(20):
        body = client.get_object(Bucket=bucket, Key=f"kept/{number}")["Body"].read()
        assert body == b"%d" % number * 1000


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://me:secret@db:5433/mine?sslmode=require", "postgresql://db:5433/mine"),
        ("postgresql://me@db/mine?password=secret", "postgresql://db:5432/mine"),
        ("host=db password=secret dbname=mine", "postgresql://db:5432/mine"),
        ("postgresql://me:secret@a:1,b:2/mine", "postgresql://a:1,b:2/mine"),
        ("service=mine password=secret", "service mine"),
        ("postgresql+psycopg2://me:secret@db/mine", "postgresql://db:5432/mine"),
        (
            "postgresql://me:se%zzcret@db/mine",
            "PLATFORM_POSTGRES_DSN is wrong. The Postgres DSN cannot be parsed. Write it as "
            "postgresql://user:password@host:port/database, special characters %-encoded.",
        ),
    ],
)
def test_where_a_postgres_is_shows_no_password(plan: Plan, dsn: str, expected: str) -> None:
    environment = {**plan.environment, "PLATFORM_POSTGRES_DSN": dsn}

    assert stack.urls(environment)["Postgres"] == expected


def test_orphans_of_a_killed_supervisor_are_swept_before_the_next_start(plan: Plan) -> None:
    parts = [postgres_part(plan)]
    stack.up(plan, parts)
    before = alive(plan)
    supervisor = [process for process in before if process.name() != "postgres"]
    kill(supervisor)
    orphans = {process.pid for process in alive(plan)}
    assert orphans, "Postgres was meant to outlive its supervisor"

    assert stack.up(plan, parts).started

    assert not orphans & {process.pid for process in alive(plan)}
    assert execute(plan, "SELECT 1") == [(1,)]


def test_down_ends_orphans_too(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan)])
    kill([process for process in alive(plan) if process.name() != "postgres"])

    stack.down(plan.home)

    assert alive(plan) == []


def test_a_stale_pid_file_that_names_a_strangers_process_is_no_obstacle(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan)])
    kill(alive(plan))
    pid_file = plan.home.postgres_data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    with subprocess.Popen(["sleep", "250"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        (plan.home.run / "supervisord.pid").write_text(f"{stranger.pid}\n")

        stack.up(plan, [postgres_part(plan)])
        stack.down(plan.home)

        assert stranger.poll() is None, "somebody else's process was ended"
        stranger.kill()


def test_a_program_that_dies_is_started_again(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan)])
    kill(postgres.processes(plan.home.postgres_data))

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            assert execute(plan, "SELECT 1") == [(1,)]
            break
        except psycopg2.OperationalError:
            time.sleep(0.2)
    else:
        pytest.fail("Postgres did not come back by itself")


def test_two_ups_at_once_make_one_stack(plan: Plan) -> None:
    stack.down(plan.home)
    results: list[stack.Running] = []
    threads = [
        threading.Thread(target=lambda: results.append(stack.up(plan, [postgres_part(plan)])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(result.started for result in results) == [False, True]
    assert [process.name() for process in alive(plan)].count("postgres") == len(
        postgres.processes(plan.home.postgres_data)
    )
    servers = [
        process
        for process in postgres.processes(plan.home.postgres_data)
        if "-D" in process.cmdline()
    ]
    assert len(servers) == 1


def test_moved_ports_are_said_and_find_the_data_of_the_old_ones(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan), s3_part(plan)])
    bucket = plan.environment["PLATFORM_BUCKET"]
    aws_client(plan.environment, "s3").put_object(Bucket=bucket, Key="kept", Body=b"kept")
    execute(plan, "CREATE TABLE moved AS SELECT 7 AS number")
    stack.down(plan.home)
    lines: list[str] = []

    moved = plan_at(plan.home.root)
    assert moved.ports != plan.ports
    assert stack.up(moved, [postgres_part(moved), s3_part(moved)], say=lines.append).started

    assert f"from port {plan.ports.ui} to {moved.ports.ui}" in lines[0]
    client = aws_client(moved.environment, "s3")
    assert client.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"
    client.put_object(Bucket=bucket, Key="new", Body=b"new")
    assert execute(moved, "SELECT number FROM moved") == [(7,)]
    ports.require_free({"the old Postgres": plan.ports.postgres, "the old S3": plan.ports.s3})


def test_a_strangers_port_stops_the_start_before_anything_runs(plan: Plan) -> None:
    stack.down(plan.home)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind((ports.HOST, plan.ports.postgres))
        stranger.listen()

        with pytest.raises(PortInUseError, match=f"Port {plan.ports.postgres}, which Postgres"):
            stack.up(plan, [postgres_part(plan)])

    assert alive(plan) == []


def test_a_service_that_cannot_start_is_reported_in_its_own_words(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan)])
    stack.down(plan.home)
    version = plan.home.postgres_data / "PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")

    try:
        with pytest.raises(ServiceFailedError) as caught:
            stack.up(plan, [postgres_part(plan)])
    finally:
        version.write_text(right)

    assert "Postgres did not come up" in str(caught.value)
    assert "initialized by PostgreSQL version 9" in str(caught.value)
    assert alive(plan) == []


@pytest.mark.parametrize(
    ("total", "free", "sentence"),
    [
        (8 << 30, 5 << 20, "Only 5 MB are free on the disk of .* need 1024:"),
        # S3 would take nothing.
        (1 << 40, 9 << 30, "Only 9216 MB are free on the disk of .* need 10485:"),
    ],
    ids=["small disk", "large disk"],
)
def test_a_full_disk_stops_the_start_before_anything_runs(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, total: int, free: int, sentence: str
) -> None:
    stack.down(plan.home)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(total, total - free, free))

    with pytest.raises(NoSpaceError, match=sentence):
        stack.up(plan, [postgres_part(plan)])

    assert alive(plan) == []


def test_wrong_passwords_and_no_passwords_are_refused(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan)])
    own = plan.credentials.postgres_password

    for password in ("", "wrong"):
        address = plan.environment["PLATFORM_POSTGRES_DSN"].replace(own, password)
        with pytest.raises(psycopg2.OperationalError, match="password"):
            postgres.check(address)


def test_no_secret_stands_in_a_command_line(plan: Plan) -> None:
    stack.up(plan, [postgres_part(plan), s3_part(plan)])
    secrets = {
        plan.credentials.secret_access_key,
        plan.credentials.postgres_password,
        plan.credentials.postgres_admin_password,
        plan.credentials.control_password,
    }

    for process in alive(plan):
        line = " ".join(process.cmdline())
        assert not [secret for secret in secrets if secret in line], process.name()


@pytest.mark.parametrize(
    "prefix",
    ["odd %d é'", "long" * 25],
    ids=["characters that mean something to supervisord", "too long for a Unix socket"],
)
def test_any_folder_can_be_the_home(prefix: str) -> None:
    with temporary_home(f"platform-test-{prefix}") as home:
        plan = plan_at(home)
        code_server, *_ = dagster_parts(plan)
        stack.up(plan, [postgres_part(plan), s3_part(plan), code_server])
        sockets = plan.home.sockets(plan.credentials.stack_id)

        assert execute(plan, "SELECT 1") == [(1,)]
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stack.down(plan.home) > 0
        assert alive(plan) == []
        assert sockets == plan.home.run or not sockets.exists()


def test_a_killed_test_run_leaves_neither_processes_nor_files() -> None:
    script = """
from tests.conftest import temporary_home
from test_stack_services import plan_at
from embedded import stack
from embedded.programs import postgres_part
import sys, time
with temporary_home() as home:
    plan = plan_at(home)
    stack.up(plan, [postgres_part(plan)])
    print(home, plan.credentials.stack_id, flush=True)
    time.sleep(60)
"""
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests"), str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as run:
        assert run.stdout is not None
        home, stack_id = run.stdout.readline().split()
        run.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 120
    while Path(home).exists() and time.monotonic() < deadline:
        time.sleep(0.2)

    assert not Path(home).exists()
    assert processes.of_stack(stack_id, Path(home) / "data" / "postgres") == []
