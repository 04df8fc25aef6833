"""`make preflight` names each missing thing and how to mend it, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from string import Template
from typing import Any
from unittest.mock import patch

import boto3
import psycopg2
import pytest

from deploy.add_lifecycle_rule import RULES
from deploy.preflight import look_at_all, usable_here
from deploy.preflight_aws import Look, look_at_clock, trusts_sagemaker
from deploy.with_settings import read_env_file
from tests.aws_requests import Recorder
from tests.conftest import CHECKOUT
from tests.deploy.conftest import REGION
from tests.deploy.iam_needs import actions_of
from tests.deploy.iam_policies import PLATFORM, many, named_in_readme
from tests.s3_front import Front

ROLE = "arn:aws:iam::123456789012:role/data-platform-sagemaker"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/0f1e"
SECRET = "pl4nted"
TRUST = Template((CHECKOUT / "deploy" / "iam" / "sagemaker-role-trust.json").read_text())
QUOTAS = {"ml.m5.large for endpoint usage": 2.0, "ml.m5.large for training job usage": 1.0}
CLOSED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)


def answer_quotas(request: BaseHTTPRequestHandler) -> tuple[int, bytes] | None:
    """Moto has no quotas of SageMaker."""
    if "ListServiceQuotas" not in request.headers.get("X-Amz-Target", ""):
        return None
    quotas = [{"QuotaName": name, "Value": value} for name, value in QUOTAS.items()]
    return 200, json.dumps({"Quotas": quotas}).encode()


@pytest.fixture
def clients(aws: Front) -> dict[str, Any]:
    session = boto3.session.Session("somebody", "a-secret", region_name=REGION)
    return {name: session.client(name, endpoint_url=aws.url) for name in ("s3", "iam")}


@pytest.fixture
def ready(
    aws: Front, account: dict[str, str], clients: dict[str, Any], database: str
) -> dict[str, str]:
    """Settings with which nothing is missing: an account and a database with all that is needed."""
    aws.refuse = answer_quotas
    s3 = clients["s3"]
    for bucket in ("digits", "listings"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=CLOSED)
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": RULES}
        )
        by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
        s3.put_bucket_encryption(
            Bucket=bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]
            },
        )
    trust = TRUST.substitute(account="123456789012")
    clients["iam"].create_role(RoleName="data-platform-sagemaker", AssumeRolePolicyDocument=trust)
    run(
        database,
        "create table listings (id bigint, neighbourhood text, room_type text, price numeric, "
        "download_date date)",
    )
    return account | {
        "COLUMNS": "400",
        "PLATFORM_BUCKET": "digits",
        "PLATFORM_AIRBNB_BUCKET": "listings",
        "PLATFORM_SAGEMAKER_ROLE_ARN": ROLE,
        "PLATFORM_POSTGRES_DSN": database,
        "PLATFORM_CRUNCHER": "process",
        "PLATFORM_KMS_KEY_ID": "0f1e",
    }


def run(dsn: str, statement: str) -> None:
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def preflight(environ: Mapping[str, str], *files: str) -> subprocess.CompletedProcess[str]:
    """`make preflight`."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.preflight", *files],
        cwd=CHECKOUT,
        env=dict(environ),
        capture_output=True,
        text=True,
        check=False,
    )


def problems(environ: Mapping[str, str]) -> list[Look]:
    """The results that are not `ok`, with these settings."""
    with patch.dict(os.environ, environ, clear=True):
        return [look for look in look_at_all() if look.state != "ok"]


