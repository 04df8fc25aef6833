"""Columns of any type as the types that readers rely on: what is kept, and what is refused."""

import io
from dataclasses import astuple
from datetime import date

import pyarrow.parquet as pq
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from formats.columns import Column
from formats.long_ids import count_long_ids
from resources.postgres import (
    Constant,
    Extract,
    HalfOpen,
    PostgresResource,
    Profile,
    Query,
    can_cast,
)
from resources.postgres.profile import select_profile
from resources.postgres.query import select_rows
from tests.resources.postgres.postgres_rig import Memory, readable_columns, run

KEY = Column(name="k", type="int64")
LOST = "lost"


def exported(dsn: str, type_: str) -> tuple[list[object], Profile, dict[str, str]]:
    """What leaves of column v of table t as a type, its profile, and the values that are lost."""
    with PostgresResource(dsn=dsn).connect() as session:
        sources = {item.name: item for item in session.describe("t")}
        assert can_cast(sources["v"], type_)
        extract = Extract("t", (KEY, Column(name="v", type=type_)), ("k",), sources=sources)
        sink = Memory()
        session.export(extract, sink, format="parquet")
        profile = session.profile(extract, "k")
        lost = {name: session.lost_value(extract, name) or "" for name in profile.lost}
    return pq.read_table(io.BytesIO(sink.data))["v"].to_pylist(), profile, lost


@pytest.mark.parametrize(
    ("declared", "value", "type_", "expected"),
    [
        ("numeric", "51", "int64", 51),
        ("numeric", "51.000", "int64", 51),
        ("numeric", "51.5", "int64", LOST),
        ("numeric", "9223372036854775807", "int64", 2**63 - 1),
        ("numeric", "9223372036854775808", "int64", LOST),
        ("numeric", "NaN", "int64", LOST),
        ("numeric(18,0)", "600000000000000001", "int64", 600000000000000001),
        ("double precision", "51", "int64", 51),
        ("double precision", "51.5", "int64", LOST),
        ("double precision", "9007199254740994", "int64", LOST),
        ("real", "3", "int64", 3),
        ("real", "16777218", "int64", LOST),
        ("smallint", "-7", "int64", -7),
        ("money", "12.00", "int64", 12),
        ("money", "12.50", "int64", LOST),
        ("text", "600000000000000001", "int64", 600000000000000001),
        ("text", " 12 ", "int64", 12),
        ("text", "12.0", "int64", 12),
        ("text", "1.46E+17", "int64", LOST),
        ("text", "abc", "int64", LOST),
        ("text", "", "int64", LOST),
        ("text", "99999999999999999999", "int64", LOST),
        ("varchar(20)", "12", "int64", 12),
        ("char(5)", "12", "int64", 12),
        ("smallint", "60", "double", 60.0),
        ("integer", "60", "double", 60.0),
        ("bigint", "9007199254740992", "double", 2.0**53),
        ("bigint", "9007199254740993", "double", LOST),
        ("numeric(18,16)", "52.3", "double", 52.3),
        ("numeric(18,16)", "52.3640899658203125", "double", 52.36408996582031),
        ("numeric(5,2)", "0.55", "double", 0.55),
        ("numeric", "12345678901234567.8", "double", LOST),
        ("numeric", "NaN", "double", LOST),
        ("money", "1999.99", "double", 1999.99),
        ("text", "12.5", "double", 12.5),
        ("text", "1e3", "double", 1000.0),
        ("text", "$12.50", "double", LOST),
        ("text", "abc", "double", LOST),
        ("timestamp", "2026-11-26", "date32", date(2026, 11, 26)),
        ("timestamp", "2026-11-26 00:00:01", "date32", LOST),
        ("timestamp", "infinity", "date32", LOST),
        ("timestamptz", "2026-11-26 01:00+01", "date32", date(2026, 11, 26)),
        ("timestamptz", "2026-11-26 00:00+01", "date32", LOST),
        ("text", "2024-02-29", "date32", date(2024, 2, 29)),
        ("text", "2026-02-29", "date32", LOST),
        ("text", "2026-13-01", "date32", LOST),
        ("text", "26.11.2026", "date32", LOST),
        ("text", "0000-01-01", "date32", LOST),
        ("char(5)", "ab", "string", "ab"),
        ("uuid", "5f0c9a3e-0000-4000-8000-000000000001", "string",
         "5f0c9a3e-0000-4000-8000-000000000001"),
        ("bigint", "600000000000000001", "string", "600000000000000001"),
        ("numeric(10,2)", "1.50", "string", "1.50"),
        ("boolean", "t", "string", "true"),
    ],
)  # fmt: skip
def test_a_value_is_cast_whole_or_named(
    database: str, writer: Connection, declared: str, value: str, type_: str, expected: object
) -> None:
    run(writer, f"create table t (k bigint, v {declared})")
    run(writer, f"insert into t values (1, '{value}'), (2, null)")
    values, profile, lost = exported(database, type_)
    assert values == [None if expected == LOST else expected, None]
    assert profile.lost == ({"v": 1} if expected == LOST else {})
    assert profile.nulls["v"] == (2 if expected == LOST else 1)
    if expected == LOST:
        # As Postgres prints it: money with its sign, a large float with its exponent.
        assert lost["v"].strip("$")[:1] == value.strip("$")[:1]


