"""What an account wants of all that SageMaker runs for it: keys, subnets, isolation.

What one job or endpoint is to be stands in its spec, which wins where both say something.
"""

from typing import Any

from pydantic import Field, model_validator

from .request_parts import Config, over


class Security(Config):
    """Put on every job, model and endpoint config.

    The key encrypts volumes and what jobs write. AWS refuses it for the volumes of instance
    types that have storage of their own, such as ml.g5:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html
    """

    kms_key_id: str = Field(default="", description="KMS key by id, ARN or alias; empty for AWS's.")
    subnets: list[str] = Field(
        default=[], description="Subnets of a VPC that containers are in; none for no VPC."
    )
    security_groups: list[str] = Field(
        default=[], description="Security groups of the containers in these subnets."
    )
    network_isolation: bool = Field(
        default=False, description="No network in or out of any container."
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> "Security":
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("A VPC is given by subnets and security groups: name both or neither.")
        return self

    def training_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """A CreateTrainingJob request with all of it."""
        keys: dict[str, Any] = {}
        if self.kms_key_id:
            keys = {
                "OutputDataConfig": {"KmsKeyId": self.kms_key_id},
                "ResourceConfig": {"VolumeKmsKeyId": self.kms_key_id},
            }
        return self._networked(over(keys, request))

    def transform_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """A CreateTransformJob request with what does not concern its model."""
        keys: dict[str, Any] = {}
        if self.kms_key_id:
            keys = {
                "TransformOutput": {"KmsKeyId": self.kms_key_id},
                "TransformResources": {"VolumeKmsKeyId": self.kms_key_id},
            }
        return over(keys, request)

    def processing_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """A CreateProcessingJob request with all of it."""
        wanted: dict[str, Any] = {}
        if self.kms_key_id:
            cluster = {"ClusterConfig": {"VolumeKmsKeyId": self.kms_key_id}}
            wanted["ProcessingResources"] = cluster
            if "ProcessingOutputConfig" in request:
                wanted["ProcessingOutputConfig"] = {"KmsKeyId": self.kms_key_id}
        network = self._networked(request.get("NetworkConfig", {}))
        return over(wanted, {**request, **({"NetworkConfig": network} if network else {})})

    def model(self, request: dict[str, Any]) -> dict[str, Any]:
        """A CreateModel request with what concerns models."""
        return self._networked(request)

    def endpoint_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """A CreateEndpointConfig request with what concerns endpoints."""
        return over({"KmsKeyId": self.kms_key_id} if self.kms_key_id else {}, request)

    def _networked(self, request: dict[str, Any]) -> dict[str, Any]:
        vpc = {"Subnets": self.subnets, "SecurityGroupIds": self.security_groups}
        request = over({"VpcConfig": vpc} if self.subnets else {}, request)
        if self.network_isolation:
            request["EnableNetworkIsolation"] = True
        return request
