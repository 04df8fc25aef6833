"""Dates crunched from snapshots in a real S3: right, incremental, never from the future."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from numbercruncher.crunch import crunch
from numbercruncher.errors import (
    RequestError,
    SnapshotChangedError,
    SnapshotInvalidError,
    StoreError,
    StoreUnavailableError,
)
from numbercruncher.request import parse_request
from numbercruncher.snapshot_index import SnapshotIndex
from numbercruncher.store import Entry, Store
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import (
    days,
    expected_biggest,
    expected_changes,
    expected_summary,
    market,
    put_snapshot,
    row,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Objects = Callable[[str], dict[str, bytes]]
OUTPUTS = ("airbnb/price_changes/", "airbnb/neighbourhood_summary/")


def table(data: bytes) -> list[dict[str, Any]]:
    rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    return [
        {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in item.items()}
        for item in rows
    ]


def outputs(objects: Objects) -> dict[str, bytes]:
    return {key: data for prefix in OUTPUTS for key, data in objects(prefix).items()}


def remove(client: "S3Client", bucket: str, keys: Mapping[str, bytes]) -> None:
    for key in keys:
        client.delete_object(Bucket=bucket, Key=key)


@pytest.mark.parametrize("format_", ["csv", "csv.gz", "parquet"])
def test_every_date_equals_an_independent_computation_from_every_format(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects, format_: str
) -> None:
    market_ = market(days("2026-02-25", 8), 150)
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows, format_=format_)
    messages = run(*market_)
    created = outputs(objects)
    for day, rows in market_.items():
        message = messages[day]
        assert (message["status"], message["rows"], message["error"]) == ("made", len(rows), None)
        changes = f"airbnb/price_changes/date={day}"
        expected = expected_changes(market_, day)
        assert table(created[f"{changes}/price_changes.parquet"]) == expected
        for name, sign in (("increase", 1), ("decrease", -1)):
            result = json.loads(created[f"{changes}/biggest_{name}.json"])
            assert result == expected_biggest(expected, sign)
        assert message["outputs"]["price_changes"]["rows"] == len(expected)
        summary = f"airbnb/neighbourhood_summary/date={day}/neighbourhood_summary"
        approximately = [
            {k: pytest.approx(v, rel=1e-14) if isinstance(v, float) else v for k, v in r.items()}
            for r in expected_summary(rows)
        ]
        assert json.loads(created[f"{summary}.json"]) == approximately
        assert table(created[f"{summary}.parquet"]) == approximately


def test_manifests_tell_of_what_is_there(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    message = run("2026-01-01")["2026-01-01"]
    created = outputs(objects)
    for name, output in message["outputs"].items():
        prefix = f"airbnb/{name}/date=2026-01-01"
        assert output["prefix"] == prefix
        content = created[f"{prefix}/manifest.json"]
        assert hashlib.sha256(content).hexdigest() == output["manifest_sha256"]
        manifest = json.loads(content)
        assert content.decode() == (
            json.dumps(manifest, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        )
        for file in manifest["files"]:
            data = created[f"{prefix}/{file['name']}"]
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
        assert manifest["files"] == output["files"]
        assert {f"{prefix}/{file['name']}" for file in manifest["files"]} == {
            key for key in created if key.startswith(prefix) and not key.endswith("manifest.json")
        }


def test_day_by_day_backwards_and_in_one_pass_give_the_same_bytes(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    market_ = market(days("2026-01-01", 6), 80)
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    run(*market_)
    in_one_pass = outputs(objects)
    remove(client, bucket, in_one_pass)
    for day in market_:  # each from the state of the day before
        run(day)
    assert outputs(objects) == in_one_pass
    remove(client, bucket, in_one_pass)
    for day in reversed(market_):  # each from all snapshots up to it
        run(day)
    assert outputs(objects) == in_one_pass


def test_a_day_reads_the_state_before_and_its_own_snapshot_only(
    run: Crunch, client: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    market_ = market(days("2026-01-01", 5), 30)
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    *earlier, last = market_
    run(*earlier)
    opened: list[str] = []
    open_ = Store.open
    monkeypatch.setattr(Store, "open", lambda self, key: (opened.append(key), open_(self, key))[1])
    run(last)
    assert opened == [f"airbnb/listings/date={last}/listings.csv"]


def test_rows_of_the_future_are_never_used(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    market_ = market(days("2026-01-01", 6), 60)
    before = dict(list(market_.items())[:3])
    for day, rows in before.items():
        put_snapshot(client, bucket, day, rows)
    run(*before)
    without_future = outputs(objects)
    remove(client, bucket, without_future)
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    run(*market_)  # the future's states are stored too
    for day in before:
        remove(client, bucket, objects(f"airbnb/price_changes/date={day}"))
    run(*before)
    now = outputs(objects)
    assert {key: now[key] for key in without_future} == without_future


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


def test_only_the_outputs_asked_for_are_made(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    message = run("2026-01-01", outputs=["neighbourhood_summary"])["2026-01-01"]
    assert list(message["outputs"]) == ["neighbourhood_summary"]
    assert not objects("airbnb/price_changes/")


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
    run: Crunch, client: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, rows in market(days("2026-01-01", 2), 40).items():
        put_snapshot(client, bucket, day, rows)
    entries = Store.entries

    def refused(self: Store, folder: str, *, after: str = "") -> Iterator[Entry]:
        if folder == "airbnb/listings":
            raise StoreUnavailableError("The store failed.")
        return entries(self, folder, after=after)

    monkeypatch.setattr(Store, "entries", refused)
    messages = run("2026-01-01", "2026-01-02", "2026-01-03", outputs=["neighbourhood_summary"])
    statuses = [message["status"] for message in messages.values()]
    assert statuses == ["made", "made", "failed"]
    assert "no snapshot of 2026-01-03" in messages["2026-01-03"]["error"]
    messages = run("2026-01-02", "2026-01-03", outputs=["price_changes"])
    assert {(item["status"], item["error"]) for item in messages.values()} == {
        ("failed", "The store failed."),
        (
            "failed",
            "There is no snapshot of 2026-01-03: it has no manifest."
            " Materialise the snapshot of 2026-01-03 first.",
        ),
    }
    assert messages["2026-01-02"]["transient"]


def test_a_bucket_that_does_not_exist_is_a_sentence(environment: Mapping[str, str]) -> None:
    with pytest.raises(StoreError, match="The bucket no-such-bucket does not exist"):
        list(Store("no-such-bucket").entries("airbnb/"))


def test_wrong_credentials_are_a_sentence_without_the_secret(
    environment: Mapping[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-value")
    with pytest.raises(StoreError, match="not accepted") as caught:
        list(Store(bucket).entries("airbnb/"))
    assert "wrong-secret-value" not in str(caught.value)


@pytest.mark.parametrize(
    "extras",
    [
        pytest.param({"dates": ["2026-01-01"]}, id="no bucket"),
        pytest.param({"bucket": "b"}, id="no dates"),
        pytest.param({"bucket": "b", "dates": []}, id="an empty list of dates"),
        pytest.param({"bucket": "b", "dates": ["01/02/2026"]}, id="not an ISO date"),
        pytest.param(
            {"bucket": "b", "dates": ["2026-01-01"], "outputs": ["revenue"]}, id="unknown output"
        ),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(extras: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        parse_request(extras)


def test_a_range_of_dates_includes_both_ends() -> None:
    request = parse_request({"bucket": "b", "first_date": "2026-02-27", "last_date": "2026-03-02"})
    assert request.dates == ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02")


def test_real_listings_come_out_as_plain_python_says(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects, shared_data: Path
) -> None:
    """Ids beyond 2^53, names with line breaks and quotes, thousands of missing prices."""
    market_ = {}
    for day in ("2018-10-05", "2024-12-07"):
        path = shared_data / "airbnb" / f"amsterdam_{day}_listings.csv"
        with path.open(encoding="utf-8", newline="") as file:
            market_[day] = [
                {
                    "id": int(item["id"]),
                    "name": item["name"],
                    "neighbourhood": item["neighbourhood"],
                    "room_type": item["room_type"],
                    "price": float(item["price"]) if item["price"] else None,
                }
                for item in csv.DictReader(file)
            ]
        put_snapshot(client, bucket, day, market_[day])
    message = run(*market_)["2024-12-07"]
    assert message["rows"] == 10_032
    created = outputs(objects)
    expected = expected_changes(market_, "2024-12-07")
    changes = "airbnb/price_changes/date=2024-12-07"
    assert table(created[f"{changes}/price_changes.parquet"]) == expected
    assert json.loads(created[f"{changes}/biggest_increase.json"]) == expected_biggest(expected, 1)
    summary = "airbnb/neighbourhood_summary/date=2024-12-07/neighbourhood_summary.json"
    assert json.loads(created[summary]) == [
        {k: pytest.approx(v, rel=1e-14) if isinstance(v, float) else v for k, v in r.items()}
        for r in expected_summary(market_["2024-12-07"])
    ]
