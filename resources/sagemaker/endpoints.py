"""Endpoints and their versions as they are: described, awaited, invoked, deleted, marked.

A version is an endpoint config with our tags, and the models that it names. How an endpoint is
changed stands in `deploy.py`, which of its versions may go in `retention.py`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from .calls import Calls, Clients
from .errors import (
    BusyError,
    DeployDeadlineError,
    EndpointError,
    NotFoundError,
)
from .names import (
    ENDPOINT_TAG,
    ROLLED_BACK_TAG,
    VERIFIED_TAG,
    VERSION_TAG,
    to_tags,
)

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        DescribeEndpointConfigOutputTypeDef,
        DescribeEndpointOutputTypeDef,
    )

CHANGING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
# Changes that nobody's deploy is behind: they pass by themselves.
PASSING = frozenset({"SystemUpdating", "Deleting"})
# Where DescribeEndpoint's config is the one that answers, and not one that is yet to come.
SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})


@dataclass(frozen=True)
class EndpointState:
    """An endpoint as SageMaker describes it.

    Attributes:
        config_name: The endpoint config that is live (or, while it is created, will be).
        pending_config_name: The one that an update under way is putting in its place.
        failure_reason: SageMaker's own words about a failed creation or the last failed update.
        last_modified: When its status last changed.
        variants: Current weight of each variant, by name.
    """

    name: str
    arn: str
    status: str
    config_name: str
    pending_config_name: str | None
    failure_reason: str | None
    created: datetime
    last_modified: datetime
    variants: Mapping[str, float]

    @property
    def changing(self) -> bool:
        """Whether SageMaker is at work on it."""
        return self.status in CHANGING

    @property
    def in_service(self) -> bool:
        """Whether it answers requests and is not being changed."""
        return self.status == "InService"

    @property
    def target_config_name(self) -> str | None:
        """Which config the change under way leads to, None where SageMaker does not say."""
        if self.status == "Updating":
            return self.pending_config_name
        return self.config_name


@dataclass(frozen=True)
class EndpointVersion:
    """One version of an endpoint.

    Attributes:
        version: As it was given at its deploy.
        model_names: The models of its variants.
        verified_at: When it last came into service and passed; None if it never did.
        rolled_back_at: When it was last rolled back, None if it was not since it was verified.
    """

    version: str
    config_name: str
    arn: str
    model_names: tuple[str, ...]
    created: datetime
    verified_at: datetime | None
    rolled_back_at: datetime | None


@dataclass(frozen=True)
class Invocation:
    """What an endpoint answered: the body as it came, and which production variant did."""

    body: bytes
    content_type: str
    variant: str


class Invoke(Protocol):
    """Sends one request to one endpoint: what a smoke test gets."""

    def __call__(
        self,
        body: bytes,
        /,
        *,
        content_type: str,
        accept: str = "application/json",
        target_variant: str | None = None,
    ) -> Invocation: ...


@dataclass(frozen=True)
class Endpoints:
    """Access to the endpoints of one account and region."""

    clients: Clients
    calls: Calls
    poll_seconds: float

    def describe(self, name: str) -> EndpointState | None:
        """The endpoint as it is, None where there is none."""
        try:
            return _state(self.calls(self.clients.control.describe_endpoint, EndpointName=name))
        except NotFoundError:
            return None

    def console_url(self, name: str) -> str:
        """The endpoint in the AWS console; empty where it is not AWS's."""
        return self.clients.console_url(f"endpoints/{name}")

    def see_console(self, name: str) -> str:
        """As `Clients.see_console` does, of an endpoint."""
        return self.clients.see_console(f"endpoints/{name}")

    def wait(self, name: str, *, deadline: float) -> EndpointState | None:
        """Wait until SageMaker is done with an endpoint, and log each change of its status.

        Args:
            deadline: By `time.monotonic()`.

        Raises:
            DeployDeadlineError: It is still changing at the deadline.
        """
        logged = ""
        while True:
            state = self.describe(name)
            if state is None or not state.changing:
                return state
            if state.status != logged:
                logged = state.status
                self.calls.log.info(f"Endpoint {name}: {logged}")
            if time.monotonic() > deadline:
                raise DeployDeadlineError(
                    f"Endpoint {name} is still {state.status} at the deadline. SageMaker goes on "
                    f"with it; deploy again to wait for it.{self.see_console(name)}"
                )
            self.calls.sleep(self.poll_seconds)

    def delete(self, name: str, *, deadline: float) -> bool:
        """Delete an endpoint and wait until it is gone.

        Returns:
            Whether there was one.

        Raises:
            DeployDeadlineError: It is not gone by the deadline.
            EndpointError: SageMaker did not delete it.
        """
        if self.wait(name, deadline=deadline) is None:
            return False
        try:
            self.calls(self.clients.control.delete_endpoint, EndpointName=name)
        except NotFoundError:
            return True
        except BusyError as error:
            raise EndpointError(
                f"Endpoint {name} is being changed by somebody else and was not deleted: {error} "
                "Try again when it is done."
            ) from error
        left = self.wait(name, deadline=deadline)
        if left is not None:
            raise EndpointError(
                f"Endpoint {name} was not deleted, it is {left.status}. "
                f"{left.failure_reason or 'SageMaker gives no reason.'}{self.see_console(name)}"
            )
        return True

    def describe_config(self, name: str) -> "DescribeEndpointConfigOutputTypeDef":
        """An endpoint config as it is.

        Raises:
            NotFoundError: There is none.
        """
        return self.calls(self.clients.control.describe_endpoint_config, EndpointConfigName=name)

    def invoke(
        self,
        name: str,
        body: bytes,
        *,
        content_type: str,
        accept: str = "application/json",
        target_variant: str | None = None,
    ) -> Invocation:
        """Send one request to an endpoint."""
        more = {"TargetVariant": target_variant} if target_variant else {}

        def invoke_endpoint() -> Invocation:
            # Reading the body belongs to the call: it can break off as well.
            answer = self.clients.runtime.invoke_endpoint(
                EndpointName=name, Body=body, ContentType=content_type, Accept=accept, **more
            )
            return Invocation(
                body=answer["Body"].read(),
                content_type=answer.get("ContentType", ""),
                variant=answer.get("InvokedProductionVariant", ""),
            )

        return self.calls(invoke_endpoint)

    def tags(self, arn: str) -> dict[str, str]:
        """All tags of a resource."""
        tags: dict[str, str] = {}
        for page in self.pages("list_tags", ResourceArn=arn):
            tags |= {tag["Key"]: tag["Value"] for tag in page.get("Tags", [])}
        return tags

    def add_tags(self, arn: str, tags: Mapping[str, str]) -> None:
        """Add tags to a resource, or change their values."""
        self.calls(self.clients.control.add_tags, ResourceArn=arn, Tags=to_tags(tags))

    def pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """All pages of a listing. A page that fails for good ends it with an error, never short."""
        function = getattr(self.clients.control, operation)
        token: str | None = None
        while True:
            more = {"NextToken": token} if token else {}
            page: dict[str, Any] = self.calls(function, **arguments, **more)
            yield page
            token = page.get("NextToken")
            if not token:
                return


