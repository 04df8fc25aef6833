"""What an endpoint is to be: typed config, and the requests that AWS takes for it.

How it is put into service stands in `endpoint.py`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from resources.sagemaker.config import Config
from resources.sagemaker.errors import SpecError
from resources.sagemaker.names import (
    ENDPOINT_TAG,
    MAX_NAME,
    NAME,
    VERSION_TAG,
    deterministic_name,
    digest,
)
from resources.sagemaker.training_spec import Vpc

# The name that SageMaker's own SDK gives, and that a variant has to keep through guarded updates.
DEFAULT_VARIANT = "AllTraffic"


@dataclass(frozen=True)
class EndpointPlan:
    """What has to stand in SageMaker for one version of an endpoint.

    Attributes:
        endpoint_name: Name of the endpoint.
        version: The version.
        models: CreateModel requests, without names and tags, by the name of the model.
        config_name: Name of the endpoint config.
        config: CreateEndpointConfig request, without name and tags.
        update: DeploymentConfig of an update.
        tags: Of all of it.
        deadline_seconds: Longest wait for the endpoint to be in service.
    """

    endpoint_name: str
    version: str
    models: dict[str, dict[str, Any]]
    config_name: str
    config: dict[str, Any]
    update: dict[str, Any] | None
    tags: dict[str, str]
    deadline_seconds: float


class ModelContainer(Config):
    """A model: an image and what it serves."""

    image: str = Field(description="Image of the container in ECR.")
    model_data_url: str | None = Field(
        default=None, description="S3 URI of the model artifact (model.tar.gz)."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the container."
    )
    multi_model: bool = Field(
        default=False, description="model_data_url is a prefix with many artifacts."
    )
    vpc: Vpc | None = Field(default=None, description="Run in this VPC.")
    network_isolation: bool = Field(
        default=False, description="No network in or out of the container."
    )

    def to_request(self, role_arn: str) -> dict[str, Any]:
        """The CreateModel request without name and tags."""
        container: dict[str, Any] = {"Image": self.image}
        if self.model_data_url:
            container["ModelDataUrl"] = self.model_data_url
        if self.environment:
            container["Environment"] = self.environment
        if self.multi_model:
            container["Mode"] = "MultiModel"
        request: dict[str, Any] = {
            "PrimaryContainer": container,
            "ExecutionRoleArn": role_arn,
            "EnableNetworkIsolation": self.network_isolation,
        }
        if self.vpc:
            request["VpcConfig"] = self.vpc.to_request()
        return request


class Instances(Config):
    """A variant on instances of its own."""

    instance_type: str = Field(default="ml.t2.medium", description="ML instance type.")
    instance_count: int = Field(default=1, description="Number of instances to begin with.", ge=1)
    volume_gb: int | None = Field(
        default=None, description="Storage of each instance in GB.", ge=1, le=512
    )
    startup_timeout_seconds: int | None = Field(
        default=None, description="Time for the container to become healthy.", ge=60, le=3600
    )
    download_timeout_seconds: int | None = Field(
        default=None, description="Time for the artifact's download.", ge=60, le=3600
    )


class Serverless(Config):
    """A variant without instances: paid for by the request."""

    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = Field(
        default=2048, description="Memory in MB."
    )
    max_concurrency: int = Field(
        default=5, description="Requests answered at one time.", ge=1, le=200
    )
    provisioned_concurrency: int | None = Field(
        default=None, description="Of these, how many are kept warm.", ge=1, le=200
    )


class Variant(Config):
    """One production variant; on instances, unless `serverless` says otherwise."""

    name: str = Field(
        default=DEFAULT_VARIANT,
        description="Name of the variant. Guarded updates ask that it stays the same.",
        pattern=f"^{NAME.pattern}$",
        max_length=MAX_NAME,
    )
    weight: float = Field(
        default=1.0, description="Share of the traffic, relative to the other variants.", ge=0
    )
    instances: Instances = Field(default_factory=Instances, description="What it runs on.")
    serverless: Serverless | None = Field(
        default=None, description="Run serverless instead of on instances."
    )
    container: ModelContainer | None = Field(
        default=None, description="A model of its own, instead of the endpoint's."
    )

    def to_request(self, model_name: str) -> dict[str, Any]:
        """An item of ProductionVariants."""
        request: dict[str, Any] = {
            "VariantName": self.name,
            "ModelName": model_name,
            "InitialVariantWeight": self.weight,
        }
        if self.serverless:
            request["ServerlessConfig"] = _given(
                MemorySizeInMB=self.serverless.memory_mb,
                MaxConcurrency=self.serverless.max_concurrency,
                ProvisionedConcurrency=self.serverless.provisioned_concurrency,
            )
            return request
        return request | _given(
            InstanceType=self.instances.instance_type,
            InitialInstanceCount=self.instances.instance_count,
            VolumeSizeInGB=self.instances.volume_gb,
            ContainerStartupHealthCheckTimeoutInSeconds=self.instances.startup_timeout_seconds,
            ModelDataDownloadTimeoutInSeconds=self.instances.download_timeout_seconds,
        )


class DataCapture(Config):
    """Keeps requests and answers in S3, for monitoring."""

    s3_uri: str = Field(description="Prefix in S3 that the captured data are written under.")
    percentage: int = Field(
        default=100, description="Share of the requests to capture, in percent.", ge=0, le=100
    )
    capture: list[Literal["Input", "Output", "InputAndOutput"]] = Field(
        default=["Input", "Output"], description="What to capture of each.", min_length=1
    )
    kms_key_id: str | None = Field(default=None, description="KMS key that encrypts the data.")
    csv_content_types: list[str] = Field(
        default_factory=list, description="Content types to keep as CSV instead of as base64."
    )
    json_content_types: list[str] = Field(
        default_factory=list, description="Content types to keep as JSON instead of as base64."
    )

    def to_request(self) -> dict[str, Any]:
        """DataCaptureConfig."""
        types = _given(
            CsvContentTypes=self.csv_content_types or None,
            JsonContentTypes=self.json_content_types or None,
        )
        return {
            "EnableCapture": True,
            "InitialSamplingPercentage": self.percentage,
            "DestinationS3Uri": self.s3_uri,
            "CaptureOptions": [{"CaptureMode": mode} for mode in self.capture],
            **_given(KmsKeyId=self.kms_key_id, CaptureContentTypeHeader=types or None),
        }


class BlueGreen(Config):
    """A guarded update: a new fleet beside the old one, and traffic that moves over in steps."""

    routing: Literal["ALL_AT_ONCE", "CANARY", "LINEAR"] = Field(
        default="CANARY",
        description="All traffic at once; a first part and then the rest; or in equal steps.",
    )
    step_type: Literal["CAPACITY_PERCENT", "INSTANCE_COUNT"] = Field(
        default="CAPACITY_PERCENT", description="What step_size counts."
    )
    step_size: int = Field(
        default=10,
        description="Size of the canary (at most 50 %), or of each linear step (10 to 50 %).",
        ge=1,
    )
    wait_seconds: int = Field(
        default=300,
        description="Baking time of each step, in which the alarms are watched.",
        ge=0,
        le=3600,
    )
    termination_wait_seconds: int = Field(
        default=0, description="How long the old fleet is kept after the shift.", ge=0, le=3600
    )
    max_execution_seconds: int | None = Field(
        default=None, description="The update is rolled back after as long.", ge=600, le=28800
    )
    rollback_alarms: list[str] = Field(
        default_factory=list,
        description="CloudWatch alarms. If one goes off in the update, SageMaker rolls back.",
        max_length=10,
    )

    def to_request(self) -> dict[str, Any]:
        """DeploymentConfig."""
        routing: dict[str, Any] = {
            "Type": self.routing,
            "WaitIntervalInSeconds": self.wait_seconds,
        }
        step = {"Type": self.step_type, "Value": self.step_size}
        if self.routing != "ALL_AT_ONCE":
            routing["CanarySize" if self.routing == "CANARY" else "LinearStepSize"] = step
        request: dict[str, Any] = {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": routing,
                "TerminationWaitInSeconds": self.termination_wait_seconds,
                **_given(MaximumExecutionTimeoutInSeconds=self.max_execution_seconds),
            }
        }
        if self.rollback_alarms:
            alarms = [{"AlarmName": name} for name in self.rollback_alarms]
            request["AutoRollbackConfiguration"] = {"Alarms": alarms}
        return request


class EndpointSpec(Config):
    """An endpoint in one version."""

    endpoint_name: str = Field(
        description="Name of the endpoint.", pattern=f"^{NAME.pattern}$", max_length=MAX_NAME
    )
    version: str = Field(
        description=(
            "What is deployed, such as a date, a tag or a digest of the artifact. Model and "
            "endpoint config are named by it and by their contents: the same version, the same "
            "names."
        ),
        min_length=1,
    )
    container: ModelContainer = Field(description="The model to serve.")
    variants: list[Variant] = Field(
        default_factory=lambda: [Variant()],
        description="Production variants.",
        min_length=1,
        max_length=10,
    )
    data_capture: DataCapture | None = Field(
        default=None, description="Keep requests and answers in S3."
    )
    kms_key_id: str | None = Field(
        default=None, description="KMS key that encrypts the instances' volumes."
    )
    update: BlueGreen | None = Field(
        default=None, description="How updates shift traffic; None leaves it to SageMaker."
    )
    role_arn: str | None = Field(
        default=None, description="Role that the containers work as, instead of the resource's."
    )
    deadline_seconds: float = Field(
        default=3600, description="Longest wait for the endpoint to be in service.", gt=0
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of the endpoint, its config and its models."
    )
    extra_config_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further members of CreateEndpointConfig by AWS's own names (AsyncInferenceConfig, "
            "ExplainerConfig, ...). They go in as they are, over what the other fields say."
        ),
    )

    @model_validator(mode="after")
    def _variants_differ_in_name(self) -> "EndpointSpec":
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"Variants must differ in name: {', '.join(names)}.")
        return self

    def plan(self, role_arn: str, tags: dict[str, str]) -> EndpointPlan:
        """What has to stand in SageMaker for this version.

        Args:
            role_arn: Taken where the spec has none of its own.
            tags: Of the run; the spec's own win.

        Raises:
            SpecError: There is no name or tag to be made of what is given.
        """
        all_tags = {
            **tags,
            **self.tags,
            ENDPOINT_TAG: self.endpoint_name,
            VERSION_TAG: self.version,
        }
        models: dict[str, dict[str, Any]] = {}
        variants: list[dict[str, Any]] = []
        for variant in self.variants:
            request = (variant.container or self.container).to_request(self.role_arn or role_arn)
            name = self._name(request)
            models[name] = request
            variants.append(variant.to_request(name))
        config: dict[str, Any] = {
            "ProductionVariants": variants,
            **_given(
                KmsKeyId=self.kms_key_id,
                DataCaptureConfig=self.data_capture.to_request() if self.data_capture else None,
            ),
            **self.extra_config_request,
        }
        return EndpointPlan(
            endpoint_name=self.endpoint_name,
            version=self.version,
            models=models,
            config_name=self._name(config),
            config=config,
            update=self.update.to_request() if self.update else None,
            tags=all_tags,
            deadline_seconds=self.deadline_seconds,
        )

    def _name(self, contents: dict[str, Any]) -> str:
        # The endpoint's name stays whole: by it what was made is found again.
        head = f"{self.endpoint_name}-"
        room = MAX_NAME - len(head)
        if room < len(digest("")) + 2:
            raise SpecError(
                f"Endpoint name {self.endpoint_name!r} is too long to name versions by it: "
                f"at most {MAX_NAME - len(digest('')) - 3} characters."
            )
        return head + deterministic_name(self.version, digest_of=contents, longest=room)


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
