"""Jobs of any kind: found or started, watched, and stopped where the run ends without them.

Jobs are polled, not awaited in threads of their own: Dagster interrupts the main thread, and that
is where they have to be stopped. What a job is to be stands in `training_job.py`,
`transform_job.py` and `processing_job.py`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from .calls import Calls, Clients
from .errors import (
    AlreadyExistsError,
    BusyError,
    JobError,
    NotFoundError,
    SageMakerError,
    SpecError,
)
from .job_kind import Description, JobContext, JobKind, JobSpec, Origin
from .logs import JobLogs
from .names import attempt_name
from .security import Security

R = TypeVar("R")
Usable = Callable[[R], bool]

MOST_ATTEMPTS = 999
# A job may be unknown for a moment after its creation was confirmed.
UNKNOWN_SECONDS = 60
# The time that the service gives a container to end before it kills it, and some more.
STOPPING_SECONDS = 300
# Dagster ends an interrupted process soon: the request to stop has to be out by then.
LAST_MINUTE_SECONDS = 20
LATE_LINES_SECONDS = 5
# How FailureReason begins when the fault was the service's.
OUTAGES = ("InternalServerError", "CapacityError", "InsufficientCapacity")


@dataclass(frozen=True)
class JobRunner:
    """What every job needs besides its spec."""

    clients: Clients
    calls: Calls
    role_arn: str
    tags: dict[str, str]
    poll_seconds: float
    price_per_hour: Mapping[str, float]
    security: Security

    def run(self, spec: JobSpec[R], usable: Usable[R] | None = None) -> R:
        """Run one job and wait for it; the errors are those of `JobRun`."""
        (outcome,) = self.run_all([spec], at_once=1, usable=usable)
        if isinstance(outcome, SageMakerError):
            raise outcome
        return outcome

    def run_all(
        self, specs: Sequence[JobSpec[R]], *, at_once: int, usable: Usable[R] | None = None
    ) -> list[R | SageMakerError]:
        """Run many jobs and wait for all of them in this thread.

        The looks at the jobs are spread over `poll_seconds`, so that the requests to SageMaker and
        CloudWatch come evenly however many jobs are watched.
        """
        if at_once < 1:
            raise SpecError(f"At least one job must be allowed to run at one time, not {at_once}.")
        outcomes: dict[int, R | SageMakerError] = {}
        waiting = list(enumerate(specs))[::-1]
        running: dict[int, JobRun[R]] = {}

        def step(number: int, advance: Callable[[], R | None]) -> None:
            try:
                outcome = advance()
            except SageMakerError as error:
                outcome = error
                if not error.transient:  # where it is, the next attempt attaches
                    running[number].abandon()
            if outcome is not None:
                outcomes[number] = outcome
                del running[number]

        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    number, spec = waiting.pop()
                    running[number] = JobRun(self, spec, usable)
                    step(number, running[number].begin)
                pause = self.poll_seconds / max(1, len(running))
                for number in list(running):
                    step(number, running[number].poll)
                    if running:
                        self.calls.sleep(pause)
        except BaseException:
            # Interrupted: Dagster's interruption and KeyboardInterrupt are no Exceptions.
            for job in running.values():
                job.abandon()
            raise
        return [outcomes[number] for number in range(len(specs))]

    def describe(self, kind: JobKind, name: str) -> Description | None:
        """A job as it is, None where there is none of that name."""
        try:
            return self.calls(kind.operation(self.clients, "describe"), **kind.request(name))
        except NotFoundError:
            return None

    def stop(self, kind: JobKind, name: str, calls: Calls | None = None) -> bool:
        """Ask a job to stop.

        Returns:
            Whether there was one that could be stopped.
        """
        try:
            (calls or self.calls)(kind.operation(self.clients, "stop"), **kind.request(name))
        except (BusyError, NotFoundError):
            return False  # it has ended by itself, or never existed
        return True


class JobRun(Generic[R]):
    """One job under way: `begin`, then `poll` until it gives a result."""

    def __init__(
        self, runner: JobRunner, spec: JobSpec[R], usable: Usable[R] | None = None
    ) -> None:
        self._runner = runner
        self._calls = runner.calls
        self._log = runner.calls.log
        self._spec = spec
        self._kind = spec.kind
        self._usable = usable
        self._name = spec.name
        self._origin: Origin = "started"
        self._live = False
        self._logs: JobLogs | None = None
        self._reported_steps: set[tuple[str, str]] = set()
        self._began = time.monotonic()
        self._stopping_since: float | None = None
        self._unknown_since: float | None = None

    def begin(self) -> None:
        """Find the job that does this work, or start it."""
        self._spec.check()
        for attempt in range(1, MOST_ATTEMPTS + 1):
            self._name = attempt_name(self._spec.name, attempt)
            existing = self._describe() or self._create()
            if existing is None or self._take(existing):
                if self._spec.stream_logs and self._origin != "reused":
                    self._logs = JobLogs(
                        self._runner.clients,
                        self._calls,
                        group=self._kind.log_group,
                        job=self._name,
                        instances=self._spec.instance_count,
                    )
                return
        raise self._kind.error(
            f"{MOST_ATTEMPTS} jobs named {self._spec.name} have failed or were stopped. "
            "Use another name."
        )

    def poll(self) -> R | None:
        """Look at the job once.

        Returns:
            What it came to if it has completed, None while it goes on.

        Raises:
            JobError: It failed, was stopped, or missed its deadline.
            UnavailableError: SageMaker cannot be reached.
        """
        description = self._describe_started()
        if description is None:
            return None
        self._log_progress(description)
        # After the status: once that is final, all lines or nearly all are written.
        if self._logs:
            self._copy_logs(self._logs, description)
        if self._kind.status(description) in {"InProgress", "Stopping"}:
            self._keep_deadline(description)
            return None
        self._live = False
        return self._result(description)

    def abandon(self) -> None:
        """Stop the job if it goes on. Never raises: whoever calls has an error to raise already."""
        if not self._live:
            return
        self._log.warning(f"Stopping {self._kind.noun} {self._name}.")
        try:
            if not self._runner.stop(
                self._kind, self._name, self._calls.with_patience(LAST_MINUTE_SECONDS)
            ):
                self._log.warning(
                    f"There was no {self._kind.noun} {self._name} to be stopped. If it was just "
                    f"being started, look whether it is there now, and stop it.{self._see_console}"
                )
        except SageMakerError as error:
            limit = self._spec.limit_seconds
            until = f" until its limit of {limit} s" if limit else ""
            self._log.warning(
                f"{self._title} could not be stopped and may go on{until}. Stop it yourself. "
                f"{error}{self._see_console}"
            )

    def _take(self, existing: Description) -> bool:
        """Attach to an existing job or reuse it, where that is possible."""
        status = self._kind.status(existing)
        places = self._spec.differences(self._request(), existing)
        if places:
            self._log.warning(
                f"{self._title} exists with another configuration "
                f"({', '.join(places)}); it is left alone, the next name is tried."
            )
        elif status == "Completed":
            return self._reuse(existing)
        elif status == "InProgress":
            self._origin = "attached"
            self._live = True
            self._log.info(f"{self._title} does this work already: attached.")
            # The deadline runs from the job's creation: attaching does not prolong it.
            age = datetime.now(UTC) - existing["CreationTime"]
            self._began = time.monotonic() - max(0.0, age.total_seconds())
            return True
        else:
            self._log.info(f"{self._title} was {status}; the next name is tried.")
        return False

    def _reuse(self, existing: Description) -> bool:
        self._origin = "reused"
        result = self._result_of(existing)
        if self._usable is None or result is None or self._usable(result):
            self._log.info(f"{self._title} has done this work already: reused.")
            return True
        self._log.warning(
            f"{self._title} has done this work, but its result cannot be used any more; "
            "the next name is tried."
        )
        self._origin = "started"
        return False

    def _create(self) -> Description | None:
        """Start the job; if somebody else has just done so, give theirs."""
        self._began = time.monotonic()
        # Before the request: if we are interrupted in it, the job may exist all the same.
        self._live = True
        try:
            create = self._kind.operation(self._runner.clients, "create")
            self._calls(create, **self._request())
        except AlreadyExistsError:
            # Somebody was quicker, or the answer to our own first request got lost.
            self._live = False
            return self._describe_soon()
        except SageMakerError as error:
            self._live = error.transient
            raise
        self._log.info(f"{self._title} started.{self._see_console}")
        return None

    def _describe_soon(self) -> Description:
        end = time.monotonic() + UNKNOWN_SECONDS
        while (description := self._describe()) is None:
            if time.monotonic() > end:
                raise self._vanished()
            self._calls.sleep(min(1, self._runner.poll_seconds))
        return description

    def _request(self) -> dict[str, Any]:
        runner = self._runner
        request = self._spec.to_request(self._name, runner.role_arn, runner.tags)
        return self._kind.secured(runner.security, request)

    def _describe(self) -> Description | None:
        return self._runner.describe(self._kind, self._name)

    def _describe_started(self) -> Description | None:
        description = self._describe()
        if description is not None:
            self._unknown_since = None
            return description
        now = time.monotonic()
        self._unknown_since = self._unknown_since or now
        if now - self._unknown_since > UNKNOWN_SECONDS:
            raise self._vanished()
        return None

    def _vanished(self) -> JobError:
        return self._kind.error(
            f"{self._title} has vanished: SageMaker does not know it any more. Run again."
        )

    def _copy_logs(self, logs: JobLogs, description: Description) -> None:
        logs.copy_new()
        if self._kind.status(description) == "Failed":
            # The last lines say why, and CloudWatch takes its time to show them.
            self._calls.sleep(min(LATE_LINES_SECONDS, self._runner.poll_seconds))
            logs.copy_new()

    def _log_progress(self, description: Description) -> None:
        if self._origin == "reused":
            return
        for transition in description.get("SecondaryStatusTransitions", []):
            step = (transition["Status"], transition.get("StatusMessage", ""))
            if step not in self._reported_steps:
                self._reported_steps.add(step)
                self._log.info(f"{self._name}: {': '.join(filter(None, step))}")

    def _keep_deadline(self, description: Description) -> None:
        deadline = self._spec.deadline_seconds
        now = time.monotonic()
        if self._stopping_since is not None:
            if now - self._stopping_since > STOPPING_SECONDS:
                raise self._deadline_error("It was asked to stop and has not done so yet.")
        elif deadline is not None and now - self._began > deadline:
            self._log.warning(
                f"{self._title} is not done after {deadline:g} s "
                f"({description.get('SecondaryStatus', 'InProgress')}): stopping it."
            )
            self._runner.stop(self._kind, self._name)
            self._stopping_since = now

    def _result(self, description: Description) -> R:
        status = self._kind.status(description)
        if status == "Completed":
            result = self._result_of(description)
            if result is None:
                raise self._error("completed without an artifact.")
            return result
        if status == "Failed":
            reason = description.get("FailureReason") or "SageMaker gives no reason."
            # Of a processing job: the program's own words, which the reason does not have.
            own = description.get("ExitMessage")
            words = f'{reason} It said: "{own}"' if own else reason
            raise self._error(f"failed: {words}", transient=reason.startswith(OUTAGES))
        if self._stopping_since is not None:
            raise self._deadline_error("It has been stopped.")
        secondary = description.get("SecondaryStatus", status)
        raise self._error(
            f"gave no result ({status}: {secondary}). {self._spec.why_stopped(description)}"
        )

    def _result_of(self, description: Description) -> R | None:
        url = self._runner.clients.console_url(self._page)
        job = JobContext(self._kind, self._origin, self._runner.price_per_hour, url)
        return self._spec.result(description, job)

    def _deadline_error(self, outcome: str) -> JobError:
        return self._error(
            f"was not done within its deadline of {self._spec.deadline_seconds:g} s. {outcome} "
            "Give it more time or a larger instance."
        )

    def _error(self, outcome: str, *, transient: bool = False) -> JobError:
        return self._kind.error(f"{self._title} {outcome}{self._see_console}", transient=transient)

    @property
    def _title(self) -> str:
        return f"{self._kind.word} job {self._name}"

    @property
    def _page(self) -> str:
        return f"{self._kind.page}/{self._name}"

    @property
    def _see_console(self) -> str:
        return self._runner.clients.see_console(self._page)
