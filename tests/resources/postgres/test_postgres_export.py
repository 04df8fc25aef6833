"""Exports of a real Postgres: every value of every row in each format, and nothing on failure."""

import csv
import gzip
import hmac
import io
import time
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from formats.columns import Column
from resources.postgres import ExportFormat, Extract, PostgresResource, Session
from tests.resources.postgres.postgres_rig import (
    Memory,
    Row,
    each_format,
    readable_columns,
    rows_of,
    run,
)

DAY = date(2026, 11, 22)


def read_back(data: bytes, form: ExportFormat, schema: pa.Schema | None = None) -> list[Row]:
    """The rows of a file as another program sees them: pyarrow for CSV and Parquet."""
    if form == "parquet":
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    else:
        text = gzip.decompress(data) if form == "csv.gz" else data
        table = pyarrow.csv.read_csv(
            io.BytesIO(text),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=schema,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
    return [tuple(row.values()) for row in table.to_pylist()]


def export(
    session: Session, extract: Extract, form: ExportFormat
) -> tuple[bytes, int, tuple[Column, ...]]:
    sink = Memory()
    exported = session.export(extract, sink, format=form)
    return bytes(sink.data), exported.rows, exported.columns


ODD_ROWS: list[Row] = [
    (1, "", None, None),
    (2, None, 0.0, date(2020, 2, 29)),
    (2**53 + 1, "two\nlines, \"quoted\" and 'single'\r\n", 110000.0, date(1, 1, 1)),
    (-(2**63), "=SUM(A1) 😀 é \\. \\N", 0.1 + 0.2, date(9999, 12, 31)),
    (2**63 - 1, " outer spaces ", 1e-300, None),
    (5, "\\.", 1.7976931348623157e308, DAY),
    (6, "NULL", None, None),
    (7, "Nan", None, None),
    (8, "a\tb%s{}\\", 3.0, DAY),
]


@pytest.fixture
def odd(writer: Connection) -> list[Row]:
    """Table `odd` with values that careless programs change; returns its rows by id."""
    run(writer, "create table odd (id bigint, name text, price double precision, seen date)")
    with writer.cursor() as cursor:
        cursor.executemany("insert into odd values (%s, %s, %s, %s)", ODD_ROWS)
    return sorted(ODD_ROWS, key=lambda row: int(str(row[0])))


ODD_SCHEMA = pa.schema(
    [("id", pa.int64()), ("name", pa.string()), ("price", pa.float64()), ("seen", pa.date32())]
)


@each_format
def test_odd_values_come_out_as_they_are(database: str, odd: list[Row], form: ExportFormat) -> None:
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("odd", readable_columns(session, "odd"), ("id",))
        data, rows, columns = export(session, extract, form)
    assert read_back(data, form, ODD_SCHEMA) == odd
    assert rows == len(odd)
    assert [(column.name, column.type) for column in columns] == [
        ("id", "int64"),
        ("name", "string"),
        ("price", "double"),
        ("seen", "date32"),
    ]


@each_format
def test_values_longer_than_any_buffer_come_out_whole(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(
        writer,
        """create table t (id bigint, name text);
           insert into t select i, repeat(E'"\n,\r', 1500000 * i) from generate_series(1, 3) i""",
    )
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        data, _, _ = export(session, extract, form)
    if form == "parquet":
        rows = read_back(data, form)
    else:
        text = (gzip.decompress(data) if form == "csv.gz" else data).decode()
        csv.field_size_limit(2**30)
        rows = [(int(i), name) for i, name in list(csv.reader(io.StringIO(text, newline="")))[1:]]
    assert rows == [(i, '"\n,\r' * (1_500_000 * i)) for i in (1, 2, 3)]


@each_format
def test_a_byte_order_mark_stays_where_it_is(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    """Debris of loaded files; readers take one off at the beginning of what they read."""
    run(writer, "create table t (name text); insert into t values (E'\\uFEFF'), (E'\\uFEFFx')")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("name",))
        data, _, _ = export(session, extract, form)
    assert read_back(data, form) == [("\ufeff",), ("\ufeffx",)]


@pytest.mark.parametrize("type_", ["text", "bigint"])
def test_a_single_column_keeps_its_nulls(database: str, writer: Connection, type_: str) -> None:
    """They are empty lines of CSV."""
    run(writer, f"create table t (a {type_}); insert into t values (null), ('1'), (null)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("a",))
        data, rows, _ = export(session, extract, "parquet")
    one = "1" if type_ == "text" else 1
    assert (read_back(data, "parquet"), rows) == ([(one,), (None,), (None,)], 3)


def test_floats_keep_every_bit(database: str, writer: Connection) -> None:
    """All kinds of them, against the driver's own reading of the table."""
    run(
        writer,
        """create table t (id bigint, f double precision);
           insert into t select i, (random() - 0.5) * 10.0 ^ (i % 600 - 300)
               from generate_series(1, 20000) i;
           insert into t values (0, 'NaN'), (-1, 'Infinity'), (-2, '-Infinity'), (-3, '-0')""",
    )
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        data, _, _ = export(session, extract, "parquet")
    expected = rows_of(writer, "select id, f from t order by id")
    assert list(map(repr, read_back(data, "parquet"))) == list(map(repr, expected))


def test_null_is_nothing_and_the_empty_string_is_two_quotes(
    database: str, writer: Connection
) -> None:
    run(writer, "create table t (id bigint, a text); insert into t values (1, ''), (2, null)")
    with PostgresResource(dsn=database).connect() as session:
        data, _, _ = export(session, Extract("t", readable_columns(session, "t"), ("id",)), "csv")
    assert data == b'id,a\n1,""\n2,\n'


def test_parquet_is_typed_and_compressed(database: str, writer: Connection) -> None:
    run(
        writer,
        """create table t (i integer, r real, p numeric(12, 3), n numeric, ok boolean, c char(2),
                           ts timestamp, tz timestamptz, j jsonb, a integer[], u uuid);
           insert into t values (-3, 0.1, 12.345, 1e40, true, 'x', '2026-11-22 01:02:03.000004',
               '2026-11-22 01:02:03+02', '{"k": 1}', '{1,2}',
               '00000000-0000-0000-0000-000000000001');
           insert into t default values""",
    )
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("i",))
        data, rows, columns = export(session, extract, "parquet")
    file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
    assert [str(field.type).replace("date32[day]", "date32") for field in file.schema_arrow] == [
        column.type for column in columns
    ]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert rows == 2
    assert read_back(data, "parquet") == [
        (
            -3,
            0.1,
            Decimal("12.345"),
            "1" + "0" * 40,
            True,
            "x",
            datetime(2026, 11, 22, 1, 2, 3, 4),
            datetime(2026, 11, 21, 23, 2, 3, tzinfo=UTC),
            '{"k": 1}',
            "{1,2}",
            "00000000-0000-0000-0000-000000000001",
        ),
        (None,) * 11,
    ]


@each_format
def test_only_rows_of_the_day_and_chosen_columns_leave(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint, name text, day date, secret text)")
    run(writer, "insert into t values (2, 'b', '2026-11-22', 's'), (1, 'a', '2026-11-21', 's')")
    with PostgresResource(dsn=database).connect() as session:
        columns = tuple(c for c in readable_columns(session, "t") if c.name in ("name", "id"))
        extract = Extract("t", columns, ("id",), {"day": DAY})
        data, rows, _ = export(session, extract, form)
    assert read_back(data, form) == [(2, "b")]
    assert rows == 1
    assert b"secret" not in data


@each_format
def test_a_day_without_rows_is_a_file_without_rows(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint, day date)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",), {"day": DAY})
        data, rows, _ = export(session, extract, form)
    assert rows == 0
    if form == "parquet":
        assert pyarrow.parquet.read_schema(io.BytesIO(data)).names == ["id", "day"]
    else:
        assert (gzip.decompress(data) if form == "csv.gz" else data) == b"id,day\n"


@each_format
def test_the_same_rows_give_the_same_bytes_wherever_they_lie(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(
        writer,
        """create table t (id bigint primary key, name text);
           insert into t select i, md5(i::text) from generate_series(1, 100000) i""",
    )

    def once() -> bytes:
        with PostgresResource(dsn=database).connect() as session:
            extract = Extract("t", readable_columns(session, "t"), ("id",))
            return export(session, extract, form)[0]

    first = once()
    time.sleep(1.1)  # A time in a header would have changed by now.
    run(writer, "update t set name = name where id % 7 = 0")
    assert once() == first


KEY = "a key that nobody may see"


@each_format
def test_pseudonyms_are_keyed_hashes(database: str, writer: Connection, form: ExportFormat) -> None:
    run(writer, "create table t (id bigint, host text, number integer)")
    run(writer, "insert into t values (1, 'Zoë', 7), (2, '', 8), (3, null, null)")
    with PostgresResource(dsn=database, pseudonym_key=KEY).connect() as session:
        extract = Extract(
            "t",
            readable_columns(session, "t"),
            ("number", "id"),
            pseudonymised=frozenset({"host", "number"}),
        )
        data, _, columns = export(session, extract, form)

    def expected(text: str) -> str:
        return hmac.new(KEY.encode(), text.encode(), "sha256").hexdigest()

    assert read_back(data, form) == [
        (1, expected("Zoë"), expected("7")),
        (2, expected(""), expected("8")),
        (3, None, None),
    ]
    assert [column.type for column in columns] == ["int64", "string", "string"]


@each_format
def test_an_export_sees_the_state_that_was_counted(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint); insert into t values (1)")
    with PostgresResource(dsn=database).connect() as session:
        assert session.count("t") == 1
        run(writer, "insert into t values (2)")
        data, rows, _ = export(session, Extract("t", readable_columns(session, "t"), ("id",)), form)
    assert rows == 1
    assert read_back(data, form) == [(1,)]
