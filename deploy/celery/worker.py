"""Celery's app on hosts that make runs: `celery --app deploy.celery.worker worker`.

Each run is a process of its own, forked from one that has imported the platform.
"""

import os
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from deploy.celery.lease import LEASE_SECONDS, connect, hold, lease_of

_BROKER = "CELERY_BROKER_URL"
_log = get_task_logger(__name__)

if _BROKER not in os.environ:
    raise SystemExit(f"Set {_BROKER} to the address of Redis: README.md beside this file has one.")
_URL = os.environ[_BROKER]
_SETTINGS = {
    # Before processes are forked, for all of them: the platform, and what dagster.yaml names.
    "imports": ["platform_assets.definitions", "resources.s3.run_logs", "dagster_postgres"],
    "worker_max_tasks_per_child": 1,
    # A host takes no run that it cannot begin at once.
    "worker_prefetch_multiplier": 1,
    "task_acks_late": True,
    # Dagster keeps what runs print.
    "worker_redirect_stdouts": False,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        # What a host has taken and not finished is handed to another one. By then the lease of a
        # host that died while it began the run has ended; those of long runs have not.
        "visibility_timeout": LEASE_SECONDS + 30,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 10,
        "socket_timeout": 30,
        "socket_keepalive": True,
    },
}


class LeasedRun(Task):
    """A run that begins only where no other host has it."""

    abstract = True

    def before_start(self, task_id: str, args: object, kwargs: object) -> None:  # noqa: ARG002
        """Celery's hook.

        Raises:
            celery.exceptions.Ignore: Another host has it.
        """
        if not hold(lease_of(connect(_URL), task_id)):
            _log.info("Another host makes the run of the task %s.", task_id)
            raise Ignore


# Its parameters are those of Celery's decorator.
options: Any = {"base": LeasedRun}
app = make_app({"broker": _URL, "backend": _URL, "config_source": _SETTINGS})
execute_job = create_execute_job_task(app, **options)
