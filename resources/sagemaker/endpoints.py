"""Endpoints as they are: describe, wait, invoke, delete.

How one is made to be what it should stands in `deploy.py`.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from resources.sagemaker.calls import Calls, Clients, Log
from resources.sagemaker.errors import (
    BusyError,
    DeployDeadlineError,
    EndpointError,
    NotFoundError,
)
from resources.sagemaker.names import from_tags

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import DescribeEndpointOutputTypeDef

CHANGING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
# Changes that nobody's deploy is behind: they pass by themselves.
PASSING = frozenset({"SystemUpdating", "Deleting"})
# Where DescribeEndpoint's config is the one that answers, and not one that is yet to come.
SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})


@dataclass(frozen=True)
class EndpointState:
    """An endpoint as SageMaker describes it.

    Attributes:
        name: Of the endpoint.
        arn: Of the endpoint.
        status: Such as `InService`.
        config_name: The endpoint config that is live (or, while it is created, will be).
        pending_config_name: The one that an update under way is putting in its place.
        failure_reason: SageMaker's own words, of a failed creation or of the last failed update.
        last_modified: When its status last changed.
        variants: Current weight of each variant, by name.
    """

    name: str
    arn: str
    status: str
    config_name: str
    pending_config_name: str | None
    failure_reason: str | None
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
class Invocation:
    """What an endpoint answered.

    Attributes:
        body: The answer as it came.
        content_type: Of the body.
        variant: The production variant that answered.
    """

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
    """Access to the endpoints of one account and region.

    Attributes:
        clients: To call.
        calls: How to call.
        log: Of the run.
        poll_seconds: Between two looks at an endpoint.
    """

    clients: Clients
    calls: Calls
    log: Log
    poll_seconds: float

    def describe(self, name: str) -> EndpointState | None:
        """The endpoint as it is, None where there is none."""
        try:
            return _state(self.calls(self.clients.control.describe_endpoint, EndpointName=name))
        except NotFoundError:
            return None

    def console_url(self, name: str) -> str:
        """The endpoint in the AWS console."""
        return self.clients.console_url(f"endpoints/{name}")

    def wait(self, name: str, *, deadline: float) -> EndpointState | None:
        """Wait until SageMaker is done with an endpoint, telling each change of its status.

        Args:
            name: Of the endpoint.
            deadline: By `time.monotonic()`.

        Raises:
            DeployDeadlineError: It is still changing at the deadline.
        """
        told = ""
        for state in self._looks(name):
            if state is None or not state.changing:
                return state
            if state.status != told:
                told = state.status
                self.log.info(f"Endpoint {name}: {told}")
            if time.monotonic() > deadline:
                raise DeployDeadlineError(
                    f"Endpoint {name} is still {state.status} at the deadline. SageMaker goes on "
                    "with it; deploy again to wait for it.",
                    endpoint=name,
                    console_url=self.console_url(name),
                )
        raise AssertionError("unreachable")

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
                f"Endpoint {name} is being changed by somebody else and was not deleted: "
                f"{error.reason} Try again when it is done.",
                endpoint=name,
                console_url=self.console_url(name),
            ) from error
        left = self.wait(name, deadline=deadline)
        if left is not None:
            raise EndpointError(
                f"Endpoint {name} was not deleted, it is {left.status}. "
                f"{left.failure_reason or 'SageMaker gives no reason.'}",
                endpoint=name,
                console_url=self.console_url(name),
            )
        return True

    def invoker(self, name: str) -> Invoke:
        """A function that sends requests to one endpoint."""

        def invoke(
            body: bytes,
            /,
            *,
            content_type: str,
            accept: str = "application/json",
            target_variant: str | None = None,
        ) -> Invocation:
            more = {"TargetVariant": target_variant} if target_variant else {}
            return self.calls(
                self._invoke_endpoint,
                EndpointName=name,
                Body=body,
                ContentType=content_type,
                Accept=accept,
                **more,
            )

        return invoke

    def tags(self, arn: str) -> dict[str, str]:
        """All tags of a resource."""
        tags: dict[str, str] = {}
        pages = self.pages("list_tags", ResourceArn=arn)
        for page in pages:
            tags |= from_tags(page.get("Tags", []))
        return tags

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

    def _invoke_endpoint(self, **request: Any) -> Invocation:
        # Reading the body belongs to the call: it can break off as well.
        answer = self.clients.runtime.invoke_endpoint(**request)
        return Invocation(
            body=answer["Body"].read(),
            content_type=answer["ContentType"],
            variant=answer.get("InvokedProductionVariant", ""),
        )

    def _looks(self, name: str) -> Iterator[EndpointState | None]:
        while True:
            yield self.describe(name)
            time.sleep(self.poll_seconds)


def _state(described: "DescribeEndpointOutputTypeDef") -> EndpointState:
    pending = described.get("PendingDeploymentSummary")
    return EndpointState(
        name=described["EndpointName"],
        arn=described["EndpointArn"],
        status=described["EndpointStatus"],
        config_name=described.get("EndpointConfigName", ""),
        pending_config_name=pending["EndpointConfigName"] if pending else None,
        failure_reason=described.get("FailureReason"),
        last_modified=described["LastModifiedTime"],
        variants={
            variant["VariantName"]: variant.get("CurrentWeight", 0.0)
            for variant in described.get("ProductionVariants", [])
        },
    )
