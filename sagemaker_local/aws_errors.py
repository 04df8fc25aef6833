"""The exception that becomes an AWS error answer, and those that end a job or a deployment.

app.py writes an AwsError as an HTTP answer.
"""

from collections.abc import Mapping

# Reasons of failed jobs and deployments.
CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a "
    "different ML instance type."
)
OUT_OF_MEMORY = (
    "ClientError: Please use an instance type with more memory, or reduce the size of training "
    "data processed on an instance."
)


class AwsError(Exception):
    """A refusal in AWS's words.

    Attributes:
        code: AWS's error code, what botocore shows in `error.response["Error"]["Code"]`.
        message: AWS's message.
        status: HTTP status.
        extra: Further members of the error's shape.
    """

    def __init__(
        self, code: str, message: str, status: int = 400, extra: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.extra = dict(extra or {})


class JobFailure(Exception):  # noqa: N818 - the field's own word for it
    """A job or a deployment cannot go on; the text becomes its `FailureReason`."""


class StopRequestedError(Exception):
    """A job was told to stop.

    Attributes:
        status: The secondary status that a training job ends with.
    """

    def __init__(self, status: str = "Stopped") -> None:
        super().__init__(status)
        self.status = status


def validation(message: str) -> AwsError:
    """A `ValidationException`, SageMaker's code for nearly every refusal."""
    return AwsError("ValidationException", message)


def not_found(kind: str, arn: str) -> AwsError:
    """The refusal for a model, endpoint or endpoint configuration that does not exist."""
    return validation(f'Could not find {_words(kind)} "{arn}".')


def existing(kind: str, arn: str) -> AwsError:
    """The refusal to create what exists."""
    return validation(f'Cannot create already existing {_words(kind)} "{arn}".')


def _words(kind: str) -> str:
    return "endpoint configuration" if kind == "endpoint-config" else kind
