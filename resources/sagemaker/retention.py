"""Removes what is left of old versions of an endpoint, and never what is live."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .endpoints import (
    Endpoints,
    EndpointVersion,
    artifacts_of_model,
    list_versions,
    names_of_models,
    rollback_target,
)
from .errors import NotFoundError, SageMakerError
from .names import ENDPOINT_TAG


@dataclass(frozen=True)
class Pruned:
    """What a clean-up removed.

    Attributes:
        configs: Endpoint configs that were removed, by this clean-up or meanwhile by somebody else.
        models: Models that were removed, likewise.
        artifacts_in_use: S3 URIs of what the models load that are left: those of this endpoint's
            versions, and those that any endpoint of the account serves. Whoever wrote artifacts
            for this endpoint may remove all others that are older than `newest`. None where
            nothing was looked at: then nothing may be removed.
        newest: When the newest version was made. What is younger may be of a deploy under way.
        failed: What could not be removed, with the reason.
    """

    endpoint_name: str
    configs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    artifacts_in_use: frozenset[str] | None = None
    newest: datetime | None = None
    failed: Mapping[str, str] = field(default_factory=dict[str, str])

    def metadata(self) -> dict[str, Any]:
        """What is worth showing on a materialisation."""
        return {
            "pruned_endpoint_configs": len(self.configs),
            "pruned_models": len(self.models),
            "kept_versions": len(self.kept),
        }


def prune(endpoints: Endpoints, endpoint_name: str, *, keep: int) -> Pruned:
    """Remove what is left of old versions: endpoint configs and the models that only they use.

    Kept are the newest `keep` versions, the version that a rollback would take, whatever any
    endpoint of the account serves or is being updated to, and all that does not wear the tags of
    this endpoint. Everything is read before anything is removed.

    Raises:
        SageMakerError: Something could not be read. Nothing has been removed then.
    """
    versions = list_versions(endpoints, endpoint_name)
    if not versions:
        return Pruned(endpoint_name)
    live = _live_configs(endpoints)
    own = endpoints.describe(endpoint_name)
    if own is not None and own.changing:
        endpoints.calls.log.info(
            f"Endpoint {endpoint_name} is {own.status}: nothing is removed now."
        )
        return Pruned(endpoint_name, kept=tuple(version.config_name for version in versions))
    fallback = rollback_target(versions, own.config_name if own else None) if keep else None
    stays = live | {version.config_name for version in versions[:keep]}
    if fallback:
        stays.add(fallback.config_name)
    goes = [version for version in versions if version.config_name not in stays]
    kept = [version for version in versions if version.config_name in stays]
    elsewhere = _models_elsewhere(endpoints, live - {version.config_name for version in versions})
    unused = _unused_models(endpoints, endpoint_name, elsewhere, versions, kept)
    artifacts = {
        name: _artifacts(endpoints, name) for name in {*unused, *elsewhere, *_model_names(versions)}
    }
    # All has been read: from here on things go.
    failed: dict[str, str] = {}
    for version in goes:
        if reason := _remove_config(endpoints, endpoint_name, version.config_name):
            failed[version.config_name] = reason
    configs = [version.config_name for version in goes if version.config_name not in failed]
    left = [version for version in goes if version.config_name in failed]
    removable = sorted(set(unused) - set(_model_names(left)))
    for name in removable:
        if reason := _remove(endpoints, endpoints.clients.control.delete_model, ModelName=name):
            failed[name] = reason
    models = [name for name in removable if name not in failed]
    for name, reason in failed.items():
        endpoints.calls.log.warning(f"{name} was not removed: {reason}")
    standing = [uris for name, uris in artifacts.items() if name not in models]
    return Pruned(
        endpoint_name,
        configs=tuple(configs),
        models=tuple(models),
        kept=tuple(version.config_name for version in kept),
        artifacts_in_use=frozenset[str]().union(*standing),
        newest=versions[0].created,
        failed=failed,
    )


def _live_configs(endpoints: Endpoints) -> set[str]:
    names = [
        item["EndpointName"]
        for page in endpoints.pages("list_endpoints")
        for item in page["Endpoints"]
    ]
    states = [state for name in names if (state := endpoints.describe(name)) is not None]
    return {
        config
        for state in states
        for config in (state.config_name, state.pending_config_name or "")
    }


def _models_elsewhere(endpoints: Endpoints, configs: Iterable[str]) -> set[str]:
    """The models of live configs that are no versions of this endpoint."""
    names: set[str] = set()
    for config in sorted(set(configs) - {""}):
        try:
            described = endpoints.describe_config(config)
        except NotFoundError:
            continue
        names |= set(names_of_models(described["ProductionVariants"]))
        names |= set(names_of_models(described.get("ShadowProductionVariants", [])))
    return names


def _unused_models(
    endpoints: Endpoints,
    endpoint_name: str,
    elsewhere: set[str],
    versions: Sequence[EndpointVersion],
    kept: Sequence[EndpointVersion],
) -> list[str]:
    used = elsewhere | set(_model_names(kept))
    prefix = f"{endpoint_name}-"
    newest = versions[0].created
    unused: list[str] = []
    for page in endpoints.pages("list_models", NameContains=prefix):
        for item in page["Models"]:
            name = item["ModelName"]
            # A model younger than any version is one whose deploy has just begun.
            if not name.startswith(prefix) or name in used or item["CreationTime"] > newest:
                continue
            if endpoints.tags(item["ModelArn"]).get(ENDPOINT_TAG) == endpoint_name:
                unused.append(name)
    return unused


def _model_names(versions: Sequence[EndpointVersion]) -> list[str]:
    return sorted({name for version in versions for name in version.model_names})


def _artifacts(endpoints: Endpoints, model_name: str) -> frozenset[str]:
    try:
        return artifacts_of_model(endpoints, model_name)
    except NotFoundError:
        return frozenset()


def _remove_config(endpoints: Endpoints, endpoint_name: str, name: str) -> str | None:
    # SageMaker would let us delete what is live. Somebody may have rolled back to it since.
    own = endpoints.describe(endpoint_name)
    if own and (own.changing or own.config_name == name):
        return f"endpoint {own.name} is {own.status} and may need it"
    delete = endpoints.clients.control.delete_endpoint_config
    return _remove(endpoints, delete, EndpointConfigName=name)


def _remove(endpoints: Endpoints, delete: Callable[..., Any], **name: str) -> str | None:
    """Delete something that may be gone already; returns why that failed, None where it did not."""
    try:
        endpoints.calls(delete, **name)
    except NotFoundError:
        return None
    except SageMakerError as error:
        return str(error)
    return None
