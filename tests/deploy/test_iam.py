"""The policies of deploy/: their form, and what they leave to others.

That they allow what the platform asks for, and nothing else, is in `test_requests.py`.
"""

import json
from pathlib import Path
from string import Template

import pytest

from platform_assets.mnist import classifier, dataset, deployed, model, raw
from platform_assets.models.training import work_folder
from platform_assets.settings import Settings
from resources.s3 import ObjectStore
from resources.sagemaker.names import REGISTRY_ACCOUNTS
from tests.deploy.iam_policies import (
    API,
    DEPLOY,
    PLATFORM,
    SAGEMAKER_ROLE,
    Need,
    Permission,
    many,
    permissions,
    statements,
)

IAM = DEPLOY / "iam"
SPARK_ROLE = IAM / "spark-role.json"
POLICIES = [*sorted(IAM.glob("*.json")), API]
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
    "spark_application": "00f1abcdefgh2345",
    "spark_role": "data-platform-spark",
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


def allows(path: Path, action: str, resource: str) -> bool:
    """Whether a policy allows an action on a resource, which fits no condition."""
    need = Need(action, resource)
    return any(one.allows(need) for one in permissions(path, FILLED_IN))


def granted(path: Path, resource: str) -> set[str]:
    """All that a policy allows on a resource."""
    actions = {one.action for one in permissions(path, FILLED_IN)}
    return {action for action in actions if allows(path, action, resource)}


def sagemaker_arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_every_action_is_named_and_only_what_has_no_resource_gets_all(path: Path) -> None:
    document = json.loads(path.read_text())
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
        assert not [action for action in many(statement["Action"]) if "*" in action]
        if "*" in many(statement.get("Resource", [])):
            assert set(many(statement["Action"])) <= WITHOUT_RESOURCES.keys()
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_holds_in_china_and_for_governments(path: Path) -> None:
    """ARNs there begin with arn:aws-cn and arn:aws-us-gov."""
    assert "arn:aws" not in path.read_text()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_is_short_enough_for_aws(path: Path) -> None:
    """A managed policy has at most 6,144 characters, whitespace not counted."""
    assert len("".join(json.dumps(statements(path, FILLED_IN)).split())) < 6000


PERMISSION = Permission(
    "one", "s3:GetObject", "arn:aws:s3:::b/a?c/*", {"StringLike": {"s3:prefix": ["x/*", "y"]}}
)


@pytest.mark.parametrize(
    ("action", "resource", "context", "allowed"),
    [
        pytest.param("s3:GetObject", "arn:aws:s3:::b/abc/d/e", {"s3:prefix": "x/1"}, True, id="so"),
        pytest.param("s3:GetObject", "arn:aws:s3:::b/a/c/d", {"s3:prefix": "y"}, True, id="slash"),
        pytest.param("s3:PutObject", "arn:aws:s3:::b/abc/d", {"s3:prefix": "y"}, False, id="other"),
        pytest.param("s3:GetObject", "arn:aws:s3:::b/ac/d", {"s3:prefix": "y"}, False, id="place"),
        pytest.param("s3:GetObject", "arn:aws:s3:::b/abc/d", {"s3:prefix": "z"}, False, id="value"),
        pytest.param("s3:GetObject", "arn:aws:s3:::b/abc/d", {}, False, id="no value"),
    ],
)
def test_a_permission_is_read_as_iam_reads_it(
    action: str, resource: str, context: dict[str, str], allowed: bool
) -> None:
    assert PERMISSION.allows(Need(action, resource, context)) is allowed


