"""Which engine makes the dates of a run, by its settings and the size of its snapshots."""

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets.airbnb.processed import NEIGHBOURHOOD_SUMMARY, crunch
from platform_assets.airbnb.published_snapshots import count_bytes
from resources.docker import ModuleRun
from resources.s3 import ObjectStore
from resources.spark import SparkNotSetUpError, SparkResource
from tests.numbercruncher.listings import days, market, put_snapshot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DATES = days("2026-01-01", 2)


@pytest.mark.parametrize(("share", "on_spark"), [(0.4, True), (0.6, False)])
def test_a_run_whose_snapshots_are_above_the_threshold_goes_to_spark(
    share: float, on_spark: bool, s3_client: "S3Client", bucket: str, environment: Any
) -> None:
    for day, rows in market(days("2026-01-01", 4), 40).items():
        put_snapshot(s3_client, bucket, day, rows)
    store = ObjectStore(bucket=bucket)
    size = count_bytes(store, DATES)
    assert 0 < size < count_bytes(store, days("2026-01-01", 4))
    asked: list[str] = []

    def run_module(context: object, module: str, extras: object) -> ModuleRun:
        asked.append(module)
        return ModuleRun((), {})

    resources = SimpleNamespace(
        listings_store=store,
        docker=SimpleNamespace(run=run_module),
        spark=SparkResource(above_bytes=int(2 * share * size)),  # and it is not set up
    )
    context = SimpleNamespace(log=logging.getLogger(), run=dg.DagsterRun("a job"))
    run: Any = SimpleNamespace(context=context, resources=resources)
    outcomes = crunch(run, DATES, [NEIGHBOURHOOD_SUMMARY.key])
    errors = {type(error) for of_date in outcomes.values() for error in of_date.values()}
    assert asked == ([] if on_spark else ["numbercruncher"])
    assert (errors == {SparkNotSetUpError}) == on_spark
