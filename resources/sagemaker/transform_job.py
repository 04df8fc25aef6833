"""A batch transform job: a model answers for all objects under a prefix, and is then removed.

How jobs are started and waited for stands in `jobs.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from .endpoint_spec import ModelContainer
from .errors import (
    AlreadyExistsError,
    NotFoundError,
    SageMakerError,
    TransformError,
    UnavailableError,
)
from .job_kind import Description, FinishedJob, JobContext, JobFields, JobKind
from .jobs import LAST_MINUTE_SECONDS, JobRunner, Usable
from .names import MAX_NAME, deterministic_name, to_tags
from .request_parts import Config, differences, with_extra
from .security import Security

# What decides over what comes out. The instances say how it is run and paid for.
RESULT_KEYS = (
    "ModelName",
    "TransformInput",
    "TransformOutput",
    "BatchStrategy",
    "MaxPayloadInMB",
    "DataProcessing",
    "Environment",
)
# What AWS says where a request says nothing. How it batches by itself is not known before.
DEFAULTS = {
    "Accept": "",
    "AssembleWith": "None",
    "CompressionType": "None",
    "ContentType": "",
    "InputFilter": "$",
    "JoinSource": "None",
    "KmsKeyId": "",
    "OutputFilter": "$",
    "SplitType": "None",
}
BY_AWS = ("BatchStrategy", "MaxPayloadInMB")


class OtherModelError(TransformError):
    """A model of the job's name is somebody else's: it is not used, and not deleted."""


class TransformInput(Config):
    """The objects that a model is to answer for."""

    s3_uri: str = Field(description="Prefix or manifest file in S3.")
    content_type: str | None = Field(
        default=None, description="MIME type of what the model gets, such as text/csv."
    )
    s3_data_type: Literal["S3Prefix", "ManifestFile"] = Field(
        default="S3Prefix", description="What the URI names."
    )
    split_type: Literal["None", "Line", "RecordIO", "TFRecord"] = Field(
        default="None", description="How an object is split into records."
    )
    compression: Literal["None", "Gzip"] = Field(
        default="None", description="How the objects are compressed."
    )

    def to_request(self) -> dict[str, Any]:
        """TransformInput of the request."""
        source = {"S3DataType": self.s3_data_type, "S3Uri": self.s3_uri}
        return {
            "DataSource": {"S3DataSource": source},
            "SplitType": self.split_type,
            "CompressionType": self.compression,
            **({"ContentType": self.content_type} if self.content_type else {}),
        }


class TransformJobSpec(JobFields):
    """A batch transform job with a model of its own."""

    kind: ClassVar[JobKind] = JobKind(
        "Transform", "transform-jobs", TransformError, Security.transform_job
    )

    container: ModelContainer = Field(
        description="The model. It exists in SageMaker for as long as the job does."
    )
    input: TransformInput = Field(description="What the model is to answer for.")
    output_s3_uri: str = Field(
        description="Prefix in S3; the answers to an object get its key and `.out`."
    )
    accept: str | None = Field(default=None, description="MIME type that the answers are to have.")
    assemble_with: Literal["None", "Line"] = Field(
        default="None", description="How the answers to the records of an object are joined."
    )
    strategy: Literal["MultiRecord", "SingleRecord"] | None = Field(
        default=None, description="Records in one request to the model; None for AWS's default."
    )
    max_payload_mb: int | None = Field(
        default=None, description="Largest request to the model in MB; AWS's default is 6.", ge=0
    )
    instance_type: str = Field(default="ml.m5.large", description="ML instance type.")
    instance_count: int = Field(default=1, description="Number of instances.", ge=1)
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of CreateTransformJob by AWS's own names (DataProcessing, "
            "MaxConcurrentTransforms, ModelClientConfig, ...), none that another field gives."
        ),
    )

    def model_name(self, role_arn: str) -> str:
        """The name of the job's model: of another container, another name."""
        contents = self.container.to_request(role_arn)
        return deterministic_name(self.name, digest_of=contents, longest=MAX_NAME)

    def to_request(self, name: str, role_arn: str, tags: dict[str, str]) -> dict[str, Any]:
        """The CreateTransformJob request."""
        output: dict[str, Any] = {
            "S3OutputPath": self.output_s3_uri,
            "AssembleWith": self.assemble_with,
        }
        if self.accept:
            output["Accept"] = self.accept
        request: dict[str, Any] = {
            "TransformJobName": name,
            "ModelName": self.model_name(role_arn),
            "TransformInput": self.input.to_request(),
            "TransformOutput": output,
            "TransformResources": {
                "InstanceType": self.instance_type,
                "InstanceCount": self.instance_count,
            },
            "Tags": to_tags(tags, self.tags),
        }
        if self.strategy:
            request["BatchStrategy"] = self.strategy
        if self.max_payload_mb is not None:
            request["MaxPayloadInMB"] = self.max_payload_mb
        return with_extra(request, self.extra_request)

    def check(self) -> None:
        """Find what cannot work before it is sent.

        Raises:
            SpecError: A URI is not one of S3.
        """
        self.require_uris([self.input.s3_uri, self.output_s3_uri], "s3://")

    @property
    def limit_seconds(self) -> None:
        """SageMaker has no limit for transform jobs."""

    def differences(self, request: dict[str, Any], description: Description) -> list[str]:
        wanted, actual = _result_part(request), _result_part(description)
        beyond = {key: value for key, value in actual.items() if key not in BY_AWS}
        return sorted({*differences(wanted, actual), *differences(beyond, wanted)})

    def result(self, description: Description, job: JobContext) -> "TransformedData":
        seconds = self.kind.seconds(description)
        return TransformedData(
            **job.outcome(description, description["TransformResources"], seconds),
            output_s3_uri=description["TransformOutput"]["S3OutputPath"],
            seconds=seconds,
        )

    def why_stopped(self, _: Description, /) -> str:
        return "Somebody stopped it."


