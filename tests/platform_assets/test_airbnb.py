"""From the table to the results; every figure is compared with one computed in SQL on the table."""

import math
import os
from contextlib import closing
from datetime import date, timedelta

import dagster as dg
import psycopg2
import pyarrow as pa
import pytest
from psycopg2.extensions import connection

from embedded import seed_listings
from platform_assets.airbnb import processed
from platform_assets.airbnb.published_snapshots import (
    require_snapshot,
    snapshot_folder,
)
from platform_assets.tables.published_snapshots import read_columns
from tests.platform_assets.airbnb_rig import (
    CHANGES,
    CHANGES_SQL,
    DATES,
    FIRST,
    LAST,
    SNAPSHOT,
    SUMMARY,
    SUMMARY_SQL,
    ask,
    biggest,
    change,
    parquet,
    result,
)
from tests.platform_assets.conftest import Platform, reason_of


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
            seen = [group[item] for item in ("mean", "lower_quartile", "median", "upper_quartile")]
            if priced:
                assert seen == pytest.approx([mean, lower, median, upper], rel=1e-12)
            else:
                assert seen == [None] * 4


def test_one_date_after_the_other_gives_the_bytes_of_the_range(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    at_once = {item.key: item.etag for item in platform.store.list("airbnb/")}
    platform.store.delete_prefix("airbnb/")
    for day in DATES:
        assert platform.run("listings", day).success
    assert {item.key: item.etag for item in platform.store.list("airbnb/")} == at_once


def test_a_second_run_changes_no_object(platform: Platform, table: connection) -> None:
    assert platform.run("listings", FIRST, LAST).success
    before = {item.key: item.etag for item in platform.store.list("airbnb/")}
    assert platform.run("listings", FIRST, LAST).success
    assert {item.key: item.etag for item in platform.store.list("airbnb/")} == before


def test_a_run_of_a_past_date_does_not_see_the_future(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    platform.store.delete_prefix(f"{CHANGES}/date={DATES[1]}/")
    assert platform.run("listings", DATES[1]).success
    seen = result(platform, CHANGES, DATES[1], "biggest_increase.json")
    assert seen == biggest(table, DATES[1], "rises")


def test_a_day_without_rows_is_an_empty_snapshot_that_says_so(
    platform: Platform, table: connection
) -> None:
    change(table, "delete from listings where download_date = %(day)s", day=DATES[1])
    assert platform.run("listings", FIRST, LAST).success
    snapshot = snapshot_folder(platform.store, DATES[1]).published()
    assert snapshot is not None
    assert snapshot.manifest.rows == 0
    assert [column.name for column in snapshot.manifest.columns][:2] == ["id", "name"]
    assert result(platform, SUMMARY, DATES[1], "neighbourhood_summary.json") == []
    seen = result(platform, CHANGES, LAST, "biggest_decrease.json")
    assert seen == biggest(table, LAST, "falls")


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_every_format_gives_the_same_results(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("PLATFORM_SNAPSHOT_FORMAT", form)
    assert platform.run("listings", FIRST, LAST).success
    assert platform.store.exists(snapshot_folder(platform.store, LAST).key(f"listings.{form}"))
    seen = result(platform, CHANGES, LAST, "biggest_increase.json")
    assert seen == biggest(table, LAST, "rises")
    batches = list(read_columns(require_snapshot(platform.store, LAST), "host_id", "id"))
    columns = pa.Table.from_batches(batches)
    assert columns.column_names == ["host_id", "id"]
    query = "select host_id, id from listings where download_date = %(day)s order by id"
    assert list(zip(*columns.to_pydict().values(), strict=True)) == ask(table, query, day=LAST)


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
        poison = (
            "update listings set price = %(price)s where download_date = %(day)s and id = "
            "(select min(id) from listings where download_date = %(day)s)"
        )
        change(opened, poison, day=poisoned, price=math.nan)
        seen = platform.run("listings", dates[0], dates[-1])
        assert reason_of(seen).startswith(f"1 date(s) failed. {poisoned}: airbnb/snapshot: ")
        assert "Prices go from" in reason_of(seen)
        others = set(dates) - {poisoned}
        for asset in (SNAPSHOT, CHANGES, SUMMARY):
            assert platform.materialized(asset) == others
        change(opened, poison, day=poisoned, price=60)
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


def test_a_date_whose_snapshot_is_damaged_fails_alone(
    platform: Platform, table: connection
) -> None:
    platform.run("listings", FIRST, LAST, assets=[SNAPSHOT])
    platform.store.put_bytes(
        snapshot_folder(platform.store, DATES[2]).key("listings.parquet"), b"no parquet"
    )
    seen = platform.run("listings", FIRST, LAST, assets=[CHANGES, SUMMARY])
    assert DATES[2] in reason_of(seen)
    good = set(DATES) - {DATES[2]}
    assert platform.materialized(CHANGES) == good
    assert platform.materialized(SUMMARY) == good


def test_how_the_number_cruncher_was_run_shows_on_the_result(
    platform: Platform, table: connection
) -> None:
    platform.run("listings", FIRST)
    event = platform.instance.get_latest_materialization_event(processed.PRICE_CHANGES.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["mode"].value == "process"
