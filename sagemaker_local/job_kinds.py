"""What jobs of every kind have in common: create, describe and stop, and what a run works with.

A job's document names its members after its kind: `TrainingJobStatus`, `TransformJobStatus`. What
is special to a kind is in its own module; jobs.py runs the jobs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagemaker_local import names, tags
from sagemaker_local.aws_errors import AwsError, validation
from sagemaker_local.config import Config
from sagemaker_local.context import Context, Operation
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Storage
from sagemaker_local.store import Document

IN_PROGRESS = "InProgress"
STOPPING = "Stopping"


@dataclass(frozen=True)
class JobKind:
    """A kind of job.

    Attributes:
        resource: What its jobs are called in the store and in ARNs, `training-job`.
        prefix: What its operations and the members of its documents are called by, `Training`.
        log_group: Where its containers write.
        on_status: Called with a document for each status that the job enters, and a message for it.
    """

    resource: str
    prefix: str
    log_group: str
    on_status: Callable[[Document, str, str], None] = lambda *_: None

    @property
    def name(self) -> str:
        """The member that holds a job's name."""
        return f"{self.prefix}JobName"

    @property
    def status(self) -> str:
        """The member that holds a job's status."""
        return f"{self.prefix}JobStatus"


@dataclass(frozen=True)
class Job:
    """What one run of a job works with.

    Attributes:
        kind: Its kind.
        document: As it was when the run began.
        config, storage, logs: The server's own.
        set_status: Called with each status that the run comes to; the first begins the job's time.
    """

    kind: JobKind
    document: Document
    config: Config
    storage: Storage
    logs: Logs
    set_status: Callable[[str], None]

    @property
    def name(self) -> str:
        """Its name."""
        return self.document[self.kind.name]

    @property
    def folder(self) -> Path:
        """Where the run works; it is removed at the end."""
        return self.config.work_dir / f"{self.kind.resource}-{self.name}"


def operations(kind: JobKind, create: Operation, list_jobs: Operation) -> dict[str, Operation]:
    """The operations on jobs of a kind, by their names."""
    return {
        f"Create{kind.prefix}Job": create,
        f"Describe{kind.prefix}Job": _describing(kind),
        f"List{kind.prefix}Jobs": list_jobs,
        f"Stop{kind.prefix}Job": _stopping(kind),
    }


def require_new(context: Context, kind: JobKind, name: str) -> None:
    """Refuses a name that a job of this kind has had before; they are never free again.

    Raises:
        AwsError: There is such a job.
    """
    if context.store.get(kind.resource, name) is not None:
        raise _exists(context, kind, name)


def begin(
    context: Context, kind: JobKind, request: Document, resources: Document, more: Document
) -> Document:
    """Stores a job and starts it.

    Args:
        context: What operations work with.
        kind: The kind of job.
        request: The checked request; the document keeps all of it but its tags.
        resources: Its part with `InstanceType` and `InstanceCount`.
        more: Further members of the document.

    Returns:
        The answer to Create…Job.

    Raises:
        AwsError: Too many jobs of the kind are in progress, or there is one of this name.
    """
    name = request[kind.name]
    running = len(context.store.names(kind.resource, (IN_PROGRESS, STOPPING)))
    if running >= context.config.job_limit:
        raise _limit(kind, resources, context.config.job_limit, running)
    now = time.time()
    arn = names.arn(context.config, kind.resource, name)
    answer: Document = {f"{kind.prefix}JobArn": arn}
    document: Document = {
        **tags.without_tags(request),
        **answer,
        kind.status: IN_PROGRESS,
        "CreationTime": now,
        "LastModifiedTime": now,
        "_faults": context.lasting_faults(f"Create{kind.prefix}Job"),
        **more,
    }
    kind.on_status(document, "Starting", "")
    if not tags.insert(context, kind.resource, name, arn, request, document, IN_PROGRESS):
        raise _exists(context, kind, name)
    context.start_job(kind.resource, name)
    return answer


def _describing(kind: JobKind) -> Operation:
    """Describe…Job."""

    def describe(context: Context, request: Document) -> Document:
        document = context.store.get(kind.resource, request[kind.name])
        if document is None:
            raise _missing()
        return document

    return describe


def _stopping(kind: JobKind) -> Operation:
    """Stop…Job: acknowledged once the job is marked; the runner ends it."""

    def mark(document: Document) -> str | None:
        status = document[kind.status]
        if status == STOPPING:
            return None
        if status != IN_PROGRESS:
            raise validation(
                f"The request was rejected because the {kind.prefix.lower()} job is in status "
                f"{status}."
            )
        document[kind.status] = STOPPING
        kind.on_status(document, STOPPING, "")
        return STOPPING

    def stop(context: Context, request: Document) -> Document:
        name = request[kind.name]
        if context.store.update(kind.resource, name, mark) is None:
            raise _missing()
        context.stop_job(kind.resource, name)
        return {}

    return stop


def _missing() -> AwsError:
    return validation("Requested resource not found.")


def _exists(context: Context, kind: JobKind, name: str) -> AwsError:
    return AwsError(
        "ResourceInUse",
        f"{kind.prefix} job names must be unique within an AWS account and region, and a "
        f"{kind.prefix.lower()} job with this name already exists "
        f"({names.arn(context.config, kind.resource, name)})",
    )


def _limit(kind: JobKind, resources: Document, limit: int, running: int) -> AwsError:
    usage = f"{resources['InstanceType']} for {kind.prefix.lower()} job usage"
    return AwsError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{usage}' is {limit} Instances, with current utilization "
        f"of {running} Instances and a request delta of {resources['InstanceCount']} Instances. "
        "Please use AWS Service Quotas "
        "to request an increase for this quota. If AWS Service Quotas is not available, contact "
        "AWS support to request an increase for this quota.",
    )
