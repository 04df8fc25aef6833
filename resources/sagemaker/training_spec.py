"""What a training job is to be: typed config, and the request that AWS takes for it.

How it is started and waited for stands in `training.py`.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from resources.sagemaker.config import Config
from resources.sagemaker.errors import SpecError
from resources.sagemaker.names import MAX_JOB_BASE, NAME, differences, digest, to_tags

# What has a part in what is trained. The rest (instance type, spot, network, limits, tags) says
# how it is run and paid for: a finished job is not paid for again because that changed.
RESULT_KEYS = (
    "AlgorithmSpecification",
    "HyperParameters",
    "InputDataConfig",
    "OutputDataConfig",
    "Environment",
)
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
    distribution: Literal["FullyReplicated", "ShardedByS3Key"] = Field(
        default="FullyReplicated", description="Whether each instance gets all of it or a share."
    )
    input_mode: Literal["File", "Pipe", "FastFile"] | None = Field(
        default=None, description="Instead of the job's input mode, for this channel."
    )
    compression: Literal["None", "Gzip"] = Field(
        default="None", description="How the objects are compressed."
    )
    record_wrapper: Literal["None", "RecordIO"] = Field(
        default="None", description="Whether SageMaker wraps the objects in RecordIO (Pipe mode)."
    )
    shuffle_seed: int | None = Field(
        default=None, description="Shuffles the order of objects in each epoch by this seed."
    )
    attribute_names: list[str] = Field(
        default_factory=list, description="Attributes to read of an augmented manifest."
    )

    def to_request(self) -> dict[str, Any]:
        """An item of InputDataConfig."""
        source: dict[str, Any] = {
            "S3DataType": self.s3_data_type,
            "S3Uri": self.s3_uri,
            "S3DataDistributionType": self.distribution,
        }
        if self.attribute_names:
            source["AttributeNames"] = self.attribute_names
        channel: dict[str, Any] = {
            "ChannelName": self.name,
            "DataSource": {"S3DataSource": source},
            "CompressionType": self.compression,
            "RecordWrapperType": self.record_wrapper,
        }
        if self.content_type:
            channel["ContentType"] = self.content_type
        if self.input_mode:
            channel["InputMode"] = self.input_mode
        if self.shuffle_seed is not None:
            channel["ShuffleConfig"] = {"Seed": self.shuffle_seed}
        return channel


class Vpc(Config):
    """The network that a container runs in."""

    subnets: list[str] = Field(description="Subnet ids.", min_length=1, max_length=16)
    security_group_ids: list[str] = Field(
        description="Security group ids.", min_length=1, max_length=5
    )

    def to_request(self) -> dict[str, Any]:
        """VpcConfig."""
        return {"Subnets": self.subnets, "SecurityGroupIds": self.security_group_ids}


class Spot(Config):
    """Managed spot training: cheaper, may be interrupted."""

    max_wait_seconds: int = Field(
        description=(
            "Longest time in seconds for waiting on spot capacity and training together; at least "
            "the job's max_runtime_seconds."
        ),
        ge=1,
    )


class Checkpoint(Config):
    """Where a job keeps what it needs to go on after an interruption."""

    s3_uri: str = Field(description="Prefix in S3 that the checkpoints are synchronised with.")
    local_path: str | None = Field(
        default=None, description="Folder in the container; /opt/ml/checkpoints where not given."
    )


class TrainingCompute(Config):
    """What a job runs on. None of it has a part in what is trained, save the instance count."""

    instance_type: str = Field(default="ml.m5.large", description="ML instance type.")
    instance_count: int = Field(default=1, description="Number of instances.", ge=1)
    volume_gb: int = Field(
        default=10, description="Size of each instance's storage volume in GB.", ge=1
    )
    volume_kms_key_id: str | None = Field(
        default=None, description="KMS key that encrypts the storage volumes."
    )
    keep_alive_seconds: int | None = Field(
        default=None,
        description="Keeps the instances warm for the next job for as long. They bill meanwhile.",
        ge=1,
        le=21600,
    )
    max_runtime_seconds: int = Field(
        default=3600,
        description="SageMaker itself stops the job after as long, whatever becomes of the run.",
        ge=1,
    )
    max_pending_seconds: int | None = Field(
        default=None,
        description="SageMaker gives up after as long if there is no capacity.",
        ge=1800,
        le=2419200,
    )
    max_retry_attempts: int | None = Field(
        default=None,
        description="How often SageMaker itself starts over after a fault of its own.",
        ge=1,
        le=30,
    )
    spot: Spot | None = Field(default=None, description="Use spot capacity.")
    vpc: Vpc | None = Field(default=None, description="Run in this VPC.")
    network_isolation: bool = Field(
        default=False, description="No network in or out of the container."
    )
    encrypt_traffic_between_instances: bool = Field(
        default=False, description="Encrypt what the instances of one job send to each other."
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
        """The members of CreateTrainingJob that are about where and how long it runs."""
        resources: dict[str, Any] = {
            "InstanceType": self.instance_type,
            "InstanceCount": self.instance_count,
            "VolumeSizeInGB": self.volume_gb,
        }
        if self.volume_kms_key_id:
            resources["VolumeKmsKeyId"] = self.volume_kms_key_id
        if self.keep_alive_seconds:
            resources["KeepAlivePeriodInSeconds"] = self.keep_alive_seconds
        stopping: dict[str, Any] = {"MaxRuntimeInSeconds": self.max_runtime_seconds}
        if self.spot:
            stopping["MaxWaitTimeInSeconds"] = self.spot.max_wait_seconds
        if self.max_pending_seconds:
            stopping["MaxPendingTimeInSeconds"] = self.max_pending_seconds
        request: dict[str, Any] = {
            "ResourceConfig": resources,
            "StoppingCondition": stopping,
            "EnableManagedSpotTraining": self.spot is not None,
            "EnableNetworkIsolation": self.network_isolation,
            "EnableInterContainerTrafficEncryption": self.encrypt_traffic_between_instances,
        }
        if self.vpc:
            request["VpcConfig"] = self.vpc.to_request()
        if self.max_retry_attempts:
            request["RetryStrategy"] = {"MaximumRetryAttempts": self.max_retry_attempts}
        return request


class TrainingJobSpec(Config):
    """A training job of any algorithm image.

    The name is the identity of the work: derive it from what makes the work what it is, by
    `deterministic_name(..., digest_of=...)`, and the same work finds its own job again.
    """

    name: str = Field(
        description="Base of the job's name; further attempts at it get -2, -3, ... appended.",
        min_length=1,
        max_length=MAX_JOB_BASE,
        pattern=f"^{NAME.pattern}$",
    )
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
    metric_definitions: dict[str, str] = Field(
        default_factory=dict,
        description="Metric names, each with the regular expression that finds it in the log.",
    )
    output_kms_key_id: str | None = Field(
        default=None, description="KMS key that encrypts the artifact."
    )
    checkpoint: Checkpoint | None = Field(default=None, description="Where checkpoints are kept.")
    compute: TrainingCompute = Field(
        default_factory=TrainingCompute, description="What the job runs on, and for how long."
    )
    role_arn: str | None = Field(
        default=None, description="Role that the job works as, instead of the resource's."
    )
    deadline_seconds: float | None = Field(
        default=None,
        description=(
            "The job is stopped, and the run fails, if it is not done this long after it was "
            "created, time in the queue included. None leaves it to compute.max_runtime_seconds."
        ),
        gt=0,
    )
    stream_logs: bool = Field(
        default=True, description="Copy the job's CloudWatch log lines into the run's log."
    )
    tags: dict[str, str] = Field(default_factory=dict, description="Tags of the job.")
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further members of CreateTrainingJob by AWS's own names (DebugHookConfig, "
            "ProfilerConfig, ...). They go in as they are, over what the other fields say."
        ),
    )

    def to_request(self, name: str, role_arn: str, tags: dict[str, str]) -> dict[str, Any]:
        """The CreateTrainingJob request.

        Args:
            name: Of this attempt.
            role_arn: Taken where the spec has none of its own.
            tags: Of the run; the spec's own win.
        """
        algorithm: dict[str, Any] = {
            "TrainingImage": self.image,
            "TrainingInputMode": self.input_mode,
        }
        if self.metric_definitions:
            algorithm["MetricDefinitions"] = [
                {"Name": metric, "Regex": regex}
                for metric, regex in self.metric_definitions.items()
            ]
        output = {"S3OutputPath": self.output_s3_uri}
        if self.output_kms_key_id:
            output["KmsKeyId"] = self.output_kms_key_id
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "AlgorithmSpecification": algorithm,
            "RoleArn": self.role_arn or role_arn,
            "HyperParameters": self.hyperparameters,
            "OutputDataConfig": output,
            "Tags": to_tags(tags, self.tags),
            **self.compute.to_request(),
        }
        if self.channels:
            request["InputDataConfig"] = [channel.to_request() for channel in self.channels]
        if self.environment:
            request["Environment"] = self.environment
        if self.checkpoint:
            request["CheckpointConfig"] = {"S3Uri": self.checkpoint.s3_uri}
            if self.checkpoint.local_path:
                request["CheckpointConfig"]["LocalPath"] = self.checkpoint.local_path
        return request | self.extra_request

    def fingerprint(self) -> str:
        """A digest of all that has a part in what is trained, for names and data versions.

        The bytes behind the channels' URIs are not read: add their checksums yourself where the
        URIs do not change with them.
        """
        return digest(_result_part(self.to_request(self.name, "", {})))

    def check(self) -> None:
        """Find what cannot work before it is sent.

        Raises:
            SpecError: Two channels share a name, or a URI is not one of S3.
        """
        names = [channel.name for channel in self.channels]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(f"{self.name}: channels must differ in name: {', '.join(twice)}.")
        for uri in [self.output_s3_uri, *(channel.s3_uri for channel in self.channels)]:
            if not uri.startswith(("s3://", "https://")):
                raise SpecError(f"{self.name}: {uri!r} is not an S3 URI (s3://bucket/key).")


def same_work(request: dict[str, Any], described: dict[str, Any]) -> list[str]:
    """Where a described job is not the one that a request asks for; empty where it is.

    Args:
        request: For CreateTrainingJob.
        described: From DescribeTrainingJob, which adds defaults of its own.
    """
    wanted = _result_part(request)
    found = _result_part(described)
    places = differences(wanted, found)
    for key in EXACT_KEYS:
        extra = set(found.get(key) or {}) - set(wanted.get(key) or {})
        places += [f"{key}.{name}" for name in sorted(extra)]
    if bool(wanted.get("InputDataConfig")) != bool(found.get("InputDataConfig")):
        places.append("InputDataConfig")
    return sorted(set(places))


def _result_part(job: dict[str, Any]) -> dict[str, Any]:
    part = {key: job[key] for key in RESULT_KEYS if job.get(key)}
    channels: list[dict[str, Any]] = part.get("InputDataConfig", [])
    if channels:  # an order that AWS need not keep
        part["InputDataConfig"] = sorted(channels, key=lambda channel: channel["ChannelName"])
    algorithm: dict[str, Any] = part.get("AlgorithmSpecification", {})
    # AWS adds the metrics of built-in algorithms, and metrics have no part in what is trained.
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
