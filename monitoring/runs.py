"""What a run was to do, and for which assets and dates."""

import hashlib
import json
from collections.abc import Mapping, Set

import dagster as dg

from platform_assets.partitions import PARTITION, RANGE_END, RANGE_START

WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
WORKING = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
MOST_RUNS = 200
"""Of one kind, in one look."""

Partitions = Mapping[dg.AssetKey, Set[str | None]]
"""Asset → its partitions; None for an asset without."""


def work_key(run: dg.DagsterRun) -> str:
    """What a run is to do, equal for a re-run of the same.

    The same is the same job with the same configuration, of the same partitions and selection.
    """
    work = {
        "partitions": partition_tags(run),
        "assets": sorted(key.to_user_string() for key in run.asset_selection or ()),
        "checks": sorted(str(key) for key in run.asset_check_selection or ()),
        "config": run.run_config,
    }
    text = json.dumps(work, sort_keys=True, default=str)
    return f"run {run.job_name} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def job_title(run: dg.DagsterRun) -> str:
    """What people call a run: by its job, if it has one of the platform's."""
    # What is materialised by itself is a run of a job that Dagster makes up.
    return "A materialisation" if run.job_name.startswith("__") else run.job_name


def end_of(record: dg.RunRecord) -> float:
    """When a run ended, as a timestamp."""
    return record.end_time or record.update_timestamp.timestamp()


def partition_tags(run: dg.DagsterRun) -> dict[str, str]:
    """The tags of a run that say which partitions it is for."""
    return {tag: run.tags[tag] for tag in (PARTITION, RANGE_START, RANGE_END) if tag in run.tags}


def planned_partitions(instance: dg.DagsterInstance, run_id: str) -> Partitions:
    """What a run was to materialise."""
    return instance.get_asset_partitions_for_run(
        run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )


def asset_names(assets: Partitions) -> list[str]:
    """The names of assets, in order."""
    return sorted(key.to_user_string() for key in assets)


def dates_of(run: dg.DagsterRun, partitions: Partitions) -> list[str]:
    """The dates among these partitions; without any, those that the run was started for."""
    dates = {date for of_asset in partitions.values() for date in of_asset if date}
    return sorted(dates or set(partition_tags(run).values()))
