"""When digits are made (every day, and when the public file changes), and people's own jobs."""

import dagster as dg

from jobs.daily import build_daily_schedule
from platform_assets.errors import EXPECTED
from platform_assets.mnist.deployed import JOBS
from platform_assets.mnist.endpoint import POOL, serve
from platform_assets.mnist.published_classifier import PublishedClassifier
from platform_assets.mnist.raw import (
    PUBLIC_MNIST,
    PublicMnist,
    describe_public,
    raw_mnist,
)
from platform_assets.models.deciding import build_endpoint_jobs
from platform_assets.models.serving import Serving
from platform_assets.partitions import DAILY
from platform_assets.reports import DATA_VERSION_TAG
from platform_assets.settings import sensor_status
from resources.s3 import ObjectStore

digits_job = dg.define_asset_job(
    "digits",
    selection=dg.AssetSelection.groups("mnist") - dg.AssetSelection.assets(PUBLIC_MNIST),
    description=(
        "Copies the public digits, extracts them, trains, judges the classifier and puts the "
        "newest one that passes its gate into service. What is there already is reused."
    ),
)

digits_daily = build_daily_schedule(
    digits_job,
    name="digits_daily",
    asset=raw_mnist.key,
    cron_schedule="0 1 * * *",
    description="The day that has just ended, at 01:00 UTC.",
)


@dg.sensor(
    job=digits_job,
    minimum_interval_seconds=600,
    default_status=sensor_status(),
    description="Runs the latest date again when the public object's ETag has changed.",
)
def public_digits_changed(
    context: dg.SensorEvaluationContext, public: PublicMnist, digits_store: ObjectStore
) -> dg.SensorResult | dg.SkipReason:
    try:
        original = public.find(digits_store)
    except EXPECTED as error:
        return dg.SkipReason(f"The public object could not be looked at: {error}")
    etag = original.info.etag
    latest = DAILY.get_last_partition_key()
    if etag == context.cursor or latest is None:
        return dg.SkipReason("The public object is as it was.")
    # As an observation by hand: its ETag is its data version.
    observation = dg.AssetObservation(
        PUBLIC_MNIST,
        metadata=describe_public(original),
        tags={DATA_VERSION_TAG: original.version},
    )
    if context.cursor is None:
        return dg.SensorResult(
            skip_reason="Seen for the first time; the daily schedule takes it from here.",
            asset_events=[observation],
            cursor=etag,
        )
    # Without a run key: an object that changes back is another change. A run too many does nothing.
    return dg.SensorResult(
        run_requests=[dg.RunRequest(partition_key=latest)], asset_events=[observation], cursor=etag
    )


def _serve(context: dg.OpExecutionContext) -> Serving[PublishedClassifier]:
    resources = context.resources
    return serve(resources.endpoint, resources.digits_store, resources.sagemaker, context.log)


(
    approve_classifier,
    reject_classifier,
    override_gate,
    rollback_endpoint,
    teardown_endpoint,
) = build_endpoint_jobs(
    JOBS,
    _serve,
    resource_keys={"endpoint", "digits_store", "sagemaker"},
    pool=POOL,
    until=(
        ". The next run of the job digits makes it anew: stop the schedule digits_daily and the "
        "sensor public_digits_changed to keep it away."
    ),
)
