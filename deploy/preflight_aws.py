"""What `make preflight` looks at in an AWS account. Nothing there is changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from deploy.add_lifecycle_rule import read_lifecycle
from platform_assets.settings import Settings
from resources.aws_failures import code_and_reason
from resources.sagemaker.names import REGISTRY_ACCOUNTS

# AWS refuses requests whose time differs from its own by more than five minutes.
MAX_SKEW_SECONDS = 120
# While an endpoint is updated, both of its versions run.
SERVING_INSTANCES = 2
_DENIED = {"AccessDenied", "AccessDeniedException", "403"}
_AWS = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"})

State = Literal["ok", "missing", "unknown"]
Answer = tuple[State, str]
"""State and message of a look."""


@dataclass(frozen=True)
class Look:
    """What a look has shown.

    Attributes:
        what: What was looked at.
        state: Whether it is as it has to be; unknown where it cannot be looked at.
        message: What is there; or what is not, and how to mend it.
    """

    what: str
    state: State
    message: str


def look_at_aws(settings: Settings) -> Iterator[Look]:
    """Region, credentials, clock, buckets, role and quotas."""
    session = boto3.session.Session()
    region = session.region_name
    if not region:
        yield Look("region", "missing", "Set AWS_DEFAULT_REGION to that of the buckets.")
        return
    if region in REGISTRY_ACCOUNTS:
        yield Look("region", "ok", region)
    else:
        yield Look("region", "missing", f"SageMaker's k-means is not known to be in {region}.")

    def client(service: str) -> Any:
        # The overloads of `client` name services whose stubs are not installed.
        make = cast("Callable[..., Any]", session.client)
        return make(service, config=_AWS)

    identity = [*look_at_identity(client("sts"))]
    yield from identity
    if identity[0].state != "ok":
        return
    for name in ("PLATFORM_BUCKET", "PLATFORM_AIRBNB_BUCKET"):
        if bucket := os.environ.get(name):
            yield from look_at_bucket(client("s3"), bucket, region, settings.kms_key_id)
    if arn := os.environ.get("PLATFORM_SAGEMAKER_ROLE_ARN"):
        yield look_or_explain("role", lambda: look_at_role(client("iam"), arn, session, region))
    yield from look_at_quotas(client("service-quotas"), settings)


def look_or_explain(what: str, look: Callable[[], Answer]) -> Look:
    """A look, or why AWS does not let us."""
    try:
        return Look(what, *look())
    except ClientError as error:
        code, reason = code_and_reason(error)
        if code in _DENIED:
            message = f"Allow {error.operation_name} to whoever runs this: it may not be looked at."
            return Look(what, "unknown", message)
        return Look(what, "missing", f"AWS refuses {error.operation_name}: {reason or code}")
    except BotoCoreError as error:
        return Look(what, "unknown", f"AWS cannot be asked: {error}")


def look_at_identity(sts: Any) -> Iterator[Look]:
    """Whose credentials these are, and how far the clock is from AWS's."""
    try:
        answer: Any = sts.get_caller_identity()
        yield Look("credentials", "ok", answer["Arn"])
    except NoCredentialsError:
        message = "Set AWS_PROFILE, or attach a role to the host: there are none."
        yield Look("credentials", "missing", message)
        return
    except ClientError as error:
        answer = error.response
        message = f"AWS does not take them: {code_and_reason(error)[1]}"
        yield Look("credentials", "missing", message)
    except BotoCoreError as error:
        yield Look("credentials", "unknown", f"AWS cannot be asked: {error}")
        return
    sent = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
    yield look_at_clock(parsedate_to_datetime(sent), datetime.now(UTC))


def look_at_clock(aws: datetime, here: datetime) -> Look:
    """How far this machine's clock is from AWS's."""
    skew = (here - aws).total_seconds()
    if abs(skew) <= MAX_SKEW_SECONDS:
        return Look("clock", "ok", f"{abs(skew):.0f} s from AWS's")
    way = "ahead of" if skew > 0 else "behind"
    message = f"Set it by NTP, such as chrony: it is {abs(skew):.0f} s {way} AWS's."
    return Look("clock", "missing", message)


def look_at_bucket(s3: Any, bucket: str, region: str, kms_key_id: str) -> Iterator[Look]:
    """A bucket: where it is, and how it is closed, encrypted and cleared up."""
    place = look_at_place(s3, bucket, region)
    yield place
    if place.state != "ok":
        return
    yield look_or_explain(
        f"{bucket}: encryption", lambda: look_at_encryption(s3, bucket, kms_key_id)
    )
    yield look_or_explain(f"{bucket}: public access", lambda: look_at_public_access(s3, bucket))
    yield look_or_explain(f"{bucket}: lifecycle", lambda: look_at_lifecycle(s3, bucket))


