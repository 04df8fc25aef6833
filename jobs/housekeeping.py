"""What is tidied up by itself: containers whose run was killed and can no longer remove them."""

import dagster as dg

from resources.docker import DockerResource
from resources.errors import ResourceError


@dg.sensor(
    name="orphan_containers",
    minimum_interval_seconds=120,
    # It starts no runs: what others left is removed whether schedules run or not.
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Removes the number cruncher's containers whose run has ended without them.",
)
def orphan_containers(context: dg.SensorEvaluationContext, docker: DockerResource) -> dg.SkipReason:
    def is_gone(run_id: str) -> bool:
        run = context.instance.get_run_by_id(run_id)
        return run is None or run.is_finished

    try:
        removed = docker.sweep(is_gone)
    except ResourceError as error:
        return dg.SkipReason(str(error))
    return dg.SkipReason(f"Removed {', '.join(removed) or 'none'}.")
