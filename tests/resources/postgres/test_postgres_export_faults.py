"""Exports of a real Postgres that go wrong: what is said, what is left, and what stays secret."""

import io
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from formats.columns import Column
from resources.errors import ResourceError
from resources.postgres import (
    DatabaseError,
    DatabaseRequestError,
    DatabaseUnavailableError,
    ExportFormat,
    Extract,
    PostgresResource,
    UnwritableValueError,
)
from resources.s3 import Folder, ObjectStore, Publication
from resources.s3.streams import PART_BYTES
from tests.resources.postgres.postgres_rig import (
    Memory,
    Row,
    each_format,
    others,
    readable_columns,
    run,
    wait_until,
)

KEY = "a key that nobody may see"
LARGE = "insert into t select i, repeat(md5(i::text), 10) from generate_series(1, 150000) i"


@pytest.fixture
def large(writer: Connection) -> None:
    """Table `t`, 50 MB: more than all buffers between the database and a sink."""
    run(writer, "create table t (id bigint primary key, name text)")
    run(writer, LARGE)


def publish(
    database: str, store: ObjectStore, form: ExportFormat, *, wrap: Callable[[Any], Any]
) -> None:
    with (
        PostgresResource(dsn=database).connect() as session,
        Publication(Folder(store, "prefix")) as publication,
    ):
        extract = Extract("t", readable_columns(session, "t"), ("id",))
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
    run(writer, "create view t as select 1::bigint as id, pg_sleep(600)::text as name")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def send() -> None:
        if wait_until(lambda: others(writer, "wait_event") == [("PgSleep",)]):
            signal.pthread_kill(main, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    main, sender = threading.get_ident(), threading.Thread(target=send)
    sender.start()
    try:
        with PostgresResource(dsn=database).connect() as session:
            extract = Extract("t", readable_columns(session, "t"), ("id",))
            with pytest.raises(KeyboardInterrupt):
                session.export(extract, Memory(), format=form)
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, before)
    assert wait_until(lambda: others(writer, "pid") == [])


@each_format
def test_a_deadline_in_the_middle_is_called_so(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    """Rows have come by then."""
    run(
        writer,
        """create view t as select i as id, case when i > 300000 then pg_sleep(60)::text end as name
           from generate_series(1::bigint, 300001) i""",
    )
    resource = PostgresResource(dsn=database, statement_timeout_seconds=3)
    extract = Extract(
        "t", (Column(name="id", type="int64"), Column(name="name", type="string")), ("id",)
    )
    with resource.connect() as session, pytest.raises(DatabaseError, match="Raise"):
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


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("date", "infinity"),
        ("date", "10000-01-01"),
        ("timestamp", "-infinity"),
        ("numeric(5, 2)", "NaN"),
    ],
)
def test_a_value_that_parquet_cannot_hold_is_named(
    database: str, writer: Connection, type_: str, value: str
) -> None:
    """CSV holds it, as Postgres writes it."""
    run(writer, f"create table t (id bigint, odd {type_}); insert into t values (1, '{value}')")
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract("t", readable_columns(session, "t"), ("id",))
        session.export(extract, sink := Memory(), format="csv")
        assert sink.data == f"id,odd\n1,{value}\n".encode()
        with pytest.raises(
            UnwritableValueError, match=rf"column odd.*{value}.*Leave .* out"
        ) as answer:
            session.export(extract, Memory(), format="parquet")
    assert not answer.value.transient


@each_format
def test_without_a_key_nothing_leaves_that_should_be_pseudonymised(
    database: str, writer: Connection, form: ExportFormat
) -> None:
    run(writer, "create table t (id bigint, host text)")
    sink = Memory()
    with PostgresResource(dsn=database).connect() as session:
        extract = Extract(
            "t", readable_columns(session, "t"), ("id",), pseudonymised=frozenset({"host"})
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


@each_format
def test_the_key_is_part_of_no_statement(
    database: str, writer: Connection, large: None, form: ExportFormat
) -> None:
    seen: list[Row] = []
    sink = Acting(lambda: seen.extend(others(writer, "query")))
    with PostgresResource(dsn=database, pseudonym_key=KEY).connect() as session:
        columns = readable_columns(session, "t")
        extract = Extract("t", columns, ("id",), pseudonymised=frozenset({"name"}))
        session.export(extract, sink, format=form)
    text = str(seen)
    assert "current_setting" in text
    padded = KEY.encode().ljust(64, b"\0")
    for secret in (KEY, KEY.encode().hex(), bytes(b ^ 0x36 for b in padded).hex()):
        assert secret not in text
