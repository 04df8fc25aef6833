"""Creates and repairs Dagster's own records: `python -m embedded.dagster_records [<run id> …]`.

Makes the tables of the instance of DAGSTER_HOME where they are missing, and marks the given runs
as failed: Dagster's code server notices when a run dies under it, but not when both are killed.
"""

import sys

import dagster as dg


def main() -> None:
    """Open the instance, which makes its tables, and mark the runs unless they ended meanwhile."""
    with dg.DagsterInstance.get() as instance:
        for run_id in sys.argv[1:]:
            run = instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                instance.report_run_failed(
                    run, "The run's process is gone: the stack was stopped or killed. Run it again."
                )


if __name__ == "__main__":
    main()
