"""When digits are made: every day, and as soon as the public object changes."""

import dagster as dg

from platform_assets.mnist.raw import PUBLIC_MNIST, PublicMnist
from platform_assets.partitions import DAILY
from resources.errors import ResourceError
from resources.s3 import ObjectStore

digits_job = dg.define_asset_job(
    "digits",
    selection=dg.AssetSelection.groups("mnist") - dg.AssetSelection.assets(PUBLIC_MNIST),
    description=(
        "Copies the public digits, extracts them, trains, judges the classifier and puts the "
        "newest one that passes its gate into service. What is there already is reused."
    ),
)

digits_daily = dg.build_schedule_from_partitioned_job(
    digits_job,
    name="digits_daily",
    description="The day that has just ended, at 01:00 UTC.",
    hour_of_day=1,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.sensor(
    job=digits_job,
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs the latest date again when the public object's ETag has changed.",
)
def public_digits_changed(
    context: dg.SensorEvaluationContext, public: PublicMnist, digits_store: ObjectStore
) -> dg.SensorResult | dg.SkipReason:
    try:
        etag = public.head(digits_store).etag
    except (ResourceError, ValueError) as error:
        return dg.SkipReason(f"The public object could not be looked at: {error}")
    if context.cursor is None:
        context.update_cursor(etag)
        return dg.SkipReason("Seen for the first time; the daily schedule takes it from here.")
    latest = DAILY.get_last_partition_key()
    if etag == context.cursor or latest is None:
        return dg.SkipReason("The public object is as it was.")
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"{latest}:{etag}", partition_key=latest)], cursor=etag
    )