def _state(described: "DescribeEndpointOutputTypeDef") -> EndpointState:
    pending = described.get("PendingDeploymentSummary")
    return EndpointState(
        name=described["EndpointName"],
        arn=described["EndpointArn"],
        status=described["EndpointStatus"],
        config_name=described.get("EndpointConfigName", ""),
        pending_config_name=pending["EndpointConfigName"] if pending else None,
        failure_reason=described.get("FailureReason"),
        created=described["CreationTime"],
        last_modified=described["LastModifiedTime"],
        variants={
            variant["VariantName"]: variant.get("CurrentWeight", 0.0)
            for variant in described.get("ProductionVariants", [])
        },
    )


def list_versions(endpoints: Endpoints, endpoint_name: str) -> list[EndpointVersion]:
    """All versions of an endpoint, newest first. An endpoint that is gone may still have some.

    Raises:
        SageMakerError: Anything could not be read: a failed listing is not an empty one.
    """
    prefix = f"{endpoint_name}-"
    versions = [
        version
        for page in endpoints.pages("list_endpoint_configs", NameContains=prefix)
        for item in page["EndpointConfigs"]
        if item["EndpointConfigName"].startswith(prefix)
        if (version := _read_version(endpoints, endpoint_name, item)) is not None
    ]
    return sorted(versions, key=lambda version: version.created, reverse=True)


