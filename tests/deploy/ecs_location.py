"""A code location for tests of ECS: a job that goes on when it is told to, and one to be stopped.

Files tell: `CODE_LOCATION_FILES` is their folder.
"""

import os
import time
from pathlib import Path

import dagster as dg


@dg.op
def wait() -> None:
    """Says that it has begun; ends when it may."""
    folder = Path(os.environ["CODE_LOCATION_FILES"])
    print("it has begun")
    (folder / "begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def interrupted() -> None:
    """Its first task is lost."""
    wait()


@dg.job(executor_def=dg.in_process_executor)
def stopped() -> None:
    """Somebody stops it."""
    wait()


@dg.sensor(jobs=[interrupted, stopped], default_status=dg.DefaultSensorStatus.RUNNING)
def once() -> dg.SensorResult:
    """One run of each."""
    jobs = (interrupted, stopped)
    return dg.SensorResult([dg.RunRequest(job.name, job_name=job.name) for job in jobs])


defs = dg.Definitions(jobs=[interrupted, stopped], sensors=[once])
