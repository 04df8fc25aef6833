"""A full disk under S3 or under SageMaker: what is said, what is left, and the next run.

The disks are file systems in memory, which only root may mount. Their rest is filled by a file.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection
from tenacity import wait_none

from embedded import stack
from embedded.aws import aws_client
from embedded.plan import make_plan
from embedded.programs import services as service_parts
from formats.manifest import NAME
from platform_assets import retries
from resources.s3.errors import StoreUnavailableError
from tests.conftest import Services, clean_environ, free_port_base, temporary_home
from tests.platform_assets import mnist_rig
from tests.platform_assets.airbnb_rig import DATES, FIRST, LAST, SNAPSHOT, SUMMARY, ask, result
from tests.platform_assets.conftest import Platform, reason_of

DAY, NEXT = "2026-01-05", "2026-01-06"
# Another training than that of FEW.
OTHER = {"ops": {"mnist__model": {"config": {"clusters": 50}}}}
MB = 64


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """S3, Postgres and SageMaker, the data of S3 and SageMaker on small disks."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    with temporary_home() as root, small_disk(root, "s3"), small_disk(root, "sagemaker"):
        plan = make_plan(
            clean_environ(PLATFORM_HOME=str(root), PLATFORM_PORT_BASE=free_port_base())
        )
        running = stack.up(plan, service_parts(plan))
        yield Services(plan.home, running.env, plan.admin_dsn)
        stack.down(plan.home)


@pytest.fixture(scope="module")
def s3_client(services: Services) -> Any:
    return aws_client(services.env, "s3")


@contextmanager
def small_disk(root: Path, name: str) -> Iterator[None]:
    place = root / "data" / name
    place.mkdir(parents=True, mode=0o700)
    options = f"size={MB}m,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def full(services: Services, name: str) -> Iterator[None]:
    """To the last byte."""
    filler = services.home.data / name / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WAIT", wait_none())


def manifests(platform: Platform) -> set[str]:
    """The keys of all manifests, but for those of the digits that a test put there."""
    keys = {info.key for info in platform.store.list() if info.key.endswith(NAME)}
    return {key for key in keys if not key.startswith("mnist/dataset/")}


def await_writes(platform: Platform) -> None:
    """SeaweedFS looks at its disk once a minute, and takes nothing until it has seen the space."""
    while True:
        try:
            platform.store.put_bytes("large", bytes(range(256)) * 4000)
        except StoreUnavailableError:
            continue
        return


MODEL, CLASSIFIER, ENDPOINT = "mnist/model", "mnist/classifier", "mnist/endpoint"


def test_s3_on_a_full_disk_is_said_nothing_is_half_published_and_the_next_runs_are_right(
    services: Services, digits: Platform, table: connection
) -> None:
    """While exporting, and while the trained model and the classifier are published."""
    mnist_rig.put_digits(digits, DAY, NEXT)
    assert digits.run("digits", DAY, assets=[MODEL], config=mnist_rig.FEW).success
    before = manifests(digits)
    runs = {
        "an export": lambda: digits.run("listings", FIRST, LAST),
        "a training": lambda: digits.run("digits", NEXT, assets=[MODEL], config=OTHER),
        "a classifier": lambda: digits.run("digits", DAY, assets=[CLASSIFIER]),
    }

    with full(services, "s3"):
        for name, run in runs.items():
            assert "disk" in reason_of(run()), name
    assert manifests(digits) == before
    assert digits.materialized(MODEL) == {DAY}
    assert not digits.materialized(SNAPSHOT) | digits.materialized(CLASSIFIER)

    await_writes(digits)
    for name, run in runs.items():
        assert run().success, name
    assert digits.materialized(MODEL) == {DAY, NEXT}
    assert digits.materialized(CLASSIFIER) == {DAY}
    assert digits.materialized(SNAPSHOT) == set(DATES)
    groups = result(digits, SUMMARY, LAST, "neighbourhood_summary.json")
    ((rows,),) = ask(table, "select count(*) from listings where download_date = %(d)s", d=LAST)
    assert sum(group["listings"] for group in groups) == rows


def test_a_training_on_a_full_disk_says_so_and_the_next_one_is_right(
    services: Services, digits: Platform
) -> None:
    mnist_rig.put_digits(digits, DAY)
    with full(services, "sagemaker"):
        failed = digits.run("digits", DAY, assets=[MODEL], config=mnist_rig.FEW)

    assert "cannot write to its own disk" in reason_of(failed)
    assert "free some space on it" in reason_of(failed)
    assert manifests(digits) == set()
    assert digits.materialized(MODEL) == set()

    assert digits.run("digits", DAY, assets=[MODEL], config=mnist_rig.FEW).success
    assert digits.materialized(MODEL) == {DAY}


def test_a_deploy_on_a_full_disk_says_so_and_the_next_one_is_right(
    services: Services, digits: Platform, endpoint: str
) -> None:
    mnist_rig.put_digits(digits, DAY, NEXT)
    mnist_rig.put_classifier(digits, DAY, 500)
    assert digits.run("digits", DAY, assets=[ENDPOINT]).success
    live = mnist_rig.live_config(endpoint)
    mnist_rig.put_classifier(digits, NEXT, 1000)
    with full(services, "sagemaker"):
        failed = digits.run("digits", NEXT, assets=[ENDPOINT])
        assert mnist_rig.live_config(endpoint) == live

    assert "cannot write to its own disk" in reason_of(failed)
    assert digits.run("digits", NEXT, assets=[ENDPOINT]).success
    assert mnist_rig.live_config(endpoint) != live
