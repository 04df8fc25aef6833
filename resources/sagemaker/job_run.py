"""One training job: finds or starts it, watches it, stops it when it must not go on.

What a job is to be stands in `training_spec.py`, how one or many are waited for in `training.py`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from resources.sagemaker.calls import Calls, Clients, Log
from resources.sagemaker.errors import (
    AlreadyExistsError,
    BusyError,
    NotFoundError,
    SageMakerError,
    TrainingDeadlineError,
    TrainingError,
    TrainingFailedError,
    TrainingOutageError,
    TrainingStoppedError,
)
from resources.sagemaker.logs import JobLogs
from resources.sagemaker.names import attempt_name
from resources.sagemaker.trained_job import Origin, TrainedJob, artifact_of, trained_job
from resources.sagemaker.training_spec import TrainingJobSpec, same_work

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import DescribeTrainingJobResponseTypeDef as Described

Usable = Callable[[TrainedJob], bool]

MOST_ATTEMPTS = 999
# A job may be unknown for a moment after its creation was confirmed.
UNKNOWN_SECONDS = 60
# What the service gives a container to end before it kills it, and some more to tell us.
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
        role_arn: For specs that name none.
        tags: Of the run, put on every job that is started.
        poll_seconds: Between two looks at a job.
        price_per_hour: By instance type, in whatever currency.
        usable: Has the last word on whether a finished job may be reused.
    """

    clients: Clients
    calls: Calls
    log: Log
    role_arn: str
    tags: dict[str, str]
    poll_seconds: float
    price_per_hour: Mapping[str, float]
    usable: Usable | None = None

    def describe(self, name: str) -> "Described | None":
        """A job as it is, None where there is none of that name."""
        try:
            return self.calls(self.clients.control.describe_training_job, TrainingJobName=name)
        except NotFoundError:
            return None

    def stop(self, name: str, calls: Calls | None = None) -> bool:
        """Ask a job to stop.

        Returns:
            Whether there was one that could be.
        """
        try:
            (calls or self.calls)(self.clients.control.stop_training_job, TrainingJobName=name)
        except (BusyError, NotFoundError):
            return False  # it has ended by itself, or has never come to be
        return True


