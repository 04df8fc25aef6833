"""The versions of an endpoint that stand in SageMaker.

A version is an endpoint config that wears our tags, with the models that it names. Which
of them may go is for `retention.py` to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resources.sagemaker.endpoints import SERVING, Endpoints
from resources.sagemaker.errors import NotFoundError
from resources.sagemaker.names import (
    ENDPOINT_TAG,
    ROLLED_BACK_TAG,
    VERIFIED_TAG,
    VERSION_TAG,
    to_tags,
)


@dataclass(frozen=True)
class EndpointVersion:
    """One version of an endpoint.

    Attributes:
        version: As it was given at its deploy.
        config_name: Its endpoint config.
        arn: Of the endpoint config.
        model_names: The models of its variants.
        created: When the endpoint config was made.
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
    _mark(endpoints, config_arn, {VERIFIED_TAG: _now(), ROLLED_BACK_TAG: ""})


def mark_rolled_back(endpoints: Endpoints, config_arn: str) -> None:
    """Note on an endpoint config that it is not to serve any more."""
    _mark(endpoints, config_arn, {ROLLED_BACK_TAG: _now()})


def unmark_rolled_back(endpoints: Endpoints, config_arn: str) -> None:
    """Take the note back: the endpoint config was not taken out of service after all."""
    _mark(endpoints, config_arn, {ROLLED_BACK_TAG: ""})


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
        described = endpoints.calls(
            endpoints.clients.control.describe_endpoint_config,
            EndpointConfigName=item["EndpointConfigName"],
        )
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
        NotFoundError: What it serves is not to be told: its config or a model was deleted.
        SageMakerError: It could not be read.
    """
    state = endpoints.describe(endpoint_name)
    if state is None or state.status not in SERVING:
        return frozenset()
    described = endpoints.calls(
        endpoints.clients.control.describe_endpoint_config, EndpointConfigName=state.config_name
    )
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


def _mark(endpoints: Endpoints, arn: str, tags: Mapping[str, str]) -> None:
    endpoints.calls(endpoints.clients.control.add_tags, ResourceArn=arn, Tags=to_tags(tags))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
