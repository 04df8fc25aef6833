"""Snapshots that are bad, missing, empty or replaced: what of it is told, and what is made."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from numbercruncher.errors import (
    SnapshotChangedError,
    SnapshotInvalidError,
)
from numbercruncher.snapshot_index import SnapshotIndex
from numbercruncher.store import Store
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import (
    Objects,
    days,
    market,
    outputs,
    put_snapshot,
    remove,
    row,
    table,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def poison_bytes(client: "S3Client", bucket: str, day: str) -> None:
    key = f"airbnb/listings/date={day}/listings.csv"
    client.put_object(Bucket=bucket, Key=key, Body=b"id,price\n1,2\n")


def poison_missing_file(client: "S3Client", bucket: str, day: str) -> None:
    client.delete_object(Bucket=bucket, Key=f"airbnb/listings/date={day}/listings.csv")


def poison_manifest(client: "S3Client", bucket: str, day: str) -> None:
    key = f"airbnb/listings/date={day}/manifest.json"
    client.put_object(Bucket=bucket, Key=key, Body=b"{}")


def poison_duplicates(client: "S3Client", bucket: str, day: str) -> None:
    put_snapshot(client, bucket, day, [row(1, 5), row(1, 6)])


def poison_nan(client: "S3Client", bucket: str, day: str) -> None:
    put_snapshot(client, bucket, day, [row(1, float("nan"))])


def poison_columns(client: "S3Client", bucket: str, day: str) -> None:
    columns = {"columns": [{"name": "id", "type": "int64"}]}
    put_snapshot(client, bucket, day, [row(1, 5)], manifest=columns)


def poison_row_count(client: "S3Client", bucket: str, day: str) -> None:
    put_snapshot(client, bucket, day, [row(1, 5)], manifest={"rows": 2})


def poison_id(client: "S3Client", bucket: str, day: str) -> None:
    put_snapshot(client, bucket, day, [row(1, 5), {**row(2, 5), "id": "x2"}])


@pytest.mark.parametrize(
    ("poison", "sentence"),
    [
        (poison_bytes, "is not what its manifest promises"),
        (poison_missing_file, "is missing though its manifest names it"),
        (poison_manifest, "cannot be read: it is not a manifest"),
        (poison_duplicates, "has listing 1 more than once"),
        (poison_nan, "The price of listing 1 in the snapshot of 2026-01-02 is not a number"),
        (poison_columns, "has no column price"),
        (poison_row_count, "has 1 rows where its manifest says 2"),
        (poison_id, "cannot be read"),
    ],
)
def test_a_date_whose_snapshot_is_bad_fails_alone_and_says_why(
    run: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Objects,
    poison: Callable[["S3Client", str, str], None],
    sentence: str,
) -> None:
    market_ = {"2026-01-01": [row(1, 10)], "2026-01-02": [row(1, 12)], "2026-01-03": [row(1, 15)]}
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    poison(client, bucket, "2026-01-02")
    messages = run(*market_)
    assert [message["status"] for message in messages.values()] == ["made", "failed", "made"]
    assert sentence in messages["2026-01-02"]["error"]
    assert not messages["2026-01-02"]["transient"]
    assert not objects("airbnb/price_changes/date=2026-01-02")
    third = messages["2026-01-03"]["outputs"]["price_changes"]
    assert third["metadata"]["left_out"] == ["2026-01-02"]


def test_after_the_repair_the_bad_date_is_made_and_what_came_after_it_is_right_again(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    market_ = market(days("2026-01-01", 5), 40)
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    run(*market_)
    right = outputs(objects)
    remove(client, bucket, right)
    poison_bytes(client, bucket, "2026-01-02")
    run(*market_)
    put_snapshot(client, bucket, "2026-01-02", market_["2026-01-02"])  # the same manifest again
    messages = run("2026-01-02")
    assert messages["2026-01-02"]["status"] == "made"
    messages = run(*market_)
    assert {day: message["status"] for day, message in messages.items()} == {
        "2026-01-01": "unchanged",
        "2026-01-02": "unchanged",
        "2026-01-03": "made",
        "2026-01-04": "made",
        "2026-01-05": "made",
    }
    assert outputs(objects) == right


def test_a_bad_snapshot_is_not_read_again_every_day(
    run: Crunch, client: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in days("2026-01-01", 4):
        put_snapshot(client, bucket, day, [row(1, 5)])
    poison_bytes(client, bucket, "2026-01-02")
    run(*days("2026-01-01", 3))
    opened: list[str] = []
    open_ = Store.open
    monkeypatch.setattr(Store, "open", lambda self, key: (opened.append(key), open_(self, key))[1])
    run("2026-01-04")
    assert opened == ["airbnb/listings/date=2026-01-04/listings.csv"]


def test_a_date_without_a_snapshot_fails_alone_with_a_sentence(
    run: Crunch, client: "S3Client", bucket: str
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    put_snapshot(client, bucket, "2026-01-03", [row(1, 7)])
    messages = run("2026-01-01", "2026-01-02", "2026-01-03")
    assert [message["status"] for message in messages.values()] == ["made", "failed", "made"]
    assert "There is no snapshot of 2026-01-02" in messages["2026-01-02"]["error"]


def test_an_empty_snapshot_gives_outputs_that_say_so(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [])
    message = run("2026-01-01")["2026-01-01"]
    assert (message["status"], message["rows"]) == ("made", 0)
    for output in message["outputs"].values():
        assert output["rows"] == 0
        assert output["metadata"]["note"] == "The snapshot of this day has no rows."
    created = outputs(objects)
    assert created["airbnb/price_changes/date=2026-01-01/biggest_increase.json"] == b"[]\n"
    summary = "airbnb/neighbourhood_summary/date=2026-01-01/neighbourhood_summary"
    assert created[f"{summary}.json"] == b"[]\n"
    assert table(created[f"{summary}.parquet"]) == []


def test_a_single_snapshot_says_that_nothing_can_have_changed_yet(
    run: Crunch, client: "S3Client", bucket: str
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    output = run("2026-01-01")["2026-01-01"]["outputs"]["price_changes"]
    assert output["rows"] == 0
    assert output["metadata"]["note"] == "No listing has prices on two dates yet."


def test_a_snapshot_that_was_replaced_before_it_was_listed_counts_as_changed_not_as_bad(
    client: "S3Client", bucket: str, environment: Mapping[str, str]
) -> None:
    first, second = market(days("2026-01-01", 2), 40).values()
    put_snapshot(client, bucket, "2026-01-01", first)
    store = Store(bucket)
    history = SnapshotIndex(store, "airbnb/listings")
    manifest = history.manifests(["2026-01-01"])["2026-01-01"]
    put_snapshot(client, bucket, "2026-01-01", second)
    with ThreadPoolExecutor(1) as pool:
        history.list_ahead(pool)
        with pytest.raises(SnapshotChangedError, match="replaced"):
            history.read("2026-01-01", manifest)
    poison_bytes(client, bucket, "2026-01-01")
    with pytest.raises(SnapshotInvalidError):
        history.read("2026-01-01")


def test_where_the_past_cannot_be_listed_summaries_are_made_and_price_changes_fail(
    run: Crunch, client: "S3Client", bucket: str, fail_store: Callable[[str, str], None]
) -> None:
    for day, rows in market(days("2026-01-01", 2), 40).items():
        put_snapshot(client, bucket, day, rows)
    fail_store("entries", "airbnb/listings")
    messages = run("2026-01-01", "2026-01-02", "2026-01-03", outputs=["neighbourhood_summary"])
    statuses = [message["status"] for message in messages.values()]
    assert statuses == ["made", "made", "failed"]
    assert "no snapshot of 2026-01-03" in messages["2026-01-03"]["error"]
    messages = run("2026-01-02", "2026-01-03", outputs=["price_changes"])
    assert {(item["status"], item["error"]) for item in messages.values()} == {
        ("failed", "The store is away."),
        (
            "failed",
            "There is no snapshot of 2026-01-03: it has no manifest."
            " Materialise the snapshot of 2026-01-03 first.",
        ),
    }
    assert messages["2026-01-02"]["transient"]
