"""What can go wrong with SageMaker: a class for each kind of failure that callers tell apart.

Which of AWS's codes becomes which class stands in `calls.py`.
"""

from ..errors import ResourceError


class SageMakerError(ResourceError):
    """A failure of SageMaker, or one that it reports."""


class SpecError(SageMakerError):
    """A spec that cannot work. Nothing was sent."""


class UnavailableError(SageMakerError):
    """SageMaker throttled, answered 5xx or could not be reached until our patience ended."""

    transient = True


class RefusedError(SageMakerError):
    """SageMaker refused a request: wrong input, no permission, a quota, …

    Of these only a used-up quota is transient: it is free again when other jobs have ended.
    """


class NotFoundError(RefusedError):
    """What the request names does not exist."""


class AlreadyExistsError(RefusedError):
    """What the request would create exists already under that name."""


class BusyError(RefusedError):
    """What the request would change is being changed, or is in a state that forbids it."""


class JobError(SageMakerError):
    """A job that gave no result: it failed, was stopped, or missed its deadline.

    Transient where it failed for want of capacity or by a fault of the service.
    """


class TrainingError(JobError):
    """A training job that gave no result."""


class ProcessingError(JobError):
    """A processing job that gave no result."""


class TransformError(JobError):
    """A batch transform job that gave no result."""


class EndpointError(SageMakerError):
    """An endpoint that is not as it should be: missing, failed, or not updated."""


class SmokeTestError(EndpointError):
    """The new version was in service and failed its smoke test; the old one was put back.

    Transient where the smoke test got no answer by a fault of the service.
    """


class DeployConflictError(EndpointError):
    """Somebody else is deploying to this endpoint, or has deployed over this deploy."""

    transient = True


class DeployDeadlineError(EndpointError):
    """The endpoint was still changing at the deadline. A later deploy goes on waiting for it."""

    transient = True
