"""From the table to the results; every figure is compared with one computed in SQL on the table."""

import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import dagster as dg
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2.extensions import connection

from embedded import seed_listings
from platform_assets.airbnb import checks, processed, quality, snapshots
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.definitions import build_defs
from platform_assets.partitions import DAILY
from resources.errors import ResourceError
from resources.postgres import PostgresResource
from resources.s3_manifest import read_manifest
from resources.s3_publication import Publication
from tests.platform_assets.conftest import Platform, failed_checks, said

DATES = [(date(2026, 3, 1) + timedelta(n)).isoformat() for n in range(4)]
FIRST, LAST = DATES[0], DATES[-1]
WEEK = [(date(2026, 4, 1) + timedelta(n)).isoformat() for n in range(9)]
SNAPSHOT, CHANGES = "airbnb/snapshot", "airbnb/price_changes"
SUMMARY = "airbnb/neighbourhood_summary"
MATCHES_TABLE = (SNAPSHOT, "matches_table")
ALL_CHECKS = [*quality.CHECKS, "matches_table", "real_rises_and_falls", "adds_up"]
CHANGES_SQL = """
    with priced as (
        select id, download_date as day, price from listings
        where download_date <= %(day)s and price is not null
    ), ends as (
        select id, min(day) as first_date, max(day) as last_date from priced group by id
        having min(day) < max(day)
    )
    select e.id, e.first_date::text, f.price, e.last_date::text, l.price,
           (l.price - f.price) / (e.last_date - e.first_date) as change
    from ends e
    join priced f on f.id = e.id and f.day = e.first_date
    join priced l on l.id = e.id and l.day = e.last_date
"""
SUMMARY_SQL = """
    select neighbourhood, room_type, count(*), count(price), avg(price),
           percentile_cont(0.25) within group (order by price),
           percentile_cont(0.5) within group (order by price),
           percentile_cont(0.75) within group (order by price)
    from listings where download_date = %(day)s group by neighbourhood, room_type
"""


@pytest.fixture
def table(platform: Platform) -> Iterator[connection]:
    """The table, with four days of a market."""
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    seed_listings.seed(dsn, DATES, places=400)
    with closing(psycopg2.connect(dsn)) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def market(platform: Platform) -> Iterator[connection]:
    """The table, with enough days for a comparison of a day with those before it."""
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    seed_listings.seed(dsn, WEEK, places=100)
    with closing(psycopg2.connect(dsn)) as opened:
        opened.autocommit = True
        yield opened


def ask(table: connection, query: str, **values: object) -> list[tuple[Any, ...]]:
    with table.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def change(table: connection, statement: str, **values: object) -> None:
    with table.cursor() as cursor:
        cursor.execute(statement, values)


def result(platform: Platform, asset: str, day: str, name: str) -> Any:
    data = platform.store.get_bytes(f"{asset}/date={day}/{name}", max_bytes=2**24)
    return json.loads(data)


def parquet(platform: Platform, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(platform.store.get_bytes(key, max_bytes=2**24)))


def biggest(table: connection, day: str, order: str) -> list[dict[str, object]]:
    sign, direction = (">", "desc") if order == "rises" else ("<", "asc")
    rows = ask(
        table,
        f"select * from ({CHANGES_SQL}) c where change {sign} 0 "
        f"order by change {direction}, id limit 5",
        day=day,
    )
    names = ("id", "first_date", "first_price", "last_date", "last_price", "price_change_per_day")
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_the_results_of_every_date_are_those_of_sql(platform: Platform, table: connection) -> None:
    assert platform.run("listings", FIRST, LAST).success
    for day in DATES:
        rises = result(platform, CHANGES, day, "biggest_increase.json")
        falls = result(platform, CHANGES, day, "biggest_decrease.json")
        assert rises == biggest(table, day, "rises")
        assert falls == biggest(table, day, "falls")
        whole = parquet(platform, f"{CHANGES}/date={day}/price_changes.parquet").to_pylist()
        assert [
            (row["id"], row["first_price"], row["last_price"], row["price_change_per_day"])
            for row in whole
        ] == sorted((row[0], row[2], row[4], row[5]) for row in ask(table, CHANGES_SQL, day=day))
    assert result(platform, CHANGES, LAST, "biggest_increase.json")  # there is something to compare


