"""When digits are made (every day, and as soon as the public object changes), and taken back."""

import dagster as dg

from jobs.daily import build_daily_schedule
from platform_assets.mnist.endpoint import POOL, serve
from platform_assets.mnist.raw import (
    PUBLIC_MNIST,
    PublicMnist,
    describe_public,
    raw_mnist,
)
from platform_assets.models import taking_back
from platform_assets.models.endpoint import Endpoint
from platform_assets.models.taking_back import Rollback
from platform_assets.partitions import DAILY
from platform_assets.reports import DATA_VERSION_TAG
from platform_assets.settings import sensor_status
from resources.errors import ResourceError
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource

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
    except (ResourceError, ValueError) as error:
        return dg.SkipReason(f"The public object could not be looked at: {error}")
    etag = original.info.etag
    latest = DAILY.get_last_partition_key()
    if etag == context.cursor or latest is None:
        return dg.SkipReason("The public object is as it was.")
    # As an observation by hand: its ETag is its data version.
    seen = dg.AssetObservation(
        PUBLIC_MNIST,
        metadata=describe_public(original),
        tags={DATA_VERSION_TAG: original.version},
    )
    if context.cursor is None:
        return dg.SensorResult(
            skip_reason="Seen for the first time; the daily schedule takes it from here.",
            asset_events=[seen],
            cursor=etag,
        )
    # Without a run key: an object that changes back is another change. A run too many does nothing.
    return dg.SensorResult(
        run_requests=[dg.RunRequest(partition_key=latest)], asset_events=[seen], cursor=etag
    )


# One change of the endpoint at a time: a deploy under way is waited for.
@dg.op(pool=POOL)
def roll_back(
    context: dg.OpExecutionContext,
    config: Rollback,
    digits_store: ObjectStore,
    endpoint: Endpoint,
    sagemaker: SageMakerResource,
) -> None:
    """Put an earlier version back and prove it."""
    serving = serve(endpoint, digits_store, sagemaker, context.log)
    taking_back.roll_back(context, serving, config.to)


@dg.op(pool=POOL)
def tear_down(
    context: dg.OpExecutionContext,
    digits_store: ObjectStore,
    endpoint: Endpoint,
    sagemaker: SageMakerResource,
) -> None:
    """Delete the endpoint; its versions stay, so that the next deploy or rollback finds them."""
    taking_back.tear_down(context, serve(endpoint, digits_store, sagemaker, context.log))


# With a configuration of its own, the UI's form opens with this and not with all resources'.
@dg.job(
    config=dg.RunConfig(ops={"roll_back": Rollback()}),
    description="Puts the endpoint's previous version, or a named one, back into service.",
)
def rollback_endpoint() -> None:
    roll_back()


@dg.job(
    config=dg.RunConfig(),
    description=(
        "Deletes the endpoint, so that it costs nothing. The next run of the job digits makes it "
        "anew: stop the schedule digits_daily and the sensor public_digits_changed to keep it away."
    ),
)
def teardown_endpoint() -> None:
    tear_down()
