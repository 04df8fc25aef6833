"""Runs that failed, until their work was done by others.

The log of a failed run is read once. Of one that was reported it is then only looked whether its
work has been done, for some of them at each look: a look costs the same however many there are.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from monitoring.failures import RunFailure, read_failure
from monitoring.findings import Finding, Problem, Resolved, Unknown
from monitoring.reported import Entry
from monitoring.runs import (
    MOST_RUNS,
    Partitions,
    asset_names,
    dates_of,
    end_of,
    job_title,
    partition_tags,
    planned_partitions,
    work_key,
)
from platform_assets.alert_settings import AlertSettings
from platform_assets.mnist.endpoint import mnist_endpoint

# Of so many reported runs one look asks whether their work was done since.
_MOST_FOLLOWED = 20
# Set by Dagster on a run whose worker was lost, and which it starts again by itself.
_WILL_RETRY = "dagster/will_retry"
# The clocks of those who write Dagster's records may differ by so much.
_OVERLAP = timedelta(minutes=2)
_MOST_LATER_RUNS = 100
_PAGE = 1000


@dataclass(frozen=True)
class NewFailures:
    """Runs that failed since the last look.

    Attributes:
        records: In the order in which they failed; some may have been looked at before.
        until: From when on the next look has to ask, once these are reported.
    """

    records: Sequence[dg.RunRecord]
    until: datetime


def read_new(instance: dg.DagsterInstance, since: datetime, now: datetime) -> NewFailures:
    """The runs that failed since a moment; where they are many, the first of them."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since - _OVERLAP),
        limit=MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    if len(records) < MOST_RUNS:
        return NewFailures(records, now)
    return NewFailures(records, records[-1].update_timestamp + _OVERLAP)


def failed_runs(
    instance: dg.DagsterInstance,
    settings: AlertSettings,
    now: datetime,
    *,
    new: NewFailures,
    reported: Mapping[str, Entry],
    turn: int,
) -> Iterator[Finding]:
    """A problem for each failed run, until the same was done by a later run.

    A run that a person cancelled is none, and one that Dagster will start again is none yet. Of
    several failed runs of the same work the last one counts.

    Args:
        new: What failed since the last look.
        reported: What was reported, by the problems' keys.
        turn: How many looks there were before: which of the reported runs have their turn.
    """
    last = {
        work_key(record.dagster_run): record
        for record in new.records
        if record.dagster_run.tags.get(_WILL_RETRY) != "true"
    }
    followed = {key: entry for key, entry in reported.items() if entry.run_id}
    for key, record in last.items():
        if key in followed and followed[key].run_id == record.dagster_run.run_id:
            continue
        followed.pop(key, None)
        yield _judge(instance, settings, record)
    yield from _follow(instance, followed, settings.since(now), turn)


def _judge(
    instance: dg.DagsterInstance, settings: AlertSettings, record: dg.RunRecord
) -> Problem | Resolved:
    run = record.dagster_run
    missing = _not_made(instance, run.run_id)
    failure = read_failure(instance, run.run_id)
    problem = _describe(settings, run, missing, failure)
    return Resolved(problem.key) if _is_done(instance, record, problem.refused_date) else problem


def _follow(
    instance: dg.DagsterInstance, entries: Mapping[str, Entry], since: datetime, turn: int
) -> Iterator[Finding]:
    """What became of failed runs that were reported."""
    keys = list(entries)
    first = turn * _MOST_FOLLOWED % len(keys) if keys else 0
    chosen = [*keys[first:], *keys[:first]][:_MOST_FOLLOWED]
    for key in keys:
        if key not in chosen:
            yield Unknown(key)
    if not chosen:
        return
    runs = dg.RunsFilter(run_ids=[entries[key].run_id for key in chosen])
    records = {record.dagster_run.run_id: record for record in instance.get_run_records(runs)}
    for key in chosen:
        record = records.get(entries[key].run_id)
        # What was deleted, or is too old to be followed, is forgotten.
        if record and end_of(record) >= since.timestamp():
            done = _is_done(instance, record, entries[key].refused_date)
            yield Resolved(key) if done else Unknown(key)


