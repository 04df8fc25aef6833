"""The checks of the listings: each fails on what is bad, date by date, and stops what follows."""

import io
import json
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2.extensions import connection

from embedded import seed_listings
from platform_assets.airbnb import processed
from platform_assets.airbnb.listings import RULES, ListingsTable
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.airbnb.snapshots import judge_yesterday, yesterday_is_there
from platform_assets.partitions import DAILY
from platform_assets.tables import quality, snapshots
from resources.postgres import PostgresResource
from resources.s3 import Folder, ObjectStore, Publication
from tests.platform_assets.airbnb_rig import (
    CHANGES,
    DATES,
    FIRST,
    LAST,
    SNAPSHOT,
    SUMMARY,
    WEEK,
    change,
    parquet,
    result,
)
from tests.platform_assets.conftest import Platform, definitions, failed_checks, reason_of

MATCHES_TABLE = (SNAPSHOT, "matches_table")
ALL_CHECKS = [*quality.checks_of(RULES), "matches_table", "real_rises_and_falls", "adds_up"]


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
    folder = snapshot_folder(platform.store, FIRST)
    manifest = folder.require(SNAPSHOT).manifest
    shorter = parquet(platform, folder.key("listings.parquet")).slice(1)
    out = io.BytesIO()
    pq.write_table(shorter, out)
    with Publication(folder) as publication:
        publication.put("listings.parquet", out.getvalue())
        publication.commit(
            partition=FIRST,
            rows=manifest.rows,
            columns=manifest.columns,
            code_version=manifest.code_version,
            extra=manifest.extra,
        )
    seen = platform.run("listings", FIRST, assets=[CHANGES, SUMMARY], checks=[MATCHES_TABLE])
    assert set(failed_checks(seen)) == {"matches_table"}
    assert not platform.materialized(CHANGES)


def judge_snapshot(platform: Platform) -> Any:
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    postgres = PostgresResource(dsn=dsn)
    return snapshots.judge_matches_table(postgres, ListingsTable(), platform.store, FIRST)


RANGE_OF_ONE, PARTITION = (FIRST, FIRST), (FIRST,)


