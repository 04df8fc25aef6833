"""A run worker of its own for the tests that interrupt and kill one: runs a hanging module.

Started as `python docker_run_worker.py MODE IMAGE`; prints the run's id first. A line on its
standard input cancels the run in Dagster, without the signal that Dagster would send.
"""

import sys
import threading

import dagster as dg

from resources.docker import DockerResource


@dg.op
def hang(context: dg.OpExecutionContext, runner: DockerResource) -> None:
    sys.stdout.write(f"{context.run.run_id}\n")
    sys.stdout.flush()
    threading.Thread(target=cancel_when_told, args=(context,), daemon=True).start()
    runner.run(context, "pipes_faults", arguments=["hang"])


def cancel_when_told(context: dg.OpExecutionContext) -> None:
    if sys.stdin.readline():
        context.instance.report_run_canceling(context.run)


def hang_job(mode: str, image: str) -> dg.JobDefinition:
    runner = DockerResource(mode=mode, image=image, deadline_seconds=120)  # pyright: ignore[reportArgumentType]

    @dg.job(resource_defs={"runner": runner})
    def job() -> None:
        hang()

    return job


if __name__ == "__main__":
    hang_job(*sys.argv[1:]).execute_in_process()
