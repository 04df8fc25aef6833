"""Who may see what: no part is taken for the whole, and no right is asked for without need."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from formats.columns import Column
from resources.postgres import (
    DatabaseAccessDeniedError,
    DatabaseBusyError,
    DatabaseRequestError,
    Extract,
    FilteredRowsError,
    PostgresResource,
    Query,
    Session,
    Table,
    rights,
)
from tests.conftest import Services
from tests.resources.postgres.postgres_rig import Memory, readable_columns, run

ID = Column(name="id", type="int64")


@pytest.fixture
def admin(services: Services, database: str) -> Iterator[Connection]:
    """The superuser, in the test's database."""
    path = urlsplit(database).path
    with closing(psycopg2.connect(urlsplit(services.admin_dsn)._replace(path=path).geturl())) as it:
        it.autocommit = True
        yield it


@pytest.fixture
def role(admin: Connection) -> Iterator[str]:
    """A user who owns nothing; its password is its name."""
    name = f"reader_{secrets.token_hex(4)}"
    create = sql.SQL("create role {} login password {}")
    drop = sql.SQL("drop owned by {0}; drop role {0}")
    with admin.cursor() as cursor:
        cursor.execute(create.format(sql.Identifier(name), sql.Literal(name)))
        yield name
        cursor.execute(drop.format(sql.Identifier(name)))


@pytest.fixture
def reader(database: str, role: str) -> PostgresResource:
    """The resource as that user."""
    url = urlsplit(database)
    netloc = f"{role}:{role}@{url.hostname}:{url.port}"
    return PostgresResource(dsn=url._replace(netloc=netloc).geturl())


@pytest.fixture
def table(writer: Connection, role: str) -> Connection:
    """`t`: 100 rows, of which 10 are the reader's; it may read all."""
    run(
        writer,
        f"""create table t (id bigint primary key, owner text);
            insert into t select i, case when i % 10 = 0 then '{role}' else 'else' end
                from generate_series(1, 100) i;
            grant select on t to {role}""",
    )
    return writer


def rows_of(session: Session, table: Table) -> int:
    """How many rows an export has."""
    extract = Extract(table, readable_columns(session, table), ("id",))
    session.examine(extract)
    rows = session.profile(extract, "id").rows
    assert session.export(extract, Memory(), format="csv").rows == rows
    return rows


ONLY_OWN = """alter table t enable row level security;
    create policy only_own on t for select using (owner = current_user)"""


def test_a_table_whose_rows_a_policy_hides_is_refused_with_the_policys_name(
    table: Connection, reader: PostgresResource, role: str
) -> None:
    run(table, ONLY_OWN)
    with reader.connect() as session, pytest.raises(FilteredRowsError) as caught:
        session.describe("t")
    assert f"lets {role} see a part of the rows only (policy only_own on public.t)" in str(
        caught.value
    )
    assert "BYPASSRLS" in str(caught.value)
    assert not caught.value.transient


def test_row_level_security_without_a_policy_is_refused_and_called_so(
    table: Connection, reader: PostgresResource
) -> None:
    run(table, "alter table t enable row level security")
    with reader.connect() as session, pytest.raises(FilteredRowsError, match="no policy shows any"):
        session.count("t")


def test_whom_policies_do_not_bind_reads_all_rows(
    table: Connection, admin: Connection, reader: PostgresResource, role: str, database: str
) -> None:
    run(table, ONLY_OWN)
    with PostgresResource(dsn=database).connect() as owner:
        assert rows_of(owner, "t") == 100
    run(admin, f"alter role {role} bypassrls")
    with reader.connect() as session:
        assert rows_of(session, "t") == 100


def test_an_owner_whom_policies_are_forced_upon_is_refused(
    table: Connection, database: str
) -> None:
    run(table, ONLY_OWN)
    run(table, "alter table t force row level security")
    with PostgresResource(dsn=database).connect() as owner, pytest.raises(FilteredRowsError):
        owner.describe("t")