@dataclass(frozen=True, kw_only=True)
class TransformedData(FinishedJob):
    """A completed batch transform job.

    Attributes:
        output_s3_uri: Prefix in S3 under which the answers are.
        seconds: Between its start and its end; None where SageMaker does not say.
    """

    output_s3_uri: str
    seconds: float | None

    def metadata(self) -> dict[str, Any]:
        """What is worth showing on a materialisation, in JSON's types."""
        return self.describe(TransformJobSpec.kind, {"transform_seconds": self.seconds})


def run_transform(
    runner: JobRunner, spec: TransformJobSpec, usable: Usable[TransformedData] | None = None
) -> TransformedData:
    """Run the job with its model beside it; see `SageMakerResource.transform`."""
    spec.check()
    stays = False
    try:
        _create_model(runner, spec)
        try:
            return runner.run(spec, usable)
        except NotFoundError:
            # Another run of the same work has just ended, and deleted the model that both use.
            _create_model(runner, spec)
            return runner.run(spec, usable)
    except (UnavailableError, OtherModelError):
        # For the job, which goes on, and the next attempt attaches to it; or the model is not ours.
        stays = True
        raise
    finally:
        if not stays:
            _delete_model(runner, spec.model_name(runner.role_arn))


def _create_model(runner: JobRunner, spec: TransformJobSpec) -> None:
    name = spec.model_name(runner.role_arn)
    request = runner.security.model(spec.container.to_request(runner.role_arn))
    control = runner.clients.control
    tags = to_tags(runner.tags, spec.tags)
    try:
        runner.calls(control.create_model, ModelName=name, Tags=tags, **request)
    except AlreadyExistsError:
        # Left by a run that was killed, or of another that does the same work now.
        try:
            actual = runner.calls(control.describe_model, ModelName=name)
        except NotFoundError:
            runner.calls(control.create_model, ModelName=name, Tags=tags, **request)
            return
        if places := differences(request, actual):
            raise OtherModelError(
                f"Model {name} exists with other contents ({', '.join(places)}). Delete it."
            ) from None


def _delete_model(runner: JobRunner, name: str) -> None:
    """Never raises: the job's outcome matters more."""
    calls = runner.calls.with_patience(LAST_MINUTE_SECONDS)
    try:
        calls(runner.clients.control.delete_model, ModelName=name)
    except NotFoundError:
        return
    except SageMakerError as error:
        calls.log.warning(f"Model {name} could not be deleted: delete it yourself. {error}")


def _result_part(job: Mapping[str, Any]) -> dict[str, Any]:
    part = {key: job[key] for key in RESULT_KEYS if key in job}
    output: dict[str, Any] = part["TransformOutput"]
    path = output.get("S3OutputPath", "").rstrip("/")
    return _without_defaults(part | {"TransformOutput": output | {"S3OutputPath": path}})


def _without_defaults(part: Mapping[str, Any]) -> dict[str, Any]:
    """A request or an answer without what says nothing; nested objects likewise."""
    kept: dict[str, Any] = {}
    for key, value in part.items():
        inner = (
            _without_defaults(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        )
        if inner not in (None, {}) and inner != DEFAULTS.get(key):
            kept[key] = inner
    return kept
