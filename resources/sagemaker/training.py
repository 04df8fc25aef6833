"""Training jobs: found or started, watched, and stopped where the run ends without them.

Jobs are polled, not awaited in threads of their own: Dagster interrupts the main thread, and that
is where they have to be stopped. What a job is to be stands in `training_job.py`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from resources.sagemaker.calls import Calls, Clients, Log
from resources.sagemaker.errors import (
    AlreadyExistsError,
    BusyError,
    NotFoundError,
    SageMakerError,
    SpecError,
    TrainingError,
)
from resources.sagemaker.logs import JobLogs
from resources.sagemaker.names import attempt_name
from resources.sagemaker.security import Security
from resources.sagemaker.training_job import (
    Origin,
    TrainedJob,
    TrainingJobSpec,
    artifact_of,
    same_work,
    trained_job,
)

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import DescribeTrainingJobResponseTypeDef as Description

Usable = Callable[[TrainedJob], bool]

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
class Trainer:
    """What every training job needs besides its spec.

    Attributes:
        clients: To call.
        calls: How to call.
        log: Of the run.
        role_arn: Role that jobs work as.
        tags: Of the run, put on every job that is started.
        poll_seconds: Between two looks at a job.
        price_per_hour: By instance type, in whatever currency.
        usable: Has the last word on whether a finished job may be reused.
        security: Of the account.
    """

    clients: Clients
    calls: Calls
    log: Log
    role_arn: str
    tags: dict[str, str]
    poll_seconds: float
    price_per_hour: Mapping[str, float]
    usable: Usable | None = None
    security: Security = field(default_factory=Security)

    def train(self, spec: TrainingJobSpec) -> TrainedJob:
        """Run one job and wait for it; the errors are those of `JobRun`."""
        (outcome,) = self.train_all([spec], at_once=1)
        if isinstance(outcome, SageMakerError):
            raise outcome
        return outcome

    def train_all(
        self, specs: Sequence[TrainingJobSpec], *, at_once: int
    ) -> list[TrainedJob | SageMakerError]:
        """Run many jobs and wait for all of them in this thread."""
        if at_once < 1:
            raise SpecError(f"At least one job must be allowed to run at one time, not {at_once}.")
        outcomes: dict[int, TrainedJob | SageMakerError] = {}
        waiting = list(enumerate(specs))[::-1]
        running: dict[int, JobRun] = {}

        def step(number: int, advance: Callable[[], TrainedJob | None]) -> None:
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
                    running[number] = JobRun(self, spec)
                    step(number, running[number].begin)
                for number in list(running):
                    step(number, running[number].poll)
                if running and (not waiting or len(running) == at_once):
                    self.calls.sleep(self.poll_seconds)
        except BaseException:
            # Interrupted: Dagster's interruption and KeyboardInterrupt are no Exceptions.
            for job in running.values():
                job.abandon()
            raise
        return [outcomes[number] for number in range(len(specs))]

    def describe(self, name: str) -> "Description | None":
        """A job as it is, None where there is none of that name."""
        try:
            return self.calls(self.clients.control.describe_training_job, TrainingJobName=name)
        except NotFoundError:
            return None

    def stop(self, name: str, calls: Calls | None = None) -> bool:
        """Ask a job to stop.

        Returns:
            Whether there was one that could be stopped.
        """
        try:
            (calls or self.calls)(self.clients.control.stop_training_job, TrainingJobName=name)
        except (BusyError, NotFoundError):
            return False  # it has ended by itself, or never existed
        return True


class JobRun:
    """One training job under way: `begin`, then `poll` until it gives a result."""

    def __init__(self, trainer: Trainer, spec: TrainingJobSpec) -> None:
        self._trainer = trainer
        self._calls = trainer.calls
        self._log = trainer.log
        self._spec = spec
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
            existing = self._trainer.describe(self._name) or self._create()
            if existing is None or self._take(existing):
                if self._spec.stream_logs and self._origin != "reused":
                    self._logs = JobLogs(
                        self._trainer.clients,
                        self._calls,
                        self._log,
                        job=self._name,
                        instances=self._spec.compute.instance_count,
                    )
                return
        raise TrainingError(
            f"{MOST_ATTEMPTS} jobs named {self._spec.name} have failed or were stopped. "
            "Use another name."
        )

    def poll(self) -> TrainedJob | None:
        """Look at the job once.

        Returns:
            The job if it has completed, None while it goes on.

        Raises:
            TrainingError: It failed, was stopped, or missed its deadline.
            UnavailableError: SageMaker cannot be reached.
        """
        description = self._describe_started()
        if description is None:
            return None
        self._log_progress(description)
        # After the status: once that is final, all lines or nearly all are written.
        if self._logs:
            self._copy_logs(self._logs, description)
        if description["TrainingJobStatus"] in {"InProgress", "Stopping"}:
            self._keep_deadline(description)
            return None
        self._live = False
        return self._result(description)

    def abandon(self) -> None:
        """Stop the job if it goes on. Never raises: whoever calls has an error to raise already."""
        if not self._live:
            return
        self._log.warning(f"Stopping training job {self._name}.")
        try:
            if not self._trainer.stop(self._name, self._calls.hurried(LAST_MINUTE_SECONDS)):
                self._log.warning(
                    f"There was no training job {self._name} to be stopped. If it was just being "
                    f"started, look whether it is there now, and stop it.{self._see_console}"
                )
        except SageMakerError as error:
            self._log.warning(
                f"Training job {self._name} could not be stopped and may go on until its limit of "
                f"{self._spec.compute.max_runtime_seconds} s. Stop it yourself. {error}"
                f"{self._see_console}"
            )

    def _take(self, existing: "Description") -> bool:
        """Attach to an existing job or reuse it, where that is possible."""
        status = existing["TrainingJobStatus"]
        places = same_work(self._request(), cast("dict[str, Any]", existing))
        if places:
            self._log.warning(
                f"Training job {self._name} exists with another configuration "
                f"({', '.join(places)}); it is left alone, the next name is tried."
            )
        elif status == "Completed":
            return self._reuse(existing)
        elif status == "InProgress":
            self._origin = "attached"
            self._live = True
            self._log.info(f"Training job {self._name} does this work already: attached.")
            # The deadline runs from the job's creation: attaching does not prolong it.
            age = datetime.now(UTC) - existing["CreationTime"]
            self._began = time.monotonic() - max(0.0, age.total_seconds())
            return True
        else:
            self._log.info(f"Training job {self._name} was {status}; the next name is tried.")
        return False

    def _reuse(self, existing: "Description") -> bool:
        self._origin = "reused"
        usable = self._trainer.usable
        if usable is None or not artifact_of(existing) or usable(self._trained(existing)):
            self._log.info(f"Training job {self._name} has done this work already: reused.")
            return True
        self._log.warning(
            f"Training job {self._name} has done this work, but its artifact cannot be used any "
            "more; the next name is tried."
        )
        self._origin = "started"
        return False

    def _create(self) -> "Description | None":
        """Start the job; if somebody else has just done so, give theirs."""
        self._began = time.monotonic()
        # Before the request: if we are interrupted in it, the job may exist all the same.
        self._live = True
        try:
            self._calls(self._trainer.clients.control.create_training_job, **self._request())
        except AlreadyExistsError:
            # Somebody was quicker, or the answer to our own first request got lost.
            self._live = False
            return self._describe_soon()
        except SageMakerError as error:
            self._live = error.transient
            raise
        self._log.info(f"Training job {self._name} started.{self._see_console}")
        return None

    def _describe_soon(self) -> "Description":
        end = time.monotonic() + UNKNOWN_SECONDS
        while (description := self._trainer.describe(self._name)) is None:
            if time.monotonic() > end:
                raise self._vanished()
            self._calls.sleep(min(1, self._trainer.poll_seconds))
        return description

    def _request(self) -> dict[str, Any]:
        trainer = self._trainer
        request = self._spec.to_request(self._name, trainer.role_arn, trainer.tags)
        return trainer.security.training_job(request)

    def _describe_started(self) -> "Description | None":
        description = self._trainer.describe(self._name)
        if description is not None:
            self._unknown_since = None
            return description
        now = time.monotonic()
        self._unknown_since = self._unknown_since or now
        if now - self._unknown_since > UNKNOWN_SECONDS:
            raise self._vanished()
        return None

    def _vanished(self) -> TrainingError:
        return TrainingError(
            f"Training job {self._name} has vanished: SageMaker does not know it any more. "
            "Run again."
        )

    def _copy_logs(self, logs: JobLogs, description: "Description") -> None:
        logs.copy_new()
        if description["TrainingJobStatus"] == "Failed":
            # The last lines say why, and CloudWatch takes its time to show them.
            self._calls.sleep(min(LATE_LINES_SECONDS, self._trainer.poll_seconds))
            logs.copy_new()

    def _log_progress(self, description: "Description") -> None:
        if self._origin == "reused":
            return
        for transition in description.get("SecondaryStatusTransitions", []):
            step = (transition["Status"], transition.get("StatusMessage", ""))
            if step not in self._reported_steps:
                self._reported_steps.add(step)
                self._log.info(f"{self._name}: {': '.join(filter(None, step))}")

    def _keep_deadline(self, description: "Description") -> None:
        deadline = self._spec.deadline_seconds
        now = time.monotonic()
        if self._stopping_since is not None:
            if now - self._stopping_since > STOPPING_SECONDS:
                raise self._deadline_error("It was asked to stop and has not done so yet.")
        elif deadline is not None and now - self._began > deadline:
            self._log.warning(
                f"Training job {self._name} is not done after {deadline:g} s "
                f"({description['SecondaryStatus']}): stopping it."
            )
            self._trainer.stop(self._name)
            self._stopping_since = now

    def _result(self, description: "Description") -> TrainedJob:
        status = description["TrainingJobStatus"]
        if status == "Completed":
            if artifact_of(description):
                return self._trained(description)
            raise self._error("completed without an artifact.")
        if status == "Failed":
            reason = description.get("FailureReason") or "SageMaker gives no reason."
            raise self._error(f"failed: {reason}", transient=reason.startswith(OUTAGES))
        if self._stopping_since is not None:
            raise self._deadline_error("It has been stopped.")
        raise self._error(
            f"gave no result ({status}: {description['SecondaryStatus']}). "
            f"{_why_stopped(description)}"
        )

    def _trained(self, description: "Description") -> TrainedJob:
        return trained_job(
            description,
            origin=self._origin,
            price_per_hour=self._trainer.price_per_hour,
            console_url=self._console_url,
        )

    def _deadline_error(self, outcome: str) -> TrainingError:
        return self._error(
            f"was not done within its deadline of {self._spec.deadline_seconds:g} s. {outcome} "
            "Give it more time or a larger instance."
        )

    def _error(self, outcome: str, *, transient: bool = False) -> TrainingError:
        return TrainingError(
            f"Training job {self._name} {outcome}{self._see_console}", transient=transient
        )

    @property
    def _see_console(self) -> str:
        return self._trainer.clients.see_console(f"jobs/{self._name}")

    @property
    def _console_url(self) -> str:
        return self._trainer.clients.console_url(f"jobs/{self._name}")


def _why_stopped(description: "Description") -> str:
    if description["SecondaryStatus"] == "MaxRuntimeExceeded":
        limit = description["StoppingCondition"].get("MaxRuntimeInSeconds")
        return f"It ran longer than max_runtime_seconds ({limit} s): raise it."
    if description["SecondaryStatus"] == "MaxWaitTimeExceeded":
        return "It waited for spot capacity longer than spot.max_wait_seconds: raise it."
    return "Somebody stopped it."