def test_a_complete_account_passes_and_is_not_changed(ready: dict[str, str], aws: Front) -> None:
    sent: list[tuple[str, bytes]] = []

    def remember(method: str, _target: str, body: bytes) -> bytes:
        sent.append((method, body))
        return body

    aws.amend = remember
    recorder = Recorder("whoever looks")
    aws.observe = recorder.keep
    done = preflight(ready)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All is there." in done.stdout
    assert {method for method, _ in sent} == {"GET", "HEAD", "POST"}
    # The body of a POST names the operation.
    asked = [body for method, body in sent if method == "POST"]
    assert all(body.startswith(b"Action=Get") for body in asked), asked
    needed = actions_of(request for _, request in recorder.requests())
    platform = {
        action
        for statement in json.loads(PLATFORM.read_text())["Statement"]
        for action in many(statement["Action"])
    }
    assert needed - platform == named_in_readme("Whoever runs it needs")


def test_files_of_the_deployment_override_the_environment(
    ready: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "records_password").write_text("x\n")
    own = {name: value for name, value in ready.items() if name.startswith("PLATFORM_")}
    own |= {"PLATFORM_BUCKET": "no-such-bucket", "PLATFORM_PSEUDONYM_KEY": f"{SECRET}$#"}
    lines = [f"{name}={value}\n" for name, value in own.items()]
    (tmp_path / "platform.env").write_text("# of this host\n" + "".join(lines))
    done = preflight(ready, str(tmp_path))
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if "missing" in line)
    assert "bucket no-such-bucket" in line
    assert "1 of 14 are not as they have to be." in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_deployment_without_its_files_is_told_so(ready: dict[str, str], tmp_path: Path) -> None:
    done = preflight(ready, str(tmp_path))
    assert done.returncode == 1
    assert "records_password" in done.stdout
    assert "Traceback" not in done.stderr


def lose_bucket(clients: dict[str, Any], ready: dict[str, str]) -> None:
    clients["s3"].delete_bucket(Bucket="listings")


def open_bucket(clients: dict[str, Any], ready: dict[str, str]) -> None:
    clients["s3"].delete_public_access_block(Bucket="digits")


def lose_rule(clients: dict[str, Any], ready: dict[str, str]) -> None:
    clients["s3"].delete_bucket_lifecycle(Bucket="digits")


def lose_role(clients: dict[str, Any], ready: dict[str, str]) -> None:
    clients["iam"].delete_role(RoleName="data-platform-sagemaker")


def distrust(clients: dict[str, Any], ready: dict[str, str]) -> None:
    document = TRUST.substitute(account="123456789012").replace("sagemaker.", "ec2.")
    clients["iam"].update_assume_role_policy(
        RoleName="data-platform-sagemaker", PolicyDocument=document
    )


def lose_column(clients: dict[str, Any], ready: dict[str, str]) -> None:
    run(ready["PLATFORM_POSTGRES_DSN"], "alter table listings drop column price")


def lose_table(clients: dict[str, Any], ready: dict[str, str]) -> None:
    run(ready["PLATFORM_POSTGRES_DSN"], "drop table listings")