def test_a_policy_is_found_below_a_view_with_the_readers_rights(
    table: Connection, reader: PostgresResource, role: str
) -> None:
    run(table, ONLY_OWN)
    run(table, "create view v with (security_invoker) as select * from t")
    run(table, f"create view plain as select * from t; grant select on v, plain to {role}")
    with reader.connect() as session, pytest.raises(FilteredRowsError, match="only_own"):
        session.describe("v")
    with reader.connect() as session:  # whose owner is the table's, and sees all
        assert rows_of(session, "plain") == 100


def test_a_policy_is_found_below_the_view_of_somebody_else(
    table: Connection, admin: Connection, reader: PostgresResource, role: str
) -> None:
    """A view has the rights of its owner, who may be bound by policies too."""
    run(table, ONLY_OWN)
    run(admin, f"create view theirs as select * from t; alter view theirs owner to {role}")
    with reader.connect() as session, pytest.raises(FilteredRowsError, match="only_own"):
        session.describe("theirs")


@pytest.mark.parametrize(
    "condition",
    [
        "owner = current_user",
        "owner = session_user",
        "owner = user",
        "owner = current_setting('application_name')",
        "owner = (select current_user)",
        "pg_has_role('pg_monitor', 'member')",
        "owner = who_asks()",
        "owner = who_asks_who_asks()",
        "owner in (select rolname from pg_roles r where r.rolname = current_user)",
        "exists (select from t as o where o.id = t.id and o.owner = current_user)",
        "current_user <> 'somebody'",
    ],
)
def test_a_view_that_asks_who_is_reading_is_refused(
    table: Connection, reader: PostgresResource, role: str, condition: str
) -> None:
    run(
        table,
        f"""create function who_asks() returns text stable language plpgsql
                as 'begin return current_user; end';
            create function "Another"() returns text stable language plpgsql
                as 'begin return WHO_ASKS (); end';
            create function who_asks_who_asks() returns text stable language plpgsql
                as 'begin return "Another"() || case when false then who_asks_who_asks() end; end';
            create view inner_view as select * from t where {condition};
            create view v as select id, owner from inner_view where id > 0;
            grant select on v to {role}""",
    )
    with reader.connect() as session:
        extract = Extract("v", readable_columns(session, "v"), ("id",))
        with pytest.raises(FilteredRowsError, match="depends on who reads them"):
            session.examine(extract)


@pytest.mark.parametrize(
    "definition",
    [
        "with me as materialized (select current_user as u) "
        "select t.* from t join me on t.owner = me.u",
        "with me as materialized (select current_user as u) "
        "select t.*, current_user as read_by from t join me on t.owner = me.u",
        "select * from (select *, owner = current_user as mine from t offset 0) s where mine",
        "select * from (select *, who_asks() as me from t offset 0) s where owner = me",
        "select * from t order by owner = current_user desc limit 10",
        "select *, owner = current_user as read_by from t order by read_by desc limit 10",
        "select distinct on (owner = current_user) * from t",
        "select * from (select *, row_number() over (order by owner = current_user) as n from t) s "
        "where n < 10",
    ],
    ids=[
        "materialised",
        "materialised, and put out as well",
        "planned by itself",
        "a function in what is planned by itself",
        "first rows",
        "first rows, and put out as well",
        "one row of each kind",
        "rank",
    ],
)
def test_a_view_that_asks_who_is_reading_before_it_filters_is_refused(
    table: Connection, reader: PostgresResource, role: str, definition: str
) -> None:
    run(
        table,
        f"""create function who_asks() returns text stable language plpgsql
                as 'begin return current_user; end';
            create view v as {definition};
            grant select on v to {role}""",
    )
    with reader.connect() as session:
        extract = Extract("v", readable_columns(session, "v"), ("id",))
        with pytest.raises(FilteredRowsError, match="depends on who reads them"):
            session.examine(extract)


