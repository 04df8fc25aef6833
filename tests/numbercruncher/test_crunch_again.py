"""Dates crunched a second time: what is kept, what is made anew, what is noticed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from numbercruncher.crunch import crunch
from numbercruncher.request import parse_request
from numbercruncher.store import Store
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import (
    Objects,
    days,
    expected_changes,
    market,
    put_snapshot,
    remove,
    row,
    table,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_a_second_run_changes_nothing_and_says_so(
    run: Crunch, client: "S3Client", bucket: str
) -> None:
    for day in days("2026-01-01", 3):
        put_snapshot(client, bucket, day, [row(1, 5)])
    first = run(*days("2026-01-01", 3))
    keys = [
        f"{output['prefix']}/{file['name']}"
        for message in first.values()
        for output in message["outputs"].values()
        for file in output["files"]
    ]
    written = [client.head_object(Bucket=bucket, Key=key)["LastModified"] for key in keys]
    second = run(*days("2026-01-01", 3))
    assert {message["status"] for message in second.values()} == {"unchanged"}
    assert written == [client.head_object(Bucket=bucket, Key=key)["LastModified"] for key in keys]
    for day, message in second.items():
        for name, output in message["outputs"].items():
            before = first[day]["outputs"][name]
            assert output == {**before, "status": "unchanged"}


def test_another_code_version_makes_everything_anew(
    run: Crunch, client: "S3Client", bucket: str
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    run("2026-01-01")
    assert run("2026-01-01", code_version="2")["2026-01-01"]["status"] == "made"


@pytest.mark.parametrize("lost", ["state.parquet", "biggest_increase.json"])
def test_an_output_with_a_file_missing_is_made_anew(
    run: Crunch, client: "S3Client", bucket: str, lost: str
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    run("2026-01-01")
    client.delete_object(Bucket=bucket, Key=f"airbnb/price_changes/date=2026-01-01/{lost}")
    message = run("2026-01-01")["2026-01-01"]
    assert {name: output["status"] for name, output in message["outputs"].items()} == {
        "price_changes": "made",
        "neighbourhood_summary": "unchanged",
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"2026-01-02": [row(1, 50)]}, id="re-exported with other prices"),
        pytest.param({"2026-01-01": [row(1, 3)]}, id="the first snapshot re-exported"),
        pytest.param({"2025-12-31": [row(1, 1), row(2, 7)]}, id="an older day backfilled"),
    ],
)
def test_a_state_made_of_other_snapshots_is_not_used(
    run: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Objects,
    change: dict[str, list[Mapping[str, Any]]],
) -> None:
    market_ = {
        "2026-01-01": [row(1, 10), row(2, 20)],
        "2026-01-02": [row(1, 12)],
        "2026-01-03": [row(2, 26)],
        "2026-01-04": [row(1, 11)],
    }
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    run("2026-01-01", "2026-01-02", "2026-01-03")
    for day, rows in change.items():
        put_snapshot(client, bucket, day, rows)
    run("2026-01-04")
    created = objects("airbnb/price_changes/date=2026-01-04/")
    assert table(created["airbnb/price_changes/date=2026-01-04/price_changes.parquet"]) == (
        expected_changes({**market_, **change}, "2026-01-04")
    )


def test_a_removed_snapshot_is_not_in_the_results_any_more(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    market_ = {"2026-01-01": [row(1, 10)], "2026-01-02": [row(1, 12)], "2026-01-03": [row(1, 15)]}
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    run("2026-01-01", "2026-01-02")
    remove(client, bucket, objects("airbnb/listings/date=2026-01-01/"))
    run("2026-01-03")
    del market_["2026-01-01"]
    created = objects("airbnb/price_changes/date=2026-01-03/")
    assert table(created["airbnb/price_changes/date=2026-01-03/price_changes.parquet"]) == (
        expected_changes(market_, "2026-01-03")
    )


def test_a_damaged_state_is_not_used(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    market_ = {"2026-01-01": [row(1, 10)], "2026-01-02": [row(1, 12)]}
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    run("2026-01-01")
    state = "airbnb/price_changes/date=2026-01-01/state.parquet"
    good = objects(state)[state]
    client.put_object(Bucket=bucket, Key=state, Body=good[:100] + b"\0" + good[101:])
    run("2026-01-02")
    created = objects("airbnb/price_changes/date=2026-01-02/")
    assert table(created["airbnb/price_changes/date=2026-01-02/price_changes.parquet"]) == (
        expected_changes(market_, "2026-01-02")
    )


def test_a_snapshot_that_another_run_publishes_meanwhile_is_noticed(
    client: "S3Client", bucket: str, environment: Mapping[str, str]
) -> None:
    earlier, *later = market(days("2026-01-01", 3), 40).items()
    for date, rows in later:
        put_snapshot(client, bucket, date, rows)
    dates = [date for date, _ in later]
    request = parse_request({"bucket": bucket, "dates": dates, "code_version": "1"})

    def publish_too(message: Mapping[str, Any]) -> None:
        if message["date"] == dates[-1]:  # all is published by now
            put_snapshot(client, bucket, *earlier)

    warnings: list[str] = []
    assert crunch(Store(bucket), request, publish_too, warnings.append) == dates
    assert crunch(Store(bucket), request, lambda _: None, warnings.append) == []
    assert not warnings


def test_what_is_outdated_is_looked_for_again_after_a_run_that_broke_off_in_looking(
    client: "S3Client",
    bucket: str,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (first, *later) = market(days("2026-01-01", 2), 40).items()
    ((last, rows),) = later
    put_snapshot(client, bucket, last, rows)

    def crunch_date(date: str) -> list[str]:
        request = parse_request({"bucket": bucket, "dates": [date], "code_version": "1"})
        return crunch(Store(bucket), request, lambda _: None, lambda _: None)

    assert crunch_date(last) == []
    put_snapshot(client, bucket, *first)
    with monkeypatch.context() as broken:
        broken.setattr("numbercruncher.crunch.find_outdated", killed)
        with pytest.raises(KeyboardInterrupt):
            crunch_date(first[0])
    assert crunch_date(first[0]) == [last]  # although it makes nothing anew


def killed(*_: object) -> list[str]:
    raise KeyboardInterrupt


def test_old_files_never_stand_under_a_new_manifest_nor_new_ones_under_an_old(
    run: Crunch, client: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    run("2026-01-01")
    put_snapshot(client, bucket, "2026-01-01", [row(1, 6)])
    asked: list[str] = []
    for name in ("put", "create", "delete"):
        real = getattr(Store, name)
        monkeypatch.setattr(
            Store,
            name,
            lambda self, key, *rest, name=name, real=real: (
                asked.append(f"{name} {key.rpartition('/')[2]}"),
                real(self, key, *rest),
            )[1],
        )
    run("2026-01-01", outputs=["price_changes"])
    assert asked[0] == "delete manifest.json"
    assert asked[-1] == "create manifest.json"
    assert len(asked) == 6