def mark_verified(endpoints: Endpoints, config_arn: str) -> None:
    """Note on an endpoint config that it is in service and has passed."""
    endpoints.add_tags(config_arn, {VERIFIED_TAG: _now(), ROLLED_BACK_TAG: ""})


def mark_rolled_back(endpoints: Endpoints, config_arn: str) -> None:
    """Note on an endpoint config that it is not to serve any more."""
    endpoints.add_tags(config_arn, {ROLLED_BACK_TAG: _now()})


def unmark_rolled_back(endpoints: Endpoints, config_arn: str) -> None:
    """Take the note back: the endpoint config was not taken out of service after all."""
    endpoints.add_tags(config_arn, {ROLLED_BACK_TAG: ""})


def is_verified(tags: Mapping[str, str]) -> bool:
    """Whether an endpoint config has come into service and passed."""
    return bool(tags.get(VERIFIED_TAG)) and not tags.get(ROLLED_BACK_TAG)


def rollback_target(
    versions: Sequence[EndpointVersion], live_config: str | None
) -> EndpointVersion | None:
    """Where a rollback leads: to what last passed, is not live and was not itself rolled back."""
    candidates = [
        version
        for version in versions
        if version.verified_at and not version.rolled_back_at
        if version.config_name != live_config
    ]
    return max(candidates, key=lambda version: version.verified_at or version.created, default=None)


def _read_version(
    endpoints: Endpoints, endpoint_name: str, item: Mapping[str, Any]
) -> EndpointVersion | None:
    arn: str = item["EndpointConfigArn"]
    try:
        tags = endpoints.tags(arn)
        if tags.get(ENDPOINT_TAG) != endpoint_name:
            return None
        described = endpoints.describe_config(item["EndpointConfigName"])
    except NotFoundError:
        return None  # removed since it was listed
    return EndpointVersion(
        version=tags.get(VERSION_TAG, ""),
        config_name=item["EndpointConfigName"],
        arn=arn,
        model_names=names_of_models(described["ProductionVariants"]),
        created=item["CreationTime"],
        verified_at=_time(tags.get(VERIFIED_TAG)),
        rolled_back_at=_time(tags.get(ROLLED_BACK_TAG)),
    )


def live_artifacts(endpoints: Endpoints, endpoint_name: str) -> frozenset[str]:
    """The S3 URIs of what an endpoint serves now; none where it serves nothing.

    Raises:
        NotFoundError: Its config or a model was deleted, so that nobody can tell.
        SageMakerError: It could not be read.
    """
    state = endpoints.describe(endpoint_name)
    if state is None or state.status not in SERVING:
        return frozenset()
    described = endpoints.describe_config(state.config_name)
    names = names_of_models(described["ProductionVariants"])
    return frozenset[str]().union(*(artifacts_of_model(endpoints, name) for name in names))


def artifacts_of_model(endpoints: Endpoints, name: str) -> frozenset[str]:
    """The S3 URIs that a model's containers load.

    Raises:
        NotFoundError: There is no such model.
        SageMakerError: It could not be read.
    """
    described = endpoints.calls(endpoints.clients.control.describe_model, ModelName=name)
    containers = [described.get("PrimaryContainer", {}), *described.get("Containers", [])]
    return frozenset(
        uri
        for container in containers
        for uri in (
            container.get("ModelDataUrl"),
            container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri"),
        )
        if uri
    )


def names_of_models(variants: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The models of variants, as SageMaker describes them."""
    return tuple(variant["ModelName"] for variant in variants if variant.get("ModelName"))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
