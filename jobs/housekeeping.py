"""What is tidied up by itself after runs that were killed: containers, and places in pools."""

from typing import Any

import dagster as dg

from resources.docker import DockerResource
from resources.errors import ResourceError


# Both sensors start no runs, so that they run whether schedules do or not.
@dg.sensor(
    name="orphan_containers",
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Removes the number cruncher's containers whose run has ended without them.",
)
def orphan_containers(context: dg.SensorEvaluationContext, docker: DockerResource) -> dg.SkipReason:
    try:
        return dg.SkipReason(_remove_orphans(context.instance, docker))
    except ResourceError as error:
        return dg.SkipReason(str(error))


@dg.op
def remove_orphan_containers(context: dg.OpExecutionContext, docker: DockerResource) -> None:
    """Remove the number cruncher's containers whose run has ended, and log which."""
    context.log.info(_remove_orphans(context.instance, docker))


# With a configuration of its own, the UI's form does not open with all resources'.
@dg.job(
    config=dg.RunConfig(),
    description="Does at once what the sensor orphan_containers does every two minutes.",
)
def sweep() -> None:
    remove_orphan_containers()


def _remove_orphans(instance: dg.DagsterInstance, docker: DockerResource) -> str:
    def has_ended(run_id: str) -> bool:
        # A run that is not in these records is another stack's, on the same engine.
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    return f"Removed {', '.join(docker.sweep(has_ended)) or 'none'}."


@dg.sensor(
    name="overlooked_steps",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Gives free places of pools to steps that wait although there is one.",
)
def overlooked_steps(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Let steps go on that Dagster has overlooked.

    Dagster 1.13 looks for a free place and puts the step into the queue in two transactions. Where
    the place of a killed run becomes free between them, nobody is told of it until another step
    leaves the pool.
    """
    # Storages in SQL, as all of Dagster's are, have more methods than their common interface.
    storage: Any = context.instance.event_log_storage
    helped: list[str] = []
    for pool in sorted(storage.get_concurrency_keys()):
        info = storage.get_concurrency_info(pool)
        # Steps that have a place are among those that are assigned to one.
        free = (info.limit or info.slot_count) - info.assigned_step_count
        for _ in range(min(free, info.pending_step_count)):
            storage.assign_pending_steps([pool])
            helped.append(pool)
    return dg.SkipReason(f"Steps that go on, by their pools: {', '.join(helped) or 'none'}.")