def test_the_platform_leaves_alone_what_is_not_its_own() -> None:
    for kind in ("training-job", "endpoint", "endpoint-config", "model"):
        # The lists take no resource; the others are how a clean-up sees what others serve.
        assert granted(PLATFORM, sagemaker_arn(kind, "somebody-elses")) <= {
            *WITHOUT_RESOURCES,
            "sagemaker:DescribeEndpoint",
            "sagemaker:DescribeEndpointConfig",
            "sagemaker:DescribeModel",
        }
    for bucket in ("digits-bucket", "listings-bucket"):
        assert granted(PLATFORM, f"arn:aws:s3:::{bucket}/elsewhere") <= WITHOUT_RESOURCES.keys()
    for uri in (SOURCE, raw.SAMPLE_FILES.removeprefix("s3://")):
        assert granted(PLATFORM, f"arn:aws:s3:::{uri}") - WITHOUT_RESOURCES.keys() == {
            "s3:GetObject"
        }


def test_the_platform_hands_its_role_to_sagemaker_and_no_other_role_to_anybody() -> None:
    passed = {
        (role, service): any(
            one.allows(
                Need(
                    "iam:PassRole",
                    f"arn:aws:iam::{ACCOUNT}:role/{role}",
                    {"iam:PassedToService": f"{service}.amazonaws.com"},
                )
            )
            for one in permissions(PLATFORM, FILLED_IN)
        )
        for role in ("data-platform-sagemaker", "administrator")
        for service in ("sagemaker", "ec2")
    }
    assert [what for what, allowed in passed.items() if allowed] == [
        ("data-platform-sagemaker", "sagemaker")
    ]


def test_sagemaker_reads_channels_and_classifiers_and_writes_models() -> None:
    keys = {
        "raw": raw.folder(STORE, DATE).prefix,
        "dataset": dataset.folder(STORE, DATE).prefix,
        "models": work_folder(STORE, model.PREFIX, "0" * 16).prefix,
        "classifiers": deployed.classifiers(STORE).folder("Digits", "0" * 64).prefix,
        # What a date has is not served: it has not passed its gate, or not yet.
        "a date's classifier": classifier.folder(STORE, DATE).prefix,
        "another endpoint's": deployed.classifiers(STORE).folder("another", "0" * 64).prefix,
    }
    readable = {name for name, key in keys.items() if reaches("s3:GetObject", key)}
    writable = {name for name, key in keys.items() if reaches("s3:PutObject", key)}
    assert (readable, writable) == ({"dataset", "classifiers"}, {"models"})


def test_spark_sees_that_an_object_is_not_there_and_uses_the_key_as_the_platform_does() -> None:
    """It looks for manifests that nobody has written yet, which S3 tells to those who may list."""
    assert Need("s3:ListBucket", "arn:aws:s3:::listings-bucket") in [
        Need(one.action, one.resource)
        for one in permissions(SPARK_ROLE, FILLED_IN)
        if not one.conditions
    ]
    readme = (DEPLOY / "README.md").read_text()
    (row,) = (line for line in readme.splitlines() if line.startswith("| a key |"))
    *_, spark, _ = row.split("|")
    assert spark == " `kms:GenerateDataKey`, `kms:Decrypt` "


def test_sagemaker_lists_nothing_but_digits() -> None:
    (lists,) = (
        one for one in permissions(SAGEMAKER_ROLE, FILLED_IN) if one.action == "s3:ListBucket"
    )
    assert lists.resource == "arn:aws:s3:::digits-bucket"
    assert lists.conditions == {"StringLike": {"s3:prefix": "mnist/*"}}


def reaches(action: str, prefix: str) -> bool:
    return allows(SAGEMAKER_ROLE, action, f"arn:aws:s3:::digits-bucket/{prefix}/file")


def test_only_sagemaker_and_only_for_this_account_takes_the_role() -> None:
    (trust,) = statements(IAM / "sagemaker-role-trust.json", FILLED_IN)
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Action"] == "sts:AssumeRole"
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


def test_the_readme_names_every_placeholder() -> None:
    readme = (DEPLOY / "README.md").read_text()
    for path in IAM.glob("*.json"):
        for name in Template(path.read_text()).get_identifiers():
            assert f"`{name}`" in readme, f"{name} of {path.name}"
