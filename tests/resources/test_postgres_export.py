"""Exports of a real Postgres: every value of every row in each format, and nothing on failure."""

import gzip
import hmac
import io
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from resources.columns import Column
from resources.errors import ResourceError
from resources.postgres import PostgresResource, Session
from resources.postgres_errors import (
    DatabaseError,
    DatabaseRequestError,
    DatabaseTimeoutError,
    DatabaseUnavailableError,
)
from resources.postgres_export import ExportFormat
from resources.postgres_query import Extract
from resources.s3 import ObjectStore
from resources.s3_publication import Publication
from resources.s3_streams import PART_BYTES

FORMATS: tuple[ExportFormat, ...] = ("csv", "csv.gz", "parquet")
DAY = date(2026, 11, 22)
each_format = pytest.mark.parametrize("form", FORMATS)
Row = tuple[object, ...]


class Memory(io.RawIOBase):
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.data += data
        return len(data)


@pytest.fixture
def writer(database: str) -> Iterator[Connection]:
    """A connection that changes the database, each statement at once."""
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        yield connection


def run(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def rows_of(connection: Connection, query: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


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
        extract = Extract("odd", session.table_columns("odd"), ("id",))
        data, rows, columns = export(session, extract, form)
    assert read_back(data, form, ODD_SCHEMA) == odd
    assert rows == len(odd)
    assert [(column.name, column.type) for column in columns] == [
        ("id", "int64"),
        ("name", "string"),
        ("price", "double"),
        ("seen", "date32"),
    ]


def test_null_is_nothing_and_the_empty_string_is_two_quotes(
    database: str, writer: Connection
) -> None:
    run(writer, "create table t (id bigint, a text); insert into t values (1, ''), (2, null)")
    with PostgresResource(dsn=database).connect() as session:
        data, _, _ = export(session, Extract("t", session.table_columns("t"), ("id",)), "csv")
    assert data == b'id,a\n1,""\n2,\n'


def test_parquet_is_typed_and_compressed(database: str, writer: Connection) -> None:
    run(
        writer,
        """create table t (i integer, r real, p numeric(12, 3), n numeric, ok boolean, c char(2),
                           ts timestamp, tz timestamptz, j jsonb, a integer[], u uuid);
           insert into t values (-3, 0.5, 12.345, 1e40, true, 'x', '2026-11-22 01:02:03.000004',
               '2026-11-22 01:02:03+02', '{"k": 1}', '{1,2}',
               '00000000-0000-0000-0000-000000000001');
           insert into t default values""",
    )
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", session.table_columns("t"), ("i",))
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
            0.5,
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


LISTINGS_COLUMNS = (
    "id bigint, name text, host_id bigint, host_name text, neighbourhood_group text, "
    "neighbourhood text, latitude double precision, longitude double precision, room_type text, "
    "price double precision, minimum_nights integer, number_of_reviews integer, last_review date, "
    "reviews_per_month double precision, calculated_host_listings_count integer, "
    "availability_365 integer, number_of_reviews_ltm integer, license text"
)


@each_format
@pytest.mark.parametrize(
    "file", ["albany_2025-01-04_listings.csv", "amsterdam_2024-12-07_listings.csv"]
)
def test_real_listings_come_out_unharmed(
    database: str, writer: Connection, shared_data: Path, file: str, form: ExportFormat
) -> None:
    run(writer, f"create table listings ({LISTINGS_COLUMNS})")
    with (shared_data / "airbnb" / file).open("rb") as source, writer.cursor() as cursor:
        cursor.copy_expert("copy listings from stdin (format csv, header true)", source)
    with PostgresResource(dsn=database).connect() as session:
        columns = session.table_columns("listings")
        data, rows, _ = export(session, Extract("listings", columns, ("id",)), form)
    types = {"date32": pa.date32(), "double": pa.float64()}
    schema = pa.schema([(c.name, types.get(c.type) or pa.type_for_alias(c.type)) for c in columns])
    expected = rows_of(writer, "select * from listings order by id")
    assert rows == len(expected) > 400
    assert read_back(data, form, schema) == expected


@each_format
def test_only_rows_of_the_day_and_chosen_columns_leave(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint, name text, day date, secret text)")
    run(writer, "insert into t values (2, 'b', '2026-11-22', 's'), (1, 'a', '2026-11-21', 's')")
    with PostgresResource(dsn=database).connect() as session:
        columns = tuple(c for c in session.table_columns("t") if c.name in ("name", "id"))
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
        extract = Extract("t", session.table_columns("t"), ("id",), {"day": DAY})
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
            extract = Extract("t", session.table_columns("t"), ("id",))
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
            session.table_columns("t"),
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
def test_without_a_key_nothing_leaves_that_should_be_pseudonymised(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint, host text)")
    sink = Memory()
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract(
            "t", session.table_columns("t"), ("id",), pseudonymised=frozenset({"host"})
        )
        with pytest.raises(DatabaseRequestError, match="configure pseudonym_key"):
            session.export(extract, sink, format=form)
    assert sink.data == b""


class Acting(Memory):
    """A sink that does something when the first bytes come."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def write(self, data: Any, /) -> int:
        if not self.data:
            self._act()
        return super().write(data)


LARGE = "insert into t select i, repeat(md5(i::text), 10) from generate_series(1, 150000) i"


@pytest.fixture
def large(writer: Connection) -> None:
    """Table `t`, 50 MB: more than all buffers between the database and a sink."""
    run(writer, "create table t (id bigint primary key, name text)")
    run(writer, LARGE)


def others(connection: Connection, what: str) -> list[Row]:
    """Something of every other connection to this database."""
    return rows_of(
        connection,
        f"select {what} from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and backend_type = 'client backend'",
    )


@each_format
def test_the_key_is_part_of_no_statement(
    database: str, writer: Connection, large: None, form: ExportFormat
) -> None:
    seen: list[Row] = []
    sink = Acting(lambda: seen.extend(others(writer, "query")))
    with PostgresResource(dsn=database, pseudonym_key=KEY).connect() as session:
        columns = session.table_columns("t")
        extract = Extract("t", columns, ("id",), pseudonymised=frozenset({"name"}))
        session.export(extract, sink, format=form)
    text = str(seen)
    assert "current_setting" in text
    padded = KEY.encode().ljust(64, b"\0")
    for secret in (KEY, KEY.encode().hex(), bytes(b ^ 0x36 for b in padded).hex()):
        assert secret not in text


@pytest.fixture
def store(environment: Mapping[str, str], bucket: str) -> ObjectStore:
    return ObjectStore(bucket=bucket, max_attempts=2)


def publish(
    database: str, store: ObjectStore, form: ExportFormat, *, wrap: Callable[[Any], Any]
) -> None:
    with (
        PostgresResource(dsn=database).connect() as session,
        Publication(store, "prefix") as publication,
    ):
        extract = Extract("t", session.table_columns("t"), ("id",))
        sink = wrap(publication.open(f"t.{form}"))
        exported = session.export(extract, sink, format=form)
        publication.commit(partition="d", rows=exported.rows, code_version="1")


def assert_nothing_is_left(store: ObjectStore) -> None:
    assert [info.key for info in store.list()] == []
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


class After(io.RawIOBase):
    """Passes bytes on and does something once after some of them."""

    def __init__(self, sink: io.RawIOBase, count: int, act: Callable[[], object]) -> None:
        self._sink, self._count, self._act = sink, count, act

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int | None:
        left, self._count = self._count, self._count - len(data)
        if left > 0 >= self._count:
            self._act()
        return self._sink.write(data)


@each_format
def test_a_backend_that_ends_in_the_middle_leaves_no_object(
    database: str, writer: Connection, store: ObjectStore, large: None, form: ExportFormat
) -> None:
    """Where the file is large enough for it, after a first part is on its way."""
    after = PART_BYTES + 1 if form == "csv" else 1
    kill = lambda: others(writer, "pg_terminate_backend(pid)")  # noqa: E731
    with pytest.raises(DatabaseUnavailableError) as caught:
        publish(database, store, form, wrap=lambda sink: After(sink, after, kill))
    assert caught.value.transient
    assert_nothing_is_left(store)
    publish(database, store, form, wrap=lambda sink: sink)
    assert {info.key for info in store.list()} == {f"prefix/t.{form}", "prefix/manifest.json"}


@each_format
def test_a_store_that_fails_in_the_middle_ends_the_export(
    database: str, writer: Connection, store: ObjectStore, large: None, form: ExportFormat
) -> None:
    class FullError(ResourceError):
        pass

    def fail() -> None:
        raise FullError("the store is full")

    with pytest.raises(FullError):
        publish(database, store, form, wrap=lambda sink: After(sink, 1, fail))
    assert_nothing_is_left(store)
    assert wait_until(lambda: others(writer, "pid") == [])


@each_format
def test_an_interruption_ends_a_query_that_has_not_begun_to_answer(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create view t as select 1::bigint as id, pg_sleep(60)::text as name")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    start = time.monotonic()
    try:
        with PostgresResource(dsn=database).connect() as session:
            extract = Extract("t", session.table_columns("t"), ("id",))
            with pytest.raises(KeyboardInterrupt):
                session.export(extract, Memory(), format=form)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 20
    assert wait_until(lambda: others(writer, "pid") == [])


def wait_until(condition: Callable[[], bool]) -> bool:
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.1)
    return False


@each_format
def test_an_export_sees_the_state_that_was_counted(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint); insert into t values (1)")
    with PostgresResource(dsn=database).connect() as session:
        assert session.count("t") == 1
        run(writer, "insert into t values (2)")
        data, rows, _ = export(session, Extract("t", session.table_columns("t"), ("id",)), form)
    assert rows == 1
    assert read_back(data, form) == [(1,)]


@each_format
def test_a_deadline_in_the_middle_is_called_so(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    """Rows have come by then, so the driver is past the place where it gives a SQLSTATE."""
    run(
        writer,
        """create view t as select i as id, case when i > 300000 then pg_sleep(60)::text end as name
           from generate_series(1::bigint, 300001) i""",
    )
    resource = PostgresResource(dsn=database, statement_timeout_seconds=3)
    extract = Extract(
        "t", (Column(name="id", type="int64"), Column(name="name", type="string")), ("id",)
    )
    with resource.connect() as session, pytest.raises(DatabaseTimeoutError, match="Raise"):
        session.export(extract, Memory(), format=form)


@each_format
def test_a_column_that_vanished_is_named(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint)")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", (Column(name="price", type="double"),), ("id",))
        with pytest.raises(DatabaseError, match=r"price.*does not exist.*Add the column"):
            session.export(extract, Memory(), format=form)