BROKEN = {
    "the bucket": (lose_bucket, "bucket listings", "Make it, in eu-west-1"),
    "its closure": (open_bucket, "digits: public access", "Block all public access"),
    "its rule": (lose_rule, "digits: lifecycle", "deploy/add_lifecycle_rule.py digits"),
    "the role": (lose_role, "role", f"Make {ROLE}"),
    "its trust": (distrust, "role", "Give it the trust policy"),
    "a column": (lose_column, "table listings", "It lacks price"),
    "the table": (lose_table, "table listings", "Create and load it"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_missing_is_named_with_how_to_mend_it(
    ready: dict[str, str], clients: dict[str, Any], case: str
) -> None:
    lose, what, mend = BROKEN[case]
    lose(clients, ready)
    (look,) = problems(ready)
    assert (look.what, look.state) == (what, "missing")
    assert mend in look.message


SETTINGS = {
    "a setting": ({"PLATFORM_BUCKET": ""}, "Set PLATFORM_BUCKET."),
    "a wrong one": ({"PLATFORM_CRUNCHER": SECRET}, "Correct cruncher"),
    "another key": ({"PLATFORM_KMS_KEY_ID": "2d3c"}, "Set its default encryption to 2d3c"),
    "another partition": (
        {"PLATFORM_SAGEMAKER_ROLE_ARN": ROLE.replace("aws", "aws-cn")},
        "has to begin with arn:aws:iam::",
    ),
    "another account": (
        {"PLATFORM_SAGEMAKER_ROLE_ARN": ROLE.replace("123", "999")},
        f"Set PLATFORM_SAGEMAKER_ROLE_ARN to {ROLE}",
    ),
    "the quota": ({"PLATFORM_INSTANCE_TYPE": "ml.odd"}, "AWS names no such quota"),
    "the image": (
        {"PLATFORM_CRUNCHER": "docker", "PLATFORM_CRUNCHER_IMAGE": "no-such-image"},
        "image no-such-image",
    ),
    "the region": ({"AWS_DEFAULT_REGION": ""}, "Set AWS_DEFAULT_REGION"),
    "the password": (
        {"PLATFORM_POSTGRES_DSN": f"postgresql://u:{SECRET}@127.0.0.1:9/d"},
        "Check that the server runs",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_does_not_fit_is_named(ready: dict[str, str], case: str) -> None:
    changed, sentence = SETTINGS[case]
    looks = problems(ready | changed)
    assert looks
    for look in looks:
        assert sentence in f"{look.what} {look.message}"
        assert SECRET not in look.message


def test_an_empty_password_of_the_records_is_named(ready: dict[str, str]) -> None:
    (look,) = problems(ready | {"POSTGRES_PASSWORD": ""})
    assert look.message == "Set POSTGRES_PASSWORD."


def test_the_certificates_path_of_the_image_is_ignored_where_the_host_has_no_such_file(
    tmp_path: Path,
) -> None:
    settings = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(tmp_path / "rds.pem")}
    assert usable_here(settings) == {"PGSSLMODE": "require"}
    (tmp_path / "rds.pem").touch()
    assert usable_here(settings) == settings


def test_lines_of_an_env_file_without_an_assignment_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "own.env").write_text("# =\nAWS_PROFILE\n\nPLATFORM_BUCKET=a=b #c\n")
    assert read_env_file(tmp_path / "own.env") == {"PLATFORM_BUCKET": "a=b #c"}


@pytest.mark.parametrize(
    ("principal", "action", "trusted"),
    [
        ({"Service": "sagemaker.amazonaws.com"}, "sts:AssumeRole", True),
        ({"Service": ["a", "sagemaker.amazonaws.com"]}, ["sts:*"], True),
        ("*", "sts:AssumeRole", True),
        ({"AWS": "*"}, "sts:AssumeRole", False),
        ({"Service": "sagemaker.amazonaws.com"}, "sts:TagSession", False),
    ],
)
def test_the_roles_trust_policy_is_read_in_all_its_forms(
    principal: Any, action: Any, trusted: bool
) -> None:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action}
    assert trusts_sagemaker(statement) is trusted


def test_too_few_instances_are_named(
    ready: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUOTAS, "ml.m5.large for endpoint usage", 1.0)
    (look,) = problems(ready)
    assert look.message == "Ask for 2 in Service Quotas: it is 1."


def test_what_may_not_be_read_is_unknown(ready: dict[str, str], aws: Front) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    aws.refuse = lambda request: (
        (403, denied) if request.path.endswith("?encryption") else answer_quotas(request)
    )
    looks = problems(ready)
    assert [look.state for look in looks] == ["unknown"] * 2
    assert all("Allow GetBucketEncryption to whoever runs this" in look.message for look in looks)


@pytest.mark.parametrize(
    ("skew", "state", "words"),
    [(3, "ok", "3 s"), (400, "missing", "400 s ahead of"), (-400, "missing", "400 s behind")],
)
def test_a_clock_that_is_too_far_off_for_aws_is_named(skew: int, state: str, words: str) -> None:
    now = datetime.now(UTC)
    look = look_at_clock(now, now + timedelta(seconds=skew))
    assert look.state == state
    assert words in look.message
