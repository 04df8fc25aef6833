"""When somebody is told that something is wrong: within a minute, once, and when it is over."""

from datetime import datetime
from itertools import islice

import dagster as dg
from pydantic import BaseModel, ValidationError

from jobs.airbnb import listings_daily, listings_job
from jobs.mnist import digits_daily, digits_job, rollback_endpoint, teardown_endpoint
from monitoring.dates import Due, late_dates
from monitoring.problems import Problem
from monitoring.reported import Entry, news
from monitoring.runs import failed_runs, stuck_runs
from monitoring.serving import ANSWER_SECONDS, endpoint_problems
from monitoring.spend import Spend, endpoint_spend, overspending
from monitoring.watch import Watch, utc_now
from platform_assets.mnist.deployed import Endpoint
from platform_assets.partitions import DAILY
from resources.alerts import AlertError, Alerts
from resources.sagemaker import SageMakerError, SageMakerResource

# A tick has a minute, and what it has sent by then would be sent again. The rest is the next one's.
_MOST_AT_ONCE = 20


class Cursor(BaseModel):
    """What the sensor remembers.

    Attributes:
        reported: What was reported and is not over, by the problems' keys.
        spend: Of the month, so far.
    """

    reported: dict[str, Entry] = {}
    spend: Spend = Spend()

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """The cursor; an empty one where there is none, or an earlier release's."""
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Looks what is wrong, and tells it once to the target in PLATFORM_ALERTS: failed and stuck "
        "runs, late dates, refused or rolled-back classifiers, a silent endpoint, spend."
    ),
)
def alerts_sensor(
    context: dg.SensorEvaluationContext,
    alerts: Alerts,
    watch: Watch,
    endpoint: Endpoint,
    sagemaker: SageMakerResource,
) -> dg.SensorResult | dg.SkipReason:
    if not alerts.configured:
        return dg.SkipReason("PLATFORM_ALERTS is not set: nobody is told anything.")
    now = utc_now()
    cursor = Cursor.read(context.cursor)
    sagemaker = sagemaker.hurried(ANSWER_SECONDS)
    spend = cursor.spend
    if watch.spend_limit:
        cost = cost_of_endpoint(endpoint, sagemaker, now)
        spend = spend.up_to(context.instance, cost, now)
    problems = [
        *find_problems(context, watch, now, endpoint=endpoint, sagemaker=sagemaker),
        *overspending(watch, spend),
    ]
    reported = dict(cursor.reported)
    count = 0
    failure: AlertError | None = None
    for item in islice(
        news(problems, cursor.reported, followed_since=watch.since(now)), _MOST_AT_ONCE
    ):
        try:
            if item.message:
                alerts.send(item.message)
                count += 1
        except AlertError as error:
            # What is not put down as reported is reported by a later tick.
            failure = error
            if error.transient:
                break  # the target is down: this tick tries nothing else
            continue  # this message is refused, others may not be
        reported.pop(item.key, None)
        if item.entry:
            reported[item.key] = item.entry
    if failure and reported == cursor.reported:
        raise failure
    if failure:
        context.log.warning(str(failure))
    return dg.SensorResult(
        skip_reason=f"{len(problems)} problem(s); {count} message(s) sent.",
        cursor=Cursor(reported=reported, spend=spend).model_dump_json(),
    )


def find_problems(
    context: dg.SensorEvaluationContext,
    watch: Watch,
    now: datetime,
    *,
    endpoint: Endpoint,
    sagemaker: SageMakerResource,
) -> list[Problem]:
    """All that is wrong with runs, dates and the endpoint."""
    instance = context.instance
    of_runs = [*failed_runs(instance, watch, now), *stuck_runs(instance, watch, now)]
    late = (
        problem
        for due in due_daily(context)
        for problem in late_dates(instance, due, watch, now, explained=of_runs)
    )
    of_endpoint = endpoint_problems(
        instance,
        watch,
        now,
        endpoint=endpoint,
        sagemaker=sagemaker,
        teardown_job=teardown_endpoint.name,
        rollback_job=rollback_endpoint.name,
    )
    return [*of_runs, *late, *of_endpoint]


def cost_of_endpoint(endpoint: Endpoint, sagemaker: SageMakerResource, now: datetime) -> float:
    """What the endpoint has cost in this month; 0 where SageMaker cannot be asked."""
    try:
        state = sagemaker.describe_endpoint(endpoint.name)
    except SageMakerError:
        return 0  # that it cannot be asked is a problem of its own
    return endpoint_spend(state, endpoint, sagemaker, now)


def due_daily(context: dg.SensorEvaluationContext) -> list[Due]:
    """What each of the daily schedules has to have made."""
    if context.repository_def is None:
        return []
    definitions = list(context.repository_def.assets_defs_by_key.values())
    daily = {
        key
        for definition in definitions
        for key in definition.keys
        if definition.specs_by_key[key].partitions_def == DAILY
    }
    return [
        Due(
            schedule.name,
            schedule.default_status is dg.DefaultScheduleStatus.RUNNING,
            job.name,
            sorted(job.selection.resolve(definitions) & daily),
        )
        for schedule, job in ((digits_daily, digits_job), (listings_daily, listings_job))
    ]