class JobRun:
    """One training job on its way: `begin`, then `poll` until it gives a result."""

    def __init__(self, trainer: Trainer, spec: TrainingJobSpec) -> None:
        self._trainer = trainer
        self._calls = trainer.calls
        self._log = trainer.log
        self._spec = spec
        self._name = spec.name
        self._origin: Origin = "started"
        self._live = False
        self._logs: JobLogs | None = None
        self._told: set[tuple[str, str]] = set()
        self._began = time.monotonic()
        self._stopping_since: float | None = None
        self._unknown_since: float | None = None

    def begin(self) -> None:
        """Find the job that does this work, or start it.

        Raises:
            SpecError: The spec cannot work.
            RefusedError: SageMaker refuses the job.
            UnavailableError: SageMaker cannot be reached.
        """
        self._spec.check()
        for attempt in range(1, MOST_ATTEMPTS + 1):
            self._name = attempt_name(self._spec.name, attempt)
            described = self._trainer.describe(self._name) or self._create()
            if described is None or self._take(described):
                self._follow_logs()
                return
        raise TrainingError(
            f"{MOST_ATTEMPTS} jobs named {self._spec.name} have failed or were stopped. "
            "Use another name.",
            job=self._spec.name,
        )

    def poll(self) -> TrainedJob | None:
        """Look at the job once.

        Returns:
            The job if it has completed, None while it goes on.

        Raises:
            TrainingFailedError: It failed; with SageMaker's reason.
            TrainingStoppedError: Somebody, or its own limits, stopped it.
            TrainingDeadlineError: It was not done in time and has been stopped.
            UnavailableError: SageMaker cannot be reached.
        """
        described = self._describe_started()
        if described is None:
            return None
        self._tell_progress(described)
        # After the status: what is final then has all its lines written, or nearly so.
        if self._logs:
            self._copy_logs(self._logs, described)
        if described["TrainingJobStatus"] in {"InProgress", "Stopping"}:
            self._keep_deadline(described)
            return None
        self._live = False
        return self._result(described)

    def abandon(self) -> None:
        """Stop the job if it goes on. Never raises: whoever calls has an error to raise already."""
        if not self._live:
            return
        self._log.warning(f"Stopping training job {self._name}.")
        try:
            self._trainer.stop(self._name, self._calls.hurried(LAST_MINUTE_SECONDS))
        except SageMakerError as error:
            self._log.warning(
                f"Training job {self._name} could not be stopped and may go on until its limit of "
                f"{self._spec.compute.max_runtime_seconds} s. Stop it in the console: "
                f"{self._console_url}. {error}"
            )

    def _take(self, described: "Described") -> bool:
        """Attach to an existing job or reuse it, unless it is no good."""
        status = described["TrainingJobStatus"]
        places = same_work(self._request(), cast("dict[str, Any]", described))
        if places:
            self._log.warning(
                f"Training job {self._name} exists with another configuration "
                f"({', '.join(places)}); it is left alone, the next name is tried."
            )
        elif status == "Completed":
            return self._reuse(described)
        elif status == "InProgress":
            self._origin = "attached"
            self._live = True
            self._log.info(f"Training job {self._name} does this work already: attached.")
            # The deadline runs from the job's creation: attaching does not prolong it.
            age = datetime.now(UTC) - described["CreationTime"]
            self._began = time.monotonic() - max(0.0, age.total_seconds())
            return True
        else:
            self._log.info(f"Training job {self._name} was {status}; the next name is tried.")
        return False

    def _reuse(self, described: "Described") -> bool:
        self._origin = "reused"
        usable = self._trainer.usable
        if usable is None or not artifact_of(described) or usable(self._trained(described)):
            self._log.info(f"Training job {self._name} has done this work already: reused.")
            return True
        self._log.warning(
            f"Training job {self._name} has done this work, but what it made cannot be used any "
            "more; the next name is tried."
        )
        self._origin = "started"
        return False

    def _create(self) -> "Described | None":
        """Start the job; if somebody else has just done so, give theirs."""
        self._began = time.monotonic()
        # Before the request: if we are interrupted in it, the job may exist all the same.
        self._live = True
        try:
            self._calls(self._trainer.clients.control.create_training_job, **self._request())
        except AlreadyExistsError:
            # Or else the answer to our own first try got lost, and theirs is ours.
            self._live = False
            return self._describe_soon()
        except SageMakerError as error:
            self._live = error.transient
            raise
        self._log.info(f"Training job {self._name} started: {self._console_url}")
        return None

    def _describe_soon(self) -> "Described":
        end = time.monotonic() + UNKNOWN_SECONDS
        while (described := self._trainer.describe(self._name)) is None:
            if time.monotonic() > end:
                raise self._vanished()
            time.sleep(min(1, self._trainer.poll_seconds))
        return described

    def _request(self) -> dict[str, Any]:
        return self._spec.to_request(self._name, self._trainer.role_arn, self._trainer.tags)

    def _describe_started(self) -> "Described | None":
        described = self._trainer.describe(self._name)
        if described is not None:
            self._unknown_since = None
            return described
        now = time.monotonic()
        self._unknown_since = self._unknown_since or now
        if now - self._unknown_since > UNKNOWN_SECONDS:
            raise self._vanished()
        return None

    def _vanished(self) -> TrainingError:
        return TrainingError(
            f"Training job {self._name} has vanished: SageMaker does not know it any more.",
            job=self._name,
        )

    def _follow_logs(self) -> None:
        if self._spec.stream_logs and self._origin != "reused":
            self._logs = JobLogs(
                self._trainer.clients,
                self._calls,
                self._log,
                job=self._name,
                instances=self._spec.compute.instance_count,
            )

    def _copy_logs(self, logs: JobLogs, described: "Described") -> None:
        logs.copy_new()
        if described["TrainingJobStatus"] == "Failed":
            # The last lines say why, and CloudWatch takes its time to show them.
            time.sleep(min(LATE_LINES_SECONDS, self._trainer.poll_seconds))
            logs.copy_new()

    def _tell_progress(self, described: "Described") -> None:
        if self._origin == "reused":
            return
        for transition in described.get("SecondaryStatusTransitions", []):
            step = (transition["Status"], transition.get("StatusMessage", ""))
            if step not in self._told:
                self._told.add(step)
                self._log.info(f"{self._name}: {': '.join(filter(None, step))}")

    def _keep_deadline(self, described: "Described") -> None:
        deadline = self._spec.deadline_seconds
        now = time.monotonic()
        if self._stopping_since is not None:
            if now - self._stopping_since > STOPPING_SECONDS:
                raise self._deadline_error("It was asked to stop and has not done so yet.")
        elif deadline is not None and now - self._began > deadline:
            self._log.warning(
                f"Training job {self._name} is not done after {deadline:g} s "
                f"({described['SecondaryStatus']}): stopping it."
            )
            self._trainer.stop(self._name)
            self._stopping_since = now

    def _result(self, described: "Described") -> TrainedJob:
        status = described["TrainingJobStatus"]
        if status == "Completed" and artifact_of(described):
            return self._trained(described)
        reason = described.get("FailureReason") or "SageMaker gives no reason."
        if status == "Completed":
            raise TrainingFailedError(
                f"Training job {self._name} completed without an artifact.",
                job=self._name,
                console_url=self._console_url,
            )
        if status == "Failed":
            kind = TrainingOutageError if reason.startswith(OUTAGES) else TrainingFailedError
            raise kind(
                f"Training job {self._name} failed: {reason}",
                job=self._name,
                console_url=self._console_url,
            )
        if self._stopping_since is not None:
            raise self._deadline_error("It has been stopped.")
        raise TrainingStoppedError(
            f"Training job {self._name} came to no result ({status}: "
            f"{described['SecondaryStatus']}). {_why_stopped(described)}",
            job=self._name,
            console_url=self._console_url,
        )

    def _trained(self, described: "Described") -> TrainedJob:
        return trained_job(
            described,
            origin=self._origin,
            price_per_hour=self._trainer.price_per_hour,
            console_url=self._console_url,
        )

    def _deadline_error(self, outcome: str) -> TrainingDeadlineError:
        return TrainingDeadlineError(
            f"Training job {self._name} was not done within its deadline of "
            f"{self._spec.deadline_seconds:g} s. {outcome} Give it more time or a larger instance.",
            job=self._name,
            console_url=self._console_url,
        )

    @property
    def _console_url(self) -> str:
        return self._trainer.clients.console_url(f"jobs/{self._name}")


def _why_stopped(described: "Described") -> str:
    if described["SecondaryStatus"] == "MaxRuntimeExceeded":
        limit = described["StoppingCondition"].get("MaxRuntimeInSeconds")
        return f"It ran longer than max_runtime_seconds ({limit} s): raise it."
    if described["SecondaryStatus"] == "MaxWaitTimeExceeded":
        return "It waited for spot capacity longer than spot.max_wait_seconds: raise it."
    return "Somebody stopped it."
