"""Commands print the host and database of connection strings, and never a password."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedded.stack import shown_dsn
from tests.conftest import CHECKOUT, clean_environ, free_port_base, temporary_home

DSNS = {
    "postgresql://u:pl4nted@@127.0.0.1:x/db": "cannot be parsed",
    "postgresql://u:x/pl4nted@127.0.0.1:9/db": "cannot be parsed",
    "postgresql+psycopg2://u:pl4nted@127.0.0.1:9,127.0.0.1:10/db": "does not answer",
    "host=127.0.0.1 port=9 user=u password='pl4nted": "cannot be parsed",
    "host=127.0.0.1 port=9 user=u password=pl4nted": "does not answer",
    "service=no-such password=pl4nted": "no-such",
}


@pytest.mark.parametrize("dsn", DSNS)
def test_loading_into_a_database_that_cannot_be_reached_shows_no_password(
    tmp_path: Path, dsn: str
) -> None:
    csv = tmp_path / "listings.csv"
    csv.write_text(
        "id,name,host_id,host_name,neighbourhood_group,neighbourhood,latitude,longitude,room_type,"
        "price,minimum_nights,number_of_reviews,last_review,reviews_per_month,"
        "calculated_host_listings_count,availability_365\n"
        "1,a,2,b,,Oost,52.3,4.9,Private room,50,1,0,,,1,9\n"
    )
    with temporary_home() as root:
        (root / "logs").mkdir()
        quoted = dsn.replace("'", "'\\''")
        (root / "env").write_text(f"PLATFORM_POSTGRES_DSN='{quoted}'\n")
        done = run(root, "load-listings", str(csv), "2026-01-05")
        logs = "".join(log.read_text() for log in (root / "logs").iterdir())
    assert done.returncode == 1
    assert DSNS[dsn] in done.stderr, done.stderr
    assert "pl4nted" not in done.stdout + done.stderr + logs


@pytest.mark.parametrize("dsn", DSNS)
def test_up_shows_where_a_database_of_ones_own_is_and_no_password(dsn: str) -> None:
    assert "pl4nted" not in shown_dsn(dsn)


def test_no_command_shows_the_password_of_a_database_that_cannot_be_reached() -> None:
    """Neither in its output nor in the logs of the programs that it starts."""
    settings = {
        # What is before the @ could be taken for a host, and what is after the slash for a name.
        "PLATFORM_POSTGRES_DSN": "postgresql://u:x/pl4nted@127.0.0.1:9/db",
        "PLATFORM_PORT_BASE": free_port_base(),
    }
    with temporary_home() as root:
        done = {name: run(root, name, **settings) for name in ("up", "status", "demo", "down")}
        logs = {path.name: path.read_bytes() for path in (root / "logs").rglob("*.log*")}
    assert {name: command.returncode for name, command in done.items()} == {
        "up": 0, "status": 0, "demo": 1, "down": 0,
    }  # fmt: skip
    for name in ("up", "status"):
        assert "PLATFORM_POSTGRES_DSN is wrong" in done[name].stdout
    assert "PLATFORM_POSTGRES_DSN is wrong" in done["demo"].stderr
    for name, command in done.items():
        assert "pl4nted" not in command.stdout + command.stderr, name
    assert {"code-server.log", "webserver.log", "daemon.log", "supervisord.log"} <= logs.keys()
    for name, content in logs.items():
        assert b"pl4nted" not in content, name


def run(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = clean_environ(PLATFORM_HOME=str(home), **settings)
    return subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        env=environ,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
