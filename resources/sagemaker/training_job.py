"""A training job as data: its settings, the request for it, and what it came to.

How jobs are started and waited for stands in `jobs.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from .errors import SpecError, TrainingError
from .job_kind import Description, FinishedJob, JobContext, JobFields, JobKind
from .names import is_builtin, to_tags
from .request_parts import Config, with_extra, work_differences
from .security import Security

# What decides over what is trained. The rest (instance type, spot, network, limits, tags) says
# how it is run and paid for: a finished job is not paid for again because that changed.
RESULT_KEYS = (
    "AlgorithmSpecification",
    "HyperParameters",
    "InputDataConfig",
    "OutputDataConfig",
    "Environment",
)
# Of algorithms that write no checkpoints:
# https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html
LONGEST_SPOT_SECONDS = 3600
# Where something beyond what was asked for makes another job of it.
EXACT_KEYS = ("HyperParameters", "Environment")


class S3Channel(Config):
    """One input channel, read from S3."""

    name: str = Field(description="Channel name, such as train or test.", min_length=1)
    s3_uri: str = Field(description="Prefix, manifest file or augmented manifest in S3.")
    content_type: str | None = Field(
        default=None, description="MIME type, such as application/x-recordio-protobuf."
    )
    s3_data_type: Literal["S3Prefix", "ManifestFile", "AugmentedManifestFile"] = Field(
        default="S3Prefix", description="What the URI names."
    )
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of the channel by AWS's own names, such as InputMode.",
    )

    def to_request(self) -> dict[str, Any]:
        """An item of InputDataConfig.

        Raises:
            SpecError: The extra request repeats a field.
        """
        source = {"S3DataType": self.s3_data_type, "S3Uri": self.s3_uri}
        channel: dict[str, Any] = {
            "ChannelName": self.name,
            "DataSource": {"S3DataSource": source},
        }
        if self.content_type:
            channel["ContentType"] = self.content_type
        return with_extra(channel, self.extra_request)


class Spot(Config):
    """Managed spot training: cheaper, may be interrupted."""

    max_wait_seconds: int = Field(
        description=(
            "Longest time in seconds for waiting on spot capacity and training together; at least "
            "the job's max_runtime_seconds."
        ),
        ge=1,
    )


class TrainingCompute(Config):
    """What a job runs on. Only the instance count has a part in what is trained."""

    instance_type: str = Field(default="ml.m5.large", description="ML instance type.")
    instance_count: int = Field(default=1, description="Number of instances.", ge=1)
    volume_gb: int = Field(
        default=10, description="Size of each instance's storage volume in GB.", ge=1
    )
    max_runtime_seconds: int = Field(
        default=3600,
        description="SageMaker itself stops the job after this time, even if the run is gone.",
        ge=1,
    )
    spot: Spot | None = Field(default=None, description="Use spot capacity.")
    network_isolation: bool = Field(
        default=False, description="No network in or out of the container."
    )

    @model_validator(mode="after")
    def _waits_at_least_as_long_as_it_runs(self) -> "TrainingCompute":
        if self.spot and self.spot.max_wait_seconds < self.max_runtime_seconds:
            raise ValueError(
                f"spot.max_wait_seconds ({self.spot.max_wait_seconds}) must be at least "
                f"max_runtime_seconds ({self.max_runtime_seconds})."
            )
        return self

    def to_request(self) -> dict[str, Any]:
        """The fields of CreateTrainingJob that say where and how long it runs."""
        stopping: dict[str, Any] = {"MaxRuntimeInSeconds": self.max_runtime_seconds}
        if self.spot:
            stopping["MaxWaitTimeInSeconds"] = self.spot.max_wait_seconds
        return {
            "ResourceConfig": {
                "InstanceType": self.instance_type,
                "InstanceCount": self.instance_count,
                "VolumeSizeInGB": self.volume_gb,
            },
            "StoppingCondition": stopping,
            "EnableManagedSpotTraining": self.spot is not None,
            "EnableNetworkIsolation": self.network_isolation,
        }


class TrainingJobSpec(JobFields):
    """A training job of any algorithm image."""

    kind: ClassVar[JobKind] = JobKind("Training", "jobs", TrainingError, Security.training_job)

    image: str = Field(
        description="Image of the algorithm in ECR; builtin_image_uri() knows the built-in ones."
    )
    output_s3_uri: str = Field(description="Prefix in S3 under which the artifact is written.")
    channels: list[S3Channel] = Field(
        default_factory=list[S3Channel], description="The job's inputs.", max_length=20
    )
    hyperparameters: dict[str, str] = Field(
        default_factory=dict, description="Hyperparameters of the algorithm, all as text."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the container."
    )
    input_mode: Literal["File", "Pipe", "FastFile"] = Field(
        default="File", description="How the container gets its inputs."
    )
    compute: TrainingCompute = Field(
        default_factory=TrainingCompute, description="What the job runs on, and for how long."
    )
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of CreateTrainingJob by AWS's own names (VpcConfig, CheckpointConfig, "
            "{ResourceConfig: {VolumeKmsKeyId: ...}}, ...), none that another field gives."
        ),
    )

    def to_request(self, name: str, role_arn: str, tags: dict[str, str]) -> dict[str, Any]:
        """The CreateTrainingJob request."""
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": self.image,
                "TrainingInputMode": self.input_mode,
            },
            "RoleArn": role_arn,
            "HyperParameters": self.hyperparameters,
            "OutputDataConfig": {"S3OutputPath": self.output_s3_uri},
            "Tags": to_tags(tags, self.tags),
            **self.compute.to_request(),
        }
        if self.channels:
            request["InputDataConfig"] = [channel.to_request() for channel in self.channels]
        if self.environment:
            request["Environment"] = self.environment
        return with_extra(request, self.extra_request)

    def check(self) -> None:
        """Find what cannot work before it is sent.

        Raises:
            SpecError: Two channels share a name, a URI is not one of S3, or a built-in algorithm
                is to wait for spot capacity for longer than AWS lets it.
        """
        spot = self.compute.spot
        if spot and spot.max_wait_seconds > LONGEST_SPOT_SECONDS and is_builtin(self.image):
            raise SpecError(
                f"{self.name}: built-in algorithms write no checkpoints, and AWS lets such a job "
                f"wait and train on spot capacity for {LONGEST_SPOT_SECONDS:,} s at most: lower "
                "spot.max_wait_seconds, or train without spot."
            )
        names = [channel.name for channel in self.channels]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(f"{self.name}: channels must differ in name: {', '.join(twice)}.")
        uris = [self.output_s3_uri, *(channel.s3_uri for channel in self.channels)]
        self.require_uris(uris, "s3://", "https://")

    @property
    def instance_count(self) -> int:
        """Number of instances, each of which writes a log."""
        return self.compute.instance_count

    @property
    def limit_seconds(self) -> int:
        return self.compute.max_runtime_seconds

    def differences(self, request: dict[str, Any], description: Description) -> list[str]:
        return work_differences(_result_part(request), _result_part(description), exact=EXACT_KEYS)

    def result(self, description: Description, job: JobContext) -> "TrainedJob | None":
        """The completed job; None where SageMaker names no artifact."""
        artifact = description.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        if not artifact:
            return None
        # AWS leaves the billable seconds out of some jobs.
        billable = description.get("BillableTimeInSeconds")
        return TrainedJob(
            **job.outcome(description, description.get("ResourceConfig", {}), billable),
            artifact_uri=artifact,
            metrics={
                metric["MetricName"]: metric["Value"]
                for metric in description.get("FinalMetricDataList", [])
                if "MetricName" in metric and "Value" in metric
            },
            image=description.get("AlgorithmSpecification", {}).get("TrainingImage", ""),
            training_seconds=description.get("TrainingTimeInSeconds"),
            billable_seconds=billable,
        )

    def why_stopped(self, description: Description, /) -> str:
        if description["SecondaryStatus"] == "MaxRuntimeExceeded":
            limit = description["StoppingCondition"].get("MaxRuntimeInSeconds")
            return f"It ran longer than max_runtime_seconds ({limit} s): raise it."
        if description["SecondaryStatus"] == "MaxWaitTimeExceeded":
            return "It waited for spot capacity longer than spot.max_wait_seconds: raise it."
        return "Somebody stopped it."


def _result_part(job: Mapping[str, Any]) -> dict[str, Any]:
    part = {key: job[key] for key in RESULT_KEYS if job.get(key)}
    channels: list[dict[str, Any]] = part.get("InputDataConfig", [])
    if channels:  # an order that AWS need not keep
        part["InputDataConfig"] = sorted(channels, key=lambda channel: channel["ChannelName"])
    algorithm: dict[str, Any] = part.get("AlgorithmSpecification", {})
    # AWS adds the metrics of built-in algorithms; metrics change nothing in what is trained.
    part["AlgorithmSpecification"] = {
        key: value for key, value in algorithm.items() if key != "MetricDefinitions"
    }
    output: dict[str, Any] = part.get("OutputDataConfig", {})
    part["OutputDataConfig"] = output | {
        "S3OutputPath": output.get("S3OutputPath", "").rstrip("/"),
        "KmsKeyId": output.get("KmsKeyId") or "",
    }
    part["InstanceCount"] = job.get("ResourceConfig", {}).get("InstanceCount")
    return part


@dataclass(frozen=True, kw_only=True)
class TrainedJob(FinishedJob):
    """A completed training job.

    Of a spot job the billable seconds are already fewer than it trained, so that its estimated cost
    is by the on-demand price.

    Attributes:
        artifact_uri: S3 URI of the model artifact.
        metrics: Final values of the job's metrics.
        training_seconds: Duration of the training, None where SageMaker does not say.
        billable_seconds: Seconds paid for on each instance, None where SageMaker does not say.
    """

    artifact_uri: str
    metrics: Mapping[str, float]
    image: str
    training_seconds: int | None
    billable_seconds: int | None

    def metadata(self) -> dict[str, Any]:
        """What is worth showing on a materialisation, in JSON's types."""
        seconds = {
            "training_seconds": self.training_seconds,
            "billable_seconds": self.billable_seconds,
        }
        metrics = {f"metric/{name}": value for name, value in self.metrics.items()}
        return {**self.describe(TrainingJobSpec.kind, seconds), **metrics}
