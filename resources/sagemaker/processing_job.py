"""A processing job: any program in a container, with inputs from S3 and outputs to it.

How jobs are started and waited for stands in `jobs.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from .errors import ProcessingError, SpecError
from .job_kind import Description, FinishedJob, JobContext, JobFields, JobKind
from .names import to_tags
from .request_parts import Config, with_extra, work_differences
from .security import Security

# What decides over what comes out. The rest says how it is run and paid for.
RESULT_KEYS = ("AppSpecification", "ProcessingInputs", "ProcessingOutputConfig", "Environment")
# Where something beyond what was asked for makes another job of it.
EXACT_KEYS = ("AppSpecification", "Environment")


class ProcessingInput(Config):
    """Objects of S3 that the container finds in a folder."""

    name: str = Field(description="Name of the input.", min_length=1)
    s3_uri: str = Field(description="Prefix or manifest file in S3.")
    local_path: str = Field(description="Folder in the container, below /opt/ml/processing.")
    s3_data_type: Literal["S3Prefix", "ManifestFile"] = Field(
        default="S3Prefix", description="What the URI names."
    )
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of the input by AWS's own names, such as "
            "{S3Input: {S3DataDistributionType: ...}}."
        ),
    )

    def to_request(self) -> dict[str, Any]:
        """An item of ProcessingInputs.

        Raises:
            SpecError: The extra request repeats a field.
        """
        source = {
            "S3Uri": self.s3_uri,
            "LocalPath": self.local_path,
            "S3DataType": self.s3_data_type,
            "S3InputMode": "File",
        }
        return with_extra({"InputName": self.name, "S3Input": source}, self.extra_request)


class ProcessingOutput(Config):
    """A folder of the container whose files are in S3 when the job has ended."""

    name: str = Field(description="Name of the output.", min_length=1)
    local_path: str = Field(description="Folder in the container, below /opt/ml/processing.")
    s3_uri: str = Field(description="Prefix in S3.")

    def to_request(self) -> dict[str, Any]:
        """An item of ProcessingOutputConfig's Outputs."""
        target = {
            "S3Uri": self.s3_uri,
            "LocalPath": self.local_path,
            "S3UploadMode": "EndOfJob",
        }
        return {"OutputName": self.name, "S3Output": target}


class ProcessingJobSpec(JobFields):
    """A processing job of any image."""

    kind: ClassVar[JobKind] = JobKind(
        "Processing", "processing-jobs", ProcessingError, Security.processing_job
    )

    image: str = Field(description="Image of the container in ECR.")
    entrypoint: list[str] = Field(
        default_factory=list[str], description="Program and arguments; none for the image's own."
    )
    arguments: list[str] = Field(
        default_factory=list[str], description="Arguments after the entrypoint."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the container."
    )
    inputs: list[ProcessingInput] = Field(
        default_factory=list[ProcessingInput], description="What it reads.", max_length=10
    )
    outputs: list[ProcessingOutput] = Field(
        default_factory=list[ProcessingOutput], description="What it leaves.", max_length=10
    )
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
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of CreateProcessingJob by AWS's own names (NetworkConfig, "
            "ExperimentConfig, ...), none that another field gives."
        ),
    )

    def to_request(self, name: str, role_arn: str, tags: dict[str, str]) -> dict[str, Any]:
        """The CreateProcessingJob request."""
        program: dict[str, Any] = {"ImageUri": self.image}
        if self.entrypoint:
            program["ContainerEntrypoint"] = self.entrypoint
        if self.arguments:
            program["ContainerArguments"] = self.arguments
        request: dict[str, Any] = {
            "ProcessingJobName": name,
            "RoleArn": role_arn,
            "AppSpecification": program,
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": self.instance_type,
                    "InstanceCount": self.instance_count,
                    "VolumeSizeInGB": self.volume_gb,
                }
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": self.max_runtime_seconds},
            "Tags": to_tags(tags, self.tags),
        }
        if self.inputs:
            request["ProcessingInputs"] = [item.to_request() for item in self.inputs]
        if self.outputs:
            outputs = [item.to_request() for item in self.outputs]
            request["ProcessingOutputConfig"] = {"Outputs": outputs}
        if self.environment:
            request["Environment"] = self.environment
        return with_extra(request, self.extra_request)

    def check(self) -> None:
        """Find what cannot work before it is sent.

        Raises:
            SpecError: Two inputs or two outputs share a name, or a URI is not one of S3.
        """
        for items in (self.inputs, self.outputs):
            names = [item.name for item in items]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise SpecError(
                    f"{self.name}: inputs must differ in name, and outputs: {', '.join(twice)}."
                )
        self.require_uris((item.s3_uri for item in [*self.inputs, *self.outputs]), "s3://")

    @property
    def limit_seconds(self) -> int:
        return self.max_runtime_seconds

    def differences(self, request: dict[str, Any], description: Description) -> list[str]:
        return work_differences(_result_part(request), _result_part(description), exact=EXACT_KEYS)

    def result(self, description: Description, job: JobContext) -> "ProcessedData":
        cluster = description["ProcessingResources"]["ClusterConfig"]
        seconds = self.kind.seconds(description)
        outputs: list[dict[str, Any]] = description.get("ProcessingOutputConfig", {}).get(
            "Outputs", []
        )
        return ProcessedData(
            **job.outcome(description, cluster, seconds),
            outputs={
                item["OutputName"]: item["S3Output"]["S3Uri"]
                for item in outputs
                if "S3Output" in item  # others are in a feature store
            },
            exit_message=description.get("ExitMessage", ""),
            seconds=seconds,
        )

    def why_stopped(self, description: Description, /) -> str:
        limit: int = description.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 0)
        if limit and (self.kind.seconds(description) or 0) >= limit:
            return f"It ran longer than max_runtime_seconds ({limit} s): raise it."
        return "Somebody stopped it."


@dataclass(frozen=True, kw_only=True)
class ProcessedData(FinishedJob):
    """A completed processing job.

    Attributes:
        outputs: S3 prefix of each output by its name.
        exit_message: What the container wrote to /opt/ml/output/message; empty for nothing.
        seconds: Between its start and its end; None where SageMaker does not say.
    """

    outputs: Mapping[str, str]
    exit_message: str
    seconds: float | None

    def metadata(self) -> dict[str, Any]:
        """What is worth showing on a materialisation, in JSON's types."""
        return {
            **self.describe(ProcessingJobSpec.kind, {"processing_seconds": self.seconds}),
            **({"exit_message": self.exit_message} if self.exit_message else {}),
            **{f"output/{name}": uri for name, uri in self.outputs.items()},
        }


def _result_part(job: Mapping[str, Any]) -> dict[str, Any]:
    part = {key: job[key] for key in RESULT_KEYS if job.get(key)}
    # Lists in an order that AWS need not keep.
    if inputs := part.get("ProcessingInputs"):
        part["ProcessingInputs"] = sorted(inputs, key=lambda item: item["InputName"])
    if config := part.get("ProcessingOutputConfig"):
        outputs = sorted(config.get("Outputs", []), key=lambda item: item["OutputName"])
        part["ProcessingOutputConfig"] = config | {"Outputs": outputs}
    part["InstanceCount"] = job["ProcessingResources"]["ClusterConfig"].get("InstanceCount")
    return part
