"""`make deploy-api`: puts the HTTP API on AWS by Chalice, or brings what is there up to date.

From the environment: PLATFORM_BUCKET, PLATFORM_API_KEY, PLATFORM_ENDPOINT_NAME (`digits` if unset),
and AWS credentials as boto3 finds them. Chalice's record of the deployment is kept in the bucket
under `deploy/api/`, so that the next deployment, from any machine, updates the API instead of
making a second one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from build_api import CHECKOUT, STAGE, build, chosen_key

PROJECT = CHECKOUT / "build" / "api"
DEPLOYED = PROJECT / ".chalice" / "deployed" / f"{STAGE}.json"


class DeployError(Exception):
    """It cannot be deployed as things are; the message says what to do."""


def deploy() -> None:
    """Build, and let Chalice deploy it.

    Raises:
        DeployError: Something is not set, or AWS or Chalice refuses.
    """
    try:
        api_key = chosen_key()
    except ValueError as error:
        raise DeployError(str(error)) from error
    bucket = os.environ.get("PLATFORM_BUCKET")
    if not bucket:
        raise DeployError("Set PLATFORM_BUCKET to the bucket of the digits.")
    session = boto3.session.Session()
    if not session.region_name:
        raise DeployError("Set AWS_DEFAULT_REGION to the region of the endpoint.")
    endpoint = os.environ.get("PLATFORM_ENDPOINT_NAME") or "digits"
    with _aws_errors_explained():
        account = session.client("sts").get_caller_identity()["Account"]
    build(
        PROJECT,
        endpoint=endpoint,
        bucket=bucket,
        account=account,
        region=session.region_name,
        api_key=api_key,
    )
    key = f"deploy/api/{endpoint}.json"
    with _aws_errors_explained():
        _fetch(session, bucket, key)
    _chalice(session.region_name)
    with _aws_errors_explained():
        session.client("s3").put_object(Bucket=bucket, Key=key, Body=DEPLOYED.read_bytes())


@contextmanager
def _aws_errors_explained() -> Iterator[None]:
    """Turns errors of AWS into a `DeployError`."""
    try:
        yield
    except NoCredentialsError as error:
        raise DeployError(
            "No AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, of somebody who may deploy."
        ) from error
    except ClientError as error:
        details = error.response.get("Error", {})
        raise DeployError(
            f"AWS refuses {error.operation_name}: {details.get('Message') or details.get('Code')}"
        ) from error
    except BotoCoreError as error:
        raise DeployError(f"AWS cannot be asked: {error}") from error


def _fetch(session: boto3.session.Session, bucket: str, key: str) -> None:
    """Fetches Chalice's record of the last deployment, if there is one."""
    try:
        record = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchKey":
            raise
        return
    DEPLOYED.parent.mkdir()
    DEPLOYED.write_bytes(record)


def _chalice(region: str) -> None:
    chalice = Path(sys.executable).with_name("chalice")
    result = subprocess.run(
        [chalice, "--project-dir", PROJECT, "deploy", "--stage", STAGE],
        env={**os.environ, "AWS_DEFAULT_REGION": region},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        # Chalice prints a traceback; the message follows the name of the error.
        words = result.stderr.rpartition("ChaliceDeploymentError:")[2].split()
        raise DeployError(f"Chalice could not deploy it: {' '.join(words[-80:])}")
    sys.stderr.write(result.stderr)


if __name__ == "__main__":
    try:
        deploy()
    except DeployError as error:
        sys.exit(str(error))
