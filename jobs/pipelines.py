"""When pipelines of YAML are made: a job each, and a schedule for those whose file has one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from jobs.daily import asked_after, build_daily_schedule
from monitoring.dates import Due
from platform_assets.components.pipeline_asset import SCHEDULE, time_of
from platform_assets.partitions import DAILY


def build_pipeline_jobs(specs: Iterable[dg.AssetSpec]) -> dg.Definitions:
    """The job of each pipeline, and its schedule.

    Args:
        specs: Of assets, those of pipelines among them.
    """
    pipelines = group_by_pipeline(specs)
    jobs = {
        name: dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*(spec.key for spec in of_pipeline)),
            description=f"Makes the assets of pipelines/{name}/defs.yaml.",
        )
        for name, of_pipeline in pipelines.items()
    }
    schedules = [
        build_daily_schedule(
            jobs[name],
            name=_schedule_name(name),
            asset=of_pipeline[0].key,
            cron_schedule=cron,
            description="The day that has just ended, at {:02}:{:02} UTC.".format(*time_of(cron)),
        )
        for name, of_pipeline in pipelines.items()
        if (cron := of_pipeline[0].metadata[SCHEDULE])
    ]
    return dg.Definitions(jobs=list(jobs.values()), schedules=schedules)


def due_pipelines(specs: Iterable[dg.AssetSpec]) -> list[Due]:
    """What the schedules of pipelines have to have made of every day.

    Args:
        specs: As of `build_pipeline_jobs`.
    """
    return [
        Due(
            _schedule_name(name),
            name,
            sorted(spec.key for spec in of_pipeline if spec.partitions_def == DAILY),
            asked_after(cron),
        )
        for name, of_pipeline in group_by_pipeline(specs).items()
        if (cron := of_pipeline[0].metadata[SCHEDULE])
    ]


def group_by_pipeline(specs: Iterable[dg.AssetSpec]) -> Mapping[str, Sequence[dg.AssetSpec]]:
    """Pipeline → its assets, in their order; other assets are left out."""
    pipelines: defaultdict[str, list[dg.AssetSpec]] = defaultdict(list)
    for spec in specs:
        if SCHEDULE in spec.metadata and spec.group_name:
            pipelines[spec.group_name].append(spec)
    return pipelines


def _schedule_name(pipeline: str) -> str:
    return f"{pipeline}_daily"
