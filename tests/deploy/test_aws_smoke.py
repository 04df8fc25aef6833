"""`make aws-smoke` on the embedded services: what it makes, and that it leaves nothing."""

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from rich.console import Console

from deploy.aws_smoke import MARKER, Account, Smoke, SmokeError, open_account
from embedded import seed_listings
from formats.mnist_pickle import dump
from platform_assets.settings import Settings
from tests.platform_assets import mnist_rig

YESTERDAY = str(datetime.now(UTC).date() - timedelta(days=1))
PUBLIC = mnist_rig.PUBLIC


@pytest.fixture
def account(
    environment: Mapping[str, str], bucket: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    """A bucket with nothing of the platform, and an endpoint's name that is free."""
    for name, value in {
        "PLATFORM_BUCKET": bucket,
        "PLATFORM_AIRBNB_BUCKET": bucket,
        "PLATFORM_POSTGRES_DSN": database,
        "PLATFORM_MNIST_SOURCE": f"s3://{bucket}/{PUBLIC}",
        "PLATFORM_ENDPOINT_NAME": f"smoke-{secrets.token_hex(4)}",
        "PLATFORM_CRUNCHER": "process",
        "PLATFORM_SAGEMAKER_POLL_SECONDS": "0.1",
        "PLATFORM_PRICE_PER_HOUR": '{"ml.m5.large": 3600}',
    }.items():
        monkeypatch.setenv(name, value)
    with open_account(Settings()) as opened:
        yield opened


@pytest.fixture
def smoke(account: Account) -> Smoke:
    return Smoke(account, YESTERDAY, Console(quiet=True))


@pytest.fixture
def digits(s3_client: Any, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key=PUBLIC, Body=dump(mnist_rig.real_digits()))


def keys(account: Account) -> list[str]:
    return [item.key for item in account.digits.list()]


def left_in_sagemaker(account: Account) -> list[str]:
    """What bears the endpoint's name, but for the records of training jobs."""
    client, name = boto3.client("sagemaker"), account.endpoint.name
    configs = client.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
    return [
        *(item["EndpointName"] for item in client.list_endpoints(NameContains=name)["Endpoints"]),
        *(item["EndpointConfigName"] for item in configs),
        *(item["ModelName"] for item in client.list_models(NameContains=name)["Models"]),
    ]


@pytest.mark.usefixtures("digits")
def test_both_chains_are_made_priced_and_removed(
    smoke: Smoke, account: Account, database: str
) -> None:
    seed_listings.seed(database, [YESTERDAY], places=50)
    smoke.run(with_listings=True)

    assert [row[0] for row in smoke.rows] == [
        "digits",
        "answers",
        "listings",
        "clean-up",
        "endpoint",
    ]
    # At 3,600 an hour a second costs 1.
    costs = {row[0]: row[3] for row in smoke.rows}
    for stage, what in {"digits": "training", "endpoint": "serving"}.items():
        priced = re.fullmatch(rf"{what}: (\d+) s of 1 ml\.m5\.large: (\d+)\.\d{{4}}", costs[stage])
        assert priced, costs
        assert abs(int(priced[1]) - int(priced[2])) <= 1
    # Snapshot, price changes and summary: each has a manifest and a file at least.
    counted = re.fullmatch(rf"(\d+) objects of {YESTERDAY}", smoke.rows[2][2])
    assert counted
    assert int(counted[1]) >= 6
    assert keys(account) == [PUBLIC]
    assert left_in_sagemaker(account) == []


def test_what_fails_is_named_and_leaves_nothing(smoke: Smoke, account: Account) -> None:
    with pytest.raises(SmokeError, match="The job digits failed"):
        smoke.run(with_listings=True)
    assert [row[0] for row in smoke.rows] == ["clean-up"]
    assert keys(account) == []
    assert left_in_sagemaker(account) == []


def test_where_something_is_already_nothing_is_made_nor_removed(
    smoke: Smoke, account: Account
) -> None:
    account.listings.put_bytes("airbnb/listings/date=2026-01-01/manifest.json", b"{}")
    with pytest.raises(SmokeError, match=r"There is s3://.*/airbnb/listings/.* Use other buckets"):
        smoke.run(with_listings=True)
    assert keys(account) == ["airbnb/listings/date=2026-01-01/manifest.json"]
    assert smoke.rows == []


def test_what_one_that_was_cut_off_has_left_is_removed_when_asked_for(
    smoke: Smoke, account: Account
) -> None:
    left = [MARKER, "mnist/raw/date=2026-01-01/mnist.pkl.gz", "airbnb/listings/a", PUBLIC]
    for key in left:
        account.digits.put_bytes(key, json.dumps(account.place).encode())
    with pytest.raises(SmokeError, match=r"is under way, or was cut off.*CLEAN=1"):
        smoke.run(with_listings=True)
    assert sorted(keys(account)) == sorted(left)
    account.clean_up_after()
    assert keys(account) == [PUBLIC]
    with pytest.raises(SmokeError, match="No smoke test was cut off"):
        account.clean_up_after()


def test_what_one_has_left_in_other_places_stays(account: Account) -> None:
    other = account.place | {"endpoint": "another"}
    account.digits.put_bytes(MARKER, json.dumps(other).encode())
    account.listings.put_bytes("airbnb/listings/a", b"of production")
    with pytest.raises(SmokeError, match=r"in other places.*another"):
        account.clean_up_after()
    assert sorted(keys(account)) == ["airbnb/listings/a", MARKER]