@pytest.mark.parametrize(
    "definition",
    [
        "select * from t where owner <> 'current_user'",
        "select *, current_user as read_by from t",
        "select t.*, current_user as read_by from t join (select 'else' as o offset 0) s "
        "on o is not null",
        'select id, owner from (select id, owner, 1 as "CURRENT_USER" from t) as s '
        'where "CURRENT_USER" = 1',
        "select * from t where id < 1000 and owner <> lower('X')",
    ],
    ids=[
        "in a literal",
        "in a column",
        "in a column of a join",
        "as a name",
        "another function",
    ],
)
def test_a_view_that_shows_everybody_the_same_rows_is_read(
    table: Connection, reader: PostgresResource, role: str, definition: str
) -> None:
    run(table, f"create view v as {definition}; grant select on v to {role}")
    with reader.connect() as session:
        extract = Extract("v", readable_columns(session, "v"), ("id",))
        assert session.examine(extract).hidden is None
        assert session.export(extract, Memory(), format="csv").rows == 100


def test_pseudonyms_are_no_question_of_who_is_reading(table: Connection, database: str) -> None:
    with PostgresResource(dsn=database, pseudonym_key="k").connect() as session:
        columns = readable_columns(session, "t")
        extract = Extract("t", columns, ("id",), pseudonymised=frozenset({"owner"}))
        assert session.examine(extract).hidden is None


def test_a_query_that_asks_who_is_reading_is_refused(
    table: Connection, reader: PostgresResource
) -> None:
    query = Query("select id, owner from t where owner = current_user")
    with reader.connect() as session, pytest.raises(FilteredRowsError, match="CURRENT_USER"):
        rows_of(session, query)


@pytest.mark.parametrize(
    "kind", ["partition of p for values from (51) to (101)", "() inherits (p)"]
)
def test_of_a_parent_all_rows_are_read_whatever_is_kept_from_whom_of_a_child(
    writer: Connection, reader: PostgresResource, role: str, kind: str
) -> None:
    """Postgres asks for rights and policies of the table that is named, and of no child."""
    partitioned = " partition by range (id)" if kind.startswith("partition") else ""
    first = "partition of p for values from (1) to (51)" if partitioned else "() inherits (p)"
    run(
        writer,
        f"""create table p (id bigint, owner text){partitioned};
            create table a {first}; create table b {kind};
            insert into a select i, 'x' from generate_series(1, 50) i;
            insert into b select i, 'x' from generate_series(51, 100) i;
            alter table b enable row level security;
            grant select on p to {role}""",
    )
    with reader.connect() as session:
        assert rows_of(session, "p") == 100
    with reader.connect() as session, pytest.raises(DatabaseAccessDeniedError):
        session.describe("b")


def test_columns_that_are_granted_are_read_without_the_others(
    table: Connection, reader: PostgresResource, role: str
) -> None:
    run(table, f"revoke select on t from {role}; grant select (id) on t to {role}")
    with reader.connect() as session:
        assert {item.name: item.readable for item in session.describe("t")} == {
            "id": True,
            "owner": False,
        }
        assert readable_columns(session, "t") == (ID,)
        assert session.count("t", {"id": 5}) == 1
        assert rows_of(session, "t") == 100


@pytest.mark.parametrize("statement", ["truncate t", "alter table t alter id type text"])
def test_with_columns_granted_too_a_table_is_neither_emptied_nor_altered_meanwhile(
    table: Connection, reader: PostgresResource, role: str, statement: str
) -> None:
    run(table, f"revoke select on t from {role}; grant select (id) on t to {role}")
    run(table, "set lock_timeout = '50ms'")
    with reader.connect() as session:
        session.describe("t")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            run(table, statement)
        assert session.count("t") == 100


@pytest.mark.parametrize("through", ["t", "a view", "a query"])
def test_a_table_that_is_emptied_before_it_can_be_held_is_read_another_time(
    table: Connection,
    reader: PostgresResource,
    role: str,
    monkeypatch: pytest.MonkeyPatch,
    through: str,
) -> None:
    """Its rows would be gone from the state that the session sees, without an error."""
    run(table, f"create view v as select id from t; grant select on v to {role}")
    run(table, f"revoke select on t from {role}; grant select (id) on t to {role}")
    name = {"t": "t", "a view": "v", "a query": Query("select id from t")}[through]

    def not_held(session: Session, table_: str) -> bool:
        return False

    monkeypatch.setattr(Session, "_hold", not_held)
    with reader.connect() as session:
        assert session.count(Query("select 1 as one")) == 1  # the session has begun
        run(table, "truncate t")
        with pytest.raises(DatabaseBusyError, match="emptied or rewritten") as caught:
            session.describe(name)
    assert caught.value.transient