@pytest.mark.parametrize("dates", [RANGE_OF_ONE, PARTITION, (FIRST, LAST)])
def test_every_date_of_a_good_run_is_evaluated_by_every_check(
    platform: Platform, table: connection, dates: tuple[str, ...]
) -> None:
    seen = platform.run("listings", *dates)
    assert seen.success
    expected = {(name, day) for name in ALL_CHECKS for day in DATES if dates[0] <= day <= dates[-1]}
    passed = {(e.check_name, e.partition) for e in seen.get_asset_check_evaluations() if e.passed}
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
    seen = result(platform, asset, LAST, file)
    republish(platform, asset, file, json.dumps(seen[1:]).encode())
    judged = platform.check(FIRST, LAST, [(asset, check)])
    assert not judged.success
    failed = {e.partition for e in judged.get_asset_check_evaluations() if not e.passed}
    assert failed == {None, LAST}


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        pytest.param(
            "insert into listings select * from listings where download_date = %(day)s limit 3",
            "unique_ids",
            id="ids twice",
        ),
        pytest.param(
            "update listings set room_type = null where download_date = %(day)s and id %% 5 = 0",
            "null_rates",
            id="a fifth of the rows without a room type",
        ),
        pytest.param(
            "update listings set id = id / 1000 * 1000 + 600000000000000000 "
            "where download_date = %(day)s and id in (select distinct on (id / 1000) id "
            "from listings where download_date = %(day)s)",
            "ids_are_exact",
            id="ids that a spreadsheet has rounded",
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
    seen = platform.run("listings", day)
    assert check in failed_checks(seen)
    assert f"{check}: " in reason_of(seen)
    assert day not in platform.materialized(SNAPSHOT) | platform.materialized(CHANGES)
    assert not list(platform.store.list(snapshot_folder(platform.store, day).key("")))


def test_a_check_is_shown_by_a_date_that_it_refuses_where_there_is_one(
    platform: Platform, market: connection
) -> None:
    refused, mended = WEEK[-2:]
    price = "update listings set price = %(price)s where download_date = %(day)s"
    for day in (refused, mended):
        change(market, price, day=day, price="nan")
    assert not platform.run("listings", WEEK[0], WEEK[-1]).success
    change(market, price, day=mended, price=60)
    repair = (
        definitions()
        .resolve_job_def("repair")
        .execute_in_process(
            instance=platform.instance,
            run_config={"ops": {"repair_dates": {"config": {"which": "failed"}}}},
            raise_on_error=False,
        )
    )
    events = platform.instance.all_logs(
        repair.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    evaluations: list[Any] = [
        e.dagster_event and e.dagster_event.event_specific_data for e in events
    ]
    dates = {evaluation.check_name: evaluation.partition for evaluation in evaluations}
    assert dates["price_range"] == refused
    assert dates["null_rates"] == mended


def test_checks_alone_judge_what_is_published(platform: Platform, table: connection) -> None:
    assert platform.run("listings", FIRST, LAST, assets=[SNAPSHOT]).success
    checks_alone = platform.check(FIRST, LAST, [(SNAPSHOT, "null_rates")])
    assert checks_alone.success
    dates = {item.partition for item in checks_alone.get_asset_check_evaluations() if item.passed}
    assert set(DATES) <= dates
    platform.store.delete_prefix(snapshot_folder(platform.store, LAST).key(""))
    missing = platform.check(FIRST, LAST, [(SNAPSHOT, "null_rates")])
    assert not missing.success
    failed = {item.partition for item in missing.get_asset_check_evaluations() if not item.passed}
    assert failed - {None} == {LAST}


def test_yesterday_is_missed_until_it_is_there_with_listings(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday = DAILY.get_last_partition_key()
    assert yesterday is not None

    def verdict() -> Any:
        job = definitions().resolve_job_def("listings_freshness")
        (seen,) = job.execute_in_process(instance=platform.instance).get_asset_check_evaluations()
        return seen

    with monkeypatch.context() as down:
        down.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        store = ObjectStore(bucket=platform.store.bucket, max_attempts=1)
        # Not a failed check alone: alerts tell of runs that fail.
        with pytest.raises(dg.Failure, match="AWS_ENDPOINT_URL_S3"):
            yesterday_is_there(listings_store=store)
    assert not verdict().passed
    assert f"There is no snapshot of {yesterday}" in verdict().description
    assert platform.run("listings", yesterday, assets=[SNAPSHOT]).success  # the table has no rows
    assert "is empty" in verdict().description
    seed_listings.seed(platform.env["PLATFORM_POSTGRES_DSN"], [yesterday], places=50)
    assert platform.run("listings", yesterday, assets=[SNAPSHOT]).success
    assert verdict().passed


def test_before_the_first_day_has_ended_the_setting_is_named() -> None:
    verdict = judge_yesterday(ObjectStore(bucket="listings"), None)
    assert not verdict.passed
    assert "PLATFORM_FIRST_PARTITION" in verdict.description


def republish(platform: Platform, asset: str, name: str, data: bytes) -> None:
    """Replace one file of a result by another, with a manifest that fits."""
    folder = Folder(platform.store, f"{asset}/date={LAST}")
    manifest = folder.require(asset).manifest
    with Publication(folder) as publication:
        publication.put(name, data)
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
    republish(platform, CHANGES, "biggest_increase.json", json.dumps(bad(rows)).encode())
    assert not processed.judge_price_changes(platform.store, LAST).passed


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda rows: [*rows, rows[0]], "an id twice"),
        (lambda rows: [{**rows[0], "last_date": date(2026, 3, 5)}], "a day after 2026-03-04"),
        (lambda rows: [{**rows[0], "first_date": rows[0]["last_date"]}], "not before its last"),
        (lambda rows: [{**rows[0], "last_price": 1e6}], "does not follow from its prices"),
    ],
    ids=["an id twice", "from the future", "no time between", "another price"],
)
def test_the_price_change_check_fails_on_a_table_that_cannot_be(
    platform: Platform, table: connection, bad: Any, words: str
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    name = "price_changes.parquet"
    whole = parquet(platform, f"{CHANGES}/date={LAST}/{name}")
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(bad(whole.to_pylist()), schema=whole.schema), sink)
    republish(platform, CHANGES, name, sink.getvalue())
    verdict = processed.judge_price_changes(platform.store, LAST)
    assert not verdict.passed
    assert words in verdict.description


def test_the_summary_check_fails_when_the_groups_do_not_add_up(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    groups = result(platform, SUMMARY, LAST, "neighbourhood_summary.json")
    republish(platform, SUMMARY, "neighbourhood_summary.json", json.dumps(groups[1:]).encode())
    assert not processed.judge_neighbourhoods(platform.store, LAST).passed
