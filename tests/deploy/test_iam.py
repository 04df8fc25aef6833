"""The policies of deploy/ allow exactly what the code calls, on the resources that it names."""

import ast
import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from string import Template
from typing import Any, cast
from urllib.parse import urlsplit

import boto3
import pytest
from botocore import xform_name

from platform_assets.airbnb import processed
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.mnist import classifier, dataset, deployed, model, raw
from platform_assets.settings import Settings
from resources.s3 import ObjectStore
from resources.sagemaker import EndpointSpec, ModelContainer, builtin_image_uri, deterministic_name
from resources.sagemaker.names import REGISTRY_ACCOUNTS, attempt_name
from tests.conftest import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
IAM = DEPLOY / "iam"
POLICIES = [*sorted(IAM.glob("*.json")), DEPLOY / "api" / "policy.json"]
REGION, ACCOUNT, DATE = "eu-west-1", "123456789012", "2026-11-22"
STORE = ObjectStore(bucket="digits-bucket")
SOURCE = Settings.model_fields["mnist_source"].default.removeprefix("s3://")
FILLED_IN = {
    "partition": "aws",
    "account": ACCOUNT,
    "region": REGION,
    "bucket": "digits-bucket",
    "airbnb_bucket": "listings-bucket",
    "mnist_source": SOURCE,
    "endpoint": "digits",
    "endpoint_name": "Digits",
    "sagemaker_role": "data-platform-sagemaker",
    "algorithm_registry": REGISTRY_ACCOUNTS[REGION],
    "function": "data-platform-digits-eu-west-1-prod",
}

# By AWS's Service Authorization Reference these have no resource types: Resource must be "*".
WITHOUT_RESOURCES = {
    "sagemaker:ListEndpoints": "lists all of the account",
    "sagemaker:ListEndpointConfigs": "lists all of the account",
    "sagemaker:ListModels": "lists all of the account",
    "ecr:GetAuthorizationToken": "logs in to a registry, not to a repository",
    "cloudwatch:PutMetricData": "metrics are no resources; the namespace is the policy's condition",
}

# What S3 asks for, where operation and action differ in name.
S3_ACTIONS = {
    "copy": {"s3:GetObject", "s3:PutObject"},  # boto3's own, of CopyObject or UploadPartCopy
    "head_object": {"s3:GetObject"},
    "create_multipart_upload": {"s3:PutObject"},
    "upload_part": {"s3:PutObject"},
    "complete_multipart_upload": {"s3:PutObject"},
    "list_objects_v2": {"s3:ListBucket"},
    "list_multipart_uploads": {"s3:ListBucketMultipartUploads"},
    "delete_objects": {"s3:DeleteObject"},
}


def statements(path: Path) -> list[dict[str, Any]]:
    """A policy's statements, its placeholders filled in."""
    return json.loads(Template(path.read_text()).substitute(FILLED_IN))["Statement"]


def listed(value: str | list[str]) -> list[str]:
    """A list, also where a policy has a single string."""
    return [value] if isinstance(value, str) else value


def actions(path: Path, service: str = "") -> set[str]:
    """The actions that a policy allows: all of them, or those of one service."""
    allowed = {action for statement in statements(path) for action in listed(statement["Action"])}
    return {action for action in allowed if action.startswith(service)}


def allows(path: Path, action: str, resource: str) -> bool:
    """Whether a policy allows an action on a resource; conditions are not looked at."""
    return any(
        action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in statements(path)
    )