def test_the_summary_of_every_date_is_that_of_sql(platform: Platform, table: connection) -> None:
    assert platform.run("listings", FIRST, LAST).success
    for day in DATES:
        groups = {
            (group["neighbourhood"], group["room_type"]): group
            for group in result(platform, SUMMARY, day, "neighbourhood_summary.json")
        }
        expected = ask(table, SUMMARY_SQL, day=day)
        assert len(groups) == len(expected)
        for neighbourhood, room_type, listings, priced, mean, lower, median, upper in expected:
            group = groups[neighbourhood, room_type]
            assert (group["listings"], group["priced"]) == (listings, priced)
            found = [group[each] for each in ("mean", "lower_quartile", "median", "upper_quartile")]
            if priced:
                assert found == pytest.approx([mean, lower, median, upper], rel=1e-12)
            else:
                assert found == [None] * 4


def test_one_date_after_the_other_gives_the_bytes_of_the_range(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    at_once = {each.key: each.etag for each in platform.store.list("airbnb/")}
    platform.store.delete_prefix("airbnb/")
    for day in DATES:
        assert platform.run("listings", day).success
    assert {each.key: each.etag for each in platform.store.list("airbnb/")} == at_once


def test_a_second_run_changes_no_object(platform: Platform, table: connection) -> None:
    assert platform.run("listings", FIRST, LAST).success
    before = {each.key: each.etag for each in platform.store.list("airbnb/")}
    assert platform.run("listings", FIRST, LAST).success
    assert {each.key: each.etag for each in platform.store.list("airbnb/")} == before


def test_a_run_of_a_past_date_does_not_see_the_future(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    platform.store.delete_prefix(f"{CHANGES}/date={DATES[1]}/")
    assert platform.run("listings", DATES[1]).success
    found = result(platform, CHANGES, DATES[1], "biggest_increase.json")
    assert found == biggest(table, DATES[1], "rises")


def test_a_day_without_rows_is_an_empty_snapshot_that_says_so(
    platform: Platform, table: connection
) -> None:
    change(table, "delete from listings where download_date = %(day)s", day=DATES[1])
    assert platform.run("listings", FIRST, LAST).success
    manifest = read_manifest(platform.store, snapshots.prefix(DATES[1]))
    assert manifest is not None
    assert manifest.rows == 0
    assert [column.name for column in manifest.columns][:2] == ["id", "name"]
    assert result(platform, SUMMARY, DATES[1], "neighbourhood_summary.json") == []
    found = result(platform, CHANGES, LAST, "biggest_decrease.json")
    assert found == biggest(table, LAST, "falls")


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_every_format_gives_the_same_results(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("PLATFORM_SNAPSHOT_FORMAT", form)
    assert platform.run("listings", FIRST, LAST).success
    assert platform.store.exists(f"{snapshots.prefix(LAST)}/listings.{form}")
    found = result(platform, CHANGES, LAST, "biggest_increase.json")
    assert found == biggest(table, LAST, "rises")


def test_host_names_do_not_leave_the_database(platform: Platform, table: connection) -> None:
    platform.run("listings", FIRST, assets=[SNAPSHOT])
    read = parquet(platform, f"{snapshots.prefix(FIRST)}/listings.parquet")
    assert "host_name" not in read.column_names
    assert "name" in read.column_names


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("alter table listings drop column price", "column price (double) is missing"),
        (
            "alter table listings alter column id type text using id::text",
            "column id is string instead of int64",
        ),
        ("drop table listings", "there is no such table"),
    ],
)
def test_a_table_that_is_not_as_promised_fails_the_run_and_publishes_nothing(
    platform: Platform, table: connection, statement: str, words: str
) -> None:
    change(table, statement)
    assert words in said(platform.run("listings", FIRST))
    assert not list(platform.store.list("airbnb/"))


def test_a_new_column_is_taken_along(platform: Platform, table: connection) -> None:
    change(table, "alter table listings add column host_is_superhost boolean default true")
    assert platform.run("listings", FIRST).success
    read = parquet(platform, f"{snapshots.prefix(FIRST)}/listings.parquet")
    assert set(read["host_is_superhost"].to_pylist()) == {True}


def test_a_database_with_another_password_fails_the_run_without_telling_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    wrong = dsn.replace(dsn.split(":")[2].split("@")[0], "not-the-password")
    monkeypatch.setenv("PLATFORM_POSTGRES_DSN", wrong)
    message = said(platform.run("listings", FIRST))
    assert "password" in message.lower()
    assert "not-the-password" not in message


def test_the_snapshot_check_fails_when_the_table_has_moved_on(
    platform: Platform, table: connection
) -> None:
    platform.run("listings", FIRST, assets=[SNAPSHOT])
    change(
        table,
        "delete from listings where download_date = %(day)s "
        "and id = (select min(id) from listings where download_date = %(day)s)",
        day=FIRST,
    )
    verdict = judge_snapshot(platform)
    assert (verdict.passed, verdict.stops) == (False, False)
    assert "by now" in verdict.description


def test_the_snapshot_check_fails_when_the_object_lost_rows(
    platform: Platform, table: connection
) -> None:
    platform.run("listings", FIRST, assets=[SNAPSHOT])
    prefix = snapshots.prefix(FIRST)
    manifest = read_manifest(platform.store, prefix)
    assert manifest is not None
    shorter = parquet(platform, f"{prefix}/listings.parquet").slice(1)
    out = io.BytesIO()
    pq.write_table(shorter, out)
    with Publication(platform.store, prefix) as publication:
        publication.put("listings.parquet", out.getvalue())
        publication.commit(
            partition=FIRST,
            rows=manifest.rows,
            columns=manifest.columns,
            code_version=manifest.code_version,
            extra=manifest.extra,
        )
    found = platform.run("listings", FIRST, assets=[CHANGES, SUMMARY], checks=[MATCHES_TABLE])
    assert set(failed_checks(found)) == {"matches_table"}
    assert not platform.materialized(CHANGES)


def judge_snapshot(platform: Platform) -> Any:
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    postgres = PostgresResource(dsn=dsn)
    return checks.judge_snapshot(postgres, ListingsTable(), platform.store, FIRST)


RANGE_OF_ONE, PARTITION = (FIRST, FIRST), (FIRST,)


@pytest.mark.parametrize("dates", [RANGE_OF_ONE, PARTITION, (FIRST, LAST)])
def test_every_date_of_a_good_run_is_evaluated_by_every_check(
    platform: Platform, table: connection, dates: tuple[str, ...]
) -> None:
    found = platform.run("listings", *dates)
    assert found.success
    expected = {(name, day) for name in ALL_CHECKS for day in DATES if dates[0] <= day <= dates[-1]}
    passed = {(e.check_name, e.partition) for e in found.get_asset_check_evaluations() if e.passed}
    assert expected == {(name, day) for name, day in passed if day is not None}


@pytest.mark.parametrize(
    ("asset", "file", "check"),
    [
        (CHANGES, "biggest_increase.json", "real_rises_and_falls"),
        (SUMMARY, "neighbourhood_summary.json", "adds_up"),
    ],
)
def test_a_bad_result_fails_its_date_by_its_check(
    platform: Platform, table: connection, asset: str, file: str, check: str
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    republish(platform, asset, file, result(platform, asset, LAST, file)[1:])
    found = platform.check(FIRST, LAST, [(asset, check)])
    assert not found.success
    failed = {e.partition for e in found.get_asset_check_evaluations() if not e.passed}
    assert failed == {None, LAST}


@pytest.fixture
def interrupts() -> Iterator[int]:
    """The thread in which SIGUSR1 raises what a terminated run raises."""

    def interrupt(*_: object) -> None:
        raise dg.DagsterExecutionInterruptedError

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield threading.get_ident()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_interrupted_export_ends_at_once_and_publishes_nothing(
    platform: Platform, table: connection, interrupts: int, form: Any
) -> None:
    change(table, "alter table listings rename to kept")
    change(table, "create view listings as select * from kept where pg_sleep(0.5) is not null")
    exporter = snapshots.Exporter(
        PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"]),
        ListingsTable(format=form),
        platform.store,
    )
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"

    def interrupt() -> None:
        while ask(other, asleep) == [(0,)]:
            time.sleep(0.05)
        signal.pthread_kill(interrupts, signal.SIGUSR1)

    with closing(psycopg2.connect(platform.env["PLATFORM_POSTGRES_DSN"])) as other:
        other.autocommit = True
        thread = threading.Thread(target=interrupt)
        began = time.monotonic()
        thread.start()
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            exporter.take(DATES)
        thread.join()
    assert time.monotonic() - began < 30  # 400 rows a day would take 200 seconds
    assert not list(platform.store.list("airbnb/"))


def test_a_database_that_is_away_is_not_asked_for_each_of_many_dates(platform: Platform) -> None:
    class Counting(PostgresResource):
        def connect(self) -> Any:
            asked.append(1)
            return super().connect()

    asked: list[int] = []
    away = Counting(dsn="postgresql://nobody:nothing@127.0.0.1:9/none")
    taken = snapshots.Exporter(away, ListingsTable(), platform.store).take(WEEK * 10)
    assert all(isinstance(each.outcome, ResourceError) for each in taken.values())
    assert len(asked) <= snapshots.FAILURES_IN_A_ROW + snapshots.AT_ONCE


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        pytest.param(
            "insert into listings select * from listings where download_date = %(day)s limit 3",
            "unique_ids",
            id="ids twice",
        ),
        pytest.param(
            "update listings set room_type = null where download_date = %(day)s and id = "
            "(select min(id) from listings where download_date = %(day)s)",
            "null_rates",
            id="a row without a room type",
        ),
        pytest.param(
            "update listings set price = 'NaN' where download_date = %(day)s and id = "
            "(select min(id) from listings where download_date = %(day)s)",
            "price_range",
            id="a price that is no number",
        ),
        pytest.param(
            "delete from listings where download_date = %(day)s and id %% 3 > 0",
            "volume_drift",
            id="two thirds of the rows are missing",
        ),
        pytest.param(
            "update listings set price = price / 100 where download_date = %(day)s",
            "price_drift",
            id="prices in another unit",
        ),
    ],
)
def test_a_day_that_a_check_refuses_is_not_published_and_stops_its_results(
    platform: Platform, market: connection, statement: str, check: str
) -> None:
    day = WEEK[-1]
    change(market, "alter table listings drop constraint listings_pkey")
    change(market, "alter table listings alter column room_type drop not null")
    change(market, statement, day=day)
    assert platform.run("listings", WEEK[0], WEEK[-2], assets=[SNAPSHOT]).success
    found = platform.run("listings", day)
    assert check in failed_checks(found)
    assert f"{check}: " in said(found)
    assert day not in platform.materialized(SNAPSHOT) | platform.materialized(CHANGES)
    assert not list(platform.store.list(f"{snapshots.prefix(day)}/"))


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_day_is_compared_with_the_days_before_it_however_many_are_exported_at_once(
    platform: Platform, market: connection, at_once: int
) -> None:
    change(
        market, "delete from listings where download_date = %(day)s and id %% 3 > 0", day=WEEK[-2]
    )
    exporter = snapshots.Exporter(
        PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"]),
        ListingsTable(),
        platform.store,
    )
    taken = exporter.take(WEEK, at_once=at_once)
    refused = [day for day, each in taken.items() if isinstance(each.outcome, Exception)]
    assert refused == [WEEK[-2]]
    assert "the 7 days before" in taken[WEEK[-2]].verdicts["volume_drift"].description
    assert "the 7 days before" in taken[WEEK[-1]].verdicts["volume_drift"].description


