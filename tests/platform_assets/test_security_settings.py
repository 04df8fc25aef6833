"""Settings of the environment: they reach what every run makes, scheduled or not."""

import json
from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from platform_assets.airbnb.listings import ListingsTable
from platform_assets.models.endpoint import Endpoint
from platform_assets.settings import Settings, resources
from resources.sagemaker import SageMakerResource, Security

KEY = "alias/ours"
VARIABLES = {
    "PLATFORM_KMS_KEY_ID": KEY,
    "PLATFORM_SUBNETS": '["subnet-1", "subnet-2"]',
    "PLATFORM_SECURITY_GROUPS": '["sg-1"]',
    "PLATFORM_NETWORK_ISOLATION": "true",
    "PLATFORM_TRAINING_INSTANCE_TYPE": "ml.c5.xlarge",
    "PLATFORM_TRAINING_VOLUME_GB": "30",
    "PLATFORM_TRAINING_INSTANCE_COUNT": "3",
}


def test_security_and_instances_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    created = resources(Settings())
    sagemaker: SageMakerResource = created["sagemaker"]
    assert sagemaker.security == Security(
        kms_key_id=KEY,
        subnets=["subnet-1", "subnet-2"],
        security_groups=["sg-1"],
        network_isolation=True,
    )
    compute = sagemaker.compute
    assert (compute.instance_type, compute.volume_gb) == ("ml.c5.xlarge", 30)
    assert compute.instance_count == 3
    for store in ("digits_store", "listings_store"):
        assert created[store].write_options()["SSEKMSKeyId"] == KEY


def test_without_settings_nothing_is_asked_of_aws_that_was_not_before(
    environment: Mapping[str, str],
) -> None:
    created = resources(Settings())
    assert created["sagemaker"].security == Security()
    assert "SSEKMSKeyId" not in created["digits_store"].write_options()
    assert created["endpoint"].version("0" * 64) == Endpoint(name="digits").version("0" * 64)


def test_another_key_is_another_version_of_the_endpoint() -> None:
    """Else an endpoint that serves already would keep the old one."""
    versions = {
        Endpoint(name="digits", security=security).version("0" * 64)
        for security in (Security(), Security(kms_key_id=KEY), Security(network_isolation=True))
    }
    assert len(versions) == 3


def test_a_vpc_needs_both_its_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_SUBNETS", json.dumps(["subnet-1"]))
    with pytest.raises(ValueError, match="name both or neither"):
        resources(Settings())


def test_limits_of_a_day_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_SNAPSHOT_LIMITS", '{"drift_block": 20}')
    table: ListingsTable = resources(Settings())["listings_table"]
    assert (table.limits.drift_block, table.limits.drift_warn) == (20, 3)


def test_a_limit_with_a_misspelt_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold nowhere, and nobody would know."""
    monkeypatch.setenv("PLATFORM_SNAPSHOT_LIMITS", '{"drift_blok": 20}')
    with pytest.raises(ValidationError) as refused:
        Settings()
    (error,) = refused.value.errors()
    assert error["loc"] == ("snapshot_limits", "drift_blok")
