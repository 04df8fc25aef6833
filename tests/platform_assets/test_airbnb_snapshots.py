"""From the table to the snapshots: what is exported, what is refused, and what stays as it was."""

import signal
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

import dagster as dg
import psycopg2
import pytest
from botocore.awsrequest import AWSRequest
from psycopg2.extensions import connection

from platform_assets.airbnb.listings import ListingsTable
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.checks import DateRefusedError
from platform_assets.errors import is_transient
from platform_assets.partitions import DAILY
from platform_assets.reports import Materialization, verdicts_of
from platform_assets.tables.exporter import FAILURES_IN_A_ROW, Exporter
from resources.errors import ResourceError
from resources.postgres import Extract, PostgresResource, Session, SourceColumn
from resources.s3 import ObjectStore, Publication, Published, StoreUnavailableError
from tests.platform_assets.airbnb_rig import (
    DATES,
    FIRST,
    LAST,
    SNAPSHOT,
    WEEK,
    ask,
    change,
    parquet,
)
from tests.platform_assets.conftest import Platform, reason_of


def test_host_names_do_not_leave_the_database(platform: Platform, table: connection) -> None:
    platform.run("listings", FIRST, assets=[SNAPSHOT])
    read = parquet(platform, snapshot_folder(platform.store, FIRST).key("listings.parquet"))
    assert "host_name" not in read.column_names
    assert "name" in read.column_names


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("alter table listings drop column price", "column price (double) is missing"),
        (
            "alter table listings alter column id type uuid using gen_random_uuid()",
            "column id is uuid instead of int64",
        ),
        ("drop table listings", "there is no such table"),
    ],
)
def test_a_table_that_is_not_as_promised_fails_the_run_and_publishes_nothing(
    platform: Platform, table: connection, statement: str, words: str
) -> None:
    change(table, statement)
    assert words in reason_of(platform.run("listings", FIRST))
    assert not list(platform.store.list("airbnb/"))


def test_a_new_column_is_taken_along(platform: Platform, table: connection) -> None:
    change(table, "alter table listings add column host_is_superhost boolean default true")
    assert platform.run("listings", FIRST).success
    read = parquet(platform, snapshot_folder(platform.store, FIRST).key("listings.parquet"))
    assert set(read["host_is_superhost"].to_pylist()) == {True}


def test_a_database_with_another_password_fails_the_run_without_telling_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    wrong = dsn.replace(dsn.split(":")[2].split("@")[0], "not-the-password")
    monkeypatch.setenv("PLATFORM_POSTGRES_DSN", wrong)
    message = reason_of(platform.run("listings", FIRST))
    assert "password" in message.lower()
    assert "not-the-password" not in message


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:pl4nted@@127.0.0.1:x/db",
        "postgresql://u:x/pl4nted@127.0.0.1:9/db",
        "postgresql+psycopg2://u:pl4nted@127.0.0.1:9,127.0.0.1:10/db",
        "host=127.0.0.1 port=9 user=u password='pl4nted",
        "host=127.0.0.1 port=9 user=u password=pl4nted",
        "service=no-such password=pl4nted",
    ],
)
def test_no_record_of_a_failed_run_has_anything_of_the_password(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    dsn: str,
) -> None:
    monkeypatch.setenv("PLATFORM_POSTGRES_DSN", dsn)
    result = platform.run("listings", FIRST)
    assert (
        "ostgres" in reason_of(result)
        or "127.0.0.1:9" in reason_of(result)
        or "service" in reason_of(result)
    )
    events = platform.instance.all_logs(result.run_id)
    records = [repr(item) + item.message + str(item.dagster_event) for item in events]
    records += [
        str(item.dagster_event and item.dagster_event.event_specific_data) for item in events
    ]
    shown = "".join(records) + "".join(capfd.readouterr())
    assert "pl4nted" not in shown


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_interrupted_export_ends_at_once_and_publishes_nothing(
    platform: Platform, table: connection, interrupts: int, form: Any
) -> None:
    change(table, "alter table listings rename to kept")
    change(table, "create view listings as select * from kept where pg_sleep(5) is not null")
    exporter = Exporter(
        PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"]),
        ListingsTable(format=form),
        platform.store,
    )
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"

    def interrupt() -> None:
        while ask(other, asleep) == [(0,)]:
            time.sleep(0.05)
        while not ended.wait(0.1):
            signal.pthread_kill(interrupts, signal.SIGUSR1)

    with closing(psycopg2.connect(platform.env["PLATFORM_POSTGRES_DSN"])) as other:
        other.autocommit = True
        ended, thread = threading.Event(), threading.Thread(target=interrupt)
        thread.start()
        try:
            # 400 rows a day would take 2,000 seconds, longer than a test may.
            with pytest.raises(dg.DagsterExecutionInterruptedError):
                exporter.export(DATES)
        finally:
            ended.set()
            thread.join()
    assert not list(platform.store.list("airbnb/"))


