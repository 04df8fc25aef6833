"""What a job is to the code that runs it: its kind, what its spec offers, what it came to.

How jobs are started and waited for stands in `jobs.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import Field

from .calls import Clients
from .errors import JobError, SpecError
from .names import MAX_JOB_BASE, NAME
from .request_parts import Config
from .security import Security

Origin = Literal["started", "attached", "reused"]
Description = Mapping[str, Any]
"""What a Describe…Job operation answers."""
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class JobKind:
    """What sets a kind of jobs apart from the others in SageMaker's API.

    Attributes:
        word: As it stands in the API's names: `Training` in `CreateTrainingJob`.
        page: Of the console.
        error: Raised for a job that gives no result.
        secured: A request for a job with what an account wants of all jobs.
    """

    word: Literal["Training", "Transform", "Processing"]
    page: str
    error: type[JobError]
    secured: Callable[[Security, dict[str, Any]], dict[str, Any]]

    @property
    def noun(self) -> str:
        """In a sentence, such as `training job`."""
        return f"{self.word.lower()} job"

    @property
    def log_group(self) -> str:
        """Where CloudWatch keeps the logs of these jobs."""
        return f"/aws/sagemaker/{self.word}Jobs"

    def request(self, name: str) -> dict[str, str]:
        """What names a job in a request."""
        return {f"{self.word}JobName": name}

    def status(self, description: Description) -> str:
        """A described job's status, such as `InProgress`."""
        return description[f"{self.word}JobStatus"]

    def seconds(self, description: Description) -> float | None:
        """Between the start and the end of a transform or processing job, as far as it has both."""
        start = description.get(f"{self.word}StartTime")
        end = description.get(f"{self.word}EndTime")
        return (end - start).total_seconds() if start and end else None

    def operation(self, clients: Clients, verb: Literal["create", "describe", "stop"]) -> Any:
        """A client's method, such as `create_training_job`."""
        return getattr(clients.control, f"{verb}_{self.word.lower()}_job")


class JobFields(Config):
    """What the specs of all kinds of jobs have in common.

    The name is the identity of the work. Make it from all that decides over the result, by
    `deterministic_name(..., digest_of=...)`: then the same work finds its own job again.
    """

    name: str = Field(
        description="Base of the job's name; further attempts at it get -2, -3, ... appended.",
        min_length=1,
        max_length=MAX_JOB_BASE,
        pattern=f"^{NAME.pattern}$",
    )
    deadline_seconds: float | None = Field(
        default=None,
        description=(
            "The job is stopped, and the run fails, if it is not done this long after it was "
            "created, time in the queue included. None leaves it to SageMaker's own limit, which "
            "transform jobs do not have."
        ),
        gt=0,
    )
    stream_logs: bool = Field(
        default=True, description="Copy the job's CloudWatch log lines into the run's log."
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of the job, and of what is made for it."
    )

    def require_uris(self, uris: Iterable[str], *schemes: str) -> None:
        """Find what is no address in S3.

        Raises:
            SpecError: It begins with none of the schemes.
        """
        for uri in uris:
            if not uri.startswith(schemes):
                raise SpecError(f"{self.name}: {uri!r} is not an S3 URI (s3://bucket/key).")


class JobSpec(Protocol[R_co]):
    """What a job is to be, and how to tell what it came to."""

    kind: ClassVar[JobKind]

    @property
    def name(self) -> str: ...
    @property
    def instance_count(self) -> int: ...
    @property
    def deadline_seconds(self) -> float | None: ...
    @property
    def limit_seconds(self) -> int | None:
        """After which SageMaker itself ends the job; None where it does not."""
        ...

    @property
    def stream_logs(self) -> bool: ...

    def check(self) -> None:
        """Raise SpecError for what cannot work, before it is sent."""
        ...

    def to_request(self, name: str, role_arn: str, tags: dict[str, str]) -> dict[str, Any]:
        """The request that creates the job; the spec's own tags win.

        Raises:
            SpecError: The extra request repeats a field.
        """
        ...

    def differences(self, request: dict[str, Any], description: Description) -> list[str]:
        """Where a described job is not the one that a request asks for; empty where it is."""
        ...

    def result(self, description: Description, job: "JobContext") -> R_co | None:
        """What a completed job came to; None where it lacks an artifact."""
        ...

    def why_stopped(self, description: Description, /) -> str:
        """A sentence on why a job ended before it was done."""
        ...


@dataclass(frozen=True)
class JobContext:
    """What is known of a job beside its description: how it was obtained, prices, console link.

    Attributes:
        price_per_hour: By instance type, in whatever currency.
    """

    kind: JobKind
    origin: Origin
    price_per_hour: Mapping[str, float]
    console_url: str

    def outcome(
        self, description: Description, resources: Mapping[str, Any], seconds: float | None
    ) -> dict[str, Any]:
        """The attributes of a `FinishedJob` whose resources are paid for so many seconds."""
        instance_type = resources.get("InstanceType", "")
        instance_count = resources.get("InstanceCount", 1)
        price, cost = self.price_per_hour.get(instance_type), None
        if price is not None and seconds is not None:
            cost = seconds * instance_count * price / 3600
        return {
            "name": description[f"{self.kind.word}JobName"],
            "arn": description[f"{self.kind.word}JobArn"],
            "origin": self.origin,
            "instance_type": instance_type,
            "instance_count": instance_count,
            "estimated_cost": cost,
            "console_url": self.console_url,
        }


@dataclass(frozen=True, kw_only=True)
class FinishedJob:
    """A completed job.

    Attributes:
        name: With the attempt's suffix.
        origin: `started` by this call, `attached` to while it ran, or `reused` since it was done.
        estimated_cost: Seconds paid for × instance_count × the configured price of the instance
            type, in its currency; None where no price is configured.
        console_url: The job in the AWS console; empty where it is not AWS's.
    """

    name: str
    arn: str
    origin: Origin
    instance_type: str
    instance_count: int
    estimated_cost: float | None
    console_url: str

    def describe(self, kind: JobKind, seconds: Mapping[str, float | None]) -> dict[str, Any]:
        """The metadata that all kinds of jobs have, in JSON's types."""
        return {
            "instance_type": self.instance_type,
            "instance_count": self.instance_count,
            **seconds,
            "estimated_cost": self.estimated_cost,
            **({f"{kind.word.lower()}_job_url": self.console_url} if self.console_url else {}),
        }
