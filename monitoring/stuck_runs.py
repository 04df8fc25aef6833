"""Runs that hang, and a queue that stands still."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import dagster as dg

from monitoring.findings import Finding, Problem, Resolved, Unknown
from monitoring.runs import (
    MOST_RUNS,
    WAITING,
    WORKING,
    asset_names,
    dates_of,
    job_title,
    planned_partitions,
)
from platform_assets.alert_settings import AlertSettings

_QUEUE = "queue"
_HANGS = "hangs "


def stuck_runs(
    instance: dg.DagsterInstance,
    settings: AlertSettings,
    now: datetime,
    *,
    reported: Iterable[str],
) -> Iterator[Finding]:
    """A problem for each run that has been at work for too long, and one for the whole queue.

    Args:
        reported: Keys of what was reported. Of a run among them it is looked what became of it.
    """
    limit = f"{settings.stuck_after_minutes:g} minutes"
    before = now - timedelta(minutes=settings.stuck_after_minutes)

    def unchanged(*statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        filters = dg.RunsFilter(statuses=list(statuses), updated_before=before)
        records = instance.get_run_records(filters, limit=MOST_RUNS)
        return [record.dagster_run for record in records]

    if unchanged(*WAITING):
        yield Problem(
            key=_QUEUE,
            title="Runs wait in the queue",
            reason=f"A run has not been started for longer than {limit}.",
            to_do="Look whether Dagster's daemon works, and which runs hold the places.",
            link=settings.link("runs/queued"),
        )
    else:
        yield Resolved(_QUEUE)
    hanging = {f"{_HANGS}{run.run_id}": run for run in unchanged(*WORKING)}
    for key, run in hanging.items():
        planned = planned_partitions(instance, run.run_id)
        yield Problem(
            key=key,
            title=f"{job_title(run)} hangs",
            assets=asset_names(planned),
            dates=dates_of(run, planned),
            reason=f"It has been {run.status.value} for longer than {limit}.",
            to_do="Read the run's log; terminate it if nothing happens, and run it again.",
            link=settings.link(f"runs/{run.run_id}"),
        )
    for key in reported:
        if key.startswith(_HANGS) and key not in hanging:
            yield from _what_became_of(instance, key)


def _what_became_of(instance: dg.DagsterInstance, key: str) -> Iterator[Finding]:
    run = instance.get_run_by_id(key.removeprefix(_HANGS))
    # That it failed is a problem of its own, and one that was deleted is nobody's.
    if run and run.status in {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED}:
        yield Resolved(key)
    elif run and not run.is_finished:
        yield Unknown(key)
