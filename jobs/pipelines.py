"""When pipelines of YAML are made: a job each, and a schedule for those whose file has one."""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from jobs.daily import asked_after, build_daily_schedule
from monitoring.dates import Due
from platform_assets.components.pipeline_asset import SCHEDULE, time_of
from platform_assets.partitions import DAILY


def build_pipeline_jobs(assets: Iterable[dg.AssetsDefinition]) -> dg.Definitions:
    """The job of each pipeline, and its schedule."""
    pipelines = group_by_pipeline(assets)
    jobs = {
        name: dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*(spec.key for spec in specs)),
            description=f"Makes the assets of pipelines/{name}/defs.yaml.",
        )
        for name, specs in pipelines.items()
    }
    schedules = [
        build_daily_schedule(
            jobs[name],
            name=_schedule_name(name),
            asset=specs[0].key,
            cron_schedule=cron,
            description="The day that has just ended, at {:02}:{:02} UTC.".format(*time_of(cron)),
        )
        for name, specs in pipelines.items()
        if (cron := specs[0].metadata[SCHEDULE])
    ]
    return dg.Definitions(jobs=list(jobs.values()), schedules=schedules)


def due_pipelines(assets: Iterable[dg.AssetsDefinition]) -> list[Due]:
    """What the schedules of pipelines have to have made of every day."""
    return [
        Due(
            _schedule_name(name),
            name,
            sorted(spec.key for spec in specs if spec.partitions_def == DAILY),
            asked_after(cron),
        )
        for name, specs in group_by_pipeline(assets).items()
        if (cron := specs[0].metadata[SCHEDULE])
    ]


def group_by_pipeline(
    assets: Iterable[dg.AssetsDefinition],
) -> Mapping[str, Sequence[dg.AssetSpec]]:
    """Pipeline → its assets, each once and after those that it is made of.

    Args:
        assets: Those that make several assets may be among them as often.
    """
    pipelines: dict[str, dict[dg.AssetKey, dg.AssetSpec]] = {}
    for definition in assets:
        for spec in definition.specs:
            if SCHEDULE in spec.metadata and spec.group_name:
                pipelines.setdefault(spec.group_name, {})[spec.key] = spec
    return {name: list(specs.values()) for name, specs in pipelines.items()}


def _schedule_name(pipeline: str) -> str:
    return f"{pipeline}_daily"
