"""Dates that should be there by now and are not, or are empty."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from monitoring.problems import Problem
from monitoring.watch import Watch


@dataclass(frozen=True)
class Due:
    """What a schedule has to have made of every day.

    Attributes:
        schedule: The name of what asks for each day once it has ended.
        runs_by_default: Whether the schedule runs where nobody has started or stopped it.
        job: The name of what the schedule starts.
        assets: Whose partition of the day has to be there.
    """

    schedule: str
    runs_by_default: bool
    job: str
    assets: Sequence[dg.AssetKey]


def late_dates(
    instance: dg.DagsterInstance,
    due: Due,
    watch: Watch,
    now: datetime,
    *,
    explained: Sequence[Problem],
) -> Iterator[Problem]:
    """A problem for each date that is missing or empty, `late_after_hours` after its end.

    Only dates that a running schedule has asked for count: before it was started, nothing was due.

    Args:
        instance: Dagster's records.
        due: What is looked at.
        watch: From when on a date is late.
        now: The time.
        explained: Problems of runs. A date that one of them names is no news.
    """
    running_since = _running_since(instance, due)
    if running_since is None:
        return
    ends = {day: _end(day) for day in _days(watch.since(now), now)}
    dates = [
        day.isoformat()
        for day, end in ends.items()
        if end >= running_since and now >= end + timedelta(hours=watch.late_after_hours)
    ]
    if not dates:
        return
    rows = {key: _rows(instance, key, dates) for key in due.assets}
    for day in dates:
        missing = [key.to_user_string() for key in due.assets if day not in rows[key]]
        empty = [key.to_user_string() for key in due.assets if rows[key].get(day) == 0]
        if not missing and not empty:
            continue
        if any(day in problem.dates and _concerns(problem, missing) for problem in explained):
            continue
        problem = "is late" if missing else "is empty"
        reason = "It is not there although its schedule runs."
        if not missing:
            reason = "It was made, and has no rows."
        yield Problem(
            key=f"late {due.job} {day}",
            title=f"{due.job}: {day} {problem}",
            assets=missing or empty,
            dates=[day],
            reason=reason,
            to_do="Look whether the source has this day, and at the runs; then materialise it.",
            link=watch.link(f"jobs/{due.job}/runs"),
            since=_end(date.fromisoformat(day)).timestamp(),
        )


def _concerns(problem: Problem, assets: Sequence[str]) -> bool:
    return not problem.assets or not assets or bool(set(problem.assets) & set(assets))


def _running_since(instance: dg.DagsterInstance, due: Due) -> datetime | None:
    """When a schedule was started; None where it is stopped, or Dagster's daemon never saw it."""
    for state in instance.all_instigator_state():
        if state.instigator_name == due.schedule:
            by_default = state.status.value == "DECLARED_IN_CODE" and due.runs_by_default
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
