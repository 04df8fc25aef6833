"""Sessions with a real Postgres: what they see, and what is said when they cannot."""

import hmac
import re
import subprocess
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from formats.columns import Column, compare_columns
from resources.postgres import (
    DatabaseAccessDeniedError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseRequestError,
    DatabaseUnavailableError,
    Extract,
    PostgresResource,
    TableMissingError,
)
from resources.postgres.query import key_settings
from tests.resources.postgres.postgres_rig import readable_columns, rows_of, run
from tests.waiting import until


def test_columns_have_arrow_types_in_the_tables_order(database: str, writer: Connection) -> None:
    run(writer, "create domain money_amount as numeric(10, 2)")
    run(writer, "create type mood as enum ('sad', 'ok')")
    run(
        writer,
        """create table t (b bigint, i integer, s smallint, dropped text, d double precision,
           r real, n numeric, p numeric(12, 3), big numeric(50, 2), dom money_amount,
           x text, v varchar(9),
           c char(3), da date, ok boolean, ts timestamp, tz timestamptz, j jsonb, u uuid, a text[],
           m mood)""",
    )
    run(writer, "alter table t drop column dropped")
    with PostgresResource(dsn=database).connect() as session:
        assert {column.name: column.type for column in readable_columns(session, "t")} == {
            "b": "int64",
            "i": "int64",
            "s": "int64",
            "d": "double",
            "r": "double",
            "n": "string",
            "p": "decimal128(12, 3)",
            "big": "string",
            "dom": "decimal128(10, 2)",
            "x": "string",
            "v": "string",
            "c": "string",
            "da": "date32",
            "ok": "bool",
            "ts": "timestamp[us]",
            "tz": "timestamp[us, tz=UTC]",
            "j": "string",
            "u": "string",
            "a": "string",
            "m": "string",
        }