@pytest.mark.parametrize(
    ("declared", "type_"),
    [("boolean", "int64"), ("uuid", "int64"), ("date", "double"), ("jsonb", "double"),
     ("integer", "date32"), ("bytea", "int64"), ("interval", "date32")],
)  # fmt: skip
def test_what_is_never_such_a_value_is_not_cast(
    database: str, writer: Connection, declared: str, type_: str
) -> None:
    run(writer, f"create table t (v {declared})")
    with PostgresResource(dsn=database).connect() as session:
        (source,) = session.describe("t")
    assert not can_cast(source, type_)


def test_domains_over_domains_and_enums_are_what_they_are_made_of(
    database: str, writer: Connection
) -> None:
    run(
        writer,
        """create domain amount as double precision check (value >= 0);
           create domain nightly as amount;
           create domain cents as numeric(12, 2); create domain fee as cents;
           create type stars as enum ('1', '5');
           create table t (price nightly, f fee, s stars)""",
    )
    with PostgresResource(dsn=database).connect() as session:
        columns = session.describe("t")
        assert [item.declared for item in columns[:2]] == ["double precision", "numeric(12,2)"]
        assert [item.type for item in columns] == ["double", "decimal128(12, 2)", "string"]
        assert can_cast(columns[2], "int64")


def test_a_query_has_columns_of_the_same_types_as_a_table(
    database: str, writer: Connection
) -> None:
    run(
        writer,
        """create domain fee as numeric(12, 2);
           create table t (id bigint, n numeric, f fee, v varchar(9), d date)""",
    )
    with PostgresResource(dsn=database).connect() as session:
        assert session.describe(Query("select * from t -- all")) == session.describe("t")


def test_columns_that_are_not_there_are_null_and_others_have_another_name(
    database: str, writer: Connection
) -> None:
    run(writer, "create table t (listing numeric, day timestamp)")
    run(writer, "insert into t values (2, '2026-11-26 09:00'), (1, '2026-11-26 23:59')")
    run(writer, "insert into t values (3, '2026-11-27'), (4, '2026-11-25 23:59:59.999999')")
    with PostgresResource(dsn=database).connect() as session:
        listing, _ = session.describe("t")
        extract = Extract(
            "t",
            (
                Column(name="id", type="int64"),
                Column(name="name", type="string"),
                Column(name="download_date", type="date32"),
            ),
            ("id",),
            where={"day": HalfOpen("2026-11-26", "2026-11-27")},
            sources={
                "id": listing,
                "name": Constant(None),
                "download_date": Constant("2026-11-26"),
            },
        )
        sink = Memory()
        session.export(extract, sink, format="csv")
        profile = session.profile(extract, "id")
    assert bytes(sink.data) == b"id,name,download_date\n1,,2026-11-26\n2,,2026-11-26\n"
    assert (profile.rows, profile.nulls) == (2, {"id": 0, "name": 2, "download_date": 0})


def test_texts_are_ordered_by_their_bytes(database: str, writer: Connection) -> None:
    """Whatever the database's collation is; this one has none but that of bytes."""
    run(writer, "create table t (id text)")
    names = ["b", "B", "a", "é", "Z", "_", "10", "9"]
    run(writer, f"insert into t select unnest(array{names})")
    with PostgresResource(dsn=database).connect() as session:
        sink = Memory()
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        session.export(extract, sink, format="csv")
    lines = bytes(sink.data).splitlines()[1:]
    assert lines == sorted(name.encode() for name in names)
    assert 'order by "t"."id"::text collate "C"' in select_rows(extract).as_string(writer)


def test_what_is_as_promised_is_selected_as_it_is(database: str, writer: Connection) -> None:
    """In the order of an index, and without a cast that would cost time."""
    run(writer, "create table t (id bigint, price double precision, name varchar(9), d date)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",), {"d": "2026-11-26"})
    assert select_rows(extract).as_string(writer) == (
        'select "t"."id" as "id", "t"."price" as "price", "t"."name"::text as "name", '
        '"t"."d" as "d" from "t" as t where "t"."d" = \'2026-11-26\' order by "t"."id"'
    )


EXACT = [
    0, 1, -5, 2**53, 2**53 + 1, -(2**53) - 1, 600000000000000001, 1234567890123456789,
    2**63 - 1, 10**16 + 1, 10**17 + 10, 999999999999999999, -600000000000000001,
]  # fmt: skip
ROUNDED = [
    2**53 + 2, 600000000000000000, 2**62, 10**18, 123456789012345000, 1234567890123450000,
    -123456789012345000, int(float(700000000000000123)), 9223372036854775800 // 10**4 * 10**4,
]  # fmt: skip


