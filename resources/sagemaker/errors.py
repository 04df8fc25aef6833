"""What can go wrong with SageMaker: one class for each kind of failure.

Each says by `transient` whether the same call may succeed later, and becomes a `dagster.Failure`
by `to_failure()`. Which AWS code belongs to which class stands in `calls.py`.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from resources.errors import ResourceError


class SageMakerError(ResourceError):
    """A failure of, or reported by, SageMaker.

    Attributes:
        details: What is worth showing beside the message: names, codes, links.
    """

    def __init__(self, message: str, **details: str | None) -> None:
        super().__init__(message)
        self.details: Mapping[str, str] = {key: value for key, value in details.items() if value}

    def to_failure(self) -> dg.Failure:
        """The same failure for Dagster: only what is transient may be retried."""
        metadata: dict[str, Any] = {
            key: dg.MetadataValue.url(value) if key.endswith("_url") else value
            for key, value in self.details.items()
        }
        return dg.Failure(str(self), metadata=metadata, allow_retries=self.transient)


class UnavailableError(SageMakerError):
    """SageMaker throttled, answered 5xx or could not be reached for longer than our patience."""

    transient = True


class RefusedError(SageMakerError):
    """SageMaker refused a request, and will refuse it again: wrong input, no permission, ...

    Attributes:
        operation: The operation that was refused, such as `create_model`.
        code: AWS's error code, such as `ValidationException`.
        reason: AWS's own words.
    """

    def __init__(self, operation: str, code: str, reason: str) -> None:
        super().__init__(
            f"SageMaker refused {operation}: {code}: {reason}", operation=operation, code=code
        )
        self.operation = operation
        self.code = code
        self.reason = reason


class QuotaError(RefusedError):
    """An account limit is used up. It may be free again when other jobs have ended."""

    transient = True


class NotFoundError(RefusedError):
    """What the request names does not exist."""


class AlreadyExistsError(RefusedError):
    """What the request would make exists already under that name."""


class BusyError(RefusedError):
    """What the request would change is being changed, or is in a state that forbids it."""


class SpecError(SageMakerError, ValueError):
    """A spec that cannot work, found before anything was sent."""


class TrainingError(SageMakerError):
    """A training job that came to no result.

    Attributes:
        job: Name of the job.
    """

    def __init__(self, message: str, *, job: str, console_url: str | None = None) -> None:
        super().__init__(message, training_job=job, console_url=console_url)
        self.job = job


class TrainingFailedError(TrainingError):
    """The job failed by itself; the message has SageMaker's FailureReason."""


class TrainingOutageError(TrainingFailedError):
    """The job failed for want of capacity or by a fault of the service, not by its own."""

    transient = True


class TrainingStoppedError(TrainingError):
    """The job was stopped: by somebody, or by its own stopping condition."""


class TrainingDeadlineError(TrainingError):
    """The job was not done by the deadline and was stopped by us."""


class EndpointError(SageMakerError):
    """An endpoint that is not as it should be.

    Attributes:
        endpoint: Name of the endpoint.
    """

    def __init__(self, message: str, *, endpoint: str, console_url: str | None = None) -> None:
        super().__init__(message, endpoint=endpoint, console_url=console_url)
        self.endpoint = endpoint


class EndpointMissingError(EndpointError):
    """There is no endpoint of that name."""


class EndpointFailedError(EndpointError):
    """The endpoint could not be created; the message has SageMaker's reason."""


class UpdateFailedError(EndpointError):
    """SageMaker gave the update up and serves the old config; the message has its reason."""


class SmokeTestError(EndpointError):
    """The new version was in service and failed the smoke request; the old one was put back."""


class SmokeOutageError(SmokeTestError):
    """The smoke request got no answer, by a fault of the service; the old version was put back."""

    transient = True


class EndpointMismatchError(EndpointError):
    """What stands in SageMaker under a name of ours is not what that name stands for."""


class DeployConflictError(EndpointError):
    """Somebody else is deploying to this endpoint, or has deployed over this deploy."""

    transient = True


class DeployDeadlineError(EndpointError):
    """The endpoint was still changing at the deadline. A later deploy takes the wait up again."""

    transient = True


class NoEarlierVersionError(EndpointError):
    """There is no earlier version to roll back to, or not the one that was asked for."""