def test_checks_alone_judge_what_is_published(platform: Platform, table: connection) -> None:
    assert platform.run("listings", FIRST, LAST, assets=[SNAPSHOT]).success
    checks_alone = platform.check(FIRST, LAST, [(SNAPSHOT, "null_rates")])
    assert checks_alone.success
    dates = {each.partition for each in checks_alone.get_asset_check_evaluations() if each.passed}
    assert set(DATES) <= dates
    platform.store.delete_prefix(f"{snapshots.prefix(LAST)}/")
    missing = platform.check(FIRST, LAST, [(SNAPSHOT, "null_rates")])
    assert not missing.success
    failed = {each.partition for each in missing.get_asset_check_evaluations() if not each.passed}
    assert failed - {None} == {LAST}


def test_rows_that_have_vanished_do_not_empty_a_published_day(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, assets=[SNAPSHOT]).success
    before = {each.key: each.etag for each in platform.store.list("airbnb/")}
    change(table, "delete from listings where download_date = %(day)s", day=FIRST)
    assert "has no rows of 2026-03-01 any more" in said(platform.run("listings", FIRST))
    assert {each.key: each.etag for each in platform.store.list("airbnb/")} == before


def test_of_a_table_without_days_only_the_newest_day_can_be_snapshotted(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_LISTINGS_DATE_COLUMN", "")
    change(table, "delete from listings where download_date <> %(day)s", day=FIRST)
    change(table, "alter table listings drop column download_date")
    newest = DAILY.get_last_partition_key()
    assert newest is not None
    assert platform.run("listings", newest).success
    read = parquet(platform, f"{snapshots.prefix(newest)}/listings.parquet")
    assert [(read.num_rows,)] == ask(table, "select count(*) from listings")
    message = said(platform.run("listings", FIRST))
    assert f"only {newest}, the day that has just ended, can be snapshotted" in message
    assert not list(platform.store.list(f"{snapshots.prefix(FIRST)}/"))


def test_yesterday_is_missed_until_it_is_there_with_listings(
    platform: Platform, table: connection
) -> None:
    yesterday = DAILY.get_last_partition_key()
    assert yesterday is not None

    def verdict() -> Any:
        job = build_defs().resolve_job_def("listings_freshness")
        (found,) = job.execute_in_process(instance=platform.instance).get_asset_check_evaluations()
        return found

    assert not verdict().passed
    assert f"There is no snapshot of {yesterday}" in verdict().description
    assert platform.run("listings", yesterday, assets=[SNAPSHOT]).success  # the table has no rows
    assert "is empty" in verdict().description
    seed_listings.seed(platform.env["PLATFORM_POSTGRES_DSN"], [yesterday], places=50)
    assert platform.run("listings", yesterday, assets=[SNAPSHOT]).success
    assert verdict().passed


def test_of_many_dates_one_poisoned_one_fails_alone_and_its_repair_makes_one_date(
    platform: Platform,
) -> None:
    """The number of dates is that of the suite's time; the same was seen of 365."""
    count = int(os.environ.get("PLATFORM_TEST_POISONED_DATES", "20"))
    dates = [(date(2025, 3, 1) + timedelta(n)).isoformat() for n in range(count)]
    poisoned = dates[count // 2]
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    seed_listings.seed(dsn, dates, places=40)
    with closing(psycopg2.connect(dsn)) as opened:
        opened.autocommit = True
        change(opened, "alter table listings alter column room_type drop not null")
        poison = (
            "update listings set room_type = %(type)s where download_date = %(day)s and id = "
            "(select min(id) from listings where download_date = %(day)s)"
        )
        change(opened, poison, day=poisoned, type=None)
        found = platform.run("listings", dates[0], dates[-1])
        assert said(found).startswith(f"1 date(s) failed. {poisoned}: airbnb/snapshot: ")
        assert "1 rows have no room_type" in said(found)
        others = set(dates) - {poisoned}
        for asset in (SNAPSHOT, CHANGES, SUMMARY):
            assert platform.materialized(asset) == others
        change(opened, poison, day=poisoned, type="Private room")
        repaired = platform.run("listings", poisoned, poisoned)
        assert repaired.success
        for asset in (SNAPSHOT, CHANGES, SUMMARY):
            assert platform.materialized(asset) == set(dates)
            assert platform.materializations(asset) == count  # each date once: nothing was redone
        found_changes = result(platform, CHANGES, poisoned, "biggest_increase.json")
        assert found_changes == biggest(opened, poisoned, "rises")
        # What was made without it meanwhile is told of, and right once it is made again.
        later = [day for day in dates if day > poisoned]
        outdated = {
            evaluation.partition
            for evaluation in repaired.get_asset_check_evaluations()
            if evaluation.severity is dg.AssetCheckSeverity.WARN and not evaluation.passed
        }
        assert outdated == set(later)
        assert platform.run("listings", later[0], later[-1], assets=[CHANGES]).success
        for day in (later[0], later[-1]):
            again = result(platform, CHANGES, day, "biggest_increase.json")
            assert again == biggest(opened, day, "rises")


def republish(platform: Platform, asset: str, name: str, value: object) -> None:
    """Replace one file of a result by another, with a manifest that fits."""
    prefix = f"{asset}/date={LAST}"
    manifest = read_manifest(platform.store, prefix)
    assert manifest is not None
    with Publication(platform.store, prefix) as publication:
        publication.put(name, json.dumps(value).encode())
        for file in manifest.files:
            if file.name != name:
                publication.adopt(file.name)
        publication.commit(
            partition=LAST,
            rows=manifest.rows,
            columns=manifest.columns,
            code_version=manifest.code_version,
            inputs=manifest.inputs,
            extra=manifest.extra,
        )


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lambda rows: rows[::-1], id="in another order"),
        pytest.param(lambda rows: rows[:-1], id="one is missing"),
        pytest.param(
            lambda rows: [{**rows[0], "price_change_per_day": -1.0}, *rows[1:]],
            id="a fall among the rises",
        ),
    ],
)
def test_the_price_change_check_fails_on_rises_that_are_not_the_biggest(
    platform: Platform, table: connection, bad: Any
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    rows = result(platform, CHANGES, LAST, "biggest_increase.json")
    republish(platform, CHANGES, "biggest_increase.json", bad(rows))
    assert not checks.judge_price_changes(platform.store, LAST).passed


def test_the_summary_check_fails_when_the_groups_do_not_add_up(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    groups = result(platform, SUMMARY, LAST, "neighbourhood_summary.json")
    republish(platform, SUMMARY, "neighbourhood_summary.json", groups[1:])
    assert not checks.judge_neighbourhoods(platform.store, LAST).passed


def test_a_date_whose_snapshot_is_damaged_fails_alone(
    platform: Platform, table: connection
) -> None:
    platform.run("listings", FIRST, LAST, assets=[SNAPSHOT])
    platform.store.put_bytes(f"{snapshots.prefix(DATES[2])}/listings.parquet", b"no parquet")
    found = platform.run("listings", FIRST, LAST, assets=[CHANGES, SUMMARY])
    assert DATES[2] in said(found)
    good = set(DATES) - {DATES[2]}
    assert platform.materialized(CHANGES) == good
    assert platform.materialized(SUMMARY) == good


def test_how_the_number_cruncher_was_run_shows_on_the_result(
    platform: Platform, table: connection
) -> None:
    platform.run("listings", FIRST)
    event = platform.instance.get_latest_materialization_event(processed.PRICE_CHANGES)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["mode"].value == "process"
