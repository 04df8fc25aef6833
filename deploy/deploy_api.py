"""`make deploy-api`: puts the HTTP API on AWS by Chalice, or brings what is there up to date.

From the environment: PLATFORM_BUCKET, PLATFORM_API_KEY, PLATFORM_ENDPOINT_NAME (`digits` if unset),
and AWS credentials as boto3 finds them. All that is made is found by its name, so that the next
deployment, from any machine, finishes one that failed or updates the API: an endpoint has one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from build_api import CHECKOUT, STAGE, api_name, build, chosen_key


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
    name = api_name(endpoint, session.region_name)
    project = CHECKOUT / "build" / "api" / name
    build(
        project,
        endpoint=endpoint,
        bucket=bucket,
        account=account,
        region=session.region_name,
        api_key=api_key,
    )
    with _aws_errors_explained():
        _tell_chalice_of_the_api(session, name, project)
    _chalice(project, session.region_name)


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


def _tell_chalice_of_the_api(session: boto3.session.Session, name: str, project: Path) -> None:
    """Write down the REST API that is there, if any.

    Chalice finds the Lambda and the role by their names, and the REST API by its own record alone,
    which it writes at the end of a deployment that succeeds.
    """
    pages = session.client("apigateway").get_paginator("get_rest_apis").paginate()
    ids = [api["id"] for page in pages for api in page["items"] if api["name"] == name]
    if len(ids) > 1:
        raise DeployError(
            f"There are several REST APIs called {name}: {', '.join(ids)}. Delete all but the one "
            "whose URL callers use, and deploy again."
        )
    known = [{"name": "rest_api", "resource_type": "rest_api", "rest_api_id": id_} for id_ in ids]
    record = project / ".chalice" / "deployed" / f"{STAGE}.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"resources": known, "schema_version": "2.0", "backend": "api"}))


def _chalice(project: Path, region: str) -> None:
    chalice = Path(sys.executable).with_name("chalice")
    result = subprocess.run(
        [chalice, "--project-dir", project, "deploy", "--stage", STAGE],
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