def look_at_place(s3: Any, bucket: str, region: str) -> Look:
    """Whether a bucket is there and in the region."""
    what = f"bucket {bucket}"
    try:
        headers = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404:
            return Look(what, "missing", f"Make it, in {region}: it does not exist.")
        message = (
            "Allow s3:ListBucket on it, if it is yours: somebody has it, and it may not be used."
        )
        return Look(what, "missing", message)
    except BotoCoreError as error:
        return Look(what, "unknown", f"S3 cannot be asked: {error}")
    actual = headers.get("x-amz-bucket-region", region)
    if actual != region:
        return Look(what, "missing", f"Use one in {region}: it is in {actual}.")
    return Look(what, "ok", f"in {actual}")


def look_at_encryption(s3: Any, bucket: str, kms_key_id: str) -> Answer:
    """What Dagster logs to a bucket is encrypted by its default."""
    answer = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    rule = answer["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    key = rule.get("KMSMasterKeyID", "")
    if not kms_key_id or same_key(key, kms_key_id):
        return "ok", f"{rule['SSEAlgorithm']} {key}".strip()
    return (
        "missing",
        f"Set its default encryption to {kms_key_id} (PLATFORM_KMS_KEY_ID): it is another one.",
    )


def same_key(one: str, other: str) -> bool:
    """Whether two ids or ARNs name one key; an alias is only known to be the same alias."""
    return bool(one) and one.rpartition("/")[2] == other.rpartition("/")[2]


def look_at_public_access(s3: Any, bucket: str) -> Answer:
    """A bucket has to be closed to the public by all four switches."""
    try:
        answer = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        code, _ = code_and_reason(error)
        if code != "NoSuchPublicAccessBlockConfiguration":
            raise
        answer = {}
    if len(answer) == 4 and all(answer.values()):
        return "ok", "blocked"
    return "missing", "Block all public access in the bucket's permissions."


def look_at_lifecycle(s3: Any, bucket: str) -> Answer:
    """What is left of unfinished uploads has to go."""
    rules = read_lifecycle(s3, bucket)["Rules"]
    if any("AbortIncompleteMultipartUpload" in r and r["Status"] == "Enabled" for r in rules):
        return "ok", f"{len(rules)} rules; unfinished uploads go"
    command = f".venv/bin/python deploy/add_lifecycle_rule.py {bucket}"
    return "missing", f"Run `{command}`: unfinished uploads stay."


def look_at_role(iam: Any, arn: str, session: boto3.session.Session, region: str) -> Answer:
    """SageMaker's role: there, of this partition, and SageMaker may take it."""
    beginning = f"arn:{session.get_partition_for_region(region)}:iam::"
    if not arn.startswith(beginning):
        return (
            "missing",
            f"PLATFORM_SAGEMAKER_ROLE_ARN has to begin with {beginning}, as in {region}.",
        )
    try:
        role = iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except iam.exceptions.NoSuchEntityException:
        return "missing", f"Make {arn} of deploy/iam/: it does not exist."
    if role["Arn"] != arn:
        return (
            "missing",
            f"Set PLATFORM_SAGEMAKER_ROLE_ARN to {role['Arn']}: it names another role or account.",
        )
    statements = _many(role["AssumeRolePolicyDocument"]["Statement"])
    if not any(map(trusts_sagemaker, statements)):
        return "missing", "Give it the trust policy of deploy/iam/: SageMaker may not take it."
    return "ok", f"{arn}; SageMaker may take it"


def trusts_sagemaker(statement: Mapping[str, Any]) -> bool:
    """Whether a statement of a trust policy lets SageMaker take the role."""
    principal = statement.get("Principal", {})
    services = _many(principal.get("Service", [])) if isinstance(principal, dict) else [principal]
    return (
        statement.get("Effect") == "Allow"
        and not {"sagemaker.amazonaws.com", "*"}.isdisjoint(services)
        and not {"sts:AssumeRole", "sts:*", "*"}.isdisjoint(_many(statement.get("Action", [])))
    )


def _many(one_or_many: Any) -> list[Any]:
    """Policies may leave the brackets of a list of one out."""
    return one_or_many if isinstance(one_or_many, list) else [one_or_many]


def look_at_quotas(quotas: Any, settings: Settings) -> Iterator[Look]:
    """How many instances the account may have."""
    training = f"{settings.training_instance_type} for training job usage"
    needed = {
        f"{settings.instance_type} for endpoint usage": SERVING_INSTANCES,
        training: settings.training_instance_count,
    }
    values: dict[str, float] = {}

    def read_all() -> Answer:
        pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
        values.update({q["QuotaName"]: q["Value"] for page in pages for q in page["Quotas"]})
        return "ok", f"{len(values)} of SageMaker"

    read = look_or_explain("quotas", read_all)
    if read.state != "ok":
        yield read
        return
    for name, instances in needed.items():
        what = f"quota {name}"
        value = values.get(name)
        if value is None:
            yield Look(what, "unknown", "AWS names no such quota: is it an instance type?")
        elif value < instances:
            message = f"Ask for {instances} in Service Quotas: it is {value:.0f}."
            yield Look(what, "missing", message)
        else:
            yield Look(what, "ok", f"{value:.0f}")
