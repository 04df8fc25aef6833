"""Run workers for tests that kill them: `python -m tests.platform_assets.run_worker`.

Imports the platform once and forks a worker for each line `RUN_ID JOB FIRST LAST` of standard
input. Says the worker's process id, and when it has ended, its exit code: 0 where the run was a
success.
"""

import os
import sys

import dagster as dg

from platform_assets.definitions import build_defs
from tests.platform_assets.conftest import RANGE_END, RANGE_START


def work(run_id: str, job: str, first: str, last: str) -> int:
    """Run a job over a range of dates, in a session of its own as Dagster's run workers are."""
    os.setsid()
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            build_defs()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                tags={RANGE_START: first, RANGE_END: last},
                run_id=run_id,
                raise_on_error=False,
            )
        )
    return 0 if result.success else 1


def main() -> None:
    for line in sys.stdin:
        worker = os.fork()
        if worker == 0:
            code = 2
            try:
                code = work(*line.split())
            finally:
                os._exit(code)
        print(worker, flush=True)
        _, status = os.waitpid(worker, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
