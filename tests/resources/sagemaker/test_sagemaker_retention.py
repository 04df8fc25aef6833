"""What retention removes, and what it must never touch, against the embedded SageMaker."""

from typing import Any

import pytest

from resources.sagemaker import SageMakerResource, UnavailableError


def configs(sagemaker: SageMakerResource, endpoint: str) -> set[str]:
    answer = sagemaker.clients.control.list_endpoint_configs(NameContains=endpoint, MaxResults=100)
    return {item["EndpointConfigName"] for item in answer["EndpointConfigs"]}


def models(sagemaker: SageMakerResource, endpoint: str) -> set[str]:
    answer = sagemaker.clients.control.list_models(NameContains=endpoint, MaxResults=100)
    return {item["ModelName"] for item in answer["Models"]}


def test_old_versions_go_and_the_newest_stay(sagemaker, make_version, endpoint, trained) -> None:
    deployed = [sagemaker.deploy(make_version(f"v{n}")).config_name for n in range(1, 5)]
    pruned = sagemaker.prune(endpoint, keep=2)

    assert set(pruned.configs) == set(deployed[:2])
    assert configs(sagemaker, endpoint) == set(deployed[2:])
    assert len(pruned.models) == 2
    assert len(models(sagemaker, endpoint)) == 2
    # All versions serve the same one; endpoints of other tests may serve others.
    assert trained.artifact_uri in (pruned.artifacts_in_use or ())
    assert sagemaker.deploy(make_version("v4")).outcome == "unchanged"
    assert sagemaker.prune(endpoint, keep=2).configs == (), "nothing is left to remove"


def test_only_the_artifacts_that_something_still_uses_are_named(
    sagemaker, make_version, make_spec, endpoint, trained, unique
) -> None:
    other = sagemaker.train(
        make_spec(name=f"{unique}-other", hyperparameters={"k": "3", "feature_dim": "2"})
    )
    sagemaker.deploy(make_version("v1"))
    assert sagemaker.live_artifacts(endpoint) == {trained.artifact_uri}
    for version in ["v2", "v3"]:
        spec = make_version(version)
        container = spec.container.model_copy(update={"model_data_url": other.artifact_uri})
        sagemaker.deploy(spec.model_copy(update={"container": container}))

    used = sagemaker.prune(endpoint, keep=2).artifacts_in_use
    assert other.artifact_uri in used
    assert trained.artifact_uri not in used
    assert sagemaker.live_artifacts(endpoint) == {other.artifact_uri}


def test_what_is_live_and_what_a_rollback_would_take_stays_however_old(
    sagemaker, make_version, endpoint
) -> None:
    names = {n: sagemaker.deploy(make_version(f"v{n}")).config_name for n in range(1, 5)}
    sagemaker.rollback(endpoint, to="v2")
    sagemaker.prune(endpoint, keep=1)

    assert configs(sagemaker, endpoint) == {names[1], names[2], names[4]}
    assert sagemaker.rollback(endpoint).version == "v1"


def test_a_listing_is_read_to_its_last_page(sagemaker, make_version, endpoint) -> None:
    """Page by page of one item: what stands on a later page is no less in use."""
    deployed = [sagemaker.deploy(make_version(f"v{n}")).config_name for n in range(1, 5)]
    events = sagemaker.clients.control.meta.events

    def one_at_a_time(params: dict[str, Any], **_: Any) -> None:
        params["MaxResults"] = 1

    for listing in ("ListEndpointConfigs", "ListModels"):
        events.register(f"provide-client-params.sagemaker.{listing}", one_at_a_time)
    pruned = sagemaker.prune(endpoint, keep=2)
    assert set(pruned.configs) == set(deployed[:2])
    assert set(pruned.kept) == set(deployed[2:])
    assert len(pruned.models) == 2


def test_what_goes_live_during_a_clean_up_stays(sagemaker, make_version, endpoint) -> None:
    """SageMaker itself would let us delete what is live."""
    first, *_ = [sagemaker.deploy(make_version(f"v{n}")).config_name for n in range(1, 4)]
    events = sagemaker.clients.control.meta.events

    def go_back(**_: Any) -> None:
        events.unregister("before-call.sagemaker.ListModels", go_back)
        sagemaker.rollback(endpoint, to="v1")

    events.register("before-call.sagemaker.ListModels", go_back)
    pruned = sagemaker.prune(endpoint, keep=1)
    assert pruned.configs == pruned.models == ()
    assert first in pruned.failed
    assert sagemaker.describe_endpoint(endpoint).config_name == first
    assert first in configs(sagemaker, endpoint)


def test_what_another_endpoint_serves_stays(sagemaker, make_version, endpoint, unique) -> None:
    first = sagemaker.deploy(make_version("v1"))
    for version in ["v2", "v3"]:
        sagemaker.deploy(make_version(version))
    control = sagemaker.clients.control
    guest = f"{unique}-guest"
    control.create_endpoint(EndpointName=guest, EndpointConfigName=first.config_name)
    try:
        pruned = sagemaker.prune(endpoint, keep=1)
        assert first.config_name not in pruned.configs
        assert len(models(sagemaker, endpoint)) == 3
    finally:
        sagemaker.teardown(guest)


def test_what_others_made_under_a_like_name_stays(sagemaker, make_version, endpoint) -> None:
    for version in ["v1", "v2", "v3"]:
        last = sagemaker.deploy(make_version(version))
    control = sagemaker.clients.control
    theirs = f"{endpoint}-theirs"
    variants = control.describe_endpoint_config(EndpointConfigName=last.config_name)
    control.create_endpoint_config(
        EndpointConfigName=theirs, ProductionVariants=variants["ProductionVariants"]
    )
    try:
        sagemaker.prune(endpoint, keep=1)
        assert theirs in configs(sagemaker, endpoint)
    finally:
        control.delete_endpoint_config(EndpointConfigName=theirs)


@pytest.mark.parametrize(
    "operation",
    ["ListEndpointConfigs", "ListTags", "ListEndpoints", "DescribeEndpoint", "ListModels"],
)
def test_nothing_is_removed_when_anything_cannot_be_read(
    sagemaker, make_version, endpoint, faults, operation
) -> None:
    for version in ["v1", "v2", "v3"]:
        sagemaker.deploy(make_version(version))
    before = configs(sagemaker, endpoint), models(sagemaker, endpoint)
    hasty = SageMakerResource(role_arn=sagemaker.role_arn, patience_seconds=0, max_attempts=1)
    with (
        faults(hasty, "unavailable", operation=operation),
        pytest.raises(UnavailableError),
    ):
        hasty.prune(endpoint, keep=1)

    assert (configs(sagemaker, endpoint), models(sagemaker, endpoint)) == before


def test_an_endpoint_without_versions_has_nothing_to_prune(sagemaker, unique) -> None:
    pruned = sagemaker.prune(f"{unique}-none")
    assert pruned.configs == ()
    assert pruned.artifacts_in_use is None, "nothing was looked at, so nothing may be removed"
