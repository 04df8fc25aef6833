"""The platform as Dagster loads it, on the embedded services, with data of its own."""

import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
from psycopg2.extensions import connection

from embedded import seed_listings
from platform_assets.definitions import build_defs
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource
from tests.platform_assets import airbnb_rig, mnist_rig

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
CHECKS = "checks_alone"


def definitions() -> dg.Definitions:
    """What Dagster loads; once for the same environment and the same files of pipelines."""
    folder = os.environ.get("PLATFORM_PIPELINES")
    files = sorted(Path(folder).rglob("defs.yaml")) if folder else []
    return _definitions(
        frozenset(os.environ.items()), tuple((file, file.read_text()) for file in files)
    )


@lru_cache(maxsize=4)
def _definitions(
    _environment: frozenset[tuple[str, str]], _files: tuple[tuple[Path, str], ...]
) -> dg.Definitions:
    return build_defs()


@dataclass(frozen=True)
class Platform:
    """What a test drives: runs of the jobs, and the store to look into.

    Attributes:
        instance: Dagster's records of the test.
        env: The environment of the platform.
        store: The one bucket that both chains use here.
    """

    instance: dg.DagsterInstance
    env: Mapping[str, str]
    store: ObjectStore

    def run(
        self,
        job: str,
        first: str,
        last: str | None = None,
        *,
        assets: list[str] | None = None,
        checks: list[tuple[str, str]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job over a date or a range, or some of its assets by their keys.

        With `checks` (asset, name), these and no others are evaluated beside the assets.
        """
        selection = None if assets is None else [dg.AssetKey(key.split("/")) for key in assets]
        defs = definitions()
        if checks is not None:
            only = dg.AssetSelection.assets(*selection or []).without_checks()
            only = only | dg.AssetSelection.checks(*map(_check_key, checks))
            defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[_define(only)]))
            job, selection = CHECKS, None
        tags = (
            {"dagster/partition": first} if last is None else {RANGE_START: first, RANGE_END: last}
        )
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=tags,
            asset_selection=selection,
            run_config=dict(config or {}),
            raise_on_error=False,
        )

    def check(
        self, first: str, last: str, checks: list[tuple[str, str]]
    ) -> dg.ExecuteInProcessResult:
        """Evaluate checks (asset, name) over a range of dates, and make nothing."""
        return self.run(CHECKS, first, last, assets=[], checks=checks)

    def materializations(self, asset: str) -> int:
        """How often any date of an asset was materialised."""
        key = dg.AssetKey(asset.split("/"))
        return len(self.instance.fetch_materializations(key, limit=10_000).records)

    def materialized(self, asset: str) -> set[str]:
        """The dates of an asset that Dagster has as materialised."""
        return set(self.instance.get_materialized_partitions(dg.AssetKey(asset.split("/"))))


def _check_key(check: tuple[str, str]) -> dg.AssetCheckKey:
    asset, name = check
    return dg.AssetCheckKey(dg.AssetKey(asset.split("/")), name)


def _define(selection: dg.AssetSelection) -> Any:
    return dg.define_asset_job(CHECKS, selection)


def reason_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed steps of a run told its reader."""
    assert not result.success
    return " ".join(
        data.user_failure_data.description or ""
        for event in result.get_step_failure_events()
        if (data := event.step_failure_data) and data.user_failure_data
    )


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str | None]:
    """Name → description of the checks that did not pass."""
    return {
        item.check_name: item.description
        for item in result.get_asset_check_evaluations()
        if not item.passed
    }


@pytest.fixture
def platform(
    environment: Mapping[str, str],
    bucket: str,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Platform]:
    own = {
        "PLATFORM_BUCKET": bucket,
        "PLATFORM_AIRBNB_BUCKET": bucket,
        "PLATFORM_POSTGRES_DSN": database,
        "PLATFORM_MNIST_SOURCE": f"s3://{bucket}/public/mnist.pkl.gz",
        "PLATFORM_ENDPOINT_NAME": f"test-{secrets.token_hex(4)}",
        "PLATFORM_CRUNCHER": "process",
        "PLATFORM_SAGEMAKER_POLL_SECONDS": "0.1",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(instance, {**environment, **own}, ObjectStore(bucket=bucket))


@pytest.fixture
def endpoint(platform: Platform) -> Iterator[str]:
    """The name of the platform's endpoint, which is deleted after the test."""
    name = platform.env["PLATFORM_ENDPOINT_NAME"]
    yield name
    role = platform.env["PLATFORM_SAGEMAKER_ROLE_ARN"]
    SageMakerResource(role_arn=role, poll_seconds=0.1).teardown(name, versions_too=True)


@pytest.fixture
def digits(platform: Platform, endpoint: str) -> Platform:
    """The platform with a small file of real digits in the public place, and an endpoint's name."""
    platform.store.put_bytes(mnist_rig.PUBLIC, mnist_rig.real_file())
    return platform


@pytest.fixture
def table(platform: Platform) -> Iterator[connection]:
    """The table, with four days of a market."""
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    seed_listings.seed(dsn, airbnb_rig.DATES, places=400)
    with closing(psycopg2.connect(dsn)) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def market(platform: Platform) -> Iterator[connection]:
    """The table, with enough days for a comparison of a day with those before it."""
    dsn = platform.env["PLATFORM_POSTGRES_DSN"]
    seed_listings.seed(dsn, airbnb_rig.WEEK, places=100)
    with closing(psycopg2.connect(dsn)) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def interrupts() -> Iterator[int]:
    """The thread in which SIGUSR1 raises what a terminated run raises."""

    def interrupt(*_: object) -> None:
        # Once, however often it is sent: Python can miss it for a thread just about to wait.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise dg.DagsterExecutionInterruptedError

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield threading.get_ident()
    signal.signal(signal.SIGUSR1, before)
