"""What an endpoint is to be: typed config, and the requests that AWS takes for it.

How it is put into service stands in `deploy.py`.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from .errors import SpecError
from .names import (
    ENDPOINT_TAG,
    MAX_NAME,
    NAME,
    VERSION_TAG,
    deterministic_name,
    digest,
)
from .request_parts import Config, with_extra
from .security import Security

# What serverless variants do not go with is AWS's list:
# https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html

# The name that SageMaker's own SDK gives, and that a variant has to keep through guarded updates.
DEFAULT_VARIANT = "AllTraffic"


@dataclass(frozen=True)
class EndpointPlan:
    """What has to exist in SageMaker for one version of an endpoint.

    Attributes:
        model: CreateModel request, without name and tags.
        config: CreateEndpointConfig request, without name and tags.
        update: DeploymentConfig of an update.
    """

    version: str
    model_name: str
    model: dict[str, Any]
    config_name: str
    config: dict[str, Any]
    update: dict[str, Any] | None
    tags: dict[str, str]


class ModelContainer(Config):
    """A model: an image and what it serves."""

    image: str = Field(description="Image of the container in ECR.")
    model_data_url: str | None = Field(
        default=None, description="S3 URI of the model artifact (model.tar.gz)."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the container."
    )
    network_isolation: bool = Field(
        default=False, description="No network in or out of the container."
    )
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of CreateModel by AWS's own names (VpcConfig, "
            "{PrimaryContainer: {Mode: MultiModel}}, ...), none that another field gives."
        ),
    )

    def to_request(self, role_arn: str) -> dict[str, Any]:
        """The CreateModel request without name and tags.

        Raises:
            SpecError: The extra request repeats a field.
        """
        container: dict[str, Any] = {"Image": self.image}
        if self.model_data_url:
            container["ModelDataUrl"] = self.model_data_url
        if self.environment:
            container["Environment"] = self.environment
        request = {
            "PrimaryContainer": container,
            "ExecutionRoleArn": role_arn,
            "EnableNetworkIsolation": self.network_isolation,
        }
        return with_extra(request, self.extra_request)


class Instances(Config):
    """The instances of a variant."""

    instance_type: str = Field(default="ml.t2.medium", description="ML instance type.")
    instance_count: int = Field(default=1, description="Number of instances to begin with.", ge=1)


class Variant(Config):
    """One production variant."""

    name: str = Field(
        default=DEFAULT_VARIANT,
        description="Name of the variant. Guarded updates ask that it stays the same.",
        pattern=f"^{NAME.pattern}$",
        max_length=MAX_NAME,
    )
    weight: float = Field(
        default=1.0, description="Share of the traffic, relative to the other variants.", ge=0
    )
    instances: Instances | None = Field(
        default_factory=Instances,
        description="What it runs on; None with a ServerlessConfig in extra_request.",
    )
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of the variant by AWS's own names (ServerlessConfig, VolumeSizeInGB, "
            "...), none that another field gives."
        ),
    )

    def to_request(self, model_name: str) -> dict[str, Any]:
        """An item of ProductionVariants.

        Raises:
            SpecError: The extra request repeats a field.
        """
        request: dict[str, Any] = {
            "VariantName": self.name,
            "ModelName": model_name,
            "InitialVariantWeight": self.weight,
        }
        if self.instances:
            request["InstanceType"] = self.instances.instance_type
            request["InitialInstanceCount"] = self.instances.instance_count
        return with_extra(request, self.extra_request)


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
    update: dict[str, Any] | None = Field(
        default=None,
        description=(
            "How updates shift traffic: UpdateEndpoint's DeploymentConfig by AWS's own names; None "
            "leaves it to SageMaker."
        ),
    )
    deadline_seconds: float = Field(
        default=3600, description="Longest wait for the endpoint to be in service.", gt=0
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of the endpoint, its config and its model."
    )
    extra_request: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "Further fields of CreateEndpointConfig by AWS's own names (DataCaptureConfig, "
            "KmsKeyId, AsyncInferenceConfig, ...), none that another field gives."
        ),
    )

    @model_validator(mode="after")
    def _variants_differ_in_name(self) -> "EndpointSpec":
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"Variants must differ in name: {', '.join(names)}.")
        return self

    def plan(
        self, role_arn: str, tags: dict[str, str], security: Security | None = None
    ) -> EndpointPlan:
        """What has to exist in SageMaker for this version; the spec's own tags and fields win.

        Raises:
            SpecError: The endpoint's name is too long, an extra request repeats a field, or a
                serverless variant is asked for what AWS refuses with one.
        """
        security = security or Security()
        model = security.model(self.container.to_request(role_arn))
        model_name = self._name(model)
        variants = [variant.to_request(model_name) for variant in self.variants]
        config = with_extra({"ProductionVariants": variants}, self.extra_request)
        config = security.endpoint_config(config)
        self._check_serverless(model, config)
        return EndpointPlan(
            version=self.version,
            model_name=model_name,
            model=model,
            config_name=self._name(config),
            config=config,
            update=self.update,
            tags={
                **tags,
                **self.tags,
                ENDPOINT_TAG: self.endpoint_name,
                VERSION_TAG: self.version,
            },
        )

    def _check_serverless(self, model: dict[str, Any], config: dict[str, Any]) -> None:
        variants: list[dict[str, Any]] = config["ProductionVariants"]
        if not any("ServerlessConfig" in variant for variant in variants):
            return
        refused = {
            "a VPC": "VpcConfig" in model,
            "network isolation": model["EnableNetworkIsolation"],
            "a multi-model container": model["PrimaryContainer"].get("Mode") == "MultiModel",
            "data capture": "DataCaptureConfig" in config,
            "asynchronous inference": "AsyncInferenceConfig" in config,
            "a second variant": len(variants) > 1,
            "instances": any("InstanceType" in variant for variant in variants),
            "an update that shifts traffic": bool(self.update),
        }
        if problems := [what for what, asked in refused.items() if asked]:
            raise SpecError(
                f"{self.endpoint_name}: a serverless variant does not go with "
                f"{', '.join(problems)}. Leave that out, or serve from instances."
            )

    def _name(self, contents: dict[str, Any]) -> str:
        # The endpoint's name stays whole: what was made for it is found by it.
        head = f"{self.endpoint_name}-"
        room = MAX_NAME - len(head)
        if room < len(digest("")) + 2:
            raise SpecError(
                f"Endpoint name {self.endpoint_name!r} is too long to name versions by it: "
                f"at most {MAX_NAME - len(digest('')) - 3} characters."
            )
        return head + deterministic_name(self.version, digest_of=contents, longest=room)
