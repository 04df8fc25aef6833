"""How code that waits for an outside system notices that its Dagster run was cancelled.

Dagster cancels a run by setting its status and sending its process a signal. Python can lose the
exception that the signal handler raises: in a destructor it is only printed. The status stays, so
whoever waits looks at it every few seconds.
"""

import time

import dagster as dg

CANCEL_CHECK_SECONDS = 3.0
"""Shortest time between two looks at a run's status: each is a query to Dagster's database."""

_CANCELLED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


class Cancellation:
    """Interrupts whoever waits once a Dagster run is cancelled.

    Call `check` between two steps of a wait, or wait by `sleep`; both from the thread that does
    the clean-up. They raise what Dagster's signal handler raises.

    Args:
        instance: Dagster's instance, such as `context.instance`; None outside a run.
        run: The run, such as `context.run`; None outside a run, where nothing is ever cancelled.
    """

    def __init__(
        self, instance: dg.DagsterInstance | None = None, run: dg.DagsterRun | None = None
    ) -> None:
        self._instance = instance
        self._run_id = run.run_id if run else None
        self._was_stored = False
        self._next_look = time.monotonic() + CANCEL_CHECK_SECONDS

    def check(self) -> None:
        """Look at the run's status, at most once in `CANCEL_CHECK_SECONDS`.

        Raises:
            dagster.DagsterExecutionInterruptedError: The run is cancelled, or was deleted.
        """
        if self._instance is None or self._run_id is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + CANCEL_CHECK_SECONDS
        if self._is_cancelled(self._instance, self._run_id):
            raise dg.DagsterExecutionInterruptedError(
                f"Run {self._run_id} was cancelled or deleted in Dagster."
            )

    def sleep(self, seconds: float) -> None:
        """Sleep, and look at the run's status every `CANCEL_CHECK_SECONDS`.

        Raises:
            dagster.DagsterExecutionInterruptedError: The run is cancelled, or was deleted.
        """
        end = time.monotonic() + seconds
        self.check()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, CANCEL_CHECK_SECONDS))
            self.check()

    def _is_cancelled(self, instance: dg.DagsterInstance, run_id: str) -> bool:
        try:
            run = instance.get_run_by_id(run_id)
        except Exception:
            return False  # Dagster's database does not answer: that says nothing about the run
        if run is None:
            # Nobody can cancel a deleted run any more. One that was never stored is a test's.
            return self._was_stored
        self._was_stored = True
        return run.status in _CANCELLED
