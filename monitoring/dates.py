"""Dates that should be there by now and are not, or are empty."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from monitoring.findings import Finding, Problem, Resolved
from platform_assets.alert_settings import AlertSettings
from platform_assets.partitions import DAILY
from platform_assets.settings import schedule_status


@dataclass(frozen=True)
class Due:
    """What a schedule has to have made of every day.

    Attributes:
        assets: Whose partition of the day has to be there.
        asked_after: How long after the day's end (UTC) the schedule asks for it.
    """

    schedule: str
    job: str
    assets: Sequence[dg.AssetKey]
    asked_after: timedelta


def late_dates(
    instance: dg.DagsterInstance,
    due: Due,
    settings: AlertSettings,
    now: datetime,
    *,
    hanging: Sequence[Problem],
) -> Iterator[Finding]:
    """A problem for each date that is missing or empty, `late_after_hours` after its schedule.

    Only dates that a running schedule has asked for count: before it was started, nothing was due.
    A date whose run failed or hangs is no finding: that is a problem of its own.

    Args:
        hanging: Problems of runs that hang.
    """
    running_since = schedule_runs_since(instance, due)
    if running_since is None:
        return
    ends = {day: _end(day) for day in _days(settings.since(now), now)}
    dates = [
        day.isoformat()
        for day, end in ends.items()
        if end >= running_since
        and now >= end + due.asked_after + timedelta(hours=settings.late_after_hours)
    ]
    if not dates:
        return
    rows = {key: _rows(instance, key, dates) for key in due.assets}
    missing = {day: [key for key in due.assets if day not in rows[key]] for day in dates}
    failed = {key: _failed(instance, key, dates) for keys in missing.values() for key in keys}
    hangs = {(name, day) for problem in hanging for name in problem.assets for day in problem.dates}
    for day in dates:
        empty = [key for key in due.assets if rows[key].get(day) == 0]
        key = f"late {due.job} {day}"
        if not missing[day] and not empty:
            yield Resolved(key)
        elif not any(
            day in failed[asset] or (asset.to_user_string(), day) in hangs for asset in missing[day]
        ):
            yield Problem(
                key=key,
                title=f"{due.job}: {day} is {'late' if missing[day] else 'empty'}",
                assets=[asset.to_user_string() for asset in missing[day] or empty],
                dates=[day],
                reason=(
                    "It is not there although its schedule runs."
                    if missing[day]
                    else "It was made, and has no rows."
                ),
                to_do="Look whether the source has this day, and at the runs; then materialise it.",
                link=settings.link(f"jobs/{due.job}/runs"),
            )


def _failed(instance: dg.DagsterInstance, key: dg.AssetKey, dates: Sequence[str]) -> set[str]:
    """The dates of an asset that the last run of them was to make, and failed."""
    statuses = instance.get_status_by_partition(key, dates, DAILY) or {}
    return {day for day, status in statuses.items() if status is dg.AssetPartitionStatus.FAILED}


def schedule_runs_since(instance: dg.DagsterInstance, due: Due) -> datetime | None:
    """When a schedule was started; None where it is stopped, or Dagster's daemon never saw it."""
    runs_by_default = schedule_status() is dg.DefaultScheduleStatus.RUNNING
    for state in instance.all_instigator_state():
        if state.instigator_name == due.schedule:
            by_default = state.status.value == "DECLARED_IN_CODE" and runs_by_default
            started = getattr(state.instigator_data, "start_timestamp", None)
            if started and (state.status.value == "RUNNING" or by_default):
                return datetime.fromtimestamp(started, UTC)
    return None


def _rows(
    instance: dg.DagsterInstance, key: dg.AssetKey, dates: Sequence[str]
) -> dict[str, int | None]:
    """Of those dates of an asset that are there: their rows, None where they are not counted."""
    rows: dict[str, int | None] = {}
    for day in dates:
        # The last one counts, however often the date was made.
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day]), limit=1
        ).records
        for record in records:
            if record.asset_materialization:
                rows[day] = partition_rows(record.asset_materialization)
    return rows


def partition_rows(materialization: dg.AssetMaterialization) -> int | None:
    """How many rows a materialised partition has; None where that was not told."""
    value = materialization.metadata.get("dagster/partition_row_count")
    return value.value if isinstance(value, dg.IntMetadataValue) else None


def _days(first: datetime, now: datetime) -> list[date]:
    """The days that have ended, from that time on."""
    days = (now.date() - first.date()).days
    return [now.date() - timedelta(days=back) for back in range(days, 0, -1)]


def _end(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), UTC)