def sagemaker_arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def operations(paths: list[Path], receivers: set[str], pages: str) -> Iterator[str]:
    """Operations that modules call: as methods of clients, or by name from a paginator."""
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in receivers:
                yield node.attr
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == pages:
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def methods(service: str) -> dict[str, str]:
    """boto3's method name → the operation's name, for all operations of a service."""
    make = cast("Callable[..., Any]", boto3.client)
    names = make(service, region_name=REGION).meta.service_model.operation_names
    return {xform_name(name): name for name in names}


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_no_action_has_a_wildcard_and_only_actions_without_resources_are_allowed_on_all(
    path: Path,
) -> None:
    document = json.loads(path.read_text())
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        if "*" in listed(statement.get("Resource", [])):
            assert set(listed(statement["Action"])) <= WITHOUT_RESOURCES.keys()
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_is_valid_in_the_partitions_of_china_and_govcloud(path: Path) -> None:
    """ARNs there begin with arn:aws-cn and arn:aws-us-gov."""
    assert "arn:aws" not in path.read_text()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_is_short_enough_for_aws(path: Path) -> None:
    """A managed policy has at most 6,144 characters, whitespace not counted."""
    assert len("".join(json.dumps(statements(path)).split())) < 6000


def test_the_platform_may_do_what_its_sagemaker_code_calls_and_nothing_else() -> None:
    paths = sorted((CHECKOUT / "resources" / "sagemaker").glob("*.py"))
    receivers = {"control", "_control", "runtime", "logs", "_client"}
    called = set(operations(paths, receivers, pages="pages"))
    sagemaker = methods("sagemaker") | methods("sagemaker-runtime")
    logs = methods("logs")
    expected = {f"sagemaker:{sagemaker[name]}" for name in called if name in sagemaker}
    expected |= {f"logs:{logs[name]}" for name in called if name in logs and name not in sagemaker}
    platform = IAM / "platform.json"
    assert actions(platform, "sagemaker:") | actions(platform, "logs:") == expected


def test_the_platform_may_do_what_its_s3_code_calls_and_nothing_else() -> None:
    platform = (CHECKOUT / "resources" / "s3").glob("*.py")
    paths = [*platform, CHECKOUT / "numbercruncher" / "store.py"]
    s3 = methods("s3")
    called = set(operations(paths, {"client", "_client"}, pages="get_paginator"))
    expected: set[str] = set()
    for name in called & (s3.keys() | S3_ACTIONS.keys()):
        expected |= S3_ACTIONS.get(name) or {f"s3:{s3[name]}"}
    assert actions(IAM / "platform.json", "s3:") == expected


def test_the_platform_may_use_the_names_that_the_code_generates_and_no_others() -> None:
    platform = IAM / "platform.json"
    job = attempt_name(deterministic_name("mnist", DATE, digest_of="x"), 2)
    assert allows(platform, "sagemaker:CreateTrainingJob", sagemaker_arn("training-job", job))
    spec = EndpointSpec(
        endpoint_name="digits", version="1", container=ModelContainer(image="an-image")
    )
    plan = spec.plan("a-role", {})
    assert allows(platform, "sagemaker:CreateEndpoint", sagemaker_arn("endpoint", "digits"))
    for action in ("CreateEndpoint", "CreateEndpointConfig", "DeleteEndpointConfig", "AddTags"):
        config = sagemaker_arn("endpoint-config", plan.config_name)
        assert allows(platform, f"sagemaker:{action}", config)
    model = sagemaker_arn("model", plan.model_name)
    assert allows(platform, "sagemaker:CreateModel", model)
    for kind in ("training-job", "endpoint", "endpoint-config", "model"):
        theirs = sagemaker_arn(kind, "somebody-elses")
        granted = {action for action in actions(platform) if allows(platform, action, theirs)}
        # The lists take no resource; the others are how a clean-up sees what others serve.
        assert granted <= {
            *WITHOUT_RESOURCES,
            "sagemaker:DescribeEndpoint",
            "sagemaker:DescribeEndpointConfig",
            "sagemaker:DescribeModel",
        }
    role = "arn:aws:iam::123456789012:role/"
    assert allows(platform, "iam:PassRole", f"{role}data-platform-sagemaker")
    assert not allows(platform, "iam:PassRole", f"{role}administrator")