@pytest.mark.parametrize("name", ["select", "Two Words", 'a"b', "100%s", "x'; drop table y --"])
def test_names_are_never_read_as_sql(database: str, writer: Connection, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    run(writer, f"create schema {quoted}; create table {quoted}.{quoted} ({quoted} text)")
    with closing(writer.cursor()) as cursor:
        cursor.execute(f"insert into {quoted}.{quoted} values (%s)".replace("%s)", "'v')"))
    with PostgresResource(dsn=database).connect() as session:
        table = f"{name}.{name}"
        assert readable_columns(session, table) == (Column(name=name, type="string"),)
        assert session.count(table, {name: "v"}) == 1
        assert session.count(table, {name: "' or true --"}) == 0


def test_a_missing_table_is_called_so(database: str) -> None:
    with (
        PostgresResource(dsn=database).connect() as session,
        pytest.raises(TableMissingError, match=r"table nothing of .*no such table"),
    ):
        readable_columns(session, "nothing")
    with (
        PostgresResource(dsn=database).connect() as session,
        pytest.raises(TableMissingError, match="correct the table's name") as caught,
    ):
        session.count("nothing")
    assert not caught.value.transient


def test_a_missing_column_is_called_so(database: str, writer: Connection) -> None:
    run(writer, "create table t (id bigint)")
    with (
        PostgresResource(dsn=database).connect() as session,
        pytest.raises(DatabaseError, match=r"download_date.*Add the column"),
    ):
        session.count("t", {"download_date": "2026-11-22"})


def test_a_table_that_may_not_be_read_is_called_so(database: str) -> None:
    with (
        PostgresResource(dsn=database).connect() as session,
        pytest.raises(DatabaseAccessDeniedError, match="Grant SELECT"),
    ):
        session.count("pg_authid")


def test_a_session_cannot_write(database: str, writer: Connection) -> None:
    run(
        writer,
        """create table log (x int);
           create function note() returns int language sql as
               'insert into log values (1) returning x';
           create view sly as select note() as x""",
    )
    with (
        PostgresResource(dsn=database).connect() as session,
        pytest.raises(DatabaseRequestError, match="read-only transaction"),
    ):
        session.export(
            Extract("sly", (Column(name="x", type="int64"),), ("x",)),
            open("/dev/null", "wb", buffering=0),  # noqa: PTH123, SIM115
            format="csv",
        )
    with PostgresResource(dsn=database).connect() as session:
        assert session.count("log") == 0


def test_a_session_sees_one_state(database: str, writer: Connection) -> None:
    run(writer, "create table t (id bigint)")
    with PostgresResource(dsn=database).connect() as session:
        assert session.count("t") == 0
        run(writer, "insert into t values (1)")
        assert session.count("t") == 0
    with PostgresResource(dsn=database).connect() as session:
        assert session.count("t") == 1


def test_a_second_session_sees_the_state_of_the_first_and_ends_with_its_block(
    database: str, writer: Connection
) -> None:
    run(writer, "create table t (id bigint)")
    run(writer, "insert into t values (1)")
    with PostgresResource(dsn=database).connect() as session:
        readable_columns(session, "t")
        assert session.count("t") == 1
        run(writer, "insert into t values (2)")
        with session.second_session("t") as second:
            run(writer, "insert into t values (3)")
            assert second.count("t") == session.count("t") == 1
        with pytest.raises(DatabaseUnavailableError):
            second.count("t")
        with PostgresResource(dsn=database).connect() as later:
            assert later.count("t") == 3


@pytest.mark.parametrize("statement", ["truncate t", "alter table t alter id type text"])
def test_a_table_is_neither_emptied_nor_altered_once_its_columns_are_known(
    database: str, writer: Connection, statement: str
) -> None:
    """Neither heeds snapshots: to a session that began before, the table would be empty."""
    run(writer, "create table t (id bigint); insert into t values (1); set lock_timeout = '50ms'")
    with PostgresResource(dsn=database).connect() as session:
        readable_columns(session, "t")
        assert session.count("t") == 1
        run(writer, "insert into t values (2)")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            run(writer, statement)
        assert session.count("t") == 1
    run(writer, "set lock_timeout = '5s'")
    run(writer, statement)


def test_a_materialised_view_is_read_as_a_table_is(database: str, writer: Connection) -> None:
    run(writer, "create materialized view t as select 1::bigint as id")
    with PostgresResource(dsn=database).connect() as session:
        assert readable_columns(session, "t") == (ID,)
        assert session.count("t") == 1


def test_connections_are_named_and_closed(database: str, writer: Connection) -> None:
    def names() -> list[str]:
        with writer.cursor() as cursor:
            cursor.execute(
                "select application_name from pg_stat_activity where datname = current_database() "
                "and pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
            return [row[0] for row in cursor.fetchall()]

    with PostgresResource(dsn=database, application_name="snapshots").connect():
        assert names() == ["snapshots"]
    assert names() in ([], ["snapshots"])  # The server may need a moment to notice.


def test_the_server_asks_whether_its_client_is_still_there(
    database: str, writer: Connection
) -> None:
    """By the kernel's own timer of the server's end of the connection."""
    ports = (
        "select split_part(current_setting('port'), ',', 1), client_port from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() and client_port > 0"
    )
    with PostgresResource(dsn=database).connect():
        ((server, client),) = rows_of(writer, ports)
        ends = f"( sport = :{server} and dport = :{client} )"
        command = ["ss", "--tcp", "--numeric", "--options", ends]

        def timer() -> re.Match[str] | None:
            shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            return re.search(r"timer:\(keepalive,(\d+)sec,0\)", shown)

        # While a packet is not acknowledged, there is another timer.
        assert int(until(timer)[1]) <= 30


def test_a_statement_has_a_deadline(database: str, writer: Connection) -> None:
    run(writer, "create view slow as select pg_sleep(60)::text as x")
    with (
        PostgresResource(dsn=database, statement_timeout_seconds=1).connect() as session,
        pytest.raises(DatabaseError, match="statement_timeout_seconds"),
    ):
        session.count("slow", {"x": "y"})


def test_a_lock_is_not_waited_for_for_ever(database: str, writer: Connection) -> None:
    run(writer, "create table t (id bigint)")
    run(writer, "begin; lock table t in access exclusive mode")
    with (
        PostgresResource(dsn=database, lock_timeout_seconds=1).connect() as session,
        pytest.raises(DatabaseBusyError, match="holds a lock") as caught,
    ):
        session.count("t")
    assert caught.value.transient


def with_netloc(dsn: str, **parts: object) -> str:
    url = urlsplit(dsn)
    user, password = parts.get("user", url.username), parts.get("password", url.password)
    netloc = f"{user}:{password}@{parts.get('host', url.hostname)}:{parts.get('port', url.port)}"
    return url._replace(netloc=netloc, path=str(parts.get("path", url.path))).geturl()


@pytest.mark.parametrize(
    ("change", "kind", "words", "transient"),
    [
        ({"password": "wr0ng"}, DatabaseError, "password authentication failed", False),
        ({"user": "nobody"}, DatabaseError, "Check user, password", False),
        ({"path": "/nothing"}, DatabaseError, "does not exist", False),
        ({"port": 1}, DatabaseUnavailableError, "Check that the server runs", True),
        ({"host": "no-host.invalid"}, DatabaseUnavailableError, "names its host", True),
    ],
    ids=["password", "user", "database", "port", "host"],
)
def test_a_failed_connect_says_why_without_the_password(
    database: str,
    change: Mapping[str, object],
    kind: type[DatabaseError],
    words: str,
    transient: bool,
) -> None:
    dsn = with_netloc(database, **change)
    with pytest.raises(kind, match=words) as caught, PostgresResource(dsn=dsn).connect():
        pass
    assert str(urlsplit(dsn).password) not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.transient == transient


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:s3cret@@h:x:y/", "host=h password='s3cret", "u:s3cret@h/db"]
)
def test_a_dsn_that_cannot_be_parsed_is_not_quoted(dsn: str) -> None:
    with pytest.raises(DatabaseError) as caught, PostgresResource(dsn=dsn).connect():
        pass
    assert "s3cret" not in str(caught.value)


def test_secrets_are_not_part_of_the_resources_text(database: str) -> None:
    resource = PostgresResource(dsn=database, pseudonym_key="k3y")
    assert str(urlsplit(database).password) not in repr(resource)
    assert "k3y" not in repr(resource)


def test_a_dsn_keeps_its_own_options(database: str, writer: Connection) -> None:
    run(writer, "create schema other; create table other.t (id bigint)")
    dsn = f"{database}?options={quote('-c search_path=other')}"
    with PostgresResource(dsn=dsn).connect() as session:
        assert session.count("t") == 0


@pytest.mark.parametrize("key", ["k", "k" * 64, "k" * 65, "schlüssel"], ids=len)
def test_the_key_blocks_are_those_of_hmac(key: str) -> None:
    """The database only joins and hashes; RFC 2104's blocks are made here."""
    inner, outer = (bytes.fromhex(block) for block in key_settings(key).values())
    computed = sha256(outer + sha256(inner + b"text").digest()).hexdigest()
    assert computed == hmac.new(key.encode(), b"text", "sha256").hexdigest()


ID, PRICE, NAME = (
    Column(name="id", type="int64"),
    Column(name="price", type="double"),
    Column(name="name", type="string"),
)


@pytest.mark.parametrize(
    ("actual", "breaking", "output"),
    [
        ([ID, PRICE], False, "as expected"),
        ([PRICE, ID], False, "as expected"),
        ([ID, PRICE, NAME], False, "column name (string) is new"),
        ([ID], True, "column price (double) is missing"),
        (
            [ID, Column(name="price", type="string")],
            True,
            "column price is string instead of double",
        ),
    ],
    ids=["same", "another order", "new", "missing", "retyped"],
)
def test_a_contract_is_broken_by_what_is_missing_or_retyped(
    actual: list[Column], breaking: bool, output: str
) -> None:
    differences = compare_columns([ID, PRICE], actual)
    assert differences.breaking == breaking
    assert differences.describe() == output


@pytest.mark.parametrize("empty", ["columns", "order_by"])
def test_an_extract_without_columns_or_order_is_refused(empty: str) -> None:
    parts: dict[str, Any] = {"columns": (ID,), "order_by": ("id",), empty: ()}
    with pytest.raises(ValueError, match=re.escape("needs columns and a key")):
        Extract("t", **parts)


def test_a_pseudonym_of_no_column_is_refused() -> None:
    """A misspelt name must not let the column's own values out."""
    with pytest.raises(ValueError, match="hots_name of t cannot be pseudonymised"):
        Extract("t", (ID,), ("id",), pseudonymised=frozenset({"hots_name"}))
