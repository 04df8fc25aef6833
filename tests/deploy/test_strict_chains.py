"""Both chains on an AWS that insists on all of its rules at once, with nothing but settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedded import seed_listings
from platform_assets.airbnb import processed
from tests.api.rig import serve
from tests.aws_requests import Recorder
from tests.conftest import Services
from tests.containers import number_cruncher_image
from tests.deploy.recorded_runs import OTHER_BUCKET, Runs, own_place
from tests.digit_pictures import encoded
from tests.platform_assets import airbnb_rig, mnist_rig
from tests.role_credentials import Role, metadata_service
from tests.strict_aws import (
    StrictAws,
    check_checksums,
    demand_checksum,
    demand_kms,
    demand_session,
    redirect,
    strict_aws,
    throttle,
)

pytestmark = pytest.mark.minutes
KEY = "alias/ours"
# What a client is to put up with; whatever else is refused is a fault of the platform's.
ORDINARY = {("s3", "SlowDown"), ("sagemaker", "SlowDown"), ("logs", "SlowDown")}
REDIRECTED = ("s3", "PermanentRedirect")


@dataclass
class Account:
    """The strict AWS, the role that the platform has there, and the platform."""

    aws: StrictAws
    role: Role
    runs: Runs


@pytest.fixture(scope="module")
def account(
    services: Services, s3_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    with own_place(services, s3_client) as own, metadata_service() as role:
        home = services.env["AWS_DEFAULT_REGION"]
        elsewhere = dict.fromkeys((own["PUBLIC_BUCKET"], OTHER_BUCKET), "us-east-1")
        rules = (
            throttle(10),
            demand_session(role),
            redirect(home, elsewhere),
            demand_kms(KEY),
            demand_checksum,
            check_checksums(),
        )
        with strict_aws(services.env, tmp_path_factory.mktemp("aws"), *rules) as aws:
            env = {
                **{name: value for name, value in services.env.items() if name not in keys},
                **aws.env,
                **own,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{role.url}/credentials",
                "PLATFORM_KMS_KEY_ID": KEY,
                # Containers find this machine's own address there.
                "PLATFORM_CRUNCHER_NETWORK": "host",
            }
            folder = tmp_path_factory.mktemp("dagster")
            with Runs.on(env, Recorder(), s3_client, folder) as runs:
                seed_listings.seed(env["PLATFORM_POSTGRES_DSN"], airbnb_rig.DATES, places=50)
                yield Account(aws, role, runs)


def test_from_the_public_digits_to_an_answer(account: Account, tmp_path: Path) -> None:
    runs, env = account.runs, account.runs.platform.env
    runs.make_digits()
    digit = mnist_rig.real_digits().test
    picture = encoded((digit.images[0].reshape(28, 28) * 255).astype("uint8"))
    with serve(env, tmp_path) as served, served.client() as client:
        for _ in range(2):
            answer = client.post("/", content=picture, headers={"content-type": "image/png"})
            assert answer.status_code == 200, answer.text
            assert answer.json()["digit"] == digit.labels[0]
            # What is running has to ask for new credentials by itself.
            account.role.expire()
    runs.copy_from_the_other_address()
    runs.use_parts()
    runs.take_back()
    runs.read_logs()
    assert account.aws.refused.keys() == {*ORDINARY, REDIRECTED}


@pytest.mark.parametrize(
    ("cruncher", "dates"),
    [
        ("process", airbnb_rig.DATES[:2]),
        pytest.param("docker", airbnb_rig.DATES[2:], marks=pytest.mark.docker),
    ],
)
def test_from_the_table_to_the_results(
    account: Account, monkeypatch: pytest.MonkeyPatch, cruncher: str, dates: list[str]
) -> None:
    if cruncher == "docker":
        number_cruncher_image()
    monkeypatch.setenv("PLATFORM_CRUNCHER", cruncher)
    account.role.expire()
    account.aws.refused.clear()
    platform = account.runs.platform
    assert platform.run("listings", dates[0], dates[-1]).success
    event = platform.instance.get_latest_materialization_event(processed.PRICE_CHANGES.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["mode"].value == cruncher
    assert platform.materialized(airbnb_rig.CHANGES) >= set(dates)
    assert account.aws.refused.keys() == {("s3", "SlowDown")}