def test_the_platform_may_write_where_its_assets_stand_and_only_read_the_public_object() -> None:
    platform = IAM / "platform.json"
    digits = [
        raw.folder(STORE, DATE).prefix,
        dataset.folder(STORE, DATE).prefix,
        model.folder(STORE, DATE).prefix,
        model.work_folder(STORE, "0" * 16).prefix,
        classifier.folder(STORE, DATE).prefix,
        deployed.folder(STORE, "digits", "0" * 64).prefix,
    ]
    listings = [
        snapshot_folder(STORE, DATE).prefix,
        processed.result_folder(STORE, processed.PRICE_CHANGES.key, DATE).prefix,
        processed.result_folder(STORE, processed.NEIGHBOURHOOD_SUMMARY.key, DATE).prefix,
    ]
    for bucket, prefixes in (("digits-bucket", digits), ("listings-bucket", listings)):
        for prefix in prefixes:
            for action in ("s3:PutObject", "s3:DeleteObject"):
                assert allows(platform, action, f"arn:aws:s3:::{bucket}/{prefix}/file")
        assert not allows(platform, "s3:PutObject", f"arn:aws:s3:::{bucket}/elsewhere")
    for uri in (SOURCE, raw.SAMPLE_FILES.removeprefix("s3://")):
        source = f"arn:aws:s3:::{uri}"
        assert {action for action in actions(platform) if allows(platform, action, source)} == {
            "s3:GetObject",
            *actions(platform) & WITHOUT_RESOURCES.keys(),
        }


def test_sagemaker_reads_channels_and_classifiers_and_writes_models() -> None:
    role = IAM / "sagemaker-role.json"
    keys = {
        "raw": raw.folder(STORE, DATE).prefix,
        "dataset": dataset.folder(STORE, DATE).prefix,
        "models": model.work_folder(STORE, "0" * 16).prefix,
        "classifiers": deployed.folder(STORE, "Digits", "0" * 64).prefix,
        # SageMaker serves the copy that is made once a date's classifier has passed its gate.
        "a date's classifier": classifier.folder(STORE, DATE).prefix,
        "another endpoint's": deployed.folder(STORE, "another", "0" * 64).prefix,
    }
    readable = {name for name, key in keys.items() if reaches(role, "s3:GetObject", key)}
    writable = {name for name, key in keys.items() if reaches(role, "s3:PutObject", key)}
    assert (readable, writable) == ({"dataset", "classifiers"}, {"models"})


def test_sagemaker_lists_nothing_but_digits() -> None:
    listing = [
        (statement["Resource"], statement["Condition"])
        for statement in statements(IAM / "sagemaker-role.json")
        if "s3:ListBucket" in listed(statement["Action"])
    ]
    condition = {"StringLike": {"s3:prefix": "mnist/*"}}
    assert listing == [("arn:aws:s3:::digits-bucket", condition)]


def reaches(path: Path, action: str, prefix: str) -> bool:
    return allows(path, action, f"arn:aws:s3:::digits-bucket/{prefix}/file")


def test_sagemaker_pulls_the_image_that_training_and_serving_name() -> None:
    uri = urlsplit(f"//{builtin_image_uri('kmeans', REGION)}")
    repository = uri.path.strip("/").rpartition(":")[0]
    registry = (uri.hostname or "").partition(".")[0]
    image = f"arn:aws:ecr:{REGION}:{registry}:repository/{repository}"
    assert allows(IAM / "sagemaker-role.json", "ecr:BatchGetImage", image)


def test_only_sagemaker_may_assume_the_role_and_only_for_this_account() -> None:
    (trust,) = statements(IAM / "sagemaker-role-trust.json")
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Action"] == "sts:AssumeRole"
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_the_readme_names_every_placeholder() -> None:
    readme = (DEPLOY / "README.md").read_text()
    for path in IAM.glob("*.json"):
        for name in Template(path.read_text()).get_identifiers():
            assert f"`{name}`" in readme, f"{name} of {path.name}"
