"""When somebody is told that something is wrong: within a minute, once, and when it is over."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import dagster as dg
from pydantic import BaseModel, ValidationError

from jobs.airbnb import listings_daily, listings_job
from jobs.daily import asked_after
from jobs.mnist import digits_daily, digits_job
from jobs.pipelines import due_pipelines
from monitoring.approvals import approval_findings
from monitoring.dates import Due, late_dates
from monitoring.failed_runs import NewFailures, failed_runs, read_new
from monitoring.findings import Finding, Problem
from monitoring.reported import Change, Entry, changes
from monitoring.serving import (
    ANSWER_SECONDS,
    count_silent_probes,
    endpoint_findings,
    probe_endpoint,
    rollback_findings,
)
from monitoring.spend import Spend, spend_findings
from monitoring.stuck_runs import stuck_runs
from platform_assets.alert_settings import AlertSettings
from platform_assets.lineage import specs_of
from platform_assets.models.endpoint import Endpoint
from platform_assets.partitions import DAILY
from resources.alerts import AlertError, AlertMessageError, Alerts, AlertTargetError, Message
from resources.sagemaker import SageMakerResource

# A tick has a minute, and what it has sent by then would be sent again. The rest is the next one's.
_MOST_AT_ONCE = 20
_NOTICE = Message(
    "A message was refused",
    "The target of the alerts refused it for what it holds. Which one it was is in the log of the "
    "sensor `alerts` in Dagster's UI.",
)


class Cursor(BaseModel):
    """What the sensor remembers.

    Attributes:
        reported: What was reported and is not over, by the problems' keys.
        failures_until: Runs that failed until then are reported, or their messages were refused for
            good; None before the first look.
        silent_probes: How many probes in a row had no answer.
    """

    reported: dict[str, Entry] = {}
    spend: Spend = Spend()
    failures_until: datetime | None = None
    turn: int = 0
    silent_probes: int = 0

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """The cursor; an empty one where there is none, or an earlier release's."""
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Looks what is wrong, and tells it once to the target in PLATFORM_ALERTS: failed and stuck "
        "runs, late dates, refused, waiting or rolled-back classifiers, a silent endpoint, spend."
    ),
)
def alerts_sensor(
    context: dg.SensorEvaluationContext,
    alerts: Alerts,
    alert_settings: AlertSettings,
    endpoint: Endpoint,
    sagemaker: SageMakerResource,
) -> dg.SensorResult | dg.SkipReason:
    if not alerts.configured:
        return dg.SkipReason("PLATFORM_ALERTS is not set: nobody is told anything.")
    now = utc_now()
    before = Cursor.read(context.cursor)
    sagemaker = sagemaker.hurried(ANSWER_SECONDS)
    spend = before.spend
    if alert_settings.spend_limit:
        spend = spend.up_to(context.instance, endpoint, sagemaker.price_per_hour, now)
    probe = probe_endpoint(context.instance, sagemaker, endpoint.name)
    silent_probes = count_silent_probes(probe, before.silent_probes)
    since = alert_settings.since(now)
    new = read_new(context.instance, max(before.failures_until or since, since), now)
    findings = chain(
        endpoint_findings(probe, silent_probes, alert_settings, endpoint.name),
        spend_findings(alert_settings, spend),
        find_problems(context, alert_settings, now, new=new, before=before),
    )
    sent = send(alerts, changes(findings, before.reported), before.reported)
    for refusal in sent.refusals:
        context.log.warning(refusal)
    if sent.failure and sent.reported == before.reported and silent_probes == before.silent_probes:
        raise sent.failure
    if sent.failure:
        context.log.warning(str(sent.failure))
    after = Cursor(
        reported=sent.reported,
        spend=spend,
        failures_until=new.until if sent.complete else before.failures_until,
        turn=before.turn + 1,
        silent_probes=silent_probes,
    )
    return dg.SensorResult(
        skip_reason=(
            f"{len(sent.reported)} problem(s); {sent.count} message(s) sent, "
            f"{len(sent.refusals)} refused for good."
        ),
        cursor=after.model_dump_json(exclude_defaults=True),
    )