def _is_done(instance: dg.DagsterInstance, failed: dg.RunRecord, refused_date: str) -> bool:
    """Whether later runs have done what a failed one was to do."""
    if _succeeded_later(instance, failed):
        return True
    missing = _not_made(instance, failed.dagster_run.run_id)
    if refused_date:
        return bool(missing) and _deployed_later(instance, refused_date, end_of(failed))
    return bool(missing) and all(
        _all_materialized_since(instance, key, {date for date in dates if date}, end_of(failed))
        for key, dates in missing.items()
    )


def _succeeded_later(instance: dg.DagsterInstance, failed: dg.RunRecord) -> bool:
    run = failed.dagster_run
    later = instance.get_run_records(
        dg.RunsFilter(
            job_name=run.job_name,
            statuses=[dg.DagsterRunStatus.SUCCESS],
            tags=partition_tags(run),
            created_after=failed.create_timestamp,
        ),
        limit=_MOST_LATER_RUNS,
    )
    return any(work_key(record.dagster_run) == work_key(run) for record in later)


def _not_made(instance: dg.DagsterInstance, run_id: str) -> Partitions:
    """What a run was to materialise and did not."""
    planned = planned_partitions(instance, run_id)
    done = instance.get_asset_partitions_for_run(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    missing = {key: set(parts) - set(done.get(key, ())) for key, parts in planned.items()}
    return {key: parts for key, parts in missing.items() if parts}


def _all_materialized_since(
    instance: dg.DagsterInstance, key: dg.AssetKey, dates: Set[str], end: float
) -> bool:
    """Whether each of these dates was materialised after a moment; without dates, the asset."""
    later = dg.AssetRecordsFilter(
        asset_key=key, asset_partitions=sorted(dates) or None, after_timestamp=end
    )
    remaining, any_at_all, cursor = set(dates), False, None
    while True:
        page = instance.fetch_materializations(later, limit=_PAGE, cursor=cursor)
        any_at_all = any_at_all or bool(page.records)
        remaining -= {record.partition_key for record in page.records}
        if not page.has_more or (any_at_all and not remaining):
            return any_at_all and not remaining
        cursor = page.cursor


def _deployed_later(instance: dg.DagsterInstance, date: str, end: float) -> bool:
    """Whether a classifier of that date, or of a later one, came into service since."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=mnist_endpoint.key, after_timestamp=end),
        limit=_MOST_LATER_RUNS,
    ).records
    served = (record.asset_materialization for record in records)
    dates = (event.metadata.get("classifier_date") for event in served if event)
    return any(str(value.value) >= date for value in dates if value)


def _describe(
    settings: AlertSettings, run: dg.DagsterRun, missing: Partitions, failure: RunFailure
) -> Problem:
    title = f"{job_title(run)} failed"
    to_do = "Read the run's log, mend what it says, and materialise the same again."
    assets, dates, refused_date = asset_names(missing), dates_of(run, missing), ""
    if failure.gate_refused:
        title = "A classifier is not deployed: its gate refused it"
        to_do = (
            "What was live still is. Look at the check accuracy_above_gate of mnist/classifier; "
            "train on better digits, change min_accuracy and max_drop, or run override_gate with "
            "a reason."
        )
        assets, dates = ["mnist/classifier"], sorted(failure.refused_dates) or dates
        refused_date = max(dates, default="")
    elif mnist_endpoint.key in missing and failure.steps == {mnist_endpoint.op.name}:
        title = "A deployment failed"
        to_do = "What was live before still is. Read the run's log and run digits again."
    return Problem(
        key=work_key(run),
        title=title,
        assets=assets,
        dates=dates,
        reason=" ".join(failure.reasons),
        to_do=to_do,
        link=settings.link(f"runs/{run.run_id}"),
        run_id=run.run_id,
        refused_date=refused_date,
    )