@pytest.mark.parametrize("declared", ["bigint", "text", "numeric(20,0)"])
@pytest.mark.parametrize("ids", [EXACT, ROUNDED, EXACT + ROUNDED, [1, 2]], ids=len)
def test_long_ids_are_counted_in_the_database_as_by_arithmetic(
    database: str, writer: Connection, declared: str, ids: list[int]
) -> None:
    run(writer, f"create table t (id {declared})")
    run(writer, f"insert into t select unnest(array{[str(i) for i in ids]}::{declared}[])")
    type_ = "string" if declared == "text" else "int64"
    with PostgresResource(dsn=database).connect() as session:
        sources = {item.name: item for item in session.describe("t")}
        extract = Extract("t", (Column(name="id", type=type_),), ("id",), sources=sources)
        result = session.profile(extract, "id", ["id"]).long_ids["id"]
    assert result == pytest.approx(astuple(count_long_ids(ids)), rel=1e-9)


def test_long_ids_of_every_size_are_counted_as_by_arithmetic(
    database: str, writer: Connection
) -> None:
    run(writer, "create table t (id bigint); select setseed(0.5)")
    run(
        writer,
        """insert into t
           select (case i % 3 when 0 then x when 1 then x::double precision::numeric
                   else round(x, 15 - length(trunc(x)::text)) end)::bigint
           from generate_series(1, 3000) i,
                lateral (select trunc((1 + random()::numeric) * 2::numeric ^ (50 + i % 12)) x) s""",
    )
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        result = session.profile(extract, "id", ["id"]).long_ids["id"]
        sink = Memory()
        session.export(extract, sink, format="csv")
    ids = [int(line) for line in bytes(sink.data).split()[1:]]
    assert result == pytest.approx(astuple(count_long_ids(ids)), rel=1e-9)
    assert result[1] > 500
    assert {number.bit_length() for number in map(abs, ids)} > set(range(54, 63))


@pytest.mark.parametrize(
    "ids",
    [
        [2**53 + 1, *(2**bits for bits in range(54, 63)), 10**16, 10**17, 10**18],
        [*(2**bits - 1 for bits in range(54, 64)), 10**16 - 1, 10**17 - 1, 10**18 - 1],
    ],
    ids=["the least", "the largest"],
)
def test_chance_is_that_of_every_size_of_ids(
    database: str, writer: Connection, ids: list[int]
) -> None:
    run(writer, "create table t (id bigint)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
    for number in (*ids, -ids[0]):
        run(writer, f"truncate t; insert into t values ({number})")
        with PostgresResource(dsn=database).connect() as session:
            result = session.profile(extract, "id", ["id"]).long_ids["id"]
        assert result == pytest.approx(astuple(count_long_ids([number])), rel=1e-9)


def test_an_id_that_all_rows_share_is_one(database: str, writer: Connection) -> None:
    """By chance a fourth of ids of 55 bits is a double: then not all rows count as rounded."""
    shared = 2**54 + 8
    run(writer, f"create table t (id bigint, scrape_id bigint default {shared}, nothing bigint)")
    run(writer, "insert into t select generate_series(1, 100)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        result = session.profile(extract, "id", ["scrape_id", "nothing"]).long_ids
    assert result["scrape_id"] == pytest.approx(astuple(count_long_ids([shared])), rel=1e-9)
    assert result["nothing"] == (0, 0, 0)


def test_ids_of_less_than_64_bits_are_compared_as_such_of_64(
    database: str, writer: Connection
) -> None:
    """Before Postgres 14, there is no function of an integer and an array of wider ones."""
    run(writer, "create table t (id integer)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
    select = select_profile(extract, "id", ["id"]).as_string(writer)
    assert 'width_bucket(abs(("t"."id")::bigint), ' in select


def test_a_text_id_as_a_spreadsheet_writes_it_is_rounded(database: str, writer: Connection) -> None:
    run(writer, "create table t (id bigint, host text)")
    run(writer, "insert into t values (1, '1.46293E+17'), (2, '146293938273719123'), (3, 'x+y')")
    run(writer, "insert into t values (4, null), (5, '146293938273719000.0'), (6, '12')")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        result = session.profile(extract, "id", ["id", "host"]).long_ids
    assert result["host"][:2] == (3, 2)
    assert result["id"] == (0, 0, 0)


def test_a_profile_without_casts_has_the_figures_of_the_rows(
    database: str, writer: Connection
) -> None:
    run(writer, "create table t (id bigint, price double precision)")
    run(writer, "insert into t values (1, -1), (2, 5), (3, null), (3, 7)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        result = session.profile(extract, "price")
    assert result == Profile(
        rows=4,
        distinct_keys=3,
        nulls={"id": 0, "price": 1},
        least=-1,
        median=5,
        largest=7,
        negative=1,
    )