@dataclass(frozen=True)
class Sent:
    """What became of the changes of a tick.

    Attributes:
        refusals: Of each message that was refused for good, its subject and why.
        failure: Why the last message that is sent later could not be delivered.
        complete: Whether nothing is left for a later tick.
    """

    reported: dict[str, Entry]
    count: int
    refusals: Sequence[str]
    failure: AlertError | None
    complete: bool


def send(alerts: Alerts, differences: Iterable[Change], reported: Mapping[str, Entry]) -> Sent:
    """Tell what has changed, some of it at most. What is not put down, a later tick tells.

    There are three ways in which a message is not delivered:

    - The target is down or busy. Everything waits, and this tick tries nothing else.
    - The target takes nothing from us (a withdrawn URL, a wrong password, a right that is missing,
      or it refuses even a notice of two lines). Everything waits until its setting is corrected;
      failed runs, too, are read again from the first one that is not reported. The other messages
      are tried, since it may have refused one alone.
    - The target refuses this message for what it holds, and takes a notice of that. It is put down
      as if it had been delivered: tried again it would be refused again, and keep later failures
      from being read.
    """
    now_reported = dict(reported)
    tries = count = 0
    refusals: list[str] = []
    failure: AlertError | None = None
    for change in differences:
        if change.message:
            if tries == _MOST_AT_ONCE:
                return Sent(now_reported, count, refusals, failure, complete=False)
            tries += 1
            try:
                if refusal := _deliver(alerts, change.message):
                    refusals.append(refusal)
                else:
                    count += 1
            except AlertError as error:
                failure = error
                if error.transient:
                    break
                continue
        now_reported.pop(change.key, None)
        if change.entry:
            now_reported[change.key] = change.entry
    return Sent(now_reported, count, refusals, failure, complete=failure is None)


def _deliver(alerts: Alerts, message: Message) -> str:
    """Send a message, or a notice that it was refused.

    Returns:
        Why it was refused for what it holds; empty where it was not.

    Raises:
        AlertError: Neither of them was taken.
    """
    try:
        alerts.send(message)
    except AlertMessageError as refusal:
        try:
            alerts.send(_NOTICE)
        except AlertMessageError:
            raise AlertTargetError(
                f"{refusal} It refuses a short notice, too: check that PLATFORM_ALERTS names the "
                "right target. What is untold is told once this is corrected."
            ) from None
        return f"Not told: {message.subject}. {refusal}"
    return ""


def find_problems(
    context: dg.SensorEvaluationContext,
    settings: AlertSettings,
    now: datetime,
    *,
    new: NewFailures,
    before: Cursor,
) -> Iterator[Finding]:
    """What is wrong, or well again, with deployments, runs and dates."""
    instance = context.instance
    yield from rollback_findings(instance, settings, now, reported=before.reported)
    repository = context.repository_def
    specs = specs_of(repository.assets_defs_by_key.values()) if repository else []
    yield from approval_findings(instance, specs, settings, now)
    stuck = list(stuck_runs(instance, settings, now, reported=before.reported))
    yield from stuck
    hanging = [finding for finding in stuck if isinstance(finding, Problem)]
    for due in due_daily(repository):
        yield from late_dates(instance, due, settings, now, hanging=hanging)
    # At last, since they may be many.
    yield from failed_runs(
        instance, settings, now, new=new, reported=before.reported, turn=before.turn
    )


def due_daily(repository: dg.RepositoryDefinition | None) -> list[Due]:
    """What each of the daily schedules has to have made."""
    if repository is None:
        return []
    definitions = list(repository.assets_defs_by_key.values())
    specs = specs_of(definitions)
    daily = {spec.key for spec in specs if spec.partitions_def == DAILY}
    return [
        *(
            Due(
                schedule.name,
                job.name,
                sorted(job.selection.resolve(definitions) & daily),
                asked_after(str(schedule.cron_schedule)),
            )
            for schedule, job in ((digits_daily, digits_job), (listings_daily, listings_job))
        ),
        *due_pipelines(specs),
    ]