def test_advice_asks_for_no_more_than_what_is_read(
    table: Connection, reader: PostgresResource, role: str
) -> None:
    run(table, f"revoke select on t from {role}")
    with (
        reader.connect() as session,
        pytest.raises(DatabaseAccessDeniedError, match="SELECT on the columns that are read"),
    ):
        session.describe("t")


@pytest.mark.parametrize(
    "text",
    [
        "delete from t",
        "select 1; drop table t",
        "values (1)",
        "explain select 1",
        "",
        "-- select 1",
        "/* select 1 */",
        "/* */" * 100,
        "selected",
        "select string_agg(owner, ';') from t",
    ],
)
def test_what_is_no_single_select_is_no_query(text: str) -> None:
    with pytest.raises(DatabaseRequestError, match="one SELECT without a semicolon") as caught:
        Query(text)
    assert "not even in a literal or a comment" in str(caught.value)
    assert "listings" not in str(caught.value).lower()


@pytest.mark.parametrize(
    "text",
    [
        "-- all of them\nSELECT * FROM t",
        "/* all of\n them */ /**/ select * from t -- yes",
        "(select * from t where id < 50) union all (select * from t where id >= 50)",
        "\n ( ( with s as (select * from t) select * from s ) )",
    ],
    ids=["a comment before", "one of two lines", "brackets", "nested"],
)
def test_a_query_may_begin_with_comments_and_brackets(
    table: Connection, database: str, text: str
) -> None:
    with PostgresResource(dsn=database).connect() as session:
        assert rows_of(session, Query(text)) == 100


def test_a_query_cannot_write(table: Connection, database: str) -> None:
    query = Query("with gone as (delete from t returning id) select id from gone")
    with (
        PostgresResource(dsn=database).connect() as session,
        pytest.raises(DatabaseRequestError),
    ):
        rows_of(session, query)
    run(table, "select")  # the connection is fine, and so is the table
    with PostgresResource(dsn=database).connect() as session:
        assert session.count("t") == 100


def test_rows_are_counted_anew_where_somebody_has_written_since(
    table: Connection, database: str
) -> None:
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        assert session.count("t") == 100
        run(table, "insert into t values (101, 'x')")
        assert session.count("t") == 100
        assert session.rows_by_now(extract, 100, foreign=False) == 101


@pytest.mark.parametrize(("foreign", "rows"), [(False, 99), (True, 100)])
def test_rows_of_another_server_are_counted_anew_whoever_has_written_here(
    table: Connection, database: str, foreign: bool, rows: int
) -> None:
    """Its loader moves nothing of this server's state."""
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        assert session.rows_by_now(extract, 99, foreign=foreign) == rows


def test_rows_of_another_server_are_told_apart_wherever_they_are_in_the_plan() -> None:
    """Its state is another one in a second session. The embedded Postgres has no wrapper for it."""

    def fetch(_: sql.Composable) -> list[tuple[object, ...]]:
        return asked.pop()

    far = {"Node Type": "Foreign Scan", "Remote SQL": "select 1"}
    plan = [{"Plan": {"Node Type": "Append", "Plans": [{"Node Type": "Seq Scan"}, far]}}]
    asked: list[list[tuple[object, ...]]] = [[], [(plan,)]]
    extract = Extract("t", (ID,), ("id",))
    assert rights.examine(fetch, extract) == rights.Reading(None, foreign=True)
    asked = [[("elsewhere",)], [(plan,)]]
    assert "ALTER SERVER elsewhere OPTIONS" in (rights.examine(fetch, extract).hidden or "")
