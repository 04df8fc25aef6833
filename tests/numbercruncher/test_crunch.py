"""Dates crunched from snapshots in a real S3: right, incremental, never from the future."""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from numbercruncher.errors import (
    RequestError,
    StoreError,
)
from numbercruncher.request import parse_request
from numbercruncher.store import Store
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import (
    Objects,
    days,
    expected_biggest,
    expected_changes,
    expected_summary,
    market,
    outputs,
    put_snapshot,
    remove,
    row,
    table,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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


def test_only_the_outputs_asked_for_are_made(
    run: Crunch, client: "S3Client", bucket: str, objects: Objects
) -> None:
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    message = run("2026-01-01", outputs=["neighbourhood_summary"])["2026-01-01"]
    assert list(message["outputs"]) == ["neighbourhood_summary"]
    assert not objects("airbnb/price_changes/")


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


def test_dates_are_made_in_their_order_and_each_once() -> None:
    dates = ["2026-03-01", "2026-02-28", "2026-03-01"]
    assert parse_request({"bucket": "b", "dates": dates}).dates == ("2026-02-28", "2026-03-01")


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
