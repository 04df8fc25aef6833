"""How the control host hands runs to Celery, looks whether they live, and cancels them.

`dagster.yaml` beside this file names the class.
"""

from functools import cached_property
from typing import Any

import dagster as dg
import redis
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from deploy.celery.lease import connect, lease_of

_REDIS_AWAY_SECONDS = 600
_PRIORITY_TAG = "dagster/priority"


class LeasedRunLauncher(CeleryRunLauncher):
    """Dagster's own, which also notices that a run's host has died: its lease is gone."""

    @cached_property
    def _redis(self) -> redis.Redis:
        return connect(str(self.broker))

    def launch_run(self, context: Any) -> None:
        """Hand a run to Celery; while Redis is away, it waits, and all after it in the queue.

        Raises:
            redis.RedisError: Redis has been away for ten minutes.
        """
        Retrying(
            retry=retry_if_exception_type(redis.RedisError),
            stop=stop_after_delay(_REDIS_AWAY_SECONDS),
            wait=wait_fixed(5),
            reraise=True,
        )(self._redis.ping)
        # A retry has the tags of the lost run, whose task is not its own.
        run_id = context.dagster_run.run_id
        self._instance.add_run_tags(run_id, {DAGSTER_CELERY_TASK_ID_TAG: ""})
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> Any:
        """What Celery says of an ended task; of others, whether the run's lease is held.

        A lost run gets a higher priority, for its retry, which would come last in the queue.

        Raises:
            redis.RedisError: Redis does not answer, which says nothing about the run.
        """
        health = super().check_run_worker_health(run)
        statuses = type(health.status)
        if health.status in (statuses.SUCCESS, statuses.FAILED):
            return health
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        if not task_id or lease_of(self._redis, task_id).locked():
            return health._replace(status=statuses.RUNNING, msg=None)
        self._instance.add_run_tags(run.run_id, {_PRIORITY_TAG: str(_priority(run) + 1)})
        return health._replace(
            status=statuses.NOT_FOUND, msg="The run's process is gone, or its host."
        )

    def terminate(self, run_id: str) -> bool:
        """Cancel a run, wherever it is.

        Its status reaches what Celery's signal does not: a run that waits for a host, and code in
        which Python loses the signal.
        """
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)


def _priority(run: dg.DagsterRun) -> int:
    try:
        return int(run.tags.get(_PRIORITY_TAG, "0"))
    except ValueError:  # a user's own; Dagster takes it for 0 as well
        return 0
