"""Schedules of a run a day, which also makes up for the days in which no daemon ran.

Dagster's own (`build_schedule_from_partitioned_job`) asks for the last of the ticks that it missed
alone, as of 1.13: https://github.com/dagster-io/dagster/issues/10335.
"""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from platform_assets.components.pipeline_asset import time_of
from platform_assets.partitions import DAILY, RANGE_END, RANGE_START, materialized_dates
from platform_assets.settings import schedule_status

# Of more, a backfill is the better way.
MOST_DAYS = 7


def build_daily_schedule(
    # Dagster has no public name for what `define_asset_job` returns.
    job: Any,
    *,
    name: str,
    asset: dg.AssetKey,
    cron_schedule: str,
    description: str,
) -> dg.ScheduleDefinition:
    """A schedule that asks for the day that has ended, and those missed before it, in one run.

    A day counts as missed when it is later than the newest that is materialised.

    Args:
        asset: Whose dates tell which days are there.
        cron_schedule: Once a day, in UTC.
    """

    @dg.schedule(
        name=name,
        job=job,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=schedule_status(),
        description=f"{description} Missed days are made up for, at most {MOST_DAYS} in all.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        days = due_days(context.instance, asset, context.scheduled_execution_time)
        if not days:
            return dg.SkipReason("The day that has ended is before the first partition.")
        if len(days) == 1:
            return dg.RunRequest(partition_key=days[0])
        return dg.RunRequest(tags={RANGE_START: days[0], RANGE_END: days[-1]})

    return daily


def asked_after(cron_schedule: str) -> timedelta:
    """How long after a day's end (UTC) a schedule asks for it.

    Args:
        cron_schedule: Once a day, in UTC.
    """
    hour, minute = time_of(cron_schedule)
    return timedelta(hours=hour, minutes=minute)


def due_days(instance: dg.DagsterInstance, asset: dg.AssetKey, tick: datetime) -> list[str]:
    """The day before a tick, and those before it that are later than all that there are.

    Args:
        tick: In UTC.

    Returns:
        At most `MOST_DAYS` dates, ascending, none before the first partition. Where nothing is
        materialised yet, the last day alone: what lies before it is a first backfill.
    """
    last = tick.date() - timedelta(1)
    days = [str(last - timedelta(back)) for back in reversed(range(MOST_DAYS))]
    days = [day for day in days if DAILY.has_partition_key(day)]
    before = (day for day in materialized_dates(instance, asset) if day < str(last))
    newest = max(before, default=None)
    return [day for day in days if day > newest] if newest else days[-1:]
