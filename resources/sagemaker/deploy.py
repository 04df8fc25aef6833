"""Makes an endpoint be what it should be, and proves that it is.

What it should be stands in `endpoint_spec.py`. A deploy is a reconciliation: it may be cut off at
any point, and the next one finds what exists and goes on from it. Models and endpoint configs are
named by their contents and never change.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import dagster as dg

from ..errors import ResourceError
from .endpoint_spec import EndpointPlan
from .endpoints import (
    PASSING,
    Endpoints,
    EndpointState,
    EndpointVersion,
    Invoke,
    is_verified,
    list_versions,
    mark_rolled_back,
    mark_verified,
    rollback_target,
    unmark_rolled_back,
)
from .errors import (
    AlreadyExistsError,
    BusyError,
    DeployConflictError,
    DeployDeadlineError,
    EndpointError,
    NotFoundError,
    SageMakerError,
    SmokeTestError,
    UnavailableError,
)
from .names import ROLLED_BACK_TAG, VERIFIED_TAG, to_tags
from .request_parts import differences

DeployOutcome = Literal["created", "updated", "attached", "unchanged", "rolled back"]
SmokeTest = Callable[[Invoke], object]

# An accepted update shows in the endpoint's status at once, or nearly so.
UNSEEN_SECONDS = 30


@dataclass(frozen=True)
class Deployment:
    """An endpoint that serves the version that was asked for.

    Attributes:
        previous_config_name: Endpoint config that was live before; None where none was.
        outcome: `created` or `updated` by this call, `attached` to a deploy of the same version
            that was under way or cut off, `unchanged`, or `rolled back`.
        seconds: Until it was in service.
        console_url: The endpoint in the AWS console; empty where it is not AWS's.
    """

    endpoint_name: str
    arn: str
    status: str
    version: str
    config_name: str
    previous_config_name: str | None
    outcome: DeployOutcome
    seconds: float
    console_url: str

    def metadata(self) -> dict[str, Any]:
        """What is worth showing on a materialisation."""
        return {
            "endpoint": self.endpoint_name,
            "version": self.version,
            "status": self.status,
            "endpoint_config": self.config_name,
            "outcome": self.outcome,
            **(
                {"endpoint_url": dg.MetadataValue.url(self.console_url)} if self.console_url else {}
            ),
            "deploy_seconds": round(self.seconds, 1),
        }


class Deployer:
    """Deploys to one endpoint."""

    def __init__(
        self,
        endpoints: Endpoints,
        endpoint_name: str,
        *,
        smoke: SmokeTest | None,
        deadline_seconds: float,
    ) -> None:
        self._endpoints = endpoints
        self._calls = endpoints.calls
        self._control = endpoints.clients.control
        self._log = endpoints.calls.log
        self._name = endpoint_name
        self._smoke = smoke
        self._began = time.monotonic()
        self._deadline = self._began + deadline_seconds

    def deploy(self, plan: EndpointPlan) -> Deployment:
        """Put a version into service, unless it is already; see `SageMakerResource.deploy`."""
        state = self._settled(plan.config_name)
        config_arn, verified = self._ensure_parts(plan)
        before = state.config_name if state else None
        outcome: DeployOutcome = "attached"
        if state is None:
            outcome = self._create(plan)
        elif state.changing:
            self._log.info(f"Endpoint {self._name}: {plan.version} is being deployed: attached.")
        elif state.config_name != plan.config_name:
            outcome = self._update(plan.config_name, state, plan.update)
            self._endpoints.add_tags(state.arn, plan.tags)
        elif verified and state.in_service:
            self._log.info(f"Endpoint {self._name} serves {plan.version} already.")
            return self._deployment(state, plan.version, "unchanged", before)
        else:
            self._log.info(f"Endpoint {self._name}: {plan.version} has not been proved yet.")
        live = self._confirmed(plan.config_name, before)
        if before in {None, plan.config_name}:
            fallback = self._earlier_config(plan.config_name) if outcome != "created" else None
        else:
            fallback = before
        self._prove(live, plan.version, config_arn, verified=verified, fallback=fallback)
        return self._deployment(live, plan.version, outcome, before)

    def roll_back(self, to: str | None, tags: dict[str, str]) -> Deployment:
        """Put an earlier version back into service; see `SageMakerResource.rollback`."""
        state = self._settled(None)
        if state is None:
            raise EndpointError(
                f"Endpoint {self._name} does not exist: there is nothing to roll back."
            )
        versions = list_versions(self._endpoints, self._name)
        if to:
            target = next((v for v in versions if to in {v.version, v.config_name}), None)
        else:
            target = rollback_target(versions, state.config_name)
        if target is None:
            known = ", ".join(version.version for version in versions) or "none"
            raise EndpointError(
                f"Endpoint {self._name} has no {'version ' + to if to else 'earlier version'} to "
                f"roll back to. Versions that are still there: {known}."
            )
        newer = [v for v in versions if v.created > target.created and not v.rolled_back_at]
        # Before traffic moves: cut off in between, nothing newer is deployed again by itself.
        for version in newer:
            mark_rolled_back(self._endpoints, version.arn)
        if target.config_name == state.config_name and state.in_service:
            self._log.info(f"Endpoint {self._name} serves {target.version} already.")
            return self._deployment(state, target.version, "unchanged", state.config_name)
        try:
            live = self._move_back(target, state, tags)
        except (UnavailableError, DeployDeadlineError):
            raise  # SageMaker may go on with it
        except SageMakerError:
            for version in newer:
                self._take_mark_back(version)
            raise
        return self._deployment(live, target.version, "rolled back", state.config_name)

    def _move_back(
        self, target: EndpointVersion, state: EndpointState, tags: dict[str, str]
    ) -> EndpointState:
        self._update(target.config_name, state, None)
        self._endpoints.add_tags(state.arn, self._tags_of(target) | tags)
        live = self._confirmed(target.config_name, state.config_name)
        self._prove(
            live,
            target.version,
            target.arn,
            verified=target.verified_at is not None,
            fallback=state.config_name,
        )
        return live

    def _take_mark_back(self, version: EndpointVersion) -> None:
        try:
            unmark_rolled_back(self._endpoints, version.arn)
        except SageMakerError as error:
            self._log.warning(f"{version.version} still counts as rolled back: {error}")

    def _settled(self, wanted_config: str | None) -> EndpointState | None:
        """The endpoint when it can be deployed to, or on its way to what we want."""
        state = self._endpoints.describe(self._name)
        if state and state.status in PASSING:
            state = self._endpoints.wait(self._name, deadline=self._deadline)
        if state is None:
            return None
        if state.changing and state.target_config_name != wanted_config:
            raise self._conflict(state)
        if state.status == "Failed":  # all that SageMaker allows then is to delete it
            self._log.warning(
                f"Endpoint {self._name} has failed ({state.failure_reason}) and is made anew."
            )
            self._endpoints.delete(self._name, deadline=self._deadline)
            return None
        return state

    def _ensure_parts(self, plan: EndpointPlan) -> tuple[str, bool]:
        """Create the model and the endpoint config, or see that they are what they should be.

        Returns:
            The ARN of the endpoint config, and whether it has come into service and passed.
        """
        tags = to_tags(plan.tags)
        if not self._model_exists(plan):
            self._create_part(
                self._control.create_model, ModelName=plan.model_name, Tags=tags, **plan.model
            )
            self._model_exists(plan)
        config = self._existing_config(plan)
        if config is None:
            self._create_part(
                self._control.create_endpoint_config,
                EndpointConfigName=plan.config_name,
                Tags=tags,
                **plan.config,
            )
            config = self._existing_config(plan)
        if config is None:
            raise EndpointError(
                f"Endpoint config {plan.config_name} was removed while it was being deployed. "
                "Deploy again."
            )
        return config

    def _create_part(self, create: Callable[..., Any], **request: Any) -> None:
        try:
            self._calls(create, **request)
        except AlreadyExistsError:
            return  # another deploy was quicker, or our own first answer got lost

    def _model_exists(self, plan: EndpointPlan) -> bool:
        try:
            actual = self._calls(self._control.describe_model, ModelName=plan.model_name)
        except NotFoundError:
            return False
        _require_same("Model", plan.model_name, plan.model, actual)
        return True

    def _existing_config(self, plan: EndpointPlan) -> tuple[str, bool] | None:
        try:
            actual = self._endpoints.describe_config(plan.config_name)
        except NotFoundError:
            return None
        _require_same("Endpoint config", plan.config_name, plan.config, actual)
        arn = actual["EndpointConfigArn"]
        return arn, is_verified(self._endpoints.tags(arn))

    def _create(self, plan: EndpointPlan) -> DeployOutcome:
        self._log.info(f"Creating endpoint {self._name} with {plan.config_name}.")
        try:
            self._calls(
                self._control.create_endpoint,
                EndpointName=self._name,
                EndpointConfigName=plan.config_name,
                Tags=to_tags(plan.tags),
            )
        except AlreadyExistsError as error:
            self._ours_or_conflict(plan.config_name, error)
        return "created"

    def _update(
        self, config_name: str, state: EndpointState, policy: dict[str, Any] | None
    ) -> DeployOutcome:
        self._log.info(f"Updating endpoint {self._name}: {state.config_name} → {config_name}.")
        more = {"DeploymentConfig": policy} if policy else {}
        try:
            self._calls(
                self._control.update_endpoint,
                EndpointName=self._name,
                EndpointConfigName=config_name,
                **cast("dict[str, Any]", more),
            )
        except BusyError as error:
            self._ours_or_conflict(config_name, error)
        else:
            self._await_start(config_name, state)
        return "updated"

    def _ours_or_conflict(self, config_name: str, error: SageMakerError) -> None:
        # The request may have been ours: sent again since its first answer got lost.
        state = self._endpoints.describe(self._name)
        if state and state.target_config_name != config_name:
            raise self._conflict(state) from error

    def _await_start(self, config_name: str, before: EndpointState) -> None:
        end = min(self._deadline, time.monotonic() + UNSEEN_SECONDS)
        while time.monotonic() < end:
            state = self._endpoints.describe(self._name)
            if (
                state is None
                or state.changing
                or state.config_name == config_name
                or state.last_modified != before.last_modified
            ):
                return
            self._calls.sleep(min(1, self._endpoints.poll_seconds))

    def _confirmed(self, wanted: str, before: str | None) -> EndpointState:
        """Wait, and believe only what is live then."""
        state = self._endpoints.wait(self._name, deadline=self._deadline)
        if state is None:
            raise EndpointError(
                f"Endpoint {self._name} was deleted while {wanted} was being deployed."
            )
        reason = state.failure_reason or "SageMaker gives no reason."
        if state.status == "Failed":
            raise EndpointError(
                f"Endpoint {self._name} could not be created: {reason}{self._see_console}"
            )
        if state.in_service and state.config_name == wanted:
            return state
        if state.in_service and state.config_name != before:
            raise DeployConflictError(
                f"Endpoint {self._name} serves {state.config_name}: somebody else deployed it "
                f"over {wanted}.{self._see_console}"
            )
        raise EndpointError(
            f"Endpoint {self._name} was not updated to {wanted}, it is {state.status} with "
            f"{state.config_name}: {reason}{self._see_console}"
        )

    def _prove(
        self,
        live: EndpointState,
        version: str,
        config_arn: str,
        *,
        verified: bool,
        fallback: str | None,
    ) -> None:
        if self._smoke:
            try:
                self._smoke(partial(self._endpoints.invoke, self._name))
            except Exception as error:  # the caller's own function may raise anything
                outcome = self._undo(live, verified, fallback)
                raise SmokeTestError(
                    f"Endpoint {self._name} failed its smoke request with version {version}: "
                    f"{error} {outcome}{self._see_console}",
                    transient=isinstance(error, ResourceError) and error.transient,
                ) from error
        mark_verified(self._endpoints, config_arn)

    def _earlier_config(self, config_name: str) -> str | None:
        target = rollback_target(list_versions(self._endpoints, self._name), config_name)
        return target.config_name if target else None

    def _undo(self, live: EndpointState, verified: bool, fallback: str | None) -> str:
        """Take out of service what has failed; says what serves now."""
        if fallback is None and verified:
            return "It goes on serving: no other version is there to take its place."
        try:
            if fallback is None:
                self._endpoints.delete(self._name, deadline=self._deadline)
                return "Nothing was served before: the endpoint has been deleted."
            self._log.warning(f"Putting {fallback} back into service on {self._name}.")
            self._update(fallback, live, None)
            self._confirmed(fallback, live.config_name)
        except SageMakerError as error:
            return f"It may still be serving, for putting the old version back failed, too: {error}"
        return f"{fallback} is back in service."

    def _tags_of(self, version: EndpointVersion) -> dict[str, str]:
        """What a version says of itself, such as its partition, and what is not its own state."""
        tags = self._endpoints.tags(version.arn)
        state = {VERIFIED_TAG, ROLLED_BACK_TAG}
        return {key: value for key, value in tags.items() if key not in state}

    def _conflict(self, state: EndpointState) -> DeployConflictError:
        return DeployConflictError(
            f"Somebody else is deploying to endpoint {self._name}: it is {state.status} to "
            f"{state.target_config_name or 'a config that SageMaker does not name'}. "
            f"Deploy again when that is done.{self._see_console}"
        )

    @property
    def _see_console(self) -> str:
        return self._endpoints.see_console(self._name)

    def _deployment(
        self, state: EndpointState, version: str, outcome: DeployOutcome, before: str | None
    ) -> Deployment:
        return Deployment(
            endpoint_name=self._name,
            arn=state.arn,
            status=state.status,
            version=version,
            config_name=state.config_name,
            previous_config_name=before if before != state.config_name else None,
            outcome=outcome,
            seconds=time.monotonic() - self._began,
            console_url=self._endpoints.console_url(self._name),
        )


def _require_same(kind: str, name: str, wanted: dict[str, Any], actual: object) -> None:
    places = differences(wanted, actual)
    if places:
        raise EndpointError(
            f"{kind} {name} exists with other contents ({', '.join(places)}). "
            "It was made by somebody else: delete it, or deploy under another version."
        )
