"""The endpoint by its settings: which it is, what it runs on, and by what a person changes it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import dagster as dg
from pydantic import Field

from resources.sagemaker import EndpointVersion, Security, deterministic_name

Approval = Literal["none", "required"]
# Of an artifact's sha256, what the versions that serve it begin with.
_ARTIFACT_CHARACTERS = 12
# Under this name of their metadata, assets of models say by which jobs people decide over them.
DECIDED_BY = "decided_by"


@dataclass(frozen=True)
class EndpointJobs:
    """The names of what a person presses.

    Attributes:
        approve: Lets a version that passed its gate go live.
        reject: Keeps a version out.
        override: Lets a version go live that its gate refused.
        roll_back: Puts the version before the live one back.
        tear_down: Deletes the endpoint.
    """

    approve: str
    reject: str
    override: str
    roll_back: str
    tear_down: str

    @classmethod
    def of(cls, models: str) -> "EndpointJobs":
        """Those of some models, by what these are called: `approve_shapes_model` for instance."""
        return cls(**{field.name: f"{field.name}_{models}" for field in fields(cls)})

    def metadata(self) -> dict[str, str]:
        """What the asset of the models says of it, for people and for the alerts."""
        return {DECIDED_BY: f"{self.approve}, {self.reject}, {self.override}"}


class Endpoint(dg.ConfigurableResource):
    """Which endpoint serves the models of a pipeline, and on what."""

    name: str = Field(description="Name of the SageMaker endpoint.")
    instance_type: str = Field(default="ml.m5.large", description="ML instance type.")
    instance_count: int = Field(default=1, ge=1, description="Number of instances.")
    image: str = Field(
        default="",
        description="The image that serves, where it is one's own: a part of its version.",
    )
    keep_versions: int = Field(
        default=3, ge=1, description="How many versions stay for a rollback, the live one included."
    )
    approval: Approval = Field(
        default="none",
        description="Whether a person has to approve each version before it goes live.",
    )
    security: Security = Field(
        default_factory=Security, description="What SageMaker runs it with: a part of its version."
    )

    def version(self, artifact_sha256: str) -> str:
        """The version that serves an artifact on these instances, with this security and image."""
        configuration: list[object] = [self.instance_type, self.instance_count]
        if self.security != Security():
            configuration.append(self.security.model_dump())
        if self.image:
            configuration.append(self.image)
        return deterministic_name(artifact_sha256[:_ARTIFACT_CHARACTERS], digest_of=configuration)

    def find_rolled_back(
        self, artifact_sha256: str, versions: Sequence[EndpointVersion]
    ) -> EndpointVersion | None:
        """The version by which an artifact was rolled back; None where it was not.

        Other instances, or another security, do not make a model good that was taken back. But
        where the version of today's settings was proved and not rolled back, this one counts.

        Args:
            versions: Of the endpoint, newest first.
        """
        beginning, today = artifact_sha256[:_ARTIFACT_CHARACTERS], self.version(artifact_sha256)
        serving = [item for item in versions if item.version.partition("-")[0] == beginning]
        good = {item.version for item in serving if item.verified_at and not item.rolled_back_at}
        if today in good:
            return None
        return next((item for item in serving if item.rolled_back_at), None)