def test_a_database_that_is_away_is_not_asked_for_each_of_many_dates(platform: Platform) -> None:
    class Counting(PostgresResource):
        def connect(self) -> Any:
            asked.append(1)
            return super().connect()

    asked: list[int] = []
    away = Counting(dsn="postgresql://nobody:nothing@127.0.0.1:9/none")
    taken = Exporter(away, ListingsTable(), platform.store).export(WEEK * 10)
    assert all(isinstance(outcome, ResourceError) for outcome in taken.values())
    assert len(asked) <= FAILURES_IN_A_ROW + ListingsTable().connections


def test_days_with_a_value_that_has_no_place_in_the_file_do_not_hold_up_the_others(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One by one: the last is not begun before the third has failed.
    monkeypatch.setenv("PLATFORM_LISTINGS_CONNECTIONS", "1")
    change(
        table,
        "update listings set last_review = 'infinity' where download_date < %(day)s",
        day=LAST,
    )
    answer = reason_of(platform.run("listings", FIRST, LAST, assets=[SNAPSHOT]))
    assert f"{len(DATES) - 1} date(s) failed" in answer
    assert "column last_review as date32[day]: invalid value 'infinity'" in answer
    assert platform.materialized(SNAPSHOT) == {LAST}


def test_rows_that_have_vanished_do_not_empty_a_published_day(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, assets=[SNAPSHOT]).success
    before = {item.key: item.etag for item in platform.store.list("airbnb/")}
    change(table, "delete from listings where download_date = %(day)s", day=FIRST)
    assert "has no rows of 2026-03-01 any more" in reason_of(platform.run("listings", FIRST))
    assert {item.key: item.etag for item in platform.store.list("airbnb/")} == before


def test_of_a_table_without_days_only_the_newest_day_can_be_snapshotted(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_LISTINGS_DATE_COLUMN", "")
    change(table, "delete from listings where download_date <> %(day)s", day=FIRST)
    change(table, "alter table listings drop column download_date")
    newest = DAILY.get_last_partition_key()
    assert newest is not None
    assert platform.run("listings", newest).success
    read = parquet(platform, snapshot_folder(platform.store, newest).key("listings.parquet"))
    assert [(read.num_rows,)] == ask(table, "select count(*) from listings")
    message = reason_of(platform.run("listings", FIRST))
    assert f"only {newest}, the day that has just ended, can be snapshotted" in message
    assert not list(platform.store.list(snapshot_folder(platform.store, FIRST).key("")))


@pytest.mark.parametrize(("connections", "dates"), [(1, WEEK), (3, WEEK), (1, [FIRST])])
def test_a_run_has_as_many_connections_as_it_may_and_no_more(
    platform: Platform, market: connection, connections: int, dates: list[str]
) -> None:
    class Counting(PostgresResource):
        @contextmanager
        def connect(self) -> Generator[Session]:
            with super().connect() as session:
                is_open.append(session)
                most.append(len(is_open))
                if len(most) <= connections:  # the first ones wait for each other
                    all_open.wait(120)
                yield session
            is_open.remove(session)

    is_open: list[Session] = []
    most: list[int] = []
    all_open = threading.Barrier(connections)
    postgres = Counting(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    table = ListingsTable(connections=connections)
    with pytest.MonkeyPatch.context() as patch:
        # A second connection for a date by itself.
        patch.setattr(Session, "second_session", lambda *_: pytest.fail("one more was opened"))
        taken = Exporter(postgres, table, platform.store).export(dates)
    assert all(isinstance(outcome, Materialization) for outcome in taken.values())
    assert max(most) == connections


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_day_is_compared_with_the_days_before_it_however_many_are_exported_at_once(
    platform: Platform, market: connection, at_once: int
) -> None:
    change(
        market, "delete from listings where download_date = %(day)s and id %% 3 > 0", day=WEEK[-2]
    )
    exporter = Exporter(
        PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"]),
        ListingsTable(connections=at_once),
        platform.store,
    )
    taken = exporter.export(WEEK)
    refused = [day for day, outcome in taken.items() if isinstance(outcome, Exception)]
    assert refused == [WEEK[-2]]
    assert "the 7 days before" in verdicts_of(taken[WEEK[-2]])["volume_drift"].description
    assert "the 7 days before" in verdicts_of(taken[WEEK[-1]])["volume_drift"].description


def test_checks_have_no_more_connections_either(
    platform: Platform, market: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = PostgresResource.connect

    @contextmanager
    def counted(self: PostgresResource) -> Generator[Session]:
        with connect(self) as session:
            is_open.append(session)
            most.append(len(is_open))
            yield session
        is_open.remove(session)

    is_open: list[Session] = []
    most: list[int] = []
    monkeypatch.setattr(PostgresResource, "connect", counted)
    monkeypatch.setenv("PLATFORM_LISTINGS_CONNECTIONS", "3")
    assert platform.run("listings", WEEK[0], WEEK[-1], assets=[SNAPSHOT]).success
    assert len(most) == 2 * len(WEEK)
    assert 1 < max(most) <= 3


def test_a_day_waits_for_those_before_it_even_if_the_one_between_fails_first(
    platform: Platform, market: connection
) -> None:
    slow, failing, last = WEEK[-3:]
    begun = threading.Event()

    class Odd(ListingsTable):
        def extract(self, columns: tuple[SourceColumn, ...], date: str) -> Extract:
            if date == slow:
                assert begun.wait(120)
                time.sleep(1)  # time to judge the last one, for whoever does not wait
            if date == failing:
                raise ValueError("the rows of this day are unreadable")
            if date == last:
                begun.set()
            return super().extract(columns, date)

    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    taken = Exporter(postgres, Odd(connections=2), platform.store).export(WEEK)
    failed = [day for day, outcome in taken.items() if isinstance(outcome, Exception)]
    assert failed == [failing]
    assert "the 7 days before" in verdicts_of(taken[last])["volume_drift"].description


def test_a_day_that_is_not_good_any_more_when_it_is_retried_is_not_compared_with(
    platform: Platform, market: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(publication: Publication, *, partition: str, **more: Any) -> Published:
        if partition == WEEK[-2]:
            raise StoreUnavailableError("The store takes nothing at the moment.")
        return commit(publication, partition=partition, **more)

    commit = Publication.commit
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    exporter = Exporter(postgres, ListingsTable(), platform.store)
    with monkeypatch.context() as patch:
        patch.setattr(Publication, "commit", refuse)
        taken = exporter.export(WEEK)
    assert [
        day
        for day, outcome in taken.items()
        if isinstance(outcome, Exception) and is_transient(outcome)
    ] == [WEEK[-2]]
    assert "the 8 days before" in verdicts_of(taken[WEEK[-1]])["volume_drift"].description
    change(
        market, "delete from listings where download_date = %(day)s and id %% 3 > 0", day=WEEK[-2]
    )
    taken = exporter.export(WEEK[-2:])
    assert isinstance(taken[WEEK[-2]], DateRefusedError)
    assert "the 7 days before" in verdicts_of(taken[WEEK[-1]])["volume_drift"].description


def test_a_day_is_published_while_the_one_before_it_is(
    platform: Platform, table: connection
) -> None:
    second = threading.Event()

    def hold(request: AWSRequest, **_: object) -> None:
        if request.method == "PUT" and f"date%3D{DATES[1]}" in str(request.url):
            second.set()
        elif request.method == "PUT":
            together.append(second.wait(120))

    together: list[bool] = []
    store = ObjectStore(bucket=platform.store.bucket)
    store.client.meta.events.register("before-send.s3", hold)
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    taken = Exporter(postgres, ListingsTable(connections=2), store).export(DATES[:2])
    assert all(isinstance(outcome, Materialization) for outcome in taken.values())
    assert together
    assert all(together)


def test_a_published_day_that_the_table_has_lost_is_compared_with_as_published(
    platform: Platform, market: connection
) -> None:
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    exporter = Exporter(postgres, ListingsTable(connections=2), platform.store)
    exporter.export(WEEK)
    change(market, "delete from listings where download_date = %(day)s", day=WEEK[-2])
    taken = exporter.export(WEEK[-2:])
    assert isinstance(taken[WEEK[-2]], Exception)
    assert "the 8 days before" in verdicts_of(taken[WEEK[-1]])["volume_drift"].description
