"""The models and the endpoint config that an endpoint is made of.

Both are named by their contents and never change: they are made once, and found again after.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resources.sagemaker.endpoint_spec import EndpointPlan
from resources.sagemaker.endpoints import Endpoints
from resources.sagemaker.errors import AlreadyExistsError, EndpointMismatchError, NotFoundError
from resources.sagemaker.names import differences, to_tags
from resources.sagemaker.versions import is_verified


@dataclass(frozen=True)
class StandingConfig:
    """An endpoint config that stands in SageMaker.

    Attributes:
        name: Of the endpoint config.
        arn: Of the endpoint config.
        verified: Whether it has come into service and passed.
    """

    name: str
    arn: str
    verified: bool


class Parts:
    """Makes the parts of endpoints."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    def ensure(self, plan: EndpointPlan) -> StandingConfig:
        """Make the models and the endpoint config, or see that they are what they should be.

        Raises:
            EndpointMismatchError: A name of ours holds something else.
        """
        for name, request in plan.models.items():
            if not self._model_stands(plan, name, request):
                self._make(
                    self._endpoints.clients.control.create_model,
                    ModelName=name,
                    Tags=to_tags(plan.tags),
                    **request,
                )
                self._model_stands(plan, name, request)
        config = self._standing_config(plan)
        if config is None:
            self._make(
                self._endpoints.clients.control.create_endpoint_config,
                EndpointConfigName=plan.config_name,
                Tags=to_tags(plan.tags),
                **plan.config,
            )
            config = self._standing_config(plan)
        if config is None:
            raise EndpointMismatchError(
                f"Endpoint config {plan.config_name} was removed while it was being deployed.",
                endpoint=plan.endpoint_name,
            )
        return config

    def _make(self, create: Callable[..., Any], **request: Any) -> None:
        try:
            self._endpoints.calls(create, **request)
        except AlreadyExistsError:
            return  # another deploy was quicker, or our own first answer got lost

    def _model_stands(self, plan: EndpointPlan, name: str, request: dict[str, Any]) -> bool:
        try:
            found = self._endpoints.calls(
                self._endpoints.clients.control.describe_model, ModelName=name
            )
        except NotFoundError:
            return False
        _same(plan, "Model", name, request, found)
        return True

    def _standing_config(self, plan: EndpointPlan) -> StandingConfig | None:
        try:
            found = self._endpoints.calls(
                self._endpoints.clients.control.describe_endpoint_config,
                EndpointConfigName=plan.config_name,
            )
        except NotFoundError:
            return None
        _same(plan, "Endpoint config", plan.config_name, plan.config, found)
        arn = found["EndpointConfigArn"]
        return StandingConfig(plan.config_name, arn, is_verified(self._endpoints.tags(arn)))


def _same(plan: EndpointPlan, what: str, name: str, wanted: dict[str, Any], found: object) -> None:
    places = differences(wanted, found)
    if places:
        raise EndpointMismatchError(
            f"{what} {name} exists with other contents ({', '.join(places)}). "
            "It was made by somebody else: delete it, or deploy under another version.",
            endpoint=plan.endpoint_name,
        )
